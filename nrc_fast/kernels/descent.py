"""Gradient descent under way in the memory of a backend: its steps, and its states in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray, IntArray, StoredDtype
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.kernels.interface import Backend

__all__ = ["RunningDescent", "padded_columns"]


def padded_columns(columns: int, dtype: StoredDtype) -> int:
    """Elements of a row that is padded to whole 64 bytes."""
    width = 64 // dtype.itemsize
    return -(-columns // width) * width


class RunningDescent:
    """A batch of descents in the memory of a backend.

    Parameters
    ----------
    state : DescentState
        With its arrays on the host. They change where the backend is that of the host; a device copies them.
    backend : Backend
        In whose memory the steps are taken.

    Attributes
    ----------
    state : DescentState
        With its arrays in the memory of the backend.
    rates, moment_index : arrays
        Those of the state, on the host.

    Raises
    ------
    ValueError
        Shapes or dtypes of the arrays do not fit together, rows are not padded, or arrays are not contiguous.
    """

    def __init__(self, state: DescentState, backend: Backend) -> None:
        _require_fit(state)
        self.backend = backend
        self.rates: FloatArray = state.rates
        self.moment_index: IntArray = state.moment_index
        velocities = state.velocities
        self.state = replace(
            state,
            **{name: backend.place(array) for name, array in vars(state).items() if name != "velocities"},
            velocities=None if velocities is None else tuple(map(backend.place, velocities)),
        )

    def take_steps(self, steps: IntArray) -> None:
        """Take `steps` (P,) steps of every problem; what one problem does depends on no other.

        Raises
        ------
        ValueError
            The steps are not one number for each problem, or a problem has momentum and the state no velocities.
        """
        if steps.shape != self.rates.shape[:1] or steps.dtype != np.int64 or not steps.flags.c_contiguous:
            msg = f"steps has shape {steps.shape} and dtype {steps.dtype}; {self.rates.shape[:1]} of int64 is expected"
            raise ValueError(msg)
        if self.state.velocities is None and np.any((self.rates[:, -1] != 0.0) & (steps > 0)):
            msg = "momentum needs velocities"
            raise ValueError(msg)
        self.backend.take_steps(self.state, steps)

    def wait(self) -> None:
        """Wait for the steps that were taken."""
        self.backend.wait()

    def are_finite(self) -> BoolArray:
        """Which problems have no NaN or infinite value, (P,)."""
        isfinite, state = self.backend.library.isfinite, self.state
        rows = isfinite(state.weights).all(-1).all(-1) & isfinite(state.biases).all(-1)
        return np.asarray(self.backend.fetch(rows & isfinite(state.transforms.sum((1, 2)))))

    def part(self, chosen: IntArray) -> tuple[PlacedArray, PlacedArray, PlacedArray]:
        """T (P', d, D), W (P', n, d) and b (P', n) of some problems in float64, in the memory of the backend."""
        index, state = self.backend.place(np.asarray(chosen)), self.state
        used = sum(state.weights.shape[1:]) + 1
        parts = state.transforms[index, :, :used], state.weights[index].swapaxes(-1, -2), state.biases[index]
        transforms, weights, biases = map(self.backend.as_float64, parts)
        return transforms, weights, biases

    def heads(self) -> tuple[FloatArray, FloatArray]:
        """W (P, n, d) and b (P, n) of all problems in float64, on the host."""
        weights, biases = map(self.backend.fetch, (self.state.weights.swapaxes(-1, -2), self.state.biases))
        return np.array(weights, dtype=np.float64), np.array(biases, dtype=np.float64)

    def transform(self, which: int) -> FloatArray:
        """T of one problem in float64, (d, stride), on the host."""
        return np.asarray(self.backend.fetch(self.state.transforms[which]), dtype=np.float64)


def _require_fit(state: DescentState) -> None:
    """Check that the arrays of a state on the host fit together.

    Raises
    ------
    ValueError
        Their shapes or dtypes do not, rows are not padded, or arrays are not contiguous.
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
