"""Datasets in HDF5 files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.sources.formats.blocks import BlockTable
from nrc_fast.sources.stored import StoredMatrix, Wanted, import_library, pick, reading
from nrc_fast.sources.table import FileStamp, RawTable, Table

if TYPE_CHECKING:
    from h5py import Dataset, Group
    from h5py.h5t import TypeID

__all__ = ["open_hdf5"]

# Sign, exponent and mantissa of bfloat16, as h5py gives them for a floating point type: place and size of each.
BFLOAT16_FIELDS = (15, 7, 8, 0, 7)
BFLOAT16_BIAS = 127


def open_hdf5(path: Path, wanted: Wanted) -> Table:
    """A dataset of an HDF5 file; the key is its path inside the file.

    Contiguous datasets are read by the kernels from their place. Others are decoded by h5py, whole chunks at a time.
    The file is open only while it is read. A floating point type with the fields of bfloat16 is bfloat16.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, or the dataset is no float matrix.
    OSError
        The file is missing, damaged or truncated.
    """
    h5py = import_library("h5py", "hdf5")
    stamp = FileStamp(path)
    with reading(path), h5py.File(path, "r") as file:
        datasets: list[Dataset] = []

        def collect(_name: str, member: Dataset | Group) -> None:
            if isinstance(member, h5py.Dataset):
                datasets.append(member)

        file.visititems(collect)
        stored = [_stored(stamp, dataset) for dataset in datasets]
    return pick(path, stored, wanted)


def _stored(stamp: FileStamp, dataset: Dataset) -> StoredMatrix:
    h5py = import_library("h5py", "hdf5")
    kind = dataset.id.get_type()
    key = dataset.name.removeprefix("/")
    shape = dataset.shape or ()
    dtype = "bfloat16" if _is_bfloat16(h5py, kind) else dataset.dtype.newbyteorder("=").name
    hint = "h5py keeps bfloat16 as opaque bytes: save it as float32" if dataset.dtype.kind == "V" else ""
    in_memory = _memory_type(h5py, dtype)
    # None for everything but one stretch of this very file.
    offset = dataset.id.get_offset() if in_memory is not None and kind.equal(in_memory) else None
    block_rows = dataset.chunks[0] if dataset.chunks else 1

    def make(name: str, count: int, columns: int) -> Table:
        if offset is not None:
            return RawTable(path=stamp.path, name=name, offset=offset, count=count, columns=columns, dtype=dtype)
        return _DatasetTable(
            stamp=stamp, key=key, name=name, shape=(count, columns), dtype=dtype, block_rows=block_rows
        )

    return StoredMatrix(path=stamp.path, key=key, shape=shape, dtype=dtype, open=make, hint=hint)


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
        self, stamp: FileStamp, key: str, name: str, shape: tuple[int, int], dtype: str, block_rows: int
    ) -> None:
        super().__init__(name, *shape, dtype, block_rows)
        self.stamp = stamp
        self._key = key

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time and key."""
        return [*self.stamp.fingerprint(), self._key, self.count, self.columns, self.dtype]

    def _check_unchanged(self, first: int, last: int) -> None:  # noqa: ARG002
        self.stamp.check()

    def _load(self, first: int, last: int, out: StoredArray) -> None:
        h5py = import_library("h5py", "hdf5")
        with h5py.File(self.stamp.path, "r") as file:
            dataset = file[self._key]
            wanted = dataset.id.get_space()
            rest = dataset.shape[1:]
            wanted.select_hyperslab((first, *(0 for _ in rest)), (last - first, *rest))
            shape = h5py.h5s.create_simple((last - first, *rest))
            # Not dataset.read_direct: it would turn bfloat16 into float32.
            dataset.id.read(shape, wanted, out, _memory_type(h5py, self.dtype))
