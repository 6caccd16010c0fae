"""Arrays in .npy and .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from nrc_fast.base.arrays import StoredDtype
from nrc_fast.sources.checksums import Checksum
from nrc_fast.sources.formats.archives import Member, members_of
from nrc_fast.sources.formats.compressed_npz import CompressedTable
from nrc_fast.sources.formats.strided_rows import Placement, stored_rows
from nrc_fast.sources.stored import StoredMatrix, Wanted, pick, reading
from nrc_fast.sources.table import Table

__all__ = ["open_npy", "open_npz"]

# Makes the table of an array, given its name, count and columns.
_Opens: TypeAlias = Callable[[str, int, int], Table]


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
        members = [member for name, member in members_of(archive, file, path).items() if name.endswith(".npy")]
        stored = [_stored_member(path, archive, member, verify=wanted.verify) for member in members]
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


def _stored(path: Path, key: str | None, layout: _Layout, make: _Opens) -> StoredMatrix:
    hint = ""
    if layout.dtype.hasobject:
        hint = "Objects are never unpickled; save an array of numbers"
    elif layout.dtype.kind == "V":
        hint = "numpy does not keep bfloat16: save it as float32 (array.astype), or in a .safetensors or .pt file"
    return StoredMatrix(
        path=path, key=key, shape=layout.shape, dtype=layout.dtype.newbyteorder("=").name, open=make, hint=hint
    )


def _in_place(path: Path, layout: _Layout, offset: int, checksum: Checksum | None = None) -> _Opens:
    def make(name: str, count: int, columns: int) -> Table:
        is_by_columns = layout.fortran_order and len(layout.shape) == 2
        strides = (1, count) if is_by_columns else (columns, 1)
        place = Placement(offset, *strides, is_native=layout.dtype.isnative)
        table = stored_rows(path, name, (count, columns), layout.dtype.newbyteorder("=").name, place)
        table.checksum = checksum
        return table

    return make


def _stored_member(path: Path, archive: zipfile.ZipFile, member: Member, *, verify: bool) -> StoredMatrix:
    info = member.info
    with archive.open(info) as opened:  # checks the entry's own header too
        layout = _read_header(opened)
    if not layout.dtype.hasobject and info.file_size != layout.header_bytes + layout.data_bytes:
        msg = f"{info.filename} holds {info.file_size} bytes, and its header announces another number"
        raise ValueError(msg)
    key = info.filename.removesuffix(".npy")
    if not member.is_plain:
        return _stored(path, key, layout, _compressed(path, layout, info.filename))
    checksum = member.checksum if verify else None
    return _stored(path, key, layout, _in_place(path, layout, member.offset + layout.header_bytes, checksum))


def _compressed(path: Path, layout: _Layout, member: str) -> _Opens:
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
