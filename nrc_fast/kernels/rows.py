"""Matrices as the kernels see them: what users give is checked here.

Nothing is copied, except rows that are not aligned to whole elements or lie in the other byte order.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.linalg import FloatArray

__all__ = [
    "FileRows",
    "HeldRows",
    "Rows",
    "UnreadableRowsError",
    "as_matrix",
    "as_rows",
    "checked_tensor",
    "plain_kind",
    "unreadable",
]

BoolArray = NDArray[np.bool_]

# Rows that are looked at together, so that masks of single values stay small.
FINITE_ROWS = 4096

DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}
# Of arrays that need no second look: numpy takes longer to spell the name than all other checks together.
NATIVE_DTYPES = {np.dtype(name).str: name for name in ("float64", "float32", "float16")}


@dataclass(frozen=True)
class Rows:
    """A matrix in the memory of an array, N rows of d values, and how error messages call it.

    numpy has no bfloat16: `array` then holds the bits as uint16.
    """

    name: str
    array: np.ndarray[Any, Any]
    dtype: str

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.array.shape[0])

    @property
    def columns(self) -> int:
        """Number of values in a row."""
        return int(self.array.shape[1])

    @property
    def is_double(self) -> bool:
        """Whether the rows are float64."""
        return self.dtype == "float64"

    is_on_device = False  # of CUDA

    @property
    def place(self) -> str:
        """Where the rows lie, in words."""
        return "the CPU"

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the kernels take it."""
        return _cpu.matrix_of(self.array, DTYPES[self.dtype])

    def part(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`, not copied."""
        return replace(self, array=self.array[first:last])

    def loaded(self) -> Rows:
        """The same rows in memory."""
        return self

    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array."""
        if self.dtype != "bfloat16":
            return np.array(self.array, dtype=np.float64)
        # The bits of a bfloat16 are the upper half of those of a float32.
        widened: FloatArray = (self.array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return widened

    def finite_rows(self) -> BoolArray:
        """Which rows hold neither NaN nor infinite values, (N,)."""
        finite = np.ones(self.count, dtype=np.bool_)
        for first in range(0, self.count, FINITE_ROWS):
            part = self.array[first : first + FINITE_ROWS]
            is_finite = (part & 0x7F80) != 0x7F80 if self.dtype == "bfloat16" else np.isfinite(part)
            finite[first : first + FINITE_ROWS] = is_finite.all(axis=1)
        return finite

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        if self.dtype != "bfloat16":
            with np.errstate(over="ignore", invalid="ignore"):
                total = np.add.reduce(self.array, axis=None, dtype=np.float64)
            if math.isfinite(total):  # as no sum with such a value is
                return True
        return bool(self.finite_rows().all())

    def copy_to(self, target: np.ndarray[Any, Any]) -> None:
        """Copy the rows into an array of their shape and storage.

        Raises
        ------
        OSError
            They cannot be read.
        """
        target[...] = self.array

    def take(self, mask: BoolArray) -> Rows:
        """A copy of the rows where `mask` is set."""
        return replace(self, array=np.ascontiguousarray(self.array[mask]))

    def buffer(self, name: str, count: int) -> Rows:
        """Memory for `count` rows of this kind, beside them."""
        return Rows(name, np.empty((count, self.columns), self.array.dtype), self.dtype)


@dataclass(frozen=True)
class FileRows(Rows):
    """Rows that lie one after the other in a file, and that the kernels read from it as they go.

    They take no memory: `array` has the shape and no elements of its own. Where the file ends early the kernels
    report an error; a mapped file would kill the process.
    """

    file: Any  # held so that its descriptor stays open
    offset: int

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the kernels take it."""
        return _cpu.matrix_in_file(self.file.descriptor, self.offset, self.count, self.columns, DTYPES[self.dtype])

    def part(self, first: int, last: int) -> FileRows:
        """Rows `first` to `last`, not read."""
        offset = self.offset + first * self.columns * self.array.itemsize
        return replace(self, array=self.array[first:last], offset=offset)

    def loaded(self) -> Rows:
        """The same rows, read into memory.

        Raises
        ------
        OSError
            The file ends early or cannot be read.
        """
        values = np.empty(self.array.shape, self.array.dtype)
        self.copy_to(values)
        return Rows(self.name, values, self.dtype)

    def copy_to(self, target: np.ndarray[Any, Any]) -> None:
        """Read the rows into an array whose rows lie one after the other.

        Raises
        ------
        OSError
            The file ends early or cannot be read.
        """
        buffer = target.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(buffer):
            part = os.preadv(self.file.descriptor, [buffer[done:]], self.offset + done)
            if part == 0:
                raise unreadable(self.name, done // (self.columns * target.itemsize), 0)
            done += part

    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array."""
        return self.loaded().to_float64()

    def finite_rows(self) -> BoolArray:
        """Which rows hold neither NaN nor infinite values, (N,)."""
        return self.loaded().finite_rows()

    def take(self, mask: BoolArray) -> Rows:
        """A copy of the rows where `mask` is set."""
        return self.loaded().take(mask)


class HeldRows:
    """Memory for rows of features and of targets beside them, filled with copies of batches.

    Parameters
    ----------
    features, targets : Rows
        Of the kind that is to be held; the targets may be None. They are not copied yet.
    room : int
        Rows that there is memory for.
    name : str
        How error messages call the rows.

    Attributes
    ----------
    count : int
        Rows that were copied.

    Examples
    --------
    >>> batch = as_rows(np.ones((2, 3)), "batch")
    >>> held = HeldRows(batch, None, room=5, name="H")
    >>> held.append(batch, None)
    >>> held.append(batch, None)
    >>> held.count, held.part()[0].count
    (4, 4)
    """

    def __init__(self, features: Rows, targets: Rows | None, room: int, name: str) -> None:
        self.features = features.buffer(name, room)
        self.targets = None if targets is None else targets.buffer(name, room)
        self.room = room
        self.count = 0

    def append(self, features: Rows, targets: Rows | None) -> None:
        """Copy a batch, which must be of the kind of the first and have room."""
        last = self.count + features.count
        features.copy_to(self.features.array[self.count : last])
        if self.targets is not None and targets is not None:
            targets.copy_to(self.targets.array[self.count : last])
        self.count = last

    def append_from(self, count: int, addresses: Sequence[int]) -> None:
        """Copy a batch of the host that lies one value after the other, at the addresses of features and targets."""
        for (start, row_bytes), address in zip(self._memory, addresses, strict=True):
            _cpu.copy_past_cache(start + self.count * row_bytes, address, count * row_bytes)
        self.count += count

    @functools.cached_property
    def _memory(self) -> list[tuple[int, int]]:
        """Where features and targets begin, and the bytes of a row."""
        held = [self.features.array] if self.targets is None else [self.features.array, self.targets.array]
        return [(_cpu.address_of(array), array.strides[0]) for array in held]

    def part(self) -> tuple[Rows, Rows | None]:
        """The rows that were copied, where they lie."""
        return self.features.part(0, self.count), None if self.targets is None else self.targets.part(0, self.count)


class UnreadableRowsError(OSError):
    """A row that its file does not give."""

    def __init__(self, message: str, reason: str, row: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.row = row


def unreadable(name: str, row: int, error_number: int) -> UnreadableRowsError:
    """The error for a row that cannot be read; error number 0 means that the file ends before it."""
    reason = os.strerror(error_number) if error_number else "the file ends before it; was it truncated?"
    return UnreadableRowsError(f"row {row} of {name} cannot be read: {reason}", reason, row)


def _torch() -> Any:
    """Torch if somebody else has imported it; we never do."""
    return sys.modules.get("torch")


def as_rows(values: Any, name: str, *, vector_is_column: bool = False) -> Rows:
    """Check a user's array and describe it to the kernels, without copying it.

    Parameters
    ----------
    values : (N, d) numpy array, torch tensor or anything that `numpy.asarray` turns into a float matrix
        float64, float32, float16 or bfloat16, with any strides.
    name : str
        How error messages call it.
    vector_is_column : bool
        Accept shape (N,) as (N, 1).

    Raises
    ------
    TypeError
        The dtype or the kind of array is not supported.
    ValueError
        The number of dimensions is wrong, or there are no columns.
    RuntimeError
        The array lies on a device that this build cannot compute on.
    """
    if isinstance(values, Rows):
        return values
    torch = _torch()
    if torch is not None and isinstance(values, torch.Tensor):
        return _tensor_rows(values, name, vector_is_column)
    if isinstance(values, np.ma.MaskedArray):
        msg = f"{name} is a masked array; give the rows that count (numpy.ma.compress_rows)"
        raise TypeError(msg)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        msg = f"{name} is a {type(values).__name__} that numpy cannot read as an array: {error}"
        raise TypeError(msg) from error
    return _array_rows(array, name, vector_is_column)


def _check_shape(shape: Sequence[int], name: str, vector_is_column: bool) -> bool:
    """Whether the array is a vector to be read as a column; raises on any other shape than a matrix."""
    if len(shape) == 1 and vector_is_column:
        return True
    if len(shape) != 2:
        msg = f"{name} has shape {tuple(shape)}; a matrix with one row per sample is expected"
        raise ValueError(msg)
    if shape[1] == 0:
        msg = f"{name} has shape {tuple(shape)}: rows without values"
        raise ValueError(msg)
    return False


def _check_dtype(dtype: str, name: str) -> None:
    if dtype not in DTYPES:
        advice = "Convert it, for example to float32"
        if dtype == "object":
            advice = "Give an array or tensor, of a torch layer its weight"
        msg = f"{name} has dtype {dtype}; {', '.join(DTYPES)} are supported. {advice}"
        raise TypeError(msg)


def _array_rows(array: np.ndarray[Any, Any], name: str, vector_is_column: bool) -> Rows:
    dtype = NATIVE_DTYPES.get(array.dtype.str) or array.dtype.newbyteorder("=").name
    _check_dtype(dtype, name)
    if _check_shape(array.shape, name, vector_is_column):
        array = array[:, np.newaxis]
    rest = (array.strides[0] | array.strides[1]) & (array.itemsize - 1)
    if rest or not array.flags.aligned or not array.dtype.isnative:
        # Fields of records and files of the other byte order: the kernels step in whole elements.
        array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=True)
    return Rows(name, array.view(np.uint16) if dtype == "bfloat16" else array, dtype)


def plain_kind(values: Any) -> tuple[Any, Any] | None:
    """Shape and dtype of a tensor on the host, with or without a graph, whose values lie one after the other.

    None for all else. What holds for one tensor of a kind, holds for all of them.
    """
    torch = _torch()
    if torch is None or type(values) is not torch.Tensor or not values.is_cpu or values.layout is not torch.strided:
        return None
    return (values.shape, values.dtype) if values.is_contiguous() and not values.is_neg() else None


def checked_tensor(tensor: Any, name: str, vector_is_column: bool) -> tuple[Any, str]:
    """A tensor as a matrix without a graph, wherever it lies, and the name of its dtype.

    Raises
    ------
    TypeError, ValueError
        As `as_rows`.
    """
    torch = _torch()
    if tensor.layout is not torch.strided:
        msg = f"{name} is a tensor of layout {tensor.layout}; give a dense one (tensor.to_dense())"
        raise TypeError(msg)
    dtype = str(tensor.dtype).removeprefix("torch.")
    _check_dtype(dtype, name)
    is_vector = _check_shape(tensor.shape, name, vector_is_column)
    if tensor.is_meta or (tensor.numel() > 0 and tensor.data_ptr() == 0):
        msg = f"{name} is a {type(tensor).__name__} without memory of its own; give a materialised one (tensor.clone())"
        raise TypeError(msg)
    # Each of these costs a small batch microseconds.
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return tensor[:, None] if is_vector else tensor, dtype


def _tensor_rows(tensor: Any, name: str, vector_is_column: bool) -> Rows:
    if not tensor.is_cpu and tensor.layout is _torch().strided:
        msg = (
            f"{name} lies on {tensor.device}, and nrc_fast has no kernels for it there; "
            f"move it to the CPU ({name}.cpu()), it is never moved behind your back"
        )
        raise RuntimeError(msg)
    tensor, dtype = checked_tensor(tensor, name, vector_is_column)
    torch = _torch()
    array = tensor.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else tensor.numpy()
    return Rows(name, array, dtype)


def as_matrix(values: Any, name: str, *, vector_is_column: bool = False) -> tuple[FloatArray, float]:
    """A small matrix (weights) as a float64 copy, with the machine epsilon of its own dtype.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `as_rows`, and ValueError for values that are not finite.
    """
    rows = as_rows(values, name, vector_is_column=vector_is_column)
    matrix = rows.to_float64()
    if not np.isfinite(matrix).all():
        msg = f"{name} has {np.count_nonzero(~np.isfinite(matrix))} values that are not finite (NaN or infinite)"
        raise ValueError(msg)
    epsilons = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return matrix, epsilons[rows.dtype]
