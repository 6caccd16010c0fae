"""Tables in several files, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.table import Table, storage_dtype

__all__ = ["ShardedTable"]


class ShardedTable(Table):
    """Tables one after the other.

    Parameters
    ----------
    name : str
        How messages call them together.
    shards : sequence of Table

    Attributes
    ----------
    listed : tuple of str
        The files that somebody has listed one by one; empty where a pattern stands for them.

    Raises
    ------
    ValueError
        There are none, or their widths or dtypes differ; the message names the first that does.
    """

    listed: tuple[str, ...] = ()

    def __init__(self, name: str, shards: Sequence[Table]) -> None:
        if not shards:
            msg = f"{name}: there are no files"
            raise ValueError(msg)
        first = next((shard for shard in shards if shard.count), shards[0])
        for shard in shards[1:]:
            if shard.count and (shard.columns, shard.dtype) != (first.columns, first.dtype):
                msg = (
                    f"{shard.name} has {shard.columns} columns of {shard.dtype}; "
                    f"{first.name} and all before it have {first.columns} of {first.dtype}"
                )
                raise ValueError(msg)
        self.shards = shards
        self.files = tuple(dict.fromkeys(file for shard in shards for file in shard.files))
        self.column_names = first.column_names
        self.name = name
        self.columns = first.columns
        self.dtype = first.dtype
        self._ends = list(accumulate(shard.count for shard in shards))
        self.count = self._ends[-1]

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row takes: that of a copy, as chunks that lie in several shards are copied together."""
        return self.row_bytes if len(self.shards) > 1 else self.shards[0].chunk_bytes_per_row

    @property
    def held_bytes(self) -> int:
        """Memory that reading takes beside the rows: that of the shard that takes most, as each gives it back."""
        return max(shard.held_bytes for shard in self.shards)

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`: in place if they lie in one shard, else copied together.

        Raises
        ------
        OSError
            They cannot be read; the message names the file and the row.
        """
        spans = self._spans(first, last)
        if len(spans) == 1:
            index, start, stop = spans[0]
            return self.shards[index].read(start, stop)
        joined = np.empty((last - first, self.columns), storage_dtype(self.dtype))
        at = 0
        for index, start, stop in spans:
            self.shards[index].copy_to(joined[at : at + stop - start], start, stop)
            at += stop - start
        return HostRows(self.name, joined, self.dtype)

    def release(self, first: int, last: int) -> None:
        """Tell the shards that rows `first` to `last` are no longer needed."""
        for index, *span in self._spans(first, last):
            self.shards[index].release(*span)

    def locate(self, row: int) -> str:
        """Where a row is within its shard, in words."""
        index = bisect_right(self._ends, row)
        return self.shards[index].locate(row - self._start(index))

    def fingerprint(self) -> list[JSONValue]:
        """Fingerprints of all shards."""
        return [shard.fingerprint() for shard in self.shards]

    def _start(self, index: int) -> int:
        return self._ends[index] - self.shards[index].count

    def _spans(self, first: int, last: int) -> list[tuple[int, int, int]]:
        spans = []
        index = bisect_right(self._ends, first)
        while first < last:
            start, end = self._start(index), min(last, self._ends[index])
            if first < end:
                spans.append((index, first - start, end - start))
            first = max(first, end)
            index += 1
        return spans
