"""Arrays in .npy and .npz files."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from nrc_fast.base.arrays import StoredArray, StoredDtype
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.cpu.memory import ReadableFile, open_file
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.errors import UnreadableRowsError
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.formats.compressed_npz import CompressedTable
from nrc_fast.sources.stored import StoredMatrix, Wanted, pick, reading
from nrc_fast.sources.table import RawTable, Table, storage_dtype

__all__ = ["open_npy", "open_npz"]

# What follows the fixed part of a zip entry's own header: lengths of its name and of its extra field.
LOCAL_HEADER = struct.Struct("<26xHH")


def open_npy(path: Path, wanted: Wanted) -> Table:
    """The array of a .npy file; no object is ever unpickled.

    Rows in C order and native byte order are read by the kernels; others are copied a read at a time.

    Raises
    ------
    TypeError, ValueError
        It is no float matrix, or a key was given.
    OSError
        The file is missing, damaged or truncated.
    """
    with reading(path), path.open("rb") as file:
        layout = _read_header(file)
    return pick(path, [_stored(path, None, layout, _in_place(path, layout, layout.header_bytes))], wanted)


def open_npz(path: Path, wanted: Wanted) -> Table:
    """One array of a .npz file.

    What `numpy.savez` wrote is read like .npy files. What `numpy.savez_compressed` wrote is decompressed from front
    to back with bounded memory; a read before the last one starts again at the front.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, the array is no float matrix, or it is compressed and in Fortran order.
    OSError
        The file is missing, damaged or truncated.
    """
    with reading(path), zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        stored = [_stored_member(path, archive, info, file) for info in members]
    return pick(path, stored, wanted)


@dataclass(frozen=True)
class _Layout:
    """What the header of an array says."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: StoredDtype
    header_bytes: int

    @property
    def data_bytes(self) -> int:
        """Bytes of the values."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def _read_header(file: IO[bytes]) -> _Layout:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        msg = f"version {version} of the npy format is not known"
        raise ValueError(msg)
    # Version 3 differs from 2 in the names of fields only, and arrays with fields are refused.
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    return _Layout(shape, fortran_order, dtype, file.tell())


def _stored(path: Path, key: str | None, layout: _Layout, make: Callable[[str, int, int], Table]) -> StoredMatrix:
    hint = ""
    if layout.dtype.hasobject:
        hint = "Objects are never unpickled; save an array of numbers"
    elif layout.dtype.kind == "V":
        hint = "numpy does not keep bfloat16: save it as float32 (array.astype), or in a .safetensors or .pt file"
    return StoredMatrix(
        path=path, key=key, shape=layout.shape, dtype=layout.dtype.newbyteorder("=").name, open=make, hint=hint
    )


def _in_place(path: Path, layout: _Layout, offset: int) -> Callable[[str, int, int], Table]:
    def make(name: str, count: int, columns: int) -> Table:
        dtype = layout.dtype.newbyteorder("=").name
        if layout.fortran_order and len(layout.shape) == 2:
            return _ColumnTable(
                RawTable(path=path, name=name, offset=offset, count=count, columns=columns, dtype=dtype), layout.dtype
            )
        raw = RawTable(path=path, name=name, offset=offset, count=count, columns=columns, dtype=dtype)
        return raw if layout.dtype.isnative else _SwappedTable(raw, layout.dtype)

    return make


def _stored_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: IO[bytes]) -> StoredMatrix:
    with archive.open(info) as member:  # checks the entry's own header too
        layout = _read_header(member)
    if not layout.dtype.hasobject and info.file_size != layout.header_bytes + layout.data_bytes:
        msg = f"{info.filename} holds {info.file_size} bytes, and its header announces another number"
        raise ValueError(msg)
    key = info.filename.removesuffix(".npy")
    if info.compress_type != zipfile.ZIP_STORED:
        return _stored(path, key, layout, _compressed(path, layout, info.filename))
    file.seek(info.header_offset)
    name_bytes, extra_bytes = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    offset = info.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes + layout.header_bytes
    return _stored(path, key, layout, _in_place(path, layout, offset))


def _compressed(path: Path, layout: _Layout, member: str) -> Callable[[str, int, int], Table]:
    def make(name: str, count: int, columns: int) -> Table:
        if layout.fortran_order and len(layout.shape) == 2:
            msg = (
                f"{name} is compressed and in Fortran order, so that no row is known before all is decompressed; "
                "save it with numpy.savez, or in C order (numpy.ascontiguousarray)"
            )
            raise ValueError(msg)
        return CompressedTable(
            path=path,
            name=name,
            member=member,
            header_bytes=layout.header_bytes,
            shape=(count, columns),
            stored=layout.dtype,
        )

    return make


class _CopyingTable(Table):
    """Rows that lie in a file in an order that the kernels do not read."""

    def __init__(self, raw: RawTable, stored: StoredDtype) -> None:
        self.raw = raw
        self.name = raw.name
        self.count = raw.count
        self.columns = raw.columns
        self.dtype = raw.dtype
        self._stored = stored

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time and place, and the order."""
        return [*self.raw.fingerprint(), type(self).__name__, self._stored.str]

    def _native(self, array: StoredArray) -> Rows:
        if not self._stored.isnative:
            array.byteswap(inplace=True)
        return HostRows(self.name, array, self.dtype)


class _SwappedTable(_CopyingTable):
    """Rows in the other byte order."""

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory and native byte order."""
        try:
            rows = self.raw.read(first, last).loaded()
        except UnreadableRowsError as error:
            raise _unreadable(self.name, first + error.row) from error
        return self._native(rows.array)


class _ColumnTable(_CopyingTable):
    """A matrix in Fortran order: a part of each column is read, since a mapped file that shrinks kills the process."""

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory, with columns that lie one after the other."""
        self.raw.stamp.check()
        columns = np.empty((self.columns, last - first), storage_dtype(self.dtype))
        if columns.size == 0:
            return HostRows(self.name, columns.T, self.dtype)
        file = open_file(self.raw.path)
        for number, column in enumerate(columns):
            start = number * self.count + first
            done = _read_at(file, column, self.raw.offset + start * column.itemsize)
            if done < column.nbytes:
                raise _unreadable(self.name, first + done // column.itemsize)
        return HostRows(self.name, self._native(columns).array.T, self.dtype)


def _read_at(file: ReadableFile, out: StoredArray, offset: int) -> int:
    buffer = out.data.cast("B")
    done = 0
    while done < len(buffer):
        part = os.preadv(file.descriptor, [buffer[done:]], offset + done)
        if part == 0:
            break
        done += part
    return done


def _unreadable(name: str, row: int) -> OSError:
    return OSError(f"row {row} of {name} cannot be read: the file ends before it; was it truncated?")
