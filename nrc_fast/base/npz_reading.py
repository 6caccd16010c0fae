"""Arrays from .npz files that `nrc_fast.base.npz` has written: nothing that a file says of itself is believed.

What is read takes no more memory than the file has bytes, whatever it announces.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nrc_fast.base.arrays import FloatArray, StoredArray

__all__ = ["arrays_from", "load_arrays", "require_own_place"]

SUFFIX = ".npy"
HEADER = "header"
PIECE_BYTES = 1 << 20


def load_arrays(path: Path, kind: str, newest: int) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Header and arrays of a file that `save_arrays` wrote.

    Raises
    ------
    OSError
        The file is missing or damaged, or is no regular file.
    ValueError
        It holds something else, or was written by a newer version.
    """
    with _opened(path) as file:
        return arrays_from(file, path, kind, newest)


def arrays_from(
    opened: BinaryIO, path: Path, kind: str, newest: int, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Header of an open file that `save_arrays` wrote, and those of its arrays whose names begin with a prefix.

    Raises
    ------
    OSError
        The file is damaged.
    ValueError
        It holds something else, or was written by a newer version.
    """
    header, members, archive = _contents(opened, path)
    if header.get("kind") != kind:
        msg = f"{path} holds no {kind} of nrc_fast"
        raise ValueError(msg)
    version = header.get("format")
    if type(version) is not int or version > newest:
        msg = f"{path} has format {version!r}; this version of nrc_fast reads up to {newest}. Update it"
        raise ValueError(msg)
    names = [name for name in members if name != HEADER and name.startswith(prefix)]
    try:
        return header, {name: _array(archive, members[name], "<f8") for name in names}
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def require_own_place(path: Path, kind: str) -> None:
    """Check that what is written to a file would replace nothing but an earlier file of the same kind.

    Parameters
    ----------
    path : Path
    kind : str
        What the headers of such files call it, such as "statistics".

    Raises
    ------
    ValueError
        There is a file that holds something else, such as features.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        try:
            found = _contents(file, path)[0].get("kind")
        except OSError:
            found = None
    if found != kind:
        msg = f"{path} holds something else than {kind} of nrc_fast, and would be lost; remove it, or give another path"
        raise ValueError(msg)


def _opened(path: Path) -> BinaryIO:
    if path.exists() and not path.is_file():
        msg = f"{path} is no regular file; a .npz file is expected"
        raise OSError(msg)
    return path.open("rb")


def _contents(opened: BinaryIO, path: Path) -> tuple[dict[str, Any], dict[str, zipfile.ZipInfo], zipfile.ZipFile]:
    """The header, the members by name, and the archive of a file."""
    opened.seek(0)
    if not zipfile.is_zipfile(opened):
        msg = f"{path} is damaged or was not written by nrc_fast: it is no .npz file"
        raise OSError(msg)
    opened.seek(0)
    try:
        archive = zipfile.ZipFile(opened)
        members = _members(archive, os.fstat(opened.fileno()).st_size)
        header = json.loads(_array(archive, members[HEADER], "|u1").tobytes().decode())
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    if not isinstance(header, dict):
        msg = f"{path} is damaged or was not written by nrc_fast: its header is no mapping"
        raise OSError(msg)
    return header, members, archive


def _damaged(path: Path, error: Exception) -> OSError:
    return OSError(f"{path} is damaged or was not written by nrc_fast ({type(error).__name__}: {error})")


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name: as they are in the file, and together no larger than it.

    Raises
    ------
    ValueError
        One is compressed, as no version of nrc_fast does, or what they announce does not fit the file.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(SUFFIX)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            msg = f"{info.filename} is compressed or encrypted; plain members are expected"
            raise ValueError(msg)
        if name in members:
            msg = f"{info.filename} is there twice"
            raise ValueError(msg)
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if total > size:
        msg = f"it announces {total} bytes of arrays, and has {size}"
        raise ValueError(msg)
    return members


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: str) -> Any:
    """An array of a dtype; its checksum is that of the archive."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            msg = f"{info.filename} has version {version} of the npy format; (1, 0) is expected"
            raise ValueError(msg)
        shape, fortran_order, found = np.lib.format.read_array_header_1_0(member)
        values = math.prod(shape)
        rest = info.file_size - member.tell()
        if found != np.dtype(dtype) or fortran_order or values < 0 or values * found.itemsize != rest:
            msg = f"{info.filename} is {shape} of {found} in {rest} bytes; values of {dtype} in C order are expected"
            raise ValueError(msg)
        array: StoredArray = np.empty(values, dtype)
        buffer, done = array.view(np.uint8).data, 0
        while done < rest:
            part = member.read(min(PIECE_BYTES, rest - done))
            if not part:
                msg = f"{info.filename} ends early"
                raise EOFError(msg)
            buffer[done : done + len(part)] = part
            done += len(part)
        if member.read(1):  # which checks the sum of all, too
            msg = f"{info.filename} is longer than it says"
            raise ValueError(msg)
    return array.reshape(shape)
