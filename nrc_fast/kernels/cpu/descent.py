"""Steps of gradient descent on the unconstrained feature model on the CPU."""

from __future__ import annotations

import numpy as np

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.arrays import IntArray
from nrc_fast.kernels.descent_state import DescentState

__all__ = ["take_steps"]


def take_steps(state: DescentState, steps: IntArray) -> None:
    """Take `steps` (P,) steps of every problem, in place; what one problem does depends on no other."""
    problems, d, stride = state.transforms.shape
    velocities = state.velocities or (None, None, None)
    addresses = [0 if part is None else part.ctypes.data for part in velocities]
    _cpu.descent(
        problems=problems,
        d=d,
        n=state.weights.shape[-1],
        stride=stride,
        transforms=state.transforms.ctypes.data,
        weights=state.weights.ctypes.data,
        biases=state.biases.ctypes.data,
        transform_velocities=addresses[0],
        weight_velocities=addresses[1],
        bias_velocities=addresses[2],
        moments=state.moments.ctypes.data,
        moment_index=state.moment_index.ctypes.data,
        rates=state.rates.ctypes.data,
        steps=steps.ctypes.data,
        double_precision=bool(state.transforms.dtype == np.float64),
    )
