"""Sums and decisions of rows with class labels on a CUDA device, in float64; a class is a row of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray
from nrc_fast.kernels.cuda.rows import DeviceRows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeviceClassRows", "largest_scores"]


class DeviceClassRows:
    """`ClassRows` on a device.

    Parameters
    ----------
    rows : DeviceRows
    numbers : (B,) array of integers
        The class of each row, 0..P-1.
    counts : (P,) array of integers
        Rows of each class.
    """

    def __init__(self, rows: DeviceRows, numbers: IntArray, counts: IntArray) -> None:
        self._origin, self._device = rows, rows.device
        self._values: Tensor = rows.tensor.double()
        self._numbers = self._device.place(numbers)
        members = np.zeros((len(counts), len(numbers)))
        members[numbers, np.arange(len(numbers))] = 1.0
        self._members = self._device.place(members)

    def subtract(self, shifts: FloatArray) -> None:
        """Subtract the shift of its class, (P, d), from each row."""
        self._values = self._values - self._device.place(shifts)[self._numbers]

    def sums(self) -> FloatArray:
        """Sum of each class, (P, d), on the host."""
        return self._device.fetch(self._members @ self._values)

    def energies(self) -> FloatArray:
        """Sum of squares of each class, (P,), on the host."""
        return self._device.fetch(self._members @ self._values.square().sum(dim=1))

    def rows(self, *, double: bool) -> DeviceRows:
        """The rows as they are now, in float64 or in float32."""
        if double:
            return self._origin.holding(self._values, "float64")
        return self._origin.holding(self._values.float(), "float32")


def largest_scores(
    rows: DeviceRows, mean: FloatArray, heads: Sequence[FloatArray], offsets: Sequence[FloatArray]
) -> list[IntArray]:
    """For each head (K, d), the number of the largest of ``(h - mean) W^T + b`` for every row, on the host."""
    device = rows.device
    values = rows.tensor.double() - device.place(mean)
    scores = [
        values @ device.place(head).mT + device.place(offset) for head, offset in zip(heads, offsets, strict=True)
    ]
    return [device.fetch(score.argmax(dim=1)) for score in scores]
