"""Tensors in .pt and .pth files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.stored import StoredMatrix, Wanted, import_library, pick, reading
from nrc_fast.sources.table import FileStamp, MappedTable, Table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["open_torch"]

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"


def open_torch(path: Path, wanted: Wanted) -> Table:
    """A tensor that `torch.save` wrote: the only object of the file, or in dicts whose keys are joined by dots.

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
    with reading(path):
        content = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        tensors = [*_tensors(torch, content, None)]
    return pick(path, [_stored(stamp, key, tensor, wanted.role) for key, tensor in tensors], wanted)


def _tensors(torch: ModuleType, content: object, key: str | None) -> Iterator[tuple[str | None, Tensor]]:
    if isinstance(content, torch.Tensor):
        yield key, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _tensors(torch, value, str(name) if key is None else f"{key}.{name}")


def _stored(stamp: FileStamp, key: str | None, tensor: Tensor, role: str) -> StoredMatrix:
    def make(name: str, _count: int, _columns: int) -> Table:
        return _TensorTable(stamp, key, as_rows(tensor, name, vector_is_column=role == "Y"))

    dtype = str(tensor.dtype).removeprefix("torch.")
    return StoredMatrix(stamp.path, key, tuple(tensor.shape), dtype, make)


class _TensorTable(MappedTable):
    """A tensor in a mapped file."""

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
