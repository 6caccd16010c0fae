"""Codecs that the metadata of zarr arrays name: none that would run code of the file."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from nrc_fast.sources.stored import reading
from nrc_fast.sources.table import require_regular

__all__ = ["METADATA_FILES", "require_plain_codecs"]

# Of arrays and groups, in versions 3 and 2 of the format, and what version 2 gathers of all of them.
METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")
GATHERED = ".zmetadata"
MOST_METADATA_BYTES = 256 << 20
# By the names of versions 2 and 3.
RUNS_CODE = ("pickle", "numcodecs.pickle")


def require_plain_codecs(path: Path, files: Iterator[str]) -> None:
    """Check that no array of a store is decoded by unpickling.

    Parameters
    ----------
    path : Path
        A directory, or a zip file.
    files : iterator of str
        The files of a directory; not asked for with a zip file.

    Raises
    ------
    OSError
        One would be, or its metadata are damaged.
    """
    with reading(path):
        named = [(name, next(_unpickling(json.loads(content)), None)) for name, content in _metadata(path, files)]
    for name, found in named:
        if found is not None:
            msg = (
                f"{path} has an array that is decoded by {found!r} ({name}), and nothing is ever unpickled; save it as "
                "numbers, with another compressor or filter"
            )
            raise OSError(msg)


def _metadata(path: Path, files: Iterator[str]) -> Iterator[tuple[str, bytes]]:
    names = (*METADATA_FILES, GATHERED)
    if path.is_dir():
        for name in files:
            if name.rpartition("/")[2] in names:
                _require_small(name, require_regular(path / name).st_size)
                yield name, (path / name).read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if os.path.basename(info.filename) in names:  # noqa: PTH119 - a name in an archive
                _require_small(info.filename, info.file_size)
                yield info.filename, archive.read(info)


def _require_small(name: str, size: int) -> None:
    if size > MOST_METADATA_BYTES:
        msg = f"{name} has {size} bytes; metadata of at most {MOST_METADATA_BYTES} are expected"
        raise ValueError(msg)


def _unpickling(value: object) -> Iterator[str]:
    """Names of codecs that unpickle, wherever they stand but in what users have noted."""
    parts: list[object] = value if isinstance(value, list) else []
    if isinstance(value, dict):
        yield from (str(value[key]) for key in ("id", "name", "object_codec_id") if value.get(key) in RUNS_CODE)
        parts = [part for key, part in value.items() if key != "attributes" and not key.endswith(".zattrs")]
    for part in parts:
        yield from _unpickling(part)
