"""Arrays in .npz files, written all or nothing; `nrc_fast.base.npz_reading` reads them."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nrc_fast.base.arrays import FloatArray, StoredArray
from nrc_fast.base.files import replaced_file, require_writable

__all__ = ["save_arrays", "written_file"]

COPY_BYTES = 1 << 20


def save_arrays(path: Path, header: Mapping[str, object], arrays: Mapping[str, FloatArray]) -> None:
    """Write arrays and a header to a .npz file, all or nothing: readers never see half a file.

    Nothing is copied in memory: arrays may be as large as it.

    Parameters
    ----------
    path : Path
    header : mapping to JSON values
    arrays : mapping to float64 arrays

    Raises
    ------
    OSError
        The file cannot be written.
    """
    written_file(path, header, arrays).close()


def written_file(
    path: Path,
    header: Mapping[str, object],
    arrays: Mapping[str, FloatArray],
    before: BinaryIO | None = None,
    kept: Sequence[str] = (),
) -> BinaryIO:
    """Write arrays and a header like `save_arrays`, and return the file, still open.

    Parameters
    ----------
    path : Path
    header : mapping to JSON values
    arrays : mapping to float64 arrays
    before : binary file, optional
        An earlier file of that kind.
    kept : sequence of str
        Arrays of the earlier file whose names begin with one of these are taken over.

    Raises
    ------
    OSError
        The file cannot be written, or something else has written to the earlier one.
    """
    path = require_writable(path)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with replaced_file(path, stays_open=True) as file, zipfile.ZipFile(file, "w") as archive:
        _write(archive, "header", text)
        if before is not None and kept:
            _take_over(archive, before, tuple(kept), path)
        for name, array in arrays.items():
            _write(archive, name, np.ascontiguousarray(array, dtype="<f8"))
    return file


def _write(archive: zipfile.ZipFile, name: str, array: StoredArray) -> None:
    """An array as `numpy.savez` stores it, straight from its memory."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
        if array.size:
            member.write(array.reshape(-1).view(np.uint8).data)


def _take_over(archive: zipfile.ZipFile, before: BinaryIO, prefixes: tuple[str, ...], path: Path) -> None:
    try:
        with zipfile.ZipFile(before) as earlier:
            for name in earlier.namelist():
                if name.startswith(prefixes):
                    with earlier.open(name) as source, archive.open(name, "w", force_zip64=True) as member:
                        shutil.copyfileobj(source, member, COPY_BYTES)
    except (zipfile.BadZipFile, EOFError) as error:
        msg = f"something else has written to {path} while it was in use ({error}); remove it and start anew"
        raise OSError(msg) from error
