"""Rows in the memory of the host, in an array or in a file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import numpy as np

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.arrays import BoolArray, FloatArray, StoredArray
from nrc_fast.kernels.arrays import DTYPES
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.errors import unreadable
from nrc_fast.kernels.interface import Rows

__all__ = ["FileRows", "HostRows"]

# Rows that are looked at together, so that masks of single values stay small.
FINITE_ROWS = 4096


@dataclass(frozen=True)
class HostRows(Rows):
    """A matrix in the memory of a numpy array, of any strides."""

    name: str
    array: StoredArray
    dtype: str

    backend = CPU

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the compiled kernels of the CPU take it."""
        return _cpu.matrix_of(self.array, DTYPES[self.dtype])

    def part(self, first: int, last: int) -> HostRows:
        """Rows `first` to `last`, not copied."""
        return replace(self, array=self.array[first:last])

    def loaded(self) -> HostRows:
        """These rows, which lie in memory already."""
        return self

    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array, one after the other: numpy sums in the order of the memory."""
        if self.dtype != "bfloat16":
            return np.array(self.array, dtype=np.float64, order="C")
        # The bits of a bfloat16 are the upper half of those of a float32.
        widened: FloatArray = (self.array.astype(np.uint32, order="C") << 16).view(np.float32).astype(np.float64)
        return widened

    def finite_rows(self) -> BoolArray:
        """Which rows hold neither NaN nor infinite values, (N,)."""
        finite = np.ones(self.count, dtype=np.bool_)
        for first in range(0, self.count, FINITE_ROWS):
            part = self.array[first : first + FINITE_ROWS]
            is_finite = (part & 0x7F80) != 0x7F80 if self.dtype == "bfloat16" else np.isfinite(part)
            finite[first : first + FINITE_ROWS] = is_finite.all(axis=1)
        return finite

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        if self.dtype != "bfloat16":
            with np.errstate(over="ignore", invalid="ignore"):
                total = np.add.reduce(self.array, axis=None, dtype=np.float64)
            if math.isfinite(total):  # as no sum with such a value is
                return True
        return bool(self.finite_rows().all())

    def copy_to(self, target: StoredArray) -> None:
        """Copy the rows into an array of their shape and storage."""
        target[...] = self.array

    def take(self, mask: BoolArray) -> HostRows:
        """A copy of the rows where `mask` is set."""
        return HostRows(self.name, np.ascontiguousarray(self.array[mask]), self.dtype)

    def holding(self, values: StoredArray, dtype: str) -> HostRows:
        """Other values in memory, under the same name."""
        return HostRows(self.name, values, dtype)

    def buffer(self, name: str, count: int) -> HostRows:
        """Memory for `count` rows of this kind."""
        return HostRows(name, np.empty((count, self.columns), self.array.dtype), self.dtype)


@dataclass(frozen=True)
class FileRows(HostRows):
    """Rows that lie one after the other in a file, and that the kernels read from it as they go.

    They take no memory: `array` has the shape and no elements of its own. Where the file ends early the kernels
    report an error; a mapped file would kill the process.
    """

    file: _cpu.ReadableFile  # held so that its descriptor stays open
    offset: int

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the compiled kernels of the CPU take it."""
        return _cpu.matrix_in_file(self.file.descriptor, self.offset, self.count, self.columns, DTYPES[self.dtype])

    def part(self, first: int, last: int) -> FileRows:
        """Rows `first` to `last`, not read."""
        offset = self.offset + first * self.columns * self.array.itemsize
        return replace(self, array=self.array[first:last], offset=offset)

    def loaded(self) -> HostRows:
        """These rows, read into memory.

        Raises
        ------
        OSError
            The file ends early or cannot be read.
        """
        values = np.empty(self.array.shape, self.array.dtype)
        self.copy_to(values)
        return HostRows(self.name, values, self.dtype)

    def copy_to(self, target: StoredArray) -> None:
        """Read the rows into an array whose rows lie one after the other.

        Raises
        ------
        OSError
            The file ends early or cannot be read.
        """
        buffer = target.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(buffer):
            part = os.preadv(self.file.descriptor, [buffer[done:]], self.offset + done)
            if part == 0:
                raise unreadable(self.name, done // (self.columns * target.itemsize), 0)
            done += part

    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array."""
        return self.loaded().to_float64()

    def finite_rows(self) -> BoolArray:
        """Which rows hold neither NaN nor infinite values, (N,)."""
        return self.loaded().finite_rows()

    def take(self, mask: BoolArray) -> HostRows:
        """A copy of the rows where `mask` is set."""
        return self.loaded().take(mask)
