"""Numbers and arrays that users give to the UFM, checked and turned into float64."""

from __future__ import annotations

import sys
from typing import SupportsIndex, TypeAlias

import numpy as np

from nrc_fast.base.arrays import Array, BoolArray, FloatArray, IntArray, StoredArray
from nrc_fast.base.linalg import EPSILON, EPSILONS
from nrc_fast.base.options import as_integer

__all__ = [
    "Batched",
    "BatchedBool",
    "BatchedInt",
    "as_float64",
    "as_layers",
    "as_number",
    "as_penalty",
    "as_width",
    "broadcast_shape",
    "plain",
    "plain_counts",
    "plain_flags",
]

# One number, or an array with one for each of a batch of problems: which it is, the shapes of the arguments decide.
Batched: TypeAlias = float | FloatArray
BatchedInt: TypeAlias = int | IntArray
BatchedBool: TypeAlias = bool | BoolArray

MOST_LAYERS = 10_000  # so that a slip of the keyboard takes no hours


def as_float64(values: Array, name: str) -> tuple[FloatArray, float]:
    """A number, array or torch CPU tensor of any shape as a float64 array, with the epsilon of its own dtype.

    Raises
    ------
    TypeError
        The values are no real numbers.
    ValueError
        Some are NaN or infinite.
    RuntimeError
        A tensor lies on another device.

    Examples
    --------
    >>> as_float64([1, 2], "Y")[0].tolist()
    [1.0, 2.0]
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        if values.device.type != "cpu":
            msg = f"{name} lies on {values.device}; the UFM is computed on the CPU: move it ({name}.cpu())"
            raise RuntimeError(msg)
        dtype = str(values.dtype).removeprefix("torch.")
        tensor = values.detach()
        array = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    else:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError) as error:
            msg = f"{name} is a {type(values).__name__} that numpy cannot read as an array: {error}"
            raise TypeError(msg) from error
        dtype = array.dtype.newbyteorder("=").name
    if array.dtype.kind not in "fiu" and dtype != "bfloat16":
        msg = f"{name} has dtype {dtype}; real numbers are expected"
        raise TypeError(msg)
    result = np.array(array, dtype=np.float64)
    if not np.isfinite(result).all():
        msg = f"{name} has {np.count_nonzero(~np.isfinite(result))} values that are not finite (NaN or infinite)"
        raise ValueError(msg)
    return result, EPSILONS.get(dtype, EPSILON)


def as_penalty(values: Array, name: str, *, positive: bool = False) -> FloatArray:
    """A penalty or an array of them as float64: finite and not negative.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        What `as_float64` raises, and ValueError for negative values, or zeros where only positive ones make sense.

    Examples
    --------
    >>> as_penalty(0.5, "lambda_W").item()
    0.5
    """
    array, _ = as_float64(values, name)
    if np.any(array < 0.0) or (positive and np.any(array == 0.0)):
        least = "positive" if positive else "at least 0"
        msg = f"{name} must be {least}, got {float(array.min())}"
        raise ValueError(msg)
    return array


def as_number(value: Array, name: str, *, positive: bool = False) -> float:
    """One number that is finite and not negative.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        What `as_penalty` raises, and ValueError for an array.

    Examples
    --------
    >>> as_number(np.float32(0.5), "c")
    0.5
    """
    array = as_penalty(value, name, positive=positive)
    if array.ndim:
        msg = f"{name} has shape {array.shape}; one number is expected"
        raise ValueError(msg)
    return float(array)


def as_width(d: SupportsIndex | None) -> int | None:
    """The width of the features as an int, where it is given.

    Raises
    ------
    TypeError
        It is no whole number.
    ValueError
        It is below 1.

    Examples
    --------
    >>> as_width(np.int64(3)), as_width(None)
    (3, None)
    """
    width = None if d is None else as_integer(d, "d")
    if width is not None and width < 1:
        msg = f"d is {width}; a number of features from 1 on is expected"
        raise ValueError(msg)
    return width


def as_layers(layers: SupportsIndex, name: str, *, least: int, why: str = "") -> int:
    """A number of layers as an int.

    Raises
    ------
    TypeError
        It is no whole number.
    ValueError
        It is below the least there can be, or above `MOST_LAYERS`.

    Examples
    --------
    >>> as_layers(np.int64(3), "layers", least=2)
    3
    """
    count = as_integer(layers, name)
    if not least <= count <= MOST_LAYERS:
        msg = f"{name} is {count}; a number of layers from {least} to {MOST_LAYERS:,} is expected{why and f', {why}'}"
        raise ValueError(msg)
    return count


def broadcast_shape(**arrays: FloatArray) -> tuple[int, ...]:
    """The shape that arrays broadcast to under the rules of numpy.

    Raises
    ------
    ValueError
        They do not fit together.

    Examples
    --------
    >>> broadcast_shape(lambda_W=np.ones((3, 1)), lambda_H=np.ones(2))
    (3, 2)
    """
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in arrays.items())
        msg = f"the batch axes do not broadcast against one another ({shapes})"
        raise ValueError(msg) from None


def plain(array: StoredArray) -> Batched:
    """An array without axes as a Python number; others as they are.

    Examples
    --------
    >>> plain(np.array(2.0)), plain(np.array([2.0])).shape
    (2.0, (1,))
    """
    number: Batched = array.item() if np.ndim(array) == 0 else array
    return number


def plain_counts(array: StoredArray) -> BatchedInt:
    """What `plain` gives, of whole numbers.

    Examples
    --------
    >>> plain_counts(np.array(2))
    2
    """
    number: BatchedInt = array.item() if np.ndim(array) == 0 else array
    return number


def plain_flags(array: StoredArray) -> BatchedBool:
    """What `plain` gives, of truth values.

    Examples
    --------
    >>> plain_flags(np.array(True))
    True
    """
    flag: BatchedBool = array.item() if np.ndim(array) == 0 else array
    return flag
