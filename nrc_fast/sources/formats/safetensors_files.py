"""Tensors in .safetensors files, and the indexes of those that are spread over several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from nrc_fast.sources.stored import StoredMatrix, Wanted, import_library, pick, reading
from nrc_fast.sources.table import RawTable, Table, require_regular

__all__ = ["open_safetensors", "open_safetensors_index"]

LENGTH_BYTES = 8
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class _Entry(TypedDict):
    """What the header of a file says of a tensor."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def open_safetensors(path: Path, wanted: Wanted) -> Table:
    """A tensor of a .safetensors file, read by the kernels from its place.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, or the tensor is no float matrix.
    OSError
        The file is missing, damaged or truncated.
    """
    return pick(path, _tensors(path), wanted)


def open_safetensors_index(path: Path, wanted: Wanted) -> Table:
    """A tensor, or those that match a pattern one after the other, of the files that an index lists.

    Raises
    ------
    TypeError, ValueError
        The key is missing or ambiguous, or the tensor is no float matrix.
    OSError
        The index or a file is missing, damaged or truncated, or does not hold what the index says.
    """
    with reading(path):
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        files = {key: path.parent / file for key, file in weight_map.items()}
    stored: dict[tuple[Path, str | None], StoredMatrix] = {}
    for file in sorted(set(files.values())):
        stored |= {(file, tensor.key): tensor for tensor in _tensors(file)}
    missing = [key for key, file in files.items() if (file, key) not in stored]
    if missing:
        msg = f"{files[missing[0]]} has no {missing[0]!r}, which {path} says it has"
        raise OSError(msg)
    return pick(path, [stored[file, key] for key, file in files.items()], wanted)


def _tensors(path: Path) -> list[StoredMatrix]:
    safetensors = import_library("safetensors", "safetensors")
    require_regular(path)
    # The library checks the header: that it is complete, and that tensors fill the file without gaps or overlaps.
    with reading(path), path.open("rb") as file, safetensors.safe_open(path, framework="numpy"):
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        start = LENGTH_BYTES + length
        return [_stored(path, key, entry, start) for key, entry in header.items()]


def _stored(path: Path, key: str, entry: _Entry, start: int) -> StoredMatrix:
    dtype = DTYPES.get(entry["dtype"], entry["dtype"])
    offset = start + entry["data_offsets"][0]

    def make(name: str, count: int, columns: int) -> Table:
        return RawTable(path=path, name=name, offset=offset, count=count, columns=columns, dtype=dtype)

    return StoredMatrix(path, key, tuple(entry["shape"]), dtype, make)
