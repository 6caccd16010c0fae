"""Arrays of zarr, in directories and zip files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.sources.formats.blocks import BlockTable
from nrc_fast.sources.formats.zarr_codecs import METADATA_FILES, require_plain_codecs
from nrc_fast.sources.stored import StoredMatrix, Wanted, import_library, pick, reading
from nrc_fast.sources.table import ITEM_SIZES, FileStamp, Table, require_regular, seen_of

if TYPE_CHECKING:
    import zarr

__all__ = ["is_zarr_directory", "open_zarr"]

# Older versions unpickle where the metadata of an array ask for it.
OLDEST = (3, 1)
# Of rows that zarr is asked for at a time. It holds them as they are stored, decoded, and in the array that it gives.
PIECE_BYTES = 4 << 20
COPIES = 3
# What glibc maps apart and gives back at once. What is smaller it keeps for the thread that has freed it: a block as it
# is stored, at the worst as large as its rows, and decoded.
MAPPED_APART_BYTES = 32 << 20


def is_zarr_directory(path: Path) -> bool:
    """Whether a directory holds an array or a group."""
    return any((path / name).is_file() for name in METADATA_FILES)


def open_zarr(path: Path, wanted: Wanted) -> Table:
    """An array of zarr; the key is its path inside the group.

    Whole chunks are decoded at a time. As the format has it, chunks that were not written hold the fill value.
    bfloat16 is unknown to zarr.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, or the array is no float matrix.
    OSError
        The directory or file is missing, damaged or truncated.
    """
    stamp = _DirectoryStamp(path) if path.is_dir() else _ZipStamp(path)
    require_plain_codecs(path, stamp.names())
    with reading(path), _opened(path) as root:
        stored = [_stored(stamp, key, array) for key, array in _arrays(root)]
    return pick(path, stored, wanted)


@contextmanager
def _opened(path: Path, key: str | None = None) -> Iterator[zarr.Array | zarr.Group]:
    zarr = import_library("zarr", "zarr")
    if tuple(int(part) for part in re.findall(r"\d+", zarr.__version__)[:2]) < OLDEST:
        msg = f"zarr {zarr.__version__} is too old; 3.1 or newer is needed: pip install 'nrc-fast[zarr]'"
        raise ImportError(msg)
    if path.is_dir():
        store = zarr.storage.LocalStore(path, read_only=True)
    else:
        store = zarr.storage.ZipStore(path, mode="r", read_only=True)
    try:
        yield zarr.open(store, path=key, mode="r")
    finally:
        store.close()


def _arrays(root: zarr.Array | zarr.Group) -> Iterator[tuple[str | None, zarr.Array]]:
    if hasattr(root, "shape"):
        yield None, root
        return
    for key, member in root.members(max_depth=None):
        if hasattr(member, "shape"):
            yield key, member


def _stored(stamp: _Stamp, key: str | None, array: zarr.Array) -> StoredMatrix:
    layout = _Layout(key, array.chunks, array.shards or array.chunks, array.metadata.encode_chunk_key)

    def make(name: str, count: int, columns: int) -> Table:
        return _ArrayTable(stamp, layout, name, (count, columns), dtype)

    dtype = np.dtype(array.dtype).newbyteorder("=").name
    return StoredMatrix(stamp.path, key, tuple(array.shape), dtype, make)


@dataclass(frozen=True)
class _Layout:
    """How an array is cut into chunks, and those into files: shards, if chunks are put together in them."""

    key: str | None
    chunks: tuple[int, ...]
    files: tuple[int, ...]
    file_name: Callable[[tuple[int, ...]], str]

    def files_of(self, first: int, last: int, columns: int) -> Iterator[str]:
        """The files that hold rows, and that of the metadata."""
        folder = "" if self.key is None else f"{self.key}/"
        ranges = [range(first // self.files[0], -(-last // self.files[0]))]
        ranges += [range(-(-columns // step)) for step in self.files[1:]]
        yield from (folder + self.file_name(place) for place in product(*ranges))
        yield from (folder + name for name in METADATA_FILES)


class _ZipStamp(FileStamp):
    """All chunks are in one file."""

    def names(self) -> Iterator[str]:
        """No files of their own."""
        return iter(())

    def check_files(self, files: Iterator[str]) -> None:
        """Raise OSError if the file has changed since it was opened."""
        del files
        self.check()


class _DirectoryStamp:
    """Sizes, times and places of the files of a directory when it was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = {file.relative_to(path).as_posix(): self._look(file) for file in _files_below(path)}

    def names(self) -> Iterator[str]:
        """All files, from the directory on."""
        return iter(self._seen)

    def check_files(self, files: Iterator[str]) -> None:
        """Raise OSError if one of the files is another than when the directory was opened, or empty.

        Those that are needed are checked, since the rest of many thousands would take longer than the read.
        """
        for file in files:
            seen = self._seen.get(file)
            if self._look(self.path / file) != seen:
                msg = f"{self.path / file} has changed since {self.path} was opened; start again"
                raise OSError(msg)
            if seen is not None and seen[0] == 0:
                # zarr reads an empty shard as one that was not written.
                msg = f"{self.path / file} is empty; was it truncated?"
                raise OSError(msg)

    def fingerprint(self) -> list[JSONValue]:
        """Path, number of files, their bytes and the times of the newest."""
        seen = [status for status in self._seen.values() if status is not None]
        return [
            str(self.path),
            len(seen),
            sum(size for size, *_ in seen),
            *(max(times, default=0) for times in _times(seen)),
        ]

    @staticmethod
    def _look(file: Path) -> tuple[int, ...] | None:
        """None for what is not there; zarr would wait for a pipe."""
        try:
            return seen_of(require_regular(file))
        except (FileNotFoundError, NotADirectoryError):
            return None


def _times(seen: list[tuple[int, ...]]) -> list[list[int]]:
    """When files were written to, and when that was noted."""
    return [[entry[place] for entry in seen] for place in (1, 2)]


def _files_below(path: Path) -> Iterator[Path]:
    """All files, also those behind links to folders, which zarr follows; a folder that leads back is left out."""
    above: dict[str, frozenset[str]] = {str(path): frozenset({os.path.realpath(path)})}
    for folder, names, files in os.walk(path, followlinks=True):
        seen = above.pop(folder)
        places = {name: os.path.realpath(os.path.join(folder, name)) for name in names}  # noqa: PTH118 - many
        names[:] = [name for name in names if places[name] not in seen]
        above |= {os.path.join(folder, name): seen | {places[name]} for name in names}  # noqa: PTH118
        yield from (Path(folder, name) for name in files)


_Stamp = _DirectoryStamp | _ZipStamp


def _thread_count() -> int:
    """How many threads zarr reads and decodes with: what it was told, or what Python takes otherwise."""
    zarr = import_library("zarr", "zarr")
    told = zarr.config.get("threading.max_workers", None)
    return int(told or min(32, (os.cpu_count() or 1) + 4))


class _ArrayTable(BlockTable):
    """An array of zarr. Its files are open only while they are read."""

    def __init__(self, stamp: _Stamp, layout: _Layout, name: str, shape: tuple[int, int], dtype: str) -> None:
        super().__init__(name, *shape, dtype, layout.chunks[0])
        self.stamp = stamp
        self._layout = layout

    @property
    def held_bytes(self) -> int:
        """The block that is kept, a piece in the hands of zarr, and what its threads have freed."""
        block = min(self.block_rows, self.count) * self.row_bytes
        freed = 2 * _thread_count() * block if block <= MAPPED_APART_BYTES else 0
        piece = min(self._piece_rows, self.count) * self.row_bytes
        # A chunk is decoded whole, also where it is larger than the array.
        decoded = math.prod(self._layout.chunks) * ITEM_SIZES[self.dtype]
        return super().held_bytes + COPIES * max(piece, decoded) + freed

    @property
    def _piece_rows(self) -> int:
        """Whole chunks, at least one."""
        return max(1, PIECE_BYTES // (self.block_rows * self.row_bytes)) * self.block_rows

    def fingerprint(self) -> list[JSONValue]:
        """Path, sizes, times and key."""
        return [*self.stamp.fingerprint(), self._layout.key, self.count, self.columns, self.dtype]

    def _check_unchanged(self, first: int, last: int) -> None:
        self.stamp.check_files(self._layout.files_of(first, last, self.columns))

    def _load(self, first: int, last: int, out: StoredArray) -> None:
        # zarr gives arrays of its own: in pieces, so that never all rows are there twice.
        step = self._piece_rows
        with _opened(self.stamp.path, self._layout.key) as array:
            for start in range(first, last, step):
                part = out[start - first : start - first + step]
                part[...] = array[start : start + len(part)].reshape(part.shape)
