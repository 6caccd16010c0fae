"""Sums over rows as they are at one moment: numbers on the host, Gram matrices where they were added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.counts import COUNT_PLACES, GRAMS, SumsKind
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.interface import Backend, Rows, RunningSums, Shifts
from nrc_fast.kernels.long_sums import added_sums, combined_sums
from nrc_fast.kernels.results import SumsPart
from nrc_fast.passes.shifting import shifted
from nrc_fast.passes.sums import Sums

__all__ = ["HeldSums", "KeptSums", "SettledSums", "kept_sums", "shifted_part"]


class HeldSums(NamedTuple):
    """The shifts, once rows have fixed them, and sums in the memory of each backend; those of the host come first.

    The devices are those that the sums came from, wherever they are now.
    """

    shifts: Shifts | None
    running: dict[Backend, RunningSums]
    devices: tuple[Backend, ...] = ()

    def shifts_on_host(self) -> dict[str, FloatArray]:
        """The shifts by name; waits for a device that alone knows them. Empty where no rows have fixed them."""
        if self.shifts is None:
            return {}
        shift, target_shift = self.shifts.on(CPU)
        return {"shift": shift, "target_shift": target_shift}


class SettledSums:
    """What some parts add up to, in their order.

    A Gram matrix stays on the device that holds parts of it, where that keeps matrices of its size; what other memories
    hold of it is brought there, and to the host only when all sums are asked for as arrays.

    Parameters
    ----------
    parts : sequence of SumsPart
        At least one.
    shifts : mapping
        By name; empty where there are no rows.
    devices : sequence of Backend
        That sums came from.
    """

    def __init__(
        self, parts: Sequence[SumsPart], shifts: Mapping[str, FloatArray], devices: Sequence[Backend] = ()
    ) -> None:
        self.parts = tuple(parts)
        self.shifts = dict(shifts)
        self._numbers = combined_sums([part.numbers for part in parts]) | dict(shifts)
        self._devices = tuple(devices)

    def __getitem__(self, name: str) -> FloatArray:
        """A sum or a shift by its name; those of `counts.GRAMS` are no numbers of the host."""
        return self._numbers[name]

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    @property
    def numbers(self) -> Mapping[str, FloatArray]:
        """All that lies on the host, by name; not to be changed."""
        return self._numbers

    @cached_property
    def diagonal(self) -> FloatArray:
        """Of the Gram matrix of the features, (d,)."""
        first, *others = self._filled
        return sum((part.diagonal for part in others), first.diagonal)

    @cached_property
    def arrays(self) -> dict[str, FloatArray]:
        """Everything on the host, by name: the state."""
        parts = [part.on_host() for part in self.parts]
        grams = (Sums.combined if len(parts) > 1 else _first)([{name: part[name] for name in GRAMS} for part in parts])
        return self._numbers | grams

    @property
    def _filled(self) -> Sequence[SumsPart]:
        """Parts with rows; the first where there is none."""
        return [part for part in self.parts if part.numbers["counts"][0] > 0.0] or self.parts[:1]

    def covariance(self, name: str, offset: FloatArray | None = None) -> SymmetricMatrix:
        """A Gram matrix over the number of rows, less the square of a mean, in the memory where it stays."""
        count, (first, *others) = int(self["counts"][0]), self._filled
        memories = [*self._devices, *(part.backend for part in self.parts if part.backend is not None)]
        home = next((memory for memory in memories if memory.keeps_matrices(len(first.diagonal))), CPU)
        total = _gram_in(home, first, name)
        for part in others:
            total = total + _gram_in(home, part, name)
        return home.covariance(total, offset, count)


def _first(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
    return states[0]


def _gram_in(home: Backend, part: SumsPart, name: str) -> PlacedArray:
    if part.backend == home:
        return part.grams[name]
    on_host = part.gram_on_host(name)
    return on_host if home.is_host else home.place(on_host)


def shifted_part(
    part: SumsPart, shifts: Mapping[str, FloatArray], shift: FloatArray, target_shift: FloatArray
) -> SumsPart:
    """A part about other shifts than those given by name, see `shifting.shifted`; its matrices stay where they are."""
    moved = shifted(part.numbers | dict(shifts), shift, target_shift, products=False)
    numbers = {name: moved[name] for name in part.numbers}
    delta = shifts["shift"] - shift
    if not (delta.any() and part.diagonal.size):
        return replace(part, numbers=numbers)
    half = part.numbers["column_sums"] + 0.5 * float(part.numbers["counts"][0]) * delta
    backend = part.backend or CPU
    first, second = backend.place(half), backend.place(delta)
    outer, tril = backend.library.outer, backend.library.tril
    gram = part.grams["gram"] + tril(outer(first, second) + outer(second, first))
    return replace(
        part, numbers=numbers, grams=part.grams | {"gram": gram}, diagonal=part.diagonal + 2.0 * half * delta
    )


def kept_sums(kind: SumsKind, parts: Sequence[SumsPart]) -> RunningSums:
    """Running sums that begin with what some parts add up to: one part of each memory is kept."""
    by_memory: dict[Backend | None, SumsPart] = {}
    for part in parts:
        before = by_memory.get(part.backend)
        by_memory[part.backend] = part if before is None else _added(before, part)
    if list(by_memory) == [None]:
        return CPU.running_sums(kind, by_memory[None].on_host())
    return KeptSums(kind, list(by_memory.values()))


def _added(first: SumsPart, second: SumsPart) -> SumsPart:
    return SumsPart(
        first.backend,
        added_sums(first.numbers, second.numbers),
        {name: gram + second.grams[name] for name, gram in first.grams.items()},
        first.diagonal + second.diagonal,
    )


class KeptSums:
    """`RunningSums` that begin with parts in whatever memory; rows of the host are added beside them.

    Parameters
    ----------
    kind : SumsKind
    parts : sequence of SumsPart
    """

    grows_unseen = False

    def __init__(self, kind: SumsKind, parts: Sequence[SumsPart]) -> None:
        self._kind = kind
        self._parts = tuple(parts)
        self._grown: RunningSums | None = None

    def add(self, features: Rows, targets: Rows | None, shifts: Shifts, *, skipped: int, skips_nonfinite: bool) -> None:
        """Add a batch of the host; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError, ValueError
            As those of the host.
        """
        grown = self._grown or CPU.running_sums(self._kind_of_others())
        grown.add(features, targets, shifts, skipped=skipped, skips_nonfinite=skips_nonfinite)
        self._grown = grown

    def _kind_of_others(self) -> SumsKind:
        """What is added up of rows that come after those that were kept."""
        before = sum(int(part.numbers["counts"][COUNT_PLACES["rows"]]) for part in self._parts)
        return replace(self._kind, double_rows=max(self._kind.double_rows - before, 0))

    def check(self) -> None:
        """Return at once: what was kept was told of."""

    def fetch(self) -> list[SumsPart]:
        """What was kept, and what was added since."""
        return [*self._parts, *([] if self._grown is None else self._grown.fetch())]
