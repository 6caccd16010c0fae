"""Matrices in memory or on disk that are read a range of rows at a time: the tables that sources are made of."""

from __future__ import annotations

import os
import stat
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from nrc_fast.base.arrays import StoredArray, StoredDtype
from nrc_fast.base.forks import Guard
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.arrays import DTYPES
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cpu.memory import open_file, release_pages
from nrc_fast.kernels.cpu.rows import FileRows, HostRows
from nrc_fast.kernels.errors import UnreadableRowsError
from nrc_fast.kernels.interface import Backend, Rows
from nrc_fast.sources.checksums import Checksum

__all__ = [
    "ArrayTable",
    "DeviceTable",
    "FileStamp",
    "MappedTable",
    "RawTable",
    "Table",
    "require_regular",
    "seen_of",
    "storage_dtype",
]

# What Linux maps around a page that is touched.
FAULT_AROUND_BYTES = 64 << 10
# Threads that come first compare checksums, and others wait for them.
_VERIFYING = Guard()


def storage_dtype(dtype: str) -> StoredDtype:
    """The dtype of the array that holds rows of a dtype: bfloat16 are kept as their bits."""
    return np.dtype(np.uint16 if dtype == "bfloat16" else dtype)


ITEM_SIZES = {dtype: storage_dtype(dtype).itemsize for dtype in DTYPES}


class Table(ABC):
    """A matrix stored somewhere: features or targets.

    Attributes
    ----------
    name : str
        How messages call it: the path, and the key inside the file.
    count, columns : int
    dtype : str
        float64, float32, float16 or bfloat16.
    column_names : tuple of str or None
        What the columns are called, where they have names.
    files : tuple of Path
        What is read; nothing of it may be written meanwhile.
    """

    name: str
    count: int
    columns: int
    dtype: str

    chunk_bytes: int | None = None  # that should be read at a time
    backend: Backend = CPU  # in whose memory rows lie
    column_names: tuple[str, ...] | None = None
    is_given: bool = False  # as an array, not in files
    files: tuple[Path, ...] = ()  # that rows are read from, and the one that was named
    checksum: Checksum | None = None  # of what is read from its place, compared before the first read

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * ITEM_SIZES[self.dtype]

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row takes after it was read; 0 for rows that stay where they are."""
        return self.row_bytes

    @property
    def held_bytes(self) -> int:
        """Memory that reading takes beside the rows that are read, such as a block that is decoded whole."""
        return 0

    @property
    def reads(self) -> bool:
        """Whether there is something to be done ahead of the computation."""
        return True

    @abstractmethod
    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`, all of them.

        Raises
        ------
        OSError
            They cannot be read; the message names the file and the row.
        """

    def load(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory.

        Raises
        ------
        OSError
            They cannot be read; the message names the file and the row.
        """
        loaded = np.empty((last - first, self.columns), storage_dtype(self.dtype))
        self.copy_to(loaded, first, last)
        return HostRows(self.name, loaded, self.dtype)

    def copy_to(self, target: StoredArray, first: int, last: int) -> None:
        """Copy rows `first` to `last` into an array.

        Raises
        ------
        OSError
            They cannot be read; the message names the file and the row.
        """
        try:
            self.read(first, last).copy_to(target)
        except UnreadableRowsError as error:
            msg = f"{self.locate(first + error.row)} cannot be read: {error.reason}"
            raise OSError(msg) from error

    def verify(self) -> None:
        """Compare the checksum, where there is one, before the first read.

        Raises
        ------
        OSError
            What is stored has another.
        """
        if self.checksum is None:
            return
        with _VERIFYING.lock:
            if self.checksum is not None:
                self.checksum.check()
                self.checksum = None

    def release(self, first: int, last: int) -> None:  # noqa: B027 - nothing to give back by default
        """Rows `first` to `last` are no longer needed."""

    def locate(self, row: int) -> str:
        """Where a row is, in words."""
        return f"row {row} of {self.name}"

    @abstractmethod
    def fingerprint(self) -> list[JSONValue]:
        """What tells this table from another or a changed one; goes through JSON unchanged."""


class ArrayTable(Table):
    """Rows in memory."""

    is_given = True

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.name = rows.name
        self.count = rows.count
        self.columns = rows.columns
        self.dtype = rows.dtype

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row takes: none, as rows are used in place."""
        return 0

    @property
    def reads(self) -> bool:
        """Whether there is something to be read: never."""
        return False

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in place."""
        return self.rows.part(first, last)

    def locate(self, row: int) -> str:
        """The number of a row, in words."""
        return f"row {row}"

    def fingerprint(self) -> list[JSONValue]:
        """Shape, dtype, and a checksum of the first and the last rows."""
        ends = (self.rows.array[:16], self.rows.array[-16:])
        return [self.name, self.count, self.columns, self.dtype, *(zlib.crc32(end.tobytes()) for end in ends)]


class DeviceTable(ArrayTable):
    """Rows in the memory of a CUDA device."""

    # The passes need next to nothing beside the rows, and a launch costs as much as reading some megabytes.
    chunk_bytes = 2 << 30

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.backend = rows.backend

    def load(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in place."""
        return self.read(first, last)

    def fingerprint(self) -> list[JSONValue]:
        """Shape, dtype, and a checksum of the first and the last rows."""
        last = max(self.count - 16, 0)
        ends = (self.rows.part(0, 16), self.rows.part(last, self.count))
        checksums = [zlib.crc32(end.to_float64().tobytes()) for end in ends]
        return [self.name, self.count, self.columns, self.dtype, *checksums]


class MappedTable(ArrayTable):
    """Rows of a mapped file. Its pages are given back once they are used; a later read maps them again."""

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row takes: the pages that it lies in."""
        row_stride, column_stride = map(abs, self.rows.array.strides)
        return max(self.row_bytes, row_stride) if row_stride >= column_stride else self.row_bytes

    @property
    def held_bytes(self) -> int:
        """Memory of pages around the rows: columns that lie apart begin and end within some, and more are mapped."""
        row_stride, column_stride = map(abs, self.rows.array.strides)
        return 0 if row_stride >= column_stride else 2 * FAULT_AROUND_BYTES * self.columns

    def release(self, first: int, last: int) -> None:
        """Give back the pages of rows `first` to `last`."""
        release_pages(self.rows.part(first, last))


def require_regular(path: Path) -> os.stat_result:
    """Check that a file is there and is one: reading a pipe may wait for ever, and none can be read twice.

    Raises
    ------
    OSError
        It is missing, or is a pipe, a socket, a device or a folder.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path} is no regular file; a pipe or a device cannot be read twice, or from the middle"
        raise OSError(msg)
    return status


class FileStamp:
    """Size, times and place of a file when it was opened.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        The file is missing, cannot be read, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_regular(path)
        self._seen = self._look()

    def check(self) -> None:
        """Check that the file has not changed since it was opened.

        Raises
        ------
        OSError
            Its size or a time differs, another file has its name, or it is gone.
        """
        if self._look() != self._seen:
            msg = f"{self.path} has changed since it was opened (its size or time differ); start again"
            raise OSError(msg)

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, times and place of the file when it was opened."""
        return [str(self.path), *self._seen]

    def _look(self) -> tuple[int, ...]:
        return seen_of(self.path.stat())


def seen_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes with a file: its size, when it was written to, when it was said to have been, and which it is."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


class RawTable(Table):
    """Rows that lie one after the other in a file, read by the kernels as they go: no copy, no page is mapped.

    Parameters
    ----------
    path : Path
    name : str
        The path, and the key inside the file if it holds several matrices.
    offset : int
        Where the first row begins, in bytes.
    count, columns : int
    dtype : str

    Raises
    ------
    OSError
        The file is shorter than the rows need.
    """

    def __init__(self, path: Path, name: str, offset: int, count: int, columns: int, dtype: str) -> None:
        self.stamp = FileStamp(path)
        self.path = path
        self.files = (path,)
        self.name = name
        self.offset = offset
        self.count = count
        self.columns = columns
        self.dtype = dtype
        size = path.stat().st_size
        if size < offset + count * self.row_bytes:
            whole = max(size - offset, 0) // self.row_bytes
            msg = f"{name} is truncated: {count} rows are announced and the file ends within row {whole}"
            raise OSError(msg)

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row takes: none, as a few hundred rows at a time pass through the cache."""
        return 0

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`, which the kernels read; the system is told to fetch them.

        Raises
        ------
        OSError
            The file is gone, cannot be opened, has changed since it was opened first, or its checksum is another.
        """
        self.stamp.check()
        self.verify()
        offset = self.offset + first * self.row_bytes
        file = open_file(self.path)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.descriptor, offset, (last - first) * self.row_bytes, os.POSIX_FADV_WILLNEED)
        shape = np.broadcast_to(np.empty((), storage_dtype(self.dtype)), (last - first, self.columns))
        return FileRows(self.name, shape, self.dtype, file, offset)

    def fingerprint(self) -> list[JSONValue]:
        """Path, size and time of the file, and where the rows lie in it."""
        return [*self.stamp.fingerprint(), self.offset, self.count, self.columns, self.dtype]
