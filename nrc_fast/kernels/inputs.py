"""What users' arrays and tensors become: rows that the kernels can read, checked here.

Nothing is copied, except rows that are not aligned to whole elements or lie in the other byte order, and data frames
whose columns numpy does not keep as floats of one dtype.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, StoredArray
from nrc_fast.base.linalg import EPSILONS
from nrc_fast.kernels.arrays import DTYPES
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.devices import on_host
from nrc_fast.kernels.frames import frame_array
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.no_arrays import require_array

if TYPE_CHECKING:
    from torch import Size, Tensor, dtype

__all__ = ["TensorKind", "as_matrix", "as_rows", "checked_tensor", "dtype_advice", "plain_kind"]

# Shape and dtype of a tensor.
TensorKind: TypeAlias = "tuple[Size, dtype]"

# Of arrays that need no second look: numpy takes longer to spell the name than all other checks together.
NATIVE_DTYPES = {np.dtype(name): name for name in ("float64", "float32", "float16")}


def _torch() -> ModuleType | None:
    """Torch if somebody else has imported it; we never do."""
    return sys.modules.get("torch")


def as_rows(values: object, name: str, *, vector_is_column: bool = False) -> Rows:
    """Check a user's array and describe it to the kernels, without copying it.

    Parameters
    ----------
    values : (N, d) numpy array, torch tensor, data frame or anything that numpy turns into a float matrix
        float64, float32, float16 or bfloat16, with any strides; also what offers its memory by DLPack. `Rows` are given
        back as they are; of data frames and columns of lists see `frames.frame_array`.
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
    if type(values) is np.ndarray:  # nothing else has to be asked, which takes a small batch microseconds
        return _array_rows(values, name, vector_is_column=vector_is_column)
    if isinstance(values, Rows):
        return values
    torch = _torch()
    if torch is not None and isinstance(values, torch.Tensor):
        return _tensor_rows(values, name, vector_is_column=vector_is_column)
    if isinstance(values, np.ma.MaskedArray):
        msg = f"{name} is a masked array; give the rows that count (numpy.ma.compress_rows)"
        raise TypeError(msg)
    require_array(values, name)
    frame = frame_array(values, name)
    try:
        array = _as_array(values) if frame is None else frame
    except (ValueError, TypeError) as error:
        msg = f"{name} is a {type(values).__name__} that numpy cannot read as an array: {error}"
        raise TypeError(msg) from error
    return _array_rows(array, name, vector_is_column=vector_is_column)


def _as_array(values: Any) -> StoredArray:
    """What numpy makes of something, from its memory where it offers that by DLPack alone."""
    if not hasattr(values, "__dlpack__") or hasattr(values, "__array__"):
        return np.asarray(values)
    try:
        found: StoredArray = np.from_dlpack(values)
    except (RuntimeError, BufferError) as error:  # such as bfloat16, which numpy does not know
        msg = f"{error}; torch.from_dlpack may"
        raise TypeError(msg) from error
    return found


def _check_shape(shape: Sequence[int], name: str, *, vector_is_column: bool) -> bool:
    """Whether an array is a vector to be read as a column.

    Raises
    ------
    ValueError
        It is neither such a vector nor a matrix, or a matrix without columns.
    """
    if len(shape) == 1 and vector_is_column:
        return True
    if len(shape) != 2:
        msg = f"{name} has shape {tuple(shape)}; a matrix with one row per sample is expected"
        raise ValueError(msg)
    if shape[1] == 0:
        msg = f"{name} has shape {tuple(shape)}: rows without values"
        raise ValueError(msg)
    return False


def dtype_advice(dtype: str) -> str:
    """What to do about a dtype that is not supported.

    Examples
    --------
    >>> dtype_advice("complex64")
    'Convert it, for example to float32'
    """
    if dtype == "object":
        return "Give an array or tensor of numbers"
    labels = "; labels of classes go to nrc_fast.measure_classes" if re.fullmatch(r"u?int\d+|bool", dtype) else ""
    return f"Convert it, for example to float32{labels}"


def _check_dtype(dtype: str, name: str) -> None:
    """Check that the kernels know a dtype.

    Raises
    ------
    TypeError
        The dtype is none of `arrays.DTYPES`.
    """
    if dtype not in DTYPES:
        msg = f"{name} has dtype {dtype}; {', '.join(DTYPES)} are supported. {dtype_advice(dtype)}"
        raise TypeError(msg)


def _array_rows(array: StoredArray, name: str, *, vector_is_column: bool) -> Rows:
    dtype = NATIVE_DTYPES.get(array.dtype) or array.dtype.newbyteorder("=").name
    _check_dtype(dtype, name)
    if _check_shape(array.shape, name, vector_is_column=vector_is_column):
        array = array[:, np.newaxis]
    rest = (array.strides[0] | array.strides[1]) & (array.itemsize - 1)
    if rest or not array.flags.aligned or not array.dtype.isnative:
        # Fields of records and files of the other byte order: the kernels step in whole elements.
        array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=True)
    return HostRows(name, array.view(np.uint16) if dtype == "bfloat16" else array, dtype)


def plain_kind(values: object) -> TensorKind | None:
    """The kind of a tensor on the host, with or without a graph, whose values lie one after the other.

    None for all else. What holds for one tensor of a kind, holds for all of them.
    """
    torch = _torch()
    if torch is None or type(values) is not torch.Tensor:
        return None
    tensor = cast("Tensor", values)
    if not tensor.is_cpu or tensor.layout is not torch.strided or not tensor.is_contiguous() or tensor.is_neg():
        return None
    if tensor.data_ptr() % tensor.element_size():
        return None
    return tensor.shape, tensor.dtype


def checked_tensor(tensor: Tensor, name: str, *, vector_is_column: bool) -> tuple[Tensor, str]:
    """A tensor as a matrix without a graph, wherever it lies, and the name of its dtype.

    Raises
    ------
    TypeError
        The tensor is not dense, has no memory of its own, or has a dtype that the kernels do not know.
    ValueError
        The number of dimensions is wrong, or there are no columns.
    """
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided:
        msg = f"{name} is a tensor of layout {tensor.layout}; give a dense one (tensor.to_dense())"
        raise TypeError(msg)
    dtype = str(tensor.dtype).removeprefix("torch.")
    _check_dtype(dtype, name)
    is_vector = _check_shape(tensor.shape, name, vector_is_column=vector_is_column)
    if tensor.is_meta or (tensor.numel() > 0 and tensor.data_ptr() == 0):
        msg = f"{name} is a {type(tensor).__name__} without memory of its own; give a materialised one (tensor.clone())"
        raise TypeError(msg)
    # Each of these costs a small batch microseconds.
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if tensor.data_ptr() % tensor.element_size():
        tensor = tensor.clone()  # the kernels load whole elements
    return tensor[:, None] if is_vector else tensor, dtype


def _tensor_rows(tensor: Tensor, name: str, *, vector_is_column: bool) -> Rows:
    torch = sys.modules["torch"]
    if not tensor.is_cpu and tensor.layout is torch.strided:
        msg = (
            f"{name} lies on {tensor.device}, and nrc_fast has no kernels for it there; "
            f"move it to the CPU ({name}.cpu()), it is never moved behind your back"
        )
        raise RuntimeError(msg)
    tensor, dtype = checked_tensor(tensor, name, vector_is_column=vector_is_column)
    array = tensor.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else tensor.numpy()
    return HostRows(name, array, dtype)


def as_matrix(values: Array | Rows, name: str, *, vector_is_column: bool = False) -> tuple[FloatArray, float]:
    """A small matrix (weights) as a float64 copy on the host, with the machine epsilon of its own dtype.

    What is small is worked on by the host, wherever it lies.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        What `as_rows` raises, and ValueError for values that are not finite.
    """
    rows = as_rows(on_host(values), name, vector_is_column=vector_is_column)
    matrix = rows.to_float64()
    if not np.isfinite(matrix).all():
        msg = f"{name} has {np.count_nonzero(~np.isfinite(matrix))} values that are not finite (NaN or infinite)"
        raise ValueError(msg)
    return matrix, EPSILONS[rows.dtype]
