"""Tensors in .pt and .pth files."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.stored import StoredMatrix, Wanted, import_library, pick, reading, stored_name
from nrc_fast.sources.table import FileStamp, MappedTable, Table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["open_torch"]

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
SIGN_OF_BFLOAT16 = 0x8000


def open_torch(path: Path, wanted: Wanted) -> Table:
    """A tensor that `torch.save` wrote: the only object of the file, or in dicts, lists and tuples.

    Keys of dicts and places in lists and tuples, from 0 on, are joined by dots: "model.features", "0", "batches.3.h".
    The file is mapped and loaded with weights_only=True: no code of it runs, and no tensor is copied. Files of torch
    before 1.6 cannot be mapped and are refused.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, the tensor is no float matrix, or the file is of the old kind.
    OSError
        The file is missing, damaged or truncated, or holds more than tensors and plain values.
    """
    with path.open("rb") as file:
        start = file.read(len(ZIP_MAGIC))
    if start.startswith(PICKLE_MAGIC):
        msg = (
            f"{path} is of the kind that torch wrote before 1.6, which cannot be mapped; load it and save it again: "
            "torch.save(torch.load(path, weights_only=True), path)"
        )
        raise ValueError(msg)
    if start != ZIP_MAGIC:
        msg = f"{path} is no file of torch.save, or is damaged"
        raise OSError(msg)
    torch = import_library("torch", "torch")
    stamp = FileStamp(path)
    with _loading(path):
        content = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        tensors = [*_tensors(torch, content, None)]
        stored = [_stored(torch, stamp, key, tensor, wanted.role) for key, tensor in tensors]
    return pick(path, stored, wanted)


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """As `reading`, but what torch says of objects that it does not load comes without its advice to run their code."""
    try:
        with reading(path):
            yield
    except OSError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error.__cause__))
        if not isinstance(error.__cause__, pickle.UnpicklingError) or refused is None:
            raise
        msg = (
            f"{path} cannot be read: it holds more than tensors and plain values, here a {refused[1]}, and no code of "
            "files is run. Save tensors (of an array torch.from_numpy), or the weights alone (state_dict)"
        )
        raise OSError(msg) from error.__cause__


def _tensors(torch: ModuleType, content: object, key: str | None) -> Iterator[tuple[str | None, Tensor]]:
    if isinstance(content, torch.Tensor):
        yield key, content
        return
    members: Iterator[tuple[object, object]] = iter(())
    if isinstance(content, Mapping):
        members = iter(content.items())
    elif isinstance(content, (list, tuple)):
        members = iter(enumerate(content))
    for name, value in members:
        if isinstance(value, (torch.Tensor, Mapping, list, tuple)):
            yield from _tensors(torch, value, str(name) if key is None else f"{key}.{name}")


def _stored(torch: ModuleType, stamp: FileStamp, key: str | None, tensor: Tensor, role: str) -> StoredMatrix:
    def make(name: str, _count: int, _columns: int) -> Table:
        if not tensor.is_neg():
            return _TensorTable(stamp, key, as_rows(tensor, name, vector_is_column=role == "Y"))
        # The same memory without the bit.
        plain = torch.empty(0, dtype=tensor.dtype)
        plain.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
        return _NegatedTable(stamp, key, as_rows(plain, name, vector_is_column=role == "Y"))

    dtype = str(tensor.dtype).removeprefix("torch.")
    fault = _fault(torch, stored_name(stamp.path, key), tensor)
    shape = () if tensor.is_nested else tuple(tensor.shape)
    return StoredMatrix(stamp.path, key, shape, dtype, make, fault=fault)


def _fault(torch: ModuleType, name: str, tensor: Tensor) -> TypeError | None:
    """What keeps a tensor from being rows in memory."""
    if tensor.is_nested:
        return TypeError(f"{name} is a nested tensor; save its rows as one matrix (torch.cat(tensor.unbind()))")
    if tensor.layout is not torch.strided:
        return TypeError(f"{name} is a tensor of layout {tensor.layout}; save a dense one (tensor.to_dense())")
    if tensor.is_quantized:
        return TypeError(f"{name} is quantised; save its values (tensor.dequantize())")
    if tensor.is_meta:
        return TypeError(f"{name} is a meta tensor, without values; save a materialised one")
    return None


class _TensorTable(MappedTable):
    """A tensor in a mapped file."""

    is_given = False

    def __init__(self, stamp: FileStamp, key: str | None, rows: Rows) -> None:
        super().__init__(rows)
        self.stamp = stamp
        self._key = key

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in place.

        Raises
        ------
        OSError
            The file has changed: touching its pages could kill the process.
        """
        self.stamp.check()
        return super().read(first, last)

    def locate(self, row: int) -> str:
        """The row and the file."""
        return f"row {row} of {self.name}"

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time and key."""
        return [*self.stamp.fingerprint(), self._key, self.count, self.columns, self.dtype]


class _NegatedTable(_TensorTable):
    """A tensor whose values are those of the file with the other sign: torch keeps that as a bit of the tensor."""

    @property
    def chunk_bytes_per_row(self) -> int:
        """Rows are copied out of their pages."""
        return super().chunk_bytes_per_row + self.row_bytes

    @property
    def reads(self) -> bool:
        """They are copied ahead of the computation."""
        return True

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory.

        Raises
        ------
        OSError
            The file has changed.
        """
        stored = super().read(first, last).array
        values: StoredArray = stored ^ np.uint16(SIGN_OF_BFLOAT16) if self.dtype == "bfloat16" else np.negative(stored)
        return HostRows(self.name, values, self.dtype)
