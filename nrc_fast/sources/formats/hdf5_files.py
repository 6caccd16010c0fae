"""Datasets in HDF5 files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.sources.formats.blocks import BlockTable
from nrc_fast.sources.formats.hdf5_chunks import require_chunks
from nrc_fast.sources.formats.hdf5_links import require_openable
from nrc_fast.sources.formats.hdf5_sources import SourceRows, decoding_bytes, lies_elsewhere, source_rows
from nrc_fast.sources.stored import StoredMatrix, Wanted, import_library, pick, reading
from nrc_fast.sources.table import FileStamp, RawTable, Table

if TYPE_CHECKING:
    from h5py import Dataset, Datatype, File, Group
    from h5py.h5t import TypeID

__all__ = ["open_hdf5"]

# Sign, exponent and mantissa of bfloat16, as h5py gives them for a floating point type: place and size of each.
BFLOAT16_FIELDS = (15, 7, 8, 0, 7)
BFLOAT16_BIAS = 127

# A file, and an address in it.
Place: TypeAlias = tuple[Path, int]


def open_hdf5(path: Path, wanted: Wanted) -> Table:
    """A dataset of an HDF5 file; the key is its path inside the file, also through links of all kinds.

    Of a virtual dataset, or of raw values in files of their own, every file must be there, large enough, and unchanged
    while it is read. A dataset that several links lead to counts once. Contiguous datasets are read by the kernels
    from their place. Others are decoded by h5py, whole chunks at a time. The file is open only while it is read. A
    floating point type with the fields of bfloat16 is bfloat16.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, or the dataset is no float matrix.
    OSError
        The file is missing, damaged or truncated, or another one that its links or virtual datasets lead to.
    """
    h5py = import_library("h5py", "hdf5")
    stamp = FileStamp(path)
    wanted = replace(wanted, key=_inner(wanted.key), excluded=_inner(wanted.excluded))
    with reading(path), h5py.File(path, "r") as file:
        stored = [_stored(stamp, key, member) for key, member in _members(file, wanted.key)]
    return pick(path, stored, wanted)


def _inner(key: str | None) -> str | None:
    """A key without the slash of the root."""
    return None if key is None else key.removeprefix("/")


def _members(file: File, key: str | None) -> Iterator[tuple[str, Dataset | OSError]]:
    """Datasets by all their names, and why links lead to none; the one of a key alone where it is no pattern."""
    h5py = import_library("h5py", "hdf5")
    if key:
        require_openable(file, key)
    if key and file.get(key, getlink=True) is not None:
        member = _member(file, key)
        if isinstance(member, (h5py.Dataset, OSError)):
            return iter([(key, member)])
    return _walk(file, "", frozenset())


def _walk(group: Group, prefix: str, above: frozenset[Place]) -> Iterator[tuple[str, Dataset | OSError]]:
    h5py = import_library("h5py", "hdf5")
    above |= {_place(group)}
    for name in group:
        member = _member(group, name)
        if isinstance(member, h5py.Group):
            if _place(member) not in above:  # a link may lead back
                yield from _walk(member, f"{prefix}{name}/", above)
        elif isinstance(member, (h5py.Dataset, OSError)):
            yield f"{prefix}{name}", member


def _member(group: Group, name: str) -> Dataset | Group | Datatype | OSError:
    """What a name stands for, through links of all kinds, or the error of a link that leads nowhere."""
    h5py = import_library("h5py", "hdf5")
    try:
        require_openable(group, name)
        return group[name]
    except (KeyError, OSError, RuntimeError) as error:
        link = group.get(name, getlink=True)
        called = f"{group.file.filename}[{f'{group.name}/{name}'.lstrip('/')}]"
        if not isinstance(link, (h5py.SoftLink, h5py.ExternalLink)):
            raise
        place = f" in {link.filename}" if isinstance(link, h5py.ExternalLink) else ""
        return OSError(f"{called} is a link to {link.path}{place}, which cannot be opened: {error.args[0]}")


def _place(member: Dataset | Group) -> Place:
    """What all names of a dataset or a group share: its file, and its address there."""
    h5py = import_library("h5py", "hdf5")
    return Path(member.file.filename).resolve(), int(h5py.h5o.get_info(member.id).addr)


def _stored(stamp: FileStamp, key: str, dataset: Dataset | OSError) -> StoredMatrix:
    if isinstance(dataset, OSError):
        return StoredMatrix(stamp.path, key, (), "(a link to nothing)", _no_table, fault=dataset)
    h5py = import_library("h5py", "hdf5")
    kind = dataset.id.get_type()
    shape = dataset.shape or ()
    dtype = "bfloat16" if _is_bfloat16(h5py, kind) else dataset.dtype.newbyteorder("=").name
    hint = "h5py keeps bfloat16 as opaque bytes: save it as float32" if dataset.dtype.kind == "V" else ""
    in_memory = _memory_type(h5py, dtype)
    elsewhere = lies_elsewhere(dataset)
    # None for everything but one stretch of this very file.
    offset = dataset.id.get_offset() if in_memory is not None and not elsewhere and kind.equal(in_memory) else None
    block_rows, decoding = dataset.chunks[0] if dataset.chunks else 1, decoding_bytes(dataset)
    place = _place(dataset)
    home = stamp if place[0] == stamp.path.resolve() else FileStamp(place[0])
    inner = key if home is stamp else dataset.name

    def make(name: str, count: int, columns: int) -> Table:
        if offset is not None:
            return RawTable(path=home.path, name=name, offset=offset, count=count, columns=columns, dtype=dtype)
        sources = _sources(home.path, inner, name) if elsewhere else []
        return _DatasetTable(
            stamp=home,
            key=inner,
            name=name,
            shape=(count, columns),
            dtype=dtype,
            block_rows=block_rows,
            decoding_bytes=decoding,
            sources=sources,
        )

    return StoredMatrix(stamp.path, key, shape, dtype, open=make, hint=hint, identity=place)


def _no_table(name: str, count: int, columns: int) -> Table:
    msg = f"{name} is no ({count}, {columns}) matrix but a link to nothing"
    raise AssertionError(msg)


def _sources(path: Path, key: str, name: str) -> list[SourceRows]:
    h5py = import_library("h5py", "hdf5")
    with reading(path):
        file = h5py.File(path, "r")
    with file:
        try:
            return source_rows(file[key], name)
        except (KeyError, RuntimeError) as error:
            msg = f"{name} cannot be read; is it damaged or truncated? {type(error).__name__}: {error}"
            raise OSError(msg) from error


def _is_bfloat16(h5py: ModuleType, kind: TypeID) -> bool:
    if not isinstance(kind, h5py.h5t.TypeFloatID) or kind.get_size() != 2:
        return False
    fields: tuple[int, ...] = kind.get_fields()
    return fields == BFLOAT16_FIELDS and kind.get_ebias() == BFLOAT16_BIAS


def _memory_type(h5py: ModuleType, dtype: str) -> TypeID | None:
    """How rows lie in memory, as HDF5 says it; None for dtypes that are not supported."""
    if dtype in ("float64", "float32", "float16"):
        return h5py.h5t.py_create(np.dtype(dtype))
    if dtype != "bfloat16":
        return None
    kind = h5py.h5t.py_create(np.dtype(np.float16)).copy()
    kind.set_fields(*BFLOAT16_FIELDS)
    kind.set_ebias(BFLOAT16_BIAS)
    return kind


class _DatasetTable(BlockTable):
    """A dataset that is chunked, compressed, or otherwise not one stretch of the file."""

    def __init__(
        self,
        stamp: FileStamp,
        key: str,
        name: str,
        shape: tuple[int, int],
        dtype: str,
        block_rows: int,
        decoding_bytes: int,
        sources: list[SourceRows],
    ) -> None:
        super().__init__(name, *shape, dtype, block_rows)
        self.stamp = stamp
        self._key = key
        self._sources = sources
        self._has_chunks = False
        self._decoding_bytes = max([decoding_bytes, *(source.held_bytes for source in sources)])
        self.files = (stamp.path, *(source.stamp.path for source in sources))

    @property
    def held_bytes(self) -> int:
        """The block that is kept, and the chunk that HDF5 decodes for it."""
        return super().held_bytes + self._decoding_bytes

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time and key, and those of the files that hold the values."""
        sources: list[JSONValue] = [source.stamp.fingerprint() for source in self._sources]
        return [*self.stamp.fingerprint(), self._key, self.count, self.columns, self.dtype, *sources]

    def _check_unchanged(self, first: int, last: int) -> None:
        self.stamp.check()
        for source in self._sources:
            if source.first < last and first < source.last:
                source.stamp.check()

    def _require_chunks(self, dataset: Dataset) -> None:
        """Look at all chunks before the first is decoded."""
        if not self._has_chunks:
            require_chunks(dataset, self.name)
            self._has_chunks = True

    def _load(self, first: int, last: int, out: StoredArray) -> None:
        h5py = import_library("h5py", "hdf5")
        with h5py.File(self.stamp.path, "r") as file:
            dataset = file[self._key]
            self._require_chunks(dataset)
            wanted = dataset.id.get_space()
            rest = dataset.shape[1:]
            wanted.select_hyperslab((first, *(0 for _ in rest)), (last - first, *rest))
            shape = h5py.h5s.create_simple((last - first, *rest))
            # Not dataset.read_direct: it would turn bfloat16 into float32.
            dataset.id.read(shape, wanted, out, _memory_type(h5py, self.dtype))
