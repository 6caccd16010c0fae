"""Whether the arrays of a gradient descent fit together, on whichever backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.kernels.interface import DescentArrays

__all__ = ["check_state", "check_steps", "padded_columns"]


def padded_columns(columns: int, dtype: np.dtype[Any]) -> int:
    """Elements of a row that is padded to whole 64 bytes."""
    width = 64 // dtype.itemsize
    return -(-columns // width) * width


def check_state(state: DescentArrays) -> None:
    """Check that the arrays of a state fit together.

    Raises
    ------
    ValueError
        They do not.
    """
    problems, d, stride = state.transforms.shape
    n = state.weights.shape[-1]
    dtype = state.transforms.dtype
    shapes = ((problems, d, stride), (problems, d, n), (problems, n))
    checks = [
        *zip((state.transforms, state.weights, state.biases), shapes, strict=True),
        *zip(state.velocities or (), shapes, strict=False),
        (state.moments, (len(state.moments), d + n + 1, stride)),
    ]
    index, rates = state.moment_index, state.rates
    is_fit = all(part.shape == shape and part.dtype == dtype and part.flags.c_contiguous for part, shape in checks)
    is_fit = is_fit and dtype in (np.float64, np.float32) and stride == padded_columns(d + n + 1, dtype)
    is_fit = is_fit and index.shape == (problems,) and index.dtype == np.int64 and index.flags.c_contiguous
    is_fit = is_fit and rates.shape == (problems, 7) and rates.dtype == np.float64 and rates.flags.c_contiguous
    if not is_fit or (problems and not 0 <= int(index.min()) <= int(index.max()) < len(state.moments)):
        msg = "the arrays of the descent do not fit together"
        raise ValueError(msg)


def check_steps(rates: NDArray[Any], has_velocities: bool, steps: NDArray[np.int64]) -> None:
    """Check that steps can be taken.

    Raises
    ------
    ValueError
        They are not one number for each problem, or a problem has momentum and the state has no velocities.
    """
    if steps.shape != rates.shape[:1] or steps.dtype != np.int64 or not steps.flags.c_contiguous:
        msg = f"steps has shape {steps.shape} and dtype {steps.dtype}; {rates.shape[:1]} of int64 is expected"
        raise ValueError(msg)
    if not has_velocities and np.any((rates[:, -1] != 0.0) & (steps > 0)):
        msg = "momentum needs velocities"
        raise ValueError(msg)
