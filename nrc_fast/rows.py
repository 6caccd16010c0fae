"""Matrices as the kernels see them: what users give is checked here.

Nothing is copied, except rows that are not aligned to whole elements or lie in the other byte order.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nrc_fast import _cpu
from nrc_fast.linalg import FloatArray

__all__ = ["Rows", "as_matrix", "as_rows"]

DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}


@dataclass(frozen=True)
class Rows:
    """A matrix in the memory of an array, N rows of d values, and how error messages call it."""

    name: str
    owner: Any
    address: int
    count: int
    columns: int
    row_stride: int
    column_stride: int
    dtype: str

    @property
    def is_double(self) -> bool:
        """Whether the rows are float64."""
        return self.dtype == "float64"

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the kernels take it."""
        return _cpu.Matrix(
            self.address, self.count, self.columns, self.row_stride, self.column_stride, DTYPES[self.dtype]
        )

    def to_float64(self, first: int = 0, last: int | None = None) -> FloatArray:
        """Rows `first` to `last` as a new float64 array."""
        part = self.owner[first:last]
        if not isinstance(part, np.ndarray):
            part = part.double().numpy()
        return np.array(part, dtype=np.float64)

    def take(self, mask: np.ndarray[Any, np.dtype[np.bool_]], first: int) -> Rows:
        """A copy of the rows from `first` on where `mask` is set."""
        part = self.owner[first : first + len(mask)]
        if not isinstance(part, np.ndarray):
            return as_rows(part[_torch().from_numpy(mask)], self.name)
        return as_rows(np.ascontiguousarray(part[mask]), self.name)


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
        msg = f"{name} has dtype {dtype}; {', '.join(DTYPES)} are supported. Convert it, for example to float32"
        raise TypeError(msg)


def _array_rows(array: np.ndarray[Any, Any], name: str, vector_is_column: bool) -> Rows:
    _check_dtype(array.dtype.newbyteorder("=").name, name)
    if _check_shape(array.shape, name, vector_is_column):
        array = array[:, np.newaxis]
    itemsize = array.itemsize
    aligned = array.flags.aligned and all(stride % itemsize == 0 for stride in array.strides)
    if not aligned or not array.dtype.isnative:
        # Fields of records and files of the other byte order: the kernels step in whole elements.
        array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=True)
    row_stride, column_stride = (stride // itemsize for stride in array.strides)
    return Rows(
        name, array, array.ctypes.data, array.shape[0], array.shape[1], row_stride, column_stride, array.dtype.name
    )


def _tensor_rows(tensor: Any, name: str, vector_is_column: bool) -> Rows:
    torch = _torch()
    if tensor.layout is not torch.strided:
        msg = f"{name} is a tensor of layout {tensor.layout}; give a dense one (tensor.to_dense())"
        raise TypeError(msg)
    _check_dtype(str(tensor.dtype).removeprefix("torch."), name)
    if tensor.device.type != "cpu":
        msg = (
            f"{name} lies on {tensor.device}, and this build of nrc_fast has no kernels for it; "
            f"move it to the CPU ({name}.cpu()), it is never moved behind your back"
        )
        raise RuntimeError(msg)
    tensor = tensor.detach().resolve_neg()
    if _check_shape(tensor.shape, name, vector_is_column):
        tensor = tensor[:, None]
    if tensor.numel() > 0 and tensor.data_ptr() == 0:
        msg = f"{name} is a {type(tensor).__name__} without memory of its own; give a materialised one (tensor.clone())"
        raise TypeError(msg)
    rows, columns = tensor.shape
    row_stride, column_stride = tensor.stride()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Rows(name, tensor, tensor.data_ptr(), rows, columns, row_stride, column_stride, dtype)


def as_matrix(values: Any, name: str) -> tuple[FloatArray, float]:
    """A small matrix (weights) as a float64 copy, with the machine epsilon of its own dtype.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `as_rows`, and ValueError for values that are not finite.
    """
    rows = as_rows(values, name)
    matrix = rows.to_float64()
    if not np.isfinite(matrix).all():
        msg = f"{name} has {np.count_nonzero(~np.isfinite(matrix))} values that are not finite (NaN or infinite)"
        raise ValueError(msg)
    epsilons = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return matrix, epsilons[rows.dtype]
