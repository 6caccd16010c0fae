"""Sums over rows in the memory of the host: batches are added at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels import calls
from nrc_fast.kernels.counts import (
    COUNTS,
    LARGEST_ENERGY,
    MAGNITUDES,
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
from nrc_fast.kernels.results import GramSums, SumsPart, part_of_host

__all__ = ["HostSums", "first_mean"]


class _State(NamedTuple):
    """Sums over rows. Counts and magnitudes are plain numbers, which small batches add to much faster than numpy."""

    arrays: dict[str, FloatArray]
    counts: dict[str, float]
    magnitudes: dict[str, float]


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
        state = zero_sums(kind) if start is None else start
        self._state = _State(
            {name: state[name] for name in kind.shapes},
            dict(zip(COUNTS, state["counts"].tolist(), strict=True)),
            dict(zip(MAGNITUDES, state["magnitudes"].tolist(), strict=True)),
        )

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
        arrays, kind = self._state.arrays, self.kind
        are_few = self._state.counts["rows"] + features.count <= kind.double_rows
        has_unit_gram = kind.products and kind.unit_rows
        request = GramRequest(
            shift=shift,
            plain=kind.products,
            unit="raw" if has_unit_gram else None,
            onto=arrays["gram"] if kind.products else None,
            unit_onto=arrays["unit_gram"] if has_unit_gram else None,
            precision="highest" if are_few else kind.precision,
        )
        if targets is not None:
            request.targets, request.target_shift, request.target_moments = targets, target_shift, True
            request.targets_onto = arrays if kind.has_long_targets else None
        sums = calls.checked_gram(features, request)
        counts = {"rows": sums.rows, "zero": sums.zero_rows, "skipped": skipped, features.dtype: sums.rows}
        counts |= {"blocks": -(-sums.rows // block_rows()), "parts": 1}
        if not sums.double_precision:
            counts["single"] = sums.rows
        if kind.products:
            counts["tiny"] = _tiny_rows(sums.energy, features, shift)
        if targets is not None:
            counts["long_targets"] = sums.rows if kind.has_long_targets else 0
            counts["tiny_targets"] = _tiny_rows(sums.target_energy, targets, target_shift)
        self._grow(counts, sums)

    def _grow(self, counts: dict[str, int], sums: GramSums) -> None:
        arrays, old_counts, old_magnitudes = self._state
        energies = {"double" if sums.double_precision else "single": sums.energy, "targets": sums.target_energy}
        # The kernel has added them to those of the rows before.
        new = {"gram": sums.gram, "unit_gram": sums.unit_gram} if self.kind.products else {}
        new["column_sums"] = arrays["column_sums"] + sums.column_sums
        if sums.target_gram is not None and sums.target_sums is not None:
            new["cross"] = np.add(arrays["cross"], sums.cross, out=sums.cross)
            new |= {"target_gram": sums.target_gram, "target_sums": sums.target_sums}
            if sums.target_gram_rest is not None and sums.target_sums_rest is not None:
                new |= {"target_gram_rest": sums.target_gram_rest, "target_sums_rest": sums.target_sums_rest}
            else:
                new["target_gram"] += arrays["target_gram"]
                new["target_sums"] += arrays["target_sums"]
        # One assignment: an interrupt comes before or after it, and never leaves half of the rows added.
        self._state = _State(arrays | new, _added(old_counts, counts), _added(old_magnitudes, energies))

    def check(self) -> None:
        """Return at once: batches are added, or refused, when they come."""

    def fetch(self) -> list[SumsPart]:
        """The sums, in one part; not a copy."""
        state = self._state
        numbers = {"counts": counted(**state.counts), "magnitudes": magnitudes_of(**state.magnitudes)}
        return [part_of_host(numbers | state.arrays)]


def _added(numbers: dict[str, float], others: Mapping[str, float]) -> dict[str, float]:
    total = numbers.copy()
    for name, other in others.items():
        total[name] += other
    return total


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
