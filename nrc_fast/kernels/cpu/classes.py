"""Sums and decisions of rows with class labels in the memory of the host, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray
from nrc_fast.kernels.interface import Rows

__all__ = ["HostClassRows", "largest_scores"]


class HostClassRows:
    """`ClassRows` on the host: the rows are sorted by their class.

    Parameters
    ----------
    rows : Rows
    numbers : (B,) array of integers
        The class of each row, 0..P-1.
    counts : (P,) array of integers
        Rows of each class, at least 1.
    """

    def __init__(self, rows: Rows, numbers: IntArray, counts: IntArray) -> None:
        order = np.argsort(numbers, kind="stable")
        self._origin, self._values = rows, rows.to_float64()[order]
        self._numbers = numbers[order]
        self._starts = np.cumsum(counts) - counts

    def subtract(self, shifts: FloatArray) -> None:
        """Subtract the shift of its class, (P, d), from each row."""
        self._values -= shifts[self._numbers]

    def sums(self) -> FloatArray:
        """Sum of each class, (P, d)."""
        return np.add.reduceat(self._values, self._starts, axis=0)

    def energies(self) -> FloatArray:
        """Sum of squares of each class, (P,)."""
        return np.add.reduceat(np.einsum("ij,ij->i", self._values, self._values), self._starts)

    def rows(self, *, double: bool) -> Rows:
        """The rows as they are now, sorted, in float64 or in float32."""
        if double:
            return self._origin.holding(self._values, "float64")
        return self._origin.holding(self._values.astype(np.float32), "float32")


def largest_scores(
    rows: Rows, mean: FloatArray, heads: Sequence[FloatArray], offsets: Sequence[FloatArray]
) -> list[IntArray]:
    """For each head (K, d), the number of the largest of ``(h - mean) W^T + b`` for every row."""
    values = rows.to_float64() - mean
    return [np.argmax(values @ head.T + offset, axis=1) for head, offset in zip(heads, offsets, strict=True)]
