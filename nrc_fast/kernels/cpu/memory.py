"""Memory of the CPU core: arrays that are kept for the next call, files, pages of mapped files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.interface import Rows

__all__ = ["ReadableFile", "address_of", "kept_empty", "open_file", "release_pages"]

# Numbers in arrays whose memory is kept; smaller ones are quick to get anyway.
LEAST_KEPT = 2048
ReadableFile = _cpu.ReadableFile


def kept_zeros(*shape: int) -> FloatArray:
    """Zeros in memory that is kept when they go, so that the sums of the next batch cost no page faults."""
    count = math.prod(shape)
    return np.zeros(shape) if count < LEAST_KEPT else _kept(count, zeros=True).reshape(shape)


def kept_empty(*shape: int) -> FloatArray:
    """An array without content, in memory that is kept when it goes; for results that are written in any case."""
    count = math.prod(shape)
    return np.empty(shape) if count < LEAST_KEPT else _kept(count, zeros=False).reshape(shape)


def _kept(count: int, *, zeros: bool) -> FloatArray:
    return np.frombuffer(memoryview(_cpu.Memory(count, zeros=zeros)))


def address_of(array: FloatArray | None) -> int:
    """Where an array begins; 0 where it has no elements."""
    return 0 if array is None or array.size == 0 else _cpu.address_of(array)


def open_file(path: Path) -> ReadableFile:
    """Open a file for reading; it is closed together with the last rows that need it.

    A Python finalizer would do that too, but could swallow a Ctrl-C.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    return ReadableFile(os.open(path, os.O_RDONLY))


def release_pages(rows: Rows) -> None:
    """Give back the memory of rows in a mapped file; they are read again when they are needed.

    Only for files that are mapped without private changes: those would be lost.
    """
    array = rows.array
    if array.size == 0:
        return
    if array.strides[0] >= array.strides[1]:
        _cpu.release_pages(array.ctypes.data, array.strides[0] * (rows.count - 1) + array.strides[1] * rows.columns)
        return
    for column in range(rows.columns):
        part = array[:, column]
        _cpu.release_pages(part.ctypes.data, part.strides[0] * rows.count)
