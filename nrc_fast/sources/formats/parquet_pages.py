"""How large the pages of a parquet file are, from their headers: a reader holds them whole.

What a file says of itself is read here rather than asked of pyarrow, where damage can end the process.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from nrc_fast.kernels.cpu.memory import ReadableFile, open_file

__all__ = ["largest_pages"]

MAGIC = b"PAR1"
TAIL_BYTES = 8
# Footers that are larger are not gone through: that takes about a second for 4 MiB.
MOST_FOOTER_BYTES = 16 << 20
# Read for the header of a page at first, and at most: it may hold the smallest and the largest value.
HEADER_BYTES, MOST_HEADER_BYTES = 256, 1 << 20
MOST_PAGES = 1 << 14
MOST_DEPTH = 20

# Types of the compact protocol of Thrift.
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
# Fields of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and PageHeader.
ROW_GROUPS, COLUMNS, META_DATA = 4, 1, 3
PATH, COMPRESSED, DATA_PAGES, DICTIONARY = 3, 7, 9, 11
WHOLE, STORED = 2, 3


def largest_pages(path: Path, columns: Collection[str]) -> dict[str, int] | None:
    """Bytes of the largest page of each column, decoded or as it is stored, whichever is more.

    Parameters
    ----------
    path : Path
    columns : collection of str
        Names of columns at the top of the schema.

    Returns
    -------
    dict of str to int, or None
        None where the file does not say it: it is damaged, encrypted, or has too many columns or pages to look at.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    file = open_file(path)
    size = path.stat().st_size
    try:
        return _found(file, size, frozenset(columns))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _found(file: ReadableFile, size: int, columns: frozenset[str]) -> dict[str, int]:
    tail = _read(file, size - TAIL_BYTES, TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > min(size - TAIL_BYTES, MOST_FOOTER_BYTES):
        msg = "the file has no footer that can be gone through"
        raise ValueError(msg)
    footer = _Compact(_read(file, size - TAIL_BYTES - length, length)).struct()
    found = dict.fromkeys(columns, 0)
    left = MOST_PAGES
    for group in footer[ROW_GROUPS]:
        for chunk in group[COLUMNS]:
            about = chunk[META_DATA]
            name = about[PATH][0].decode()
            if name in found:
                largest, pages = _largest_page(file, about, size, left)
                found[name] = max(found[name], largest)
                left -= pages
    return found


def _largest_page(file: ReadableFile, about: dict[int, Any], size: int, most: int) -> tuple[int, int]:
    """Bytes of the largest page of a column in a row group, and how many there are."""
    dictionary = about.get(DICTIONARY) or about[DATA_PAGES]  # 0 for none
    at = min(about[DATA_PAGES], dictionary)
    end, largest, pages = at + about[COMPRESSED], 0, 0
    if not 0 <= at <= end <= size:
        msg = "a column lies beyond the end of the file"
        raise ValueError(msg)
    while at < end:
        header, header_bytes = _header(file, at, end)
        if header[STORED] < 0 or header[WHOLE] < 0 or pages >= most:
            msg = "a page has less than no bytes, or there are too many"
            raise ValueError(msg)
        largest = max(largest, header[STORED], header[WHOLE])
        at += header_bytes + header[STORED]
        pages += 1
    return largest, pages


def _header(file: ReadableFile, at: int, end: int) -> tuple[dict[int, Any], int]:
    """The header of a page, and its bytes."""
    size = HEADER_BYTES
    while True:
        content = _Compact(_read(file, at, min(size, end - at)))
        try:
            return content.struct(), content.at
        except IndexError:
            if size >= min(MOST_HEADER_BYTES, end - at):
                raise
            size *= 8


def _read(file: ReadableFile, offset: int, size: int) -> bytes:
    if offset < 0 or size < 0:
        msg = "the file is too short"
        raise ValueError(msg)
    return os.pread(file.descriptor, size, offset)


class _Compact:
    """Values in the compact protocol of Thrift. What ends early is an IndexError."""

    def __init__(self, content: bytes) -> None:
        self.at = 0
        self._content = content
        self._depth = 0

    def struct(self) -> dict[int, Any]:
        """The fields of a struct by their numbers."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            msg = "structs lie too deep in one another"
            raise ValueError(msg)
        fields: dict[int, Any] = {}
        number = 0
        while (start := self._byte()) != 0:
            number = number + (start >> 4) if start >> 4 else self._signed()
            kind = start & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind)
        self._depth -= 1
        return fields

    def _value(self, kind: int) -> Any:
        if kind == STRUCT:
            return self.struct()
        if kind == BINARY:
            return self._bytes(self._unsigned())
        if kind in (LIST, SET):
            return self._list()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind == MAP or kind > STRUCT:
            msg = f"a field has type {kind}, which parquet has not"
            raise ValueError(msg)
        return self._signed()

    def _list(self) -> list[Any]:
        start = self._byte()
        count = start >> 4 if start >> 4 != 15 else self._unsigned()
        if count > len(self._content) - self.at:  # each has a byte at least
            raise IndexError
        self._depth += 1
        values = [self._value(start & 15) for _ in range(count)]
        self._depth -= 1
        return values

    def _byte(self) -> int:
        value = self._content[self.at]
        self.at += 1
        return value

    def _bytes(self, count: int) -> bytes:
        if count > len(self._content) - self.at:
            raise IndexError
        self.at += count
        return self._content[self.at - count : self.at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                msg = "a number has too many bytes"
                raise ValueError(msg)

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
