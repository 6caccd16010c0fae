"""Tensors in .pt and .pth files."""

from __future__ import annotations

import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nrc_fast.sources.formats.archives import Member, members_of
from nrc_fast.sources.formats.strided_rows import Placement, stored_rows
from nrc_fast.sources.formats.torch_pickles import ITEM_SIZES, StoredTensor, tensors_of
from nrc_fast.sources.stored import StoredMatrix, Wanted, pick, reading, stored_name
from nrc_fast.sources.table import Table

__all__ = ["open_torch"]

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
BYTE_ORDERS = ("little", "big")
# Of records that are read whole: the pickle, and the byte order.
MOST_PICKLED = 1 << 30


def open_torch(path: Path, wanted: Wanted) -> Table:
    """A tensor that `torch.save` wrote: the only object of the file, or in dicts, lists and tuples.

    Keys of dicts and places in lists and tuples, from 0 on, are joined by dots: "model.features", "0", "batches.3.h".
    What the file says of its tensors is taken from it without torch, no code of it runs, and rows are read from their
    places, in either byte order. Files of torch before 1.6 have no such places and are refused.

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
            f"{path} is of the kind that torch wrote before 1.6, which has no places to read from; load it and save it "
            "again: torch.save(torch.load(path, weights_only=True), path)"
        )
        raise ValueError(msg)
    if start != ZIP_MAGIC:
        msg = f"{path} is no file of torch.save, or is damaged"
        raise OSError(msg)
    with _loading(path), zipfile.ZipFile(path) as archive, path.open("rb") as file:
        records = _Records(path, members_of(archive, file, path))
        tensors = tensors_of(archive.read(records.whole("data.pkl").info))
        is_native = _byte_order(archive, records) == sys.byteorder
        stored = [_stored(records, key, tensor, is_native=is_native, verify=wanted.verify) for key, tensor in tensors]
    return pick(path, stored, wanted)


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """As `reading`, but objects that are not loaded are named, with what to do about them."""
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


@dataclass(frozen=True)
class _Records:
    """The records of a file, whose names begin with that of the archive."""

    path: Path
    members: dict[str, Member]

    def find(self, name: str) -> Member | None:
        """A record, if it is there."""
        prefix = next(iter(self.members)).partition("/")[0]
        return self.members.get(f"{prefix}/{name}")

    def get(self, name: str) -> Member:
        """A record as it lies in the file.

        Raises
        ------
        ValueError
            There is none, or it is compressed.
        """
        member = self.find(name)
        if member is None or not member.is_plain:
            msg = f"it has no record {name!r} of plain bytes"
            raise ValueError(msg)
        return member

    def whole(self, name: str) -> Member:
        """A record that is to be read whole.

        Raises
        ------
        ValueError
            There is none, or it is too large.
        """
        member = self.get(name)
        if member.bytes > MOST_PICKLED:
            msg = f"its record {name!r} has {member.bytes} bytes; at most {MOST_PICKLED} are expected"
            raise ValueError(msg)
        return member


def _byte_order(archive: zipfile.ZipFile, records: _Records) -> str:
    """Of the values; files of torch before 2.1 do not say it, and have that of the machine."""
    if records.find("byteorder") is None:
        return sys.byteorder
    order = archive.read(records.whole("byteorder").info).decode()
    if order not in BYTE_ORDERS:
        msg = f"its byte order is {order!r}; 'little' or 'big' is expected"
        raise ValueError(msg)
    return order


def _stored(records: _Records, key: str | None, tensor: StoredTensor, *, is_native: bool, verify: bool) -> StoredMatrix:
    path, name = records.path, stored_name(records.path, key)
    if tensor.storage is None:
        fault = TypeError(f"{name} {tensor.fault}")
        return StoredMatrix(path, key, tensor.shape, tensor.dtype, _no_table, fault=fault)
    if tensor.dtype not in ITEM_SIZES:
        return StoredMatrix(path, key, tensor.shape, tensor.dtype, _no_table)
    record, item = records.get(f"data/{tensor.storage.key}"), ITEM_SIZES[tensor.dtype]
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    end = 0 if 0 in tensor.shape else (tensor.offset + steps + 1) * item
    if max(end, tensor.storage.bytes) > record.bytes:
        msg = f"{name} needs {max(end, tensor.storage.bytes)} bytes, and its record has {record.bytes}"
        raise ValueError(msg)

    def make(name: str, count: int, columns: int) -> Table:
        row_stride, column_stride = tensor.strides if len(tensor.strides) == 2 else (*tensor.strides, 1)
        offset = record.offset + tensor.offset * item
        place = Placement(offset, row_stride, column_stride, is_native=is_native, is_negated=tensor.is_negated)
        table = stored_rows(path, name, (count, columns), tensor.dtype, place)
        table.checksum = record.checksum if verify else None
        return table

    return StoredMatrix(path, key, tensor.shape, tensor.dtype, make)


def _no_table(name: str, count: int, columns: int) -> Table:
    msg = f"{name} is no ({count}, {columns}) matrix of floats"
    raise AssertionError(msg)
