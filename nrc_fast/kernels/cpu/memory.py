"""Memory of the CPU core: arrays that are kept for the next call, files, pages of mapped files."""

from __future__ import annotations

import os
from pathlib import Path

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.kernels.interface import Rows

__all__ = ["ReadableFile", "address_of", "kept_empty", "open_file", "release_pages"]

ReadableFile = _cpu.ReadableFile
address_of, kept_empty = _cpu.address_of, _cpu.kept_empty


def open_file(path: Path) -> ReadableFile:
    """Open a file for reading; it is closed together with the last rows that need it.

    A Python finalizer would do that too, but could swallow a Ctrl-C.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    # A pipe that has taken the place of a file would be waited for.
    return ReadableFile(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


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
