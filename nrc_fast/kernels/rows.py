"""Matrices as the kernels see them, in memory or in a file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.linalg import FloatArray

__all__ = ["FileRows", "Rows", "UnreadableRowsError", "unreadable"]

BoolArray = NDArray[np.bool_]

# Rows that are looked at together, so that masks of single values stay small.
FINITE_ROWS = 4096

DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}


@dataclass(frozen=True)
class Rows:
    """A matrix in the memory of an array, N rows of d values, and how error messages call it.

    numpy has no bfloat16: `array` then holds the bits as uint16.
    """

    name: str
    array: np.ndarray[Any, Any]
    dtype: str

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.array.shape[0])

    @property
    def columns(self) -> int:
        """Number of values in a row."""
        return int(self.array.shape[1])

    @property
    def is_double(self) -> bool:
        """Whether the rows are float64."""
        return self.dtype == "float64"

    is_on_device = False  # of CUDA

    @property
    def place(self) -> str:
        """Where the rows lie, in words."""
        return "the CPU"

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the kernels take it."""
        return _cpu.matrix_of(self.array, DTYPES[self.dtype])

    def part(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`, not copied."""
        return replace(self, array=self.array[first:last])

    def loaded(self) -> Rows:
        """The same rows in memory."""
        return self

    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array."""
        if self.dtype != "bfloat16":
            return np.array(self.array, dtype=np.float64)
        # The bits of a bfloat16 are the upper half of those of a float32.
        widened: FloatArray = (self.array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
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

    def copy_to(self, target: np.ndarray[Any, Any]) -> None:
        """Copy the rows into an array of their shape and storage.

        Raises
        ------
        OSError
            They cannot be read.
        """
        target[...] = self.array

    def take(self, mask: BoolArray) -> Rows:
        """A copy of the rows where `mask` is set."""
        return replace(self, array=np.ascontiguousarray(self.array[mask]))

    def buffer(self, name: str, count: int) -> Rows:
        """Memory for `count` rows of this kind, beside them."""
        return Rows(name, np.empty((count, self.columns), self.array.dtype), self.dtype)


@dataclass(frozen=True)
class FileRows(Rows):
    """Rows that lie one after the other in a file, and that the kernels read from it as they go.

    They take no memory: `array` has the shape and no elements of its own. Where the file ends early the kernels
    report an error; a mapped file would kill the process.
    """

    file: Any  # held so that its descriptor stays open
    offset: int

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the kernels take it."""
        return _cpu.matrix_in_file(self.file.descriptor, self.offset, self.count, self.columns, DTYPES[self.dtype])

    def part(self, first: int, last: int) -> FileRows:
        """Rows `first` to `last`, not read."""
        offset = self.offset + first * self.columns * self.array.itemsize
        return replace(self, array=self.array[first:last], offset=offset)

    def loaded(self) -> Rows:
        """The same rows, read into memory.

        Raises
        ------
        OSError
            The file ends early or cannot be read.
        """
        values = np.empty(self.array.shape, self.array.dtype)
        self.copy_to(values)
        return Rows(self.name, values, self.dtype)

    def copy_to(self, target: np.ndarray[Any, Any]) -> None:
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

    def take(self, mask: BoolArray) -> Rows:
        """A copy of the rows where `mask` is set."""
        return self.loaded().take(mask)


class UnreadableRowsError(OSError):
    """A row that its file does not give."""

    def __init__(self, message: str, reason: str, row: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.row = row


def unreadable(name: str, row: int, error_number: int) -> UnreadableRowsError:
    """The error for a row that cannot be read; error number 0 means that the file ends before it."""
    reason = os.strerror(error_number) if error_number else "the file ends before it; was it truncated?"
    return UnreadableRowsError(f"row {row} of {name} cannot be read: {reason}", reason, row)
