"""Sums over rows that stay on a CUDA device: batches are launched, nothing waits, and errors come with the sums."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.counts import (
    GRAMS,
    RESTS,
    SHIFT_ROWS,
    SMALLEST_ENERGY,
    SumsKind,
    counted,
    magnitudes_of,
    zero_sums,
)
from nrc_fast.kernels.cuda.launches import Totals, gram_results, launch_gram
from nrc_fast.kernels.cuda.rows import DeviceBackend, DeviceRows
from nrc_fast.kernels.cuda.turns import Turn, Turns
from nrc_fast.kernels.errors import NonFiniteRowsError, too_large
from nrc_fast.kernels.interface import Rows, Shifts
from nrc_fast.kernels.results import SumsPart, part_of_host

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeviceSums", "first_mean", "rounding_kind"]


class DeviceSums:
    """`RunningSums` on a device: those of rows of each dtype are apart, as they round differently.

    Batches may be added, and sums looked at, by several threads and on several streams: each waits for the one before.

    Parameters
    ----------
    backend : DeviceBackend
    kind : SumsKind
    start : mapping, optional
        Sums of other rows, on the host.
    """

    def __init__(self, backend: DeviceBackend, kind: SumsKind, start: Mapping[str, FloatArray] | None = None) -> None:
        self.backend, self.device, self.kind = backend, backend.device, kind
        self._start = None if start is None else dict(start)
        self._skipped = 0
        self.grows_unseen = False
        self._parts: dict[str, _Part] = {}
        self._turns = Turns(self.device)

    def add(
        self, features: Rows, targets: Rows | None, shifts: Shifts, *, skipped: int = 0, skips_nonfinite: bool = False
    ) -> None:
        """Launch the pass over a batch of at least one row; nothing waits once a batch of its dtype was added.

        Raises
        ------
        RuntimeError
            The first batch of its dtype comes while a CUDA graph is being captured.
        """
        assert isinstance(features, DeviceRows)
        assert targets is None or isinstance(targets, DeviceRows)
        captured = self.device.is_capturing()
        if features.dtype not in self._parts:
            require_no_capture(features)
        with self._turns.turn(captured=captured) as turn:
            part = self._parts.get(features.dtype)
            if part is None:
                part = _Part(self.backend, self.kind, features.dtype, shifts.on(features.backend))
            self.grows_unseen = self.grows_unseen or captured
            part.add(turn, features, targets, skips_nonfinite=skips_nonfinite)
            self._parts = self._parts | {features.dtype: part}
            self._skipped += skipped

    def check(self) -> None:
        """Wait for the batches.

        Raises
        ------
        NonFiniteRowsError
            A batch was refused for rows that are not finite, and no error has told of it before.
        ValueError
            A batch was refused whose squares leave the range of float64, and no error has told of it before.
        """
        for part in self._parts.values():
            with self._reading() as turn:
                part.check(turn)

    def fetch(self) -> list[SumsPart]:
        """Everything that adds up, of each dtype; waits for the batches. `check` afterwards tells of refused ones."""
        with self._reading() as turn:
            fetched = [part.fetch(turn) for part in self._parts.values()]
            skipped = self._skipped
        if skipped:
            fetched.append(part_of_host(zero_sums(self.kind) | {"counts": counted(skipped=skipped)}))
        return fetched if self._start is None else [part_of_host(self._start), *fetched]

    def _reading(self) -> AbstractContextManager[Turn]:
        if self.grows_unseen:  # on which stream a graph is replayed, nobody tells
            self.device.wait_for_all_streams()
        self._turns.settle()
        return self._turns.turn()


class _Part:
    """Sums over rows of one dtype about shifts, float64 tensors (d,) and (n_targets,)."""

    def __init__(self, backend: DeviceBackend, kind: SumsKind, dtype: str, shifts: tuple[Tensor, Tensor]) -> None:
        self.backend, self.device, self.kind, self.dtype = backend, backend.device, kind, dtype
        self.shift, self.target_shift = shifts
        # Matrices that stay first, so that all that does not is one copy.
        shapes = {name: shape for name, shape in kind.shapes.items() if name not in RESTS.values()}
        self._results = gram_results(self.device, {name: shapes[name] for name in GRAMS} | shapes)
        self._reported = 0  # refused batches that an error has told of

    def add(self, turn: Turn, features: DeviceRows, targets: DeviceRows | None, *, skips_nonfinite: bool) -> None:
        turn.take(self._results.memory, self.shift, self.target_shift)
        launch_gram(
            self._results,
            features,
            shift=self.shift,
            targets=targets,
            target_shift=self.target_shift,
            precision=self.kind.precision,
            skips_nonfinite=skips_nonfinite,
        )

    def fetch(self, turn: Turn) -> SumsPart:
        turn.take(self._results.memory)
        if not self.backend.keeps_matrices(self.kind.d):
            arrays, counts = self._results.fetch()
            diagonal = np.diagonal(arrays["gram"])
            return part_of_host(arrays | self._described(arrays, diagonal, Totals.of(counts)))
        # Copies, as batches go on; all of them in the order of the stream.
        grams = {name: self._results.tensor(name).clone() for name in GRAMS}
        numbers, counts = self._results.fetch(GRAMS)
        diagonal = self.device.fetch(grams["gram"].diagonal())
        numbers |= self._described(numbers, diagonal, Totals.of(counts))
        return SumsPart(self.backend, numbers, grams, diagonal)

    def _described(self, arrays: dict[str, FloatArray], diagonal: FloatArray, totals: Totals) -> dict[str, FloatArray]:
        """Counts and magnitudes of what the device has added up, and rests."""
        kind = rounding_kind(self.dtype, self.kind.precision)
        energy, target_energy = float(np.sum(diagonal)), float(np.trace(arrays["target_gram"]))
        limit = SMALLEST_ENERGY * totals.rows
        counts = {"rows": totals.rows, "zero": totals.zero, "skipped": totals.skipped, self.dtype: totals.rows}
        counts |= {"blocks": totals.blocks, "parts": totals.added}
        if kind != "double":
            counts[kind] = totals.rows
        if diagonal.size and energy < limit and totals.exponent:
            counts["tiny"] = totals.rows
        if target_energy < limit and totals.target_exponent:
            counts["tiny_targets"] = totals.rows
        magnitudes = magnitudes_of(**{kind: energy, "targets": target_energy})
        # Of targets that are added up in float64 there are none.
        rests = {rest: np.zeros(self.kind.shapes[rest]) for rest in RESTS.values()}
        return rests | {"counts": counted(**counts), "magnitudes": magnitudes}

    def check(self, turn: Turn) -> None:
        """Wait for the batches, and tell of refused ones once.

        Raises
        ------
        NonFiniteRowsError
            The last refused batch has rows that are not finite.
        ValueError
            Its squares leave the range of float64.
        """
        turn.take(self._results.memory)
        totals = Totals.of(self.device.fetch(self._results.counts))
        if totals.refused == self._reported:
            return
        others = totals.refused - self._reported - 1
        self._reported = totals.refused
        where = f"batch {totals.refused_batch} of {self.device.name}" + (f" (and in {others} more)" if others else "")
        if totals.refused_nonfinite:
            name, row = "H or Y", totals.refused_first
            place = f"row {row} in {where}, which was not added"
            raise NonFiniteRowsError(name, totals.refused_nonfinite, row, totals.refused_rows, place)
        raise too_large("Y" if totals.refused_by_targets else "H", where)


def rounding_kind(dtype: str, precision: str) -> str:
    """How products of rows are rounded on a device: one of the names of `counts.MAGNITUDES`."""
    if dtype == "float64" or precision == "highest":
        return "double"
    return "fast" if precision == "fast" else "device"


def first_mean(rows: DeviceRows, *, single: bool) -> Tensor:
    """Mean of the first rows of those that are finite, rounded to float32 if `single`, as a float64 tensor.

    Nothing waits. Zeros where no row is finite.

    Raises
    ------
    RuntimeError
        A CUDA graph is being captured.
    """
    require_no_capture(rows)
    torch = rows.device.torch
    first = rows.tensor[:SHIFT_ROWS].double()
    keep = torch.isfinite(first).all(dim=1)
    # From one of the rows on, so that rows that are all equal have exactly zero variance.
    origin = first.index_select(0, keep.to(torch.int8).argmax().reshape(1))[0]
    distances = torch.where(keep[:, None], first - origin, 0.0).sum(dim=0)
    mean = origin + distances / keep.sum().clamp(min=1)
    mean = mean.float().double() if single else mean
    found: Tensor = torch.where(torch.isfinite(mean).all(), mean, 0.0).contiguous()
    return found


def require_no_capture(features: DeviceRows) -> None:
    """Check that sums may begin.

    Raises
    ------
    RuntimeError
        A CUDA graph is being captured.
    """
    if not features.device.is_capturing():
        return
    msg = (
        f"these statistics hold no rows of {features.dtype} on {features.device.name} yet, and a CUDA graph is being "
        "captured, whose every replay would begin them anew. Call update once before the capture"
    )
    raise RuntimeError(msg)
