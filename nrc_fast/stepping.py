"""The door to the compiled steps of gradient descent on the unconstrained feature model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast import _cpu

__all__ = ["DescentState", "padded_columns", "take_steps"]


@dataclass
class DescentState:
    """States of gradient descent on the unconstrained feature model, a batch of P of them, float64 or float32.

    With ``Z = [H0, Y, 1]`` the features are ``Z transform^T``. Rows of transforms and moments are padded with zeros to
    whole 64 bytes. Velocities are None where no problem has momentum.
    """

    transforms: NDArray[Any]  # (P, d, stride)
    weights: NDArray[Any]  # (P, d, n), transposed
    biases: NDArray[Any]  # (P, n)
    moments: NDArray[Any]  # (K, d + n + 1, stride): Z^T Z / M
    moment_index: NDArray[Any]  # (P,) int64
    rates: NDArray[Any]  # (P, 7) float64: learning rates of W, T and b, penalties of W, H and b, momentum
    velocities: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None  # of transforms, weights and biases


def padded_columns(columns: int, dtype: np.dtype[Any]) -> int:
    """Elements of a row that is padded to whole 64 bytes."""
    width = 64 // dtype.itemsize
    return -(-columns // width) * width


def take_steps(state: DescentState, steps: NDArray[np.int64]) -> None:
    """Take `steps` (P,) steps of every problem, in place; what one problem does depends on no other.

    Raises
    ------
    ValueError
        The arrays do not fit together.
    """
    problems, d, stride = state.transforms.shape
    n = state.weights.shape[-1]
    dtype = state.transforms.dtype
    velocities = state.velocities or (None, None, None)
    shapes = ((problems, d, stride), (problems, d, n), (problems, n))
    checks = [
        *zip((state.transforms, state.weights, state.biases), shapes, strict=True),
        *((part, shape) for part, shape in zip(velocities, shapes, strict=True) if part is not None),
        (state.moments, (len(state.moments), d + n + 1, stride)),
    ]
    index, counts, rates = state.moment_index, steps, state.rates
    is_fit = all(part.shape == shape and part.dtype == dtype and part.flags.c_contiguous for part, shape in checks)
    is_fit = is_fit and dtype in (np.float64, np.float32) and stride == padded_columns(d + n + 1, dtype)
    is_fit = is_fit and all(
        a.shape == (problems,) and a.dtype == np.int64 and a.flags.c_contiguous for a in (index, counts)
    )
    is_fit = is_fit and rates.shape == (problems, 7) and rates.dtype == np.float64 and rates.flags.c_contiguous
    if not is_fit or (problems and not 0 <= int(index.min()) <= int(index.max()) < len(state.moments)):
        msg = "the arrays of the descent do not fit together"
        raise ValueError(msg)
    addresses = [0 if part is None else part.ctypes.data for part in velocities]
    _cpu.descent(
        problems=problems,
        d=d,
        n=n,
        stride=stride,
        transforms=state.transforms.ctypes.data,
        weights=state.weights.ctypes.data,
        biases=state.biases.ctypes.data,
        transform_velocities=addresses[0],
        weight_velocities=addresses[1],
        bias_velocities=addresses[2],
        moments=state.moments.ctypes.data,
        moment_index=index.ctypes.data,
        rates=rates.ctypes.data,
        steps=counts.ctypes.data,
        double_precision=bool(dtype == np.float64),
    )
