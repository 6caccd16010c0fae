"""Sums of rows with class labels on a CUDA device; each class is one row of a matrix of zeros and ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda import backend
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.results import in_range_of_float32

__all__ = ["ClassRows", "decisions_on_device"]


class ClassRows:
    """Rows on a device, in float64, of classes that are numbered 0..P-1.

    Parameters
    ----------
    rows : DeviceRows
    numbers : (B,) array of integers
        The class of each row, all of which are finite.
    counts : (P,) array
        Rows of each class, at least 1.
    """

    def __init__(self, rows: DeviceRows, numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self.device, self.name = rows.device, rows.name
        self.values: Any = rows.tensor.double()
        self._numbers = self.device.place(numbers)
        self._counts = counts
        members = np.zeros((len(counts), len(numbers)))
        members[numbers, np.arange(len(numbers))] = 1.0
        self._members = self.device.place(members)

    def means(self) -> FloatArray:
        """Mean of each class, (P, d)."""
        return self.sums() / self._counts[:, np.newaxis]

    def subtract(self, shifts: FloatArray) -> None:
        """Subtract the shift of its class from each row."""
        self.values = self.values - self.device.place(shifts)[self._numbers]

    def sums(self) -> FloatArray:
        """Sum of each class, (P, d)."""
        found: FloatArray = self.device.fetch(self._members @ self.values)
        return found

    def energies(self) -> FloatArray:
        """Sum of squares of each class, (P,)."""
        found: FloatArray = self.device.fetch(self._members @ self.values.square().sum(dim=1))
        return found

    def gram(self, *, is_double: bool, precision: str) -> FloatArray:
        """``sum x x^T``, the lower triangle."""
        factors, dtype = (self.values, "float64") if is_double else (self.values.float(), "float32")
        rows = DeviceRows(self.name, factors, dtype, self.device)
        sums = backend.gram(rows, None, True, None, None, None, False, precision)
        if not (sums.double_precision or sums.rows == 0 or in_range_of_float32(sums)):
            sums = backend.gram(rows, None, True, None, None, None, False, "highest")
        return sums.gram


def decisions_on_device(
    rows: DeviceRows, mean: FloatArray, heads: tuple[FloatArray, FloatArray], offsets: tuple[FloatArray, FloatArray]
) -> list[NDArray[Any]]:
    """For both heads (K, d), the number of the largest of ``(h - mean) W^T + b`` for each row, on the host."""
    place = rows.device.place
    values: Any = rows.tensor.double() - place(mean)
    scores = [values @ place(head).mT + place(offset) for head, offset in zip(heads, offsets, strict=True)]
    return [rows.device.fetch(score.argmax(dim=1)) for score in scores]
