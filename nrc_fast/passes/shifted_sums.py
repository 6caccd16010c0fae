"""Sufficient statistics of features and targets as additive float64 sums about a shift: one read of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.base.npz import save_arrays
from nrc_fast.base.options import require_precision
from nrc_fast.base.processes import Team
from nrc_fast.kernels import calls
from nrc_fast.kernels.counts import (
    COUNTS,
    LARGEST_ENERGY,
    MAGNITUDES,
    SHIFT_ROWS,
    SMALLEST_ENERGY,
    counted,
    magnitudes_of,
)
from nrc_fast.kernels.cpu.machine import block_rows
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.cuda.sums import DeviceParts, first_mean
from nrc_fast.kernels.placement import beside
from nrc_fast.kernels.results import GramSums
from nrc_fast.kernels.rows import DTYPES, Rows
from nrc_fast.passes.sums import Sums
from nrc_fast.sources import Chunk

__all__ = ["FORMAT", "ShiftedSums"]

# Of the files that hold statistics; in those of 1 counts and magnitudes were shorter.
FORMAT = 2
# Everything that adds up over rows. The products are lower triangles.
ADDITIVE = ("counts", "magnitudes", "column_sums", "gram", "unit_gram", "cross", "target_sums", "target_gram")


class ShiftedSums(Sums):
    """Counts, shifted sums, Gram matrices and cross moments of the rows seen so far.

    The sums are of h - s with s the mean of the first rows, so that a large mean costs no digits. Precision: rows
    that are not float64 are multiplied in float32 blocks of a few hundred rows that are added up in float64, unless
    `precision` is "highest". Rows on a CUDA device are added up there, and nothing waits: what is wrong with them is an
    error of the next look at the sums, which then come to the host in one copy.

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
    ) -> None:
        require_precision(precision)
        self.d = d
        self.n_targets = n_targets
        self.unit_rows = unit_rows
        self.precision = precision
        self.products = products
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        gram_size = self.d if self.products else 0
        unit_size = gram_size if self.unit_rows else 0
        self._replace(
            {
                "counts": np.zeros(len(COUNTS)),
                "magnitudes": np.zeros(len(MAGNITUDES)),
                "column_sums": np.zeros(self.d),
                "gram": np.zeros((gram_size, gram_size)),
                "unit_gram": np.zeros((unit_size, unit_size)),
                "cross": np.zeros((self.n_targets, self.d)),
                "target_sums": np.zeros(self.n_targets),
                "target_gram": np.zeros((self.n_targets, self.n_targets)),
            }
        )

    def _replace(self, state: dict[str, FloatArray], *, keeps_parts: bool = False) -> None:
        # One assignment: an interrupt comes before or after it, and never leaves half of the rows added.
        self._state = state
        if not keeps_parts:
            self._parts = self._no_parts()
        self._changed()

    def _no_parts(self) -> DeviceParts:
        names = ("d", "n_targets", "products", "unit_rows", "precision")
        return DeviceParts(**{name: getattr(self, name) for name in names})

    def _changed(self) -> None:
        """Forget what was derived from the sums."""
        self._seen: dict[str, FloatArray] | None = None

    @property
    def _settled(self) -> dict[str, FloatArray]:
        """The state of the host, and what was added up on devices."""
        if self._parts.is_empty:
            return self._state
        if self._seen is None:
            self._fetch_shift()
            state = self._state
            total = Sums.combined([{name: state[name] for name in ADDITIVE}, *self._parts.fetch()])
            self._seen = state | total
            self._parts.check()
        return self._seen

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the CUDA devices that hold sums."""
        return self._parts.names

    def check(self) -> None:
        """Wait for the batches on devices.

        Raises
        ------
        NonFiniteRowsError, ValueError
            Some were not added, and no error has told of it before.
        """
        self._parts.check()

    # ---- adding rows ----

    def begin(self, chunk: Chunk | None, team: Team | None) -> None:
        """Fix the shift: the mean of the first rows, those of the first process that has any."""
        is_known = self._has_shift
        if not is_known and team is None and chunk is not None and isinstance(chunk.features, DeviceRows):
            if chunk.features.count:
                self._parts.place_shift(chunk.features, beside(chunk.targets, chunk.features))
            return
        if is_known and team is None:
            return
        shifts = self._shifts()
        if shifts is None and chunk is not None and chunk.features.count:
            shifts = np.concatenate(self._first_means(chunk))
        if team is not None:
            shifts = team.first(shifts, self.d + self.n_targets)
        if shifts is not None and not is_known:
            self._set_shift(shifts[: self.d].copy(), shifts[self.d :].copy())

    @property
    def _has_shift(self) -> bool:
        return "shift" in self._state or self._parts.has_shift

    def _set_shift(self, shift: FloatArray, target_shift: FloatArray) -> None:
        self._replace(self._state | {"shift": shift, "target_shift": target_shift}, keeps_parts=True)

    def _fetch_shift(self) -> None:
        """Wait for a device that alone knows the shift."""
        if self._parts.has_shift:
            self._set_shift(*self._parts.fetch_shift())
            self._parts.forget_shift()

    def _shifts(self) -> FloatArray | None:
        """Those of features and targets."""
        self._fetch_shift()
        state = self._state
        return np.concatenate([state["shift"], state["target_shift"]]) if "shift" in state else None

    def _host_shifts(self) -> tuple[FloatArray, FloatArray]:
        self._fetch_shift()
        return self._state["shift"], self._state["target_shift"]

    def _first_means(self, chunk: Chunk) -> tuple[FloatArray, FloatArray]:
        shift = _first_mean(chunk.features)
        if not chunk.features.is_double:
            # Exactly representable where the kernels subtract it in float32.
            shift = shift.astype(np.float32).astype(np.float64)
        return shift, np.zeros(0) if chunk.targets is None else _first_mean(chunk.targets)

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError
            A row of the chunk is not finite.
        ValueError
            The values are so large that their squares are no float64 numbers. On a device `check` raises both.
        """
        features, targets = chunk.features, chunk.targets
        self._check_widths(features, targets)
        placed = beside(targets, features)
        if not self._has_shift:
            self.begin(chunk, None)
        if isinstance(features, DeviceRows) and features.count:
            self._changed()
            self._parts.add(features, placed, self._host_shifts, skips=self.skips_on_device)
            self._changed()
        if isinstance(features, DeviceRows) or features.count == 0:
            if chunk.skipped:
                counts = self._state["counts"] + counted(skipped=chunk.skipped)
                self._replace(self._state | {"counts": counts}, keeps_parts=True)
            return
        shift, target_shift = self._host_shifts()
        has_unit_gram = self.unit_rows and self.products
        sums = calls.gram(
            features,
            shift=shift,
            plain=self.products,
            unit="raw" if has_unit_gram else None,
            onto=self._state["gram"] if self.products else None,
            unit_onto=self._state["unit_gram"] if has_unit_gram else None,
            targets=targets,
            target_shift=None if targets is None else target_shift,
            target_moments=targets is not None,
            precision=self.precision,
        )
        single = not sums.double_precision
        counts = counted(
            skipped=chunk.skipped,
            rows=sums.rows,
            zero=sums.zero_rows,
            blocks=-(-sums.rows // block_rows()),
            parts=1,
            single=sums.rows if single else 0,
            tiny=_tiny_rows(sums.energy, features, shift) if self.products else 0,
            tiny_targets=0 if targets is None else _tiny_rows(sums.target_energy, targets, target_shift),
            **{features.dtype: sums.rows},
        )
        magnitudes = magnitudes_of("single" if single else "double", sums.energy, sums.target_energy)
        self._add(counts, magnitudes, sums)

    skips_on_device = False  # whether rows on devices that are not finite are left out, and no error

    def _check_widths(self, features: Rows, targets: Rows | None) -> None:
        n_targets = 0 if targets is None else targets.columns
        if features.columns != self.d or n_targets != self.n_targets:
            msg = (
                f"{features.name} has {features.columns} features and {n_targets} targets; "
                f"these statistics are of {self.d} and {self.n_targets}"
            )
            raise ValueError(msg)

    def _add(self, counts: FloatArray, magnitudes: FloatArray, sums: GramSums) -> None:
        state = self._state
        new = {"counts": counts, "magnitudes": magnitudes, "column_sums": sums.column_sums}
        if sums.target_gram is not None and sums.target_sums is not None:
            new |= {"cross": sums.cross, "target_gram": sums.target_gram, "target_sums": sums.target_sums}
        new = {name: np.add(part, state[name], out=part) for name, part in new.items()}
        # The kernel has added them to those of the rows before.
        if self.products:
            new["gram"] = sums.gram
            if self.unit_rows:
                new["unit_gram"] = sums.unit_gram
        self._replace(state | new, keeps_parts=True)

    # ---- parts of the rows ----

    def arrays(self) -> dict[str, FloatArray]:
        """The state; not a copy."""
        return dict(self._settled)

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state that `arrays` gave.

        Raises
        ------
        ValueError
            Something is missing, has another shape or is not finite.
        """
        arrays = dict(arrays)
        for name, known in (("counts", COUNTS), ("magnitudes", MAGNITUDES)):
            # What was saved before devices added up has no counts of theirs.
            if name in arrays and arrays[name].ndim == 1 and len(arrays[name]) < len(known):
                arrays[name] = np.pad(arrays[name], (0, len(known) - len(arrays[name])))
        shapes = {name: array.shape for name, array in self._state.items() if name in ADDITIVE}
        if "shift" in arrays:
            shapes |= {"shift": (self.d,), "target_shift": (self.n_targets,)}
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                found = arrays[name].shape if name in arrays else "nothing"
                msg = f"the saved {name} is {found} or not finite; finite values of shape {shape} are expected"
                raise ValueError(msg)
        if (arrays["counts"] < 0.0).any() or (arrays["magnitudes"] < 0.0).any():
            msg = "the saved counts are negative"
            raise ValueError(msg)
        if arrays["counts"][0] and "shift" not in arrays:
            msg = "the saved shift is nothing; finite values are expected where there are rows"
            raise ValueError(msg)
        self._replace({name: np.array(arrays[name], dtype=np.float64) for name in shapes})

    def save(self, path: str | Path) -> None:
        """Write the statistics to a .npz file, all or nothing; `FeatureStatistics.load` reads it.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        names = ("d", "n_targets", "unit_rows", "precision")
        header = {"kind": "statistics", "format": FORMAT} | {name: getattr(self, name) for name in names}
        header["options"] = self._options()
        save_arrays(Path(path), header, self.arrays())

    def _options(self) -> dict[str, Any]:
        """What a subclass saves besides."""
        return {}

    def reduce(self, team: Team) -> None:
        """Add up the parts of all processes; parts with other shifts are brought to that of the first."""
        failure = None
        try:
            self.check()
        except ValueError as error:  # the others wait
            failure = error
        team.require_success(failure)
        common = team.first(self._shifts(), self.d + self.n_targets)
        if common is None:
            return
        state = self._shifted_to(common[: self.d].copy(), common[self.d :].copy())
        state |= {name: state[name].copy() for name in ADDITIVE}
        team.sum([state[name] for name in ADDITIVE])
        self._replace(state)

    @staticmethod
    def combined(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
        """The state for the rows of several with the same shift, in their order."""
        additive = [{name: state[name] for name in ADDITIVE} for state in states]
        return states[0] | Sums.combined(additive)

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
        if "shift" not in settled:
            counts = self._state["counts"] + settled["counts"]
            self._replace(self._state | {"counts": counts}, keeps_parts=True)
            return
        mine = settled if self._shifts() is None else self._state
        theirs = other._shifted_to(mine["shift"], mine["target_shift"])
        added = {name: self._state[name] + theirs[name] for name in ADDITIVE}
        self._replace(theirs | added, keeps_parts=True)

    def _shifted_to(self, shift: FloatArray, target_shift: FloatArray) -> dict[str, FloatArray]:
        """The state as if another shift had been subtracted.

        With ``delta = s - s'``: ``sum (h - s')(h - s')^T = G + r delta^T + delta r^T + N delta delta^T``,
        r = sum (h - s), and so on.
        """
        state = self._settled
        if "shift" not in state:
            return state | {"shift": shift, "target_shift": target_shift}
        delta, target_delta = state["shift"] - shift, state["target_shift"] - target_shift
        sums, target_sums = state["column_sums"], state["target_sums"]
        count = float(state["counts"][0])
        moved = {"shift": shift, "target_shift": target_shift}
        if delta.any():
            half = sums + 0.5 * count * delta
            if self.products:
                moved["gram"] = state["gram"] + np.tril(np.outer(half, delta) + np.outer(delta, half))
            moved["column_sums"] = sums + count * delta
        if target_delta.any():
            half = target_sums + 0.5 * count * target_delta
            moved["target_gram"] = state["target_gram"] + np.tril(
                np.outer(half, target_delta) + np.outer(target_delta, half)
            )
            moved["target_sums"] = target_sums + count * target_delta
        moved["cross"] = (
            state["cross"]
            + np.outer(target_delta, sums)
            + np.outer(target_sums, delta)
            + count * np.outer(target_delta, delta)
        )
        return state | moved

    # ---- counts ----

    def _count(self, name: str) -> int:
        return int(self._settled["counts"][COUNTS.index(name)])

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
    def dtype(self) -> str:
        """That of the features; "mixed" for several, empty without rows."""
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
        for name, tiny, gram in (("H", "tiny", "gram"), ("Y", "tiny_targets", "target_gram")):
            if self._count(tiny) and float(np.trace(self._settled[gram])) < SMALLEST_ENERGY * self.count:
                msg = f"{name} is so small that squares leave the range of float64; multiply it by a constant first"
                raise ValueError(msg)


def _tiny_rows(energy: float, rows: Rows, shift: FloatArray) -> int:
    """Refuse rows whose squares are no float64 numbers; how many there are whose squares vanish."""
    energy /= rows.count
    if not energy < LARGEST_ENERGY:
        msg = f"{rows.name} is so large that squares leave the range of float64; divide it by a constant first"
        raise ValueError(msg)
    vanishes = energy < SMALLEST_ENERGY and np.any(rows.part(0, SHIFT_ROWS).to_float64() != shift)
    return rows.count if vanishes else 0


def _first_mean(rows: Rows) -> FloatArray:
    """Mean of the first rows, of those that are finite."""
    if isinstance(rows, DeviceRows):
        return rows.device.fetch(first_mean(rows, SHIFT_ROWS))
    first: FloatArray = rows.part(0, SHIFT_ROWS).to_float64()
    is_finite = np.isfinite(first).all(axis=1)
    if not is_finite.all():
        first = first[is_finite]
    if len(first) == 0:
        return np.zeros(rows.columns)
    # Taken from the first row on, so that rows that are all equal have exactly zero variance.
    start = first[0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        first -= start
        mean: FloatArray = start + first.mean(axis=0)
    if not np.isfinite(mean).all():
        return np.zeros(rows.columns)
    return mean
