"""Sums over rows in the memory of the host: batches are added at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels import calls
from nrc_fast.kernels.counts import (
    ADDITIVE,
    LARGEST_ENERGY,
    SHIFT_ROWS,
    SMALLEST_ENERGY,
    SumsKind,
    counted,
    magnitudes_of,
    zero_sums,
)
from nrc_fast.kernels.cpu.machine import block_rows
from nrc_fast.kernels.errors import too_large
from nrc_fast.kernels.interface import GramRequest, Rows, Shifts
from nrc_fast.kernels.results import GramSums

__all__ = ["HostSums", "first_mean"]


class HostSums:
    """`RunningSums` on the host.

    Parameters
    ----------
    kind : SumsKind
    start : mapping, optional
        Sums by the names of `counts.ADDITIVE`, contiguous; they are not changed.
    """

    grows_unseen = False

    def __init__(self, kind: SumsKind, start: Mapping[str, FloatArray] | None = None) -> None:
        self.kind = kind
        self._state = zero_sums(kind) if start is None else {name: start[name] for name in ADDITIVE}

    def add(
        self, features: Rows, targets: Rows | None, shifts: Shifts, *, skipped: int = 0, skips_nonfinite: bool = False
    ) -> None:
        """Add a batch of at least one row; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError
            A row is not finite; `skips_nonfinite` changes nothing here.
        ValueError
            The squares of the rows leave the range of float64.
        """
        del skips_nonfinite
        shift, target_shift = shifts.on(features.backend)
        products, has_unit_gram = self.kind.products, self.kind.products and self.kind.unit_rows
        request = GramRequest(
            shift=shift,
            plain=products,
            unit="raw" if has_unit_gram else None,
            onto=self._state["gram"] if products else None,
            unit_onto=self._state["unit_gram"] if has_unit_gram else None,
            targets=targets,
            target_shift=None if targets is None else target_shift,
            target_moments=targets is not None,
            precision=self.kind.precision,
        )
        sums = calls.checked_gram(features, request)
        single = not sums.double_precision
        counts = counted(
            skipped=skipped,
            rows=sums.rows,
            zero=sums.zero_rows,
            blocks=-(-sums.rows // block_rows()),
            parts=1,
            single=sums.rows if single else 0,
            tiny=_tiny_rows(sums.energy, features, shift) if products else 0,
            tiny_targets=0 if targets is None else _tiny_rows(sums.target_energy, targets, target_shift),
            **{features.dtype: sums.rows},
        )
        magnitudes = magnitudes_of("single" if single else "double", sums.energy, sums.target_energy)
        self._grow(counts, magnitudes, sums)

    def _grow(self, counts: FloatArray, magnitudes: FloatArray, sums: GramSums) -> None:
        state = self._state
        new = {"counts": counts, "magnitudes": magnitudes, "column_sums": sums.column_sums}
        if sums.target_gram is not None and sums.target_sums is not None:
            new |= {"cross": sums.cross, "target_gram": sums.target_gram, "target_sums": sums.target_sums}
        new = {name: np.add(part, state[name], out=part) for name, part in new.items()}
        # The kernel has added them to those of the rows before.
        if self.kind.products:
            new["gram"] = sums.gram
            if self.kind.unit_rows:
                new["unit_gram"] = sums.unit_gram
        # One assignment: an interrupt comes before or after it, and never leaves half of the rows added.
        self._state = state | new

    def check(self) -> None:
        """Return at once: batches are added, or refused, when they come."""

    def fetch(self) -> list[dict[str, FloatArray]]:
        """The sums, in one part; not a copy."""
        return [self._state]


def _tiny_rows(energy: float, rows: Rows, shift: FloatArray) -> int:
    """How many rows of a batch have squares that vanish: all or none.

    Raises
    ------
    ValueError
        The squares of the rows leave the range of float64.
    """
    energy /= rows.count
    if not energy < LARGEST_ENERGY:
        raise too_large(rows.name)
    vanishes = energy < SMALLEST_ENERGY and np.any(rows.part(0, SHIFT_ROWS).to_float64() != shift)
    return rows.count if vanishes else 0


def first_mean(rows: Rows, *, single: bool) -> FloatArray:
    """Mean of the first rows of those that are finite, rounded to float32 if `single`; zeros where none is."""
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
        mean = mean.astype(np.float32).astype(np.float64) if single else mean
    return mean if np.isfinite(mean).all() else np.zeros(rows.columns)
