"""Gradient descent on the unconstrained feature model on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.descent_checks import check_state, check_steps

__all__ = ["DescentState", "take_steps"]


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

    @property
    def workers(self) -> int:
        """How many problems are under way at once."""
        return _cpu.thread_count()

    def place(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array where the state is."""
        return array

    def take_steps(self, steps: NDArray[np.int64]) -> None:
        """Take `steps` (P,) steps of every problem, in place."""
        take_steps(self, steps)

    def wait(self) -> None:
        """Wait for the steps, which here are taken at once."""

    def are_finite(self) -> NDArray[np.bool_]:
        """Which problems have no NaN or infinite value, (P,)."""
        finite = np.isfinite(self.weights).all(axis=(1, 2)) & np.isfinite(self.biases).all(axis=1)
        return np.asarray(finite & np.isfinite(self.transforms.sum(axis=(1, 2))))

    def part(self, chosen: NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """T (P', d, D), W (P', n, d) and b (P', n) of some problems, in float64."""
        used = sum(self.weights.shape[1:]) + 1
        return (
            self.transforms[chosen, :, :used].astype(np.float64),
            np.swapaxes(self.weights[chosen], -1, -2).astype(np.float64),
            self.biases[chosen].astype(np.float64),
        )

    def heads(self) -> tuple[FloatArray, FloatArray]:
        """W (P, n, d) and b (P, n) of all problems, in float64."""
        return np.swapaxes(self.weights, -1, -2).astype(np.float64), self.biases.astype(np.float64)

    def transform(self, which: int) -> FloatArray:
        """T of one problem in float64, (d, stride)."""
        return np.asarray(self.transforms[which], dtype=np.float64)


def take_steps(state: DescentState, steps: NDArray[np.int64]) -> None:
    """Take `steps` (P,) steps of every problem, in place; what one problem does depends on no other.

    Raises
    ------
    ValueError
        The arrays do not fit together.
    """
    check_state(state)
    check_steps(state.rates, state.velocities is not None, steps)
    problems, d, stride = state.transforms.shape
    n = state.weights.shape[-1]
    velocities = state.velocities or (None, None, None)
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
        moment_index=state.moment_index.ctypes.data,
        rates=state.rates.ctypes.data,
        steps=steps.ctypes.data,
        double_precision=bool(state.transforms.dtype == np.float64),
    )
