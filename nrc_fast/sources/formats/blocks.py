"""Tables of files that are decoded a block of rows at a time, such as compressed chunks."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.forks import Guard
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.stored import reading
from nrc_fast.sources.table import Table, storage_dtype

__all__ = ["BlockTable"]


class BlockTable(Table):
    """Rows that can only be decoded in whole blocks.

    Whole blocks go straight to where they are wanted. A block that is wanted in part is kept until a read goes past
    it, so that reads in order decode every block once, and one block is held beside the rows that are read.
    """

    def __init__(self, name: str, count: int, columns: int, dtype: str, block_rows: int) -> None:
        self.name = name
        self.count = count
        self.columns = columns
        self.dtype = dtype
        self.block_rows = block_rows
        self._held_first = 0
        self._held: StoredArray | None = None
        self._guard = Guard()

    @property
    def held_bytes(self) -> int:
        """The block that is kept."""
        return min(self.block_rows, self.count) * self.row_bytes

    @abstractmethod
    def _load(self, first: int, last: int, out: StoredArray) -> None:
        """Decode rows `first` to `last` into `out`."""

    @abstractmethod
    def _check_unchanged(self, first: int, last: int) -> None:
        """Raise OSError if the file has changed since it was opened."""

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory.

        Raises
        ------
        OSError
            The file has changed or is damaged.
        """
        self._check_unchanged(first, last)
        out = np.empty((last - first, self.columns), storage_dtype(self.dtype))
        with self._guard.lock:
            if self._guard.was_forked():
                self._held = None  # it may be of another block than is noted
            at = first
            while at < last:
                at = self._fill(at, last, out[at - first :])
        return HostRows(self.name, out, self.dtype)

    def _fill(self, first: int, last: int, out: StoredArray) -> int:
        """Give the rows up to some border between blocks or to `last`, and return which."""
        start = first - first % self.block_rows
        end = min(start + self.block_rows, self.count)
        held = self._held if self._held_first == start else None
        if held is None:
            self._held = None  # its memory is free before the next block is decoded
            if first == start and last >= end:
                stop = self.count if last == self.count else last - last % self.block_rows
                self._decode(first, stop, out[: stop - first])
                return stop
            held = np.empty((end - start, self.columns), storage_dtype(self.dtype))
            self._decode(start, end, held)
        stop = min(end, last)
        out[: stop - first] = held[first - start : stop - start]
        self._held_first, self._held = start, None if stop == end else held
        return stop

    def _decode(self, first: int, last: int, out: StoredArray) -> None:
        with reading(f"rows {first} to {last - 1} of {self.name}"):
            self._load(first, last, out)
