"""Sufficient statistics of features and targets as additive float64 sums about a shift: one read of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.options import require_precision
from nrc_fast.base.processes import Team
from nrc_fast.kernels.arrays import DTYPES
from nrc_fast.kernels.calls import beside
from nrc_fast.kernels.counts import (
    ADDITIVE,
    COUNT_PLACES,
    SMALLEST_ENERGY,
    SumsKind,
    counted,
    zero_sums,
)
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.interface import Rows, Shifts
from nrc_fast.kernels.long_sums import combined_sums
from nrc_fast.kernels.results import SumsPart, part_of_host
from nrc_fast.passes.saved_sums import checked_sums
from nrc_fast.passes.settled_sums import HeldSums, KeptSums, SettledSums, kept_sums, shifted_part
from nrc_fast.passes.shifting import shifted
from nrc_fast.passes.sums import Sums
from nrc_fast.passes.team_sums import sums_of_team
from nrc_fast.sources import Chunk

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ShiftedSums"]


class ShiftedSums(Sums):
    """Counts, shifted sums, Gram matrices and cross moments of the rows seen so far.

    The sums are of h - s with s the mean of the first rows, so that a large mean costs no digits. Precision: rows
    that are not float64 are multiplied in float32 blocks of a few hundred rows that are added up in float64, unless
    `precision` is "highest". Rows on a CUDA device are added up there, and nothing waits: what is wrong with them is an
    error of the next look at the sums, which then come to the host in one copy, large Gram matrices aside.

    Parameters
    ----------
    d : int
        Number of features.
    n_targets : int
        Number of target outputs; 0 for no targets.
    unit_rows : bool
        Whether the unit-row Gram is summed too, at the cost of a second product.
    precision : {"high", "highest", "fast"}
    products : bool
        Without them only counts and sums are added, which is all that means need.
    skips_on_device : bool
        Whether rows on a device that are not finite are left out there, where nothing waits for an error.
    double_rows : int
        Up to how many rows of the host in all are multiplied in float64 whatever the precision; those of devices do not
        count.

    Attributes
    ----------
    state : object
        Another one after each change.
    """

    sees_targets = True

    def __init__(
        self,
        d: int,
        *,
        n_targets: int = 0,
        unit_rows: bool = False,
        precision: str = "high",
        products: bool = True,
        skips_on_device: bool = False,
        double_rows: int = 0,
    ) -> None:
        require_precision(precision)
        self.d = d
        self.n_targets = n_targets
        self.unit_rows = unit_rows
        self.precision = precision
        self.products = products
        self.skips_on_device = skips_on_device
        self.double_rows = double_rows
        self.clear()

    @property
    def _kind(self) -> SumsKind:
        return SumsKind(
            d=self.d,
            n_targets=self.n_targets,
            products=self.products,
            unit_rows=self.unit_rows,
            precision=self.precision,
            double_rows=self.double_rows,
        )

    def clear(self) -> None:
        """Forget all rows."""
        self._replace(zero_sums(self._kind))

    def _replace(self, state: dict[str, FloatArray]) -> None:
        """Hold a state on the host, and nothing else."""
        shifts = Shifts(CPU, state["shift"], state["target_shift"]) if "shift" in state else None
        self._hold(HeldSums(shifts, {CPU: CPU.running_sums(self._kind, state)}))

    def _keep_on_host(self, parts: Sequence[SumsPart]) -> None:
        """Hold parts in place of the sums of the host, beside what devices add up."""
        self._hold(self._held._replace(running=self._held.running | {CPU: kept_sums(self._kind, parts)}))

    def _hold(self, held: HeldSums) -> None:
        # One assignment: an interrupt comes before or after it, and never leaves half of the rows added.
        self._held = held
        self._changed()

    def _changed(self) -> None:
        """Forget what was derived from the sums, even what another thread is deriving just now."""
        self.state = object()
        self._seen: tuple[object, SettledSums] | None = None

    @property
    def _settled(self) -> SettledSums:
        """The sums of the host, of devices, and the shifts."""
        state, seen = self.state, self._seen
        if seen is not None and seen[0] is state:
            return seen[1]
        held = self._held  # once: another thread may be adding, or begin anew
        if any(sums.grows_unseen for sums in held.running.values()):
            state = object()  # what is seen now holds for this look only
        parts = [part for sums in held.running.values() for part in sums.fetch()]
        settled = SettledSums(parts, held.shifts_on_host(), held.devices)
        self._seen = state, settled
        self.check()
        return settled

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that hold sums."""
        return tuple(backend.name for backend in self._held.devices)

    def snapshot(self) -> Self:
        """The sums as they are now, in an object of their own that no further row changes; nothing is copied.

        Raises
        ------
        NonFiniteRowsError, ValueError
            Some batches on devices were not added, and no error has told of it before.
        """
        origin, held, settled = self.state, self._held, self._settled
        other = copy(self)
        shifts = held.shifts_on_host()
        kept = Shifts(CPU, shifts["shift"], shifts["target_shift"]) if shifts else None
        other._hold(HeldSums(kept, {CPU: KeptSums(self._kind, settled.parts)}, held.devices))
        other._origin = None if any(sums.grows_unseen for sums in held.running.values()) else origin
        return other

    _origin: object = None

    def is_of(self, state: object) -> bool:
        """Whether this is a snapshot of sums in a state."""
        return self._origin is state

    def check(self) -> None:
        """Wait for the batches on devices.

        Raises
        ------
        NonFiniteRowsError, ValueError
            Some were not added, and no error has told of it before.
        """
        if self._held.devices:  # the host has nothing under way
            for sums in self._held.running.values():
                sums.check()

    # ---- adding rows ----

    @property
    def has_shift(self) -> bool:
        """Whether rows, or a start, have fixed what is subtracted."""
        return self._held.shifts is not None

    def begin(self, chunk: Chunk | None, team: Team | None) -> None:
        """Fix the shift: the mean of the first rows, those of the first process that has any."""
        is_known = self.has_shift
        if is_known and team is None:
            return
        has_rows = chunk is not None and chunk.features.count > 0
        found = self._first_means(chunk) if chunk is not None and has_rows and not is_known else self._held.shifts
        if team is not None:
            known = None if found is None else np.concatenate(found.on(CPU))
            agreed = team.first(known, self.d + self.n_targets)
            found = None if agreed is None else Shifts(CPU, agreed[: self.d].copy(), agreed[self.d :].copy())
        if found is not None and not is_known:
            self._fix_shifts(found)

    def _fix_shifts(self, shifts: Shifts) -> None:
        self._hold(self._held._replace(shifts=shifts))

    def _first_means(self, chunk: Chunk) -> Shifts:
        features, targets = chunk.features, beside(chunk.targets, chunk.features)
        backend = features.backend
        # Exactly representable where the kernels subtract it in float32.
        shift = backend.first_mean(features, single=not features.is_double)
        none = np.zeros(0)
        target_shift = backend.place(none) if targets is None else backend.first_mean(targets, single=False)
        return Shifts(backend, shift, target_shift)

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError
            A row of the chunk is not finite.
        ValueError
            The values are so large that their squares are no float64 numbers. On a device `check` raises both.
        """
        features, targets = chunk.features, beside(chunk.targets, chunk.features)
        self._check_widths(features, targets)
        if features.count == 0:
            if chunk.skipped:
                skipped = part_of_host(zero_sums(self._kind) | {"counts": counted(skipped=chunk.skipped)})
                self._keep_on_host([*self._held.running[CPU].fetch(), skipped])
            return
        if self._held.shifts is None:
            self.begin(chunk, None)
        backend, held = features.backend, self._held
        assert held.shifts is not None
        sums = held.running.get(backend) or backend.running_sums(self._kind)
        try:
            sums.add(features, targets, held.shifts, skipped=chunk.skipped, skips_nonfinite=self.skips_on_device)
            if backend not in held.running:  # once its first batch was taken
                running = held.running | {backend: sums}
                self._hold(held._replace(running=running, devices=(*held.devices, backend)))
        finally:  # an interrupt may come when the rows are in
            self._changed()

    def _check_widths(self, features: Rows, targets: Rows | None) -> None:
        n_targets = 0 if targets is None else targets.columns
        if features.columns != self.d or n_targets != self.n_targets:
            msg = (
                f"{features.name} has {features.columns} features and {n_targets} targets; "
                f"these statistics are of {self.d} and {self.n_targets}"
            )
            raise ValueError(msg)

    # ---- parts of the rows ----

    def arrays(self) -> dict[str, FloatArray]:
        """The state, on the host; not a copy."""
        return dict(self._settled.arrays)

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state that `arrays` gave.

        Raises
        ------
        ValueError
            Something is missing, has another shape or is not finite.
        """
        self._replace(checked_sums(self._kind, arrays))

    def require_same_kind(self, team: Team) -> None:
        """Check that all processes of a group add up the same.

        Raises
        ------
        ValueError
            They differ in their sizes, or in what they sum; all of them raise.
        """
        sizes = team.gather([self.d, self.n_targets, self.unit_rows])
        if (sizes != sizes[0]).any():
            listed = ", ".join(f"process {rank}: {d:.0f}, {n:.0f}, {bool(u)}" for rank, (d, n, u) in enumerate(sizes))
            msg = f"the processes have statistics of different d, n_targets and unit_rows ({listed})"
            raise ValueError(msg)

    def reduce(self, team: Team) -> None:
        """Add up the parts of all processes; parts with other shifts are brought to that of the first."""
        failure = None
        try:
            self.check()
        except ValueError as error:  # the others wait
            failure = error
        team.require_success(failure)
        known = self._held.shifts_on_host()
        common = team.first(np.concatenate([*known.values()]) if known else None, self.d + self.n_targets)
        if common is None:
            return
        state = self._shifted_to(common[: self.d].copy(), common[self.d :].copy())
        self._replace(state | sums_of_team(team, state))

    @staticmethod
    def combined(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
        """The state for the rows of several with the same shift, in their order."""
        return states[0] | combined_sums([{name: state[name] for name in ADDITIVE} for state in states])

    def merge(self, other: ShiftedSums) -> None:
        """Add the rows of another part; its shift may differ.

        Raises
        ------
        ValueError
            The widths or what is summed differ.
        """
        for name in ("d", "n_targets", "unit_rows", "products"):
            if getattr(self, name) != getattr(other, name):
                msg = f"parts with {name} = {getattr(self, name)} and {getattr(other, name)} do not add up"
                raise ValueError(msg)
        settled = other._settled
        mine = self._held.shifts_on_host() or settled.shifts
        theirs: Sequence[SumsPart] = settled.parts
        if settled.shifts:
            theirs = [shifted_part(part, settled.shifts, mine["shift"], mine["target_shift"]) for part in theirs]
            if not self.has_shift:
                self._fix_shifts(Shifts(CPU, mine["shift"], mine["target_shift"]))
        self._keep_on_host([*self._held.running[CPU].fetch(), *theirs])

    def _shifted_to(self, shift: FloatArray, target_shift: FloatArray) -> dict[str, FloatArray]:
        """The state as if another shift had been subtracted."""
        return shifted(self._settled.arrays, shift, target_shift, products=self.products)

    # ---- counts ----

    def _count(self, name: str) -> int:
        return int(self._settled["counts"][COUNT_PLACES[name]])

    @property
    def count(self) -> int:
        """Rows that were added."""
        return self._count("rows")

    @property
    def zero_rows(self) -> int:
        """Rows that are all zeros."""
        return self._count("zero")

    @property
    def skipped(self) -> int:
        """Rows that were left out because they were not finite."""
        return self._count("skipped")

    @property
    def has_long_targets(self) -> bool:
        """Whether the targets of all rows were added up as pairs of float64 numbers."""
        return 0 < self.count == self._count("long_targets")

    @property
    def dtype(self) -> str:
        """Dtype of the features; "mixed" for several, empty without rows."""
        found = [dtype for dtype in DTYPES if self._count(dtype)]
        return found[0] if len(found) == 1 else "mixed" if found else ""

    @property
    def is_double(self) -> bool:
        """Whether all products were taken in float64."""
        return not any(map(self._count, ("single", "device", "fast")))

    def require_scale(self) -> None:
        """Check that the squares of the rows are float64 numbers.

        Raises
        ------
        ValueError
            They underflow.
        """
        for name, tiny in (("H", "tiny"), ("Y", "tiny_targets")):
            if not self._count(tiny):
                continue
            settled = self._settled
            squares = settled.diagonal if tiny == "tiny" else np.diagonal(settled["target_gram"])
            if float(np.sum(squares)) < SMALLEST_ENERGY * self.count:
                msg = f"{name} is so small that squares leave the range of float64; multiply it by a constant first"
                raise ValueError(msg)
