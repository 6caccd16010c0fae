"""Gradient descent on the unconstrained feature model on a CUDA device: the state stays there, in torch's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.descent_checks import check_state, check_steps
from nrc_fast.kernels.interface import DescentArrays

__all__ = ["DeviceDescentState"]


class DeviceDescentState:
    """A `DescentState` in the memory of a device; steps are launched on its stream, and only `wait` waits for them.

    Parameters
    ----------
    state : DescentArrays
        Is copied, and does not change.
    device : CudaDevice

    Raises
    ------
    ValueError
        The arrays of the state do not fit together.
    """

    def __init__(self, state: DescentArrays, device: CudaDevice) -> None:
        check_state(state)
        self._device = device
        self._torch = device.torch
        self.moment_index, self.rates = state.moment_index, state.rates
        self._transforms, self._weights, self._biases, self._moments = map(
            self.place, (state.transforms, state.weights, state.biases, state.moments)
        )
        self._velocities = None if state.velocities is None else tuple(map(self.place, state.velocities))
        self._index, self._rates = self.place(state.moment_index), self.place(state.rates)

    @property
    def workers(self) -> int:
        """How many problems are under way at once, at least."""
        return int(self._device.core.multiprocessors(self._device.index))

    def place(self, array: NDArray[Any]) -> Any:
        """A copy of an array in the memory of the device."""
        return self._device.place(array)

    def take_steps(self, steps: NDArray[np.int64]) -> None:
        """Launch `steps` (P,) steps of every problem; what one problem does depends on no other.

        Raises
        ------
        ValueError
            `steps` does not fit, or there is momentum without velocities.
        """
        check_steps(self.rates, self._velocities is not None, steps)
        problems, d, stride = self._transforms.shape
        counts = self.place(steps)
        velocities = [0, 0, 0] if self._velocities is None else [part.data_ptr() for part in self._velocities]
        core, index = self._device.core, self._device.index
        request = core.DescentRequest(
            problems=problems,
            d=d,
            n=self._weights.shape[-1],
            stride=stride,
            transforms=self._transforms.data_ptr(),
            weights=self._weights.data_ptr(),
            biases=self._biases.data_ptr(),
            transform_velocities=velocities[0],
            weight_velocities=velocities[1],
            bias_velocities=velocities[2],
            moments=self._moments.data_ptr(),
            moment_index=self._index.data_ptr(),
            rates=self._rates.data_ptr(),
            steps=counts.data_ptr(),
            double_precision=self._transforms.dtype == self._torch.float64,
        )
        self._device.launch("descent", request, core.descent_workspace(request, index))

    def wait(self) -> None:
        """Wait for the steps that were launched."""
        self._device.wait()

    def are_finite(self) -> NDArray[np.bool_]:
        """Which problems have no NaN or infinite value, (P,)."""
        isfinite = self._torch.isfinite
        finite = isfinite(self._weights).flatten(1).all(1) & isfinite(self._biases).all(1)
        return np.asarray((finite & isfinite(self._transforms.sum((1, 2)))).cpu().numpy())

    def part(self, chosen: NDArray[Any]) -> tuple[Any, Any, Any]:
        """T (P', d, D), W (P', n, d) and b (P', n) of some problems in float64, in the memory of the device."""
        index = self.place(np.asarray(chosen))
        _, d, n = self._weights.shape
        transforms = self._transforms[index][..., : d + n + 1].double()
        return transforms, self._weights[index].swapaxes(-1, -2).double(), self._biases[index].double()

    def heads(self) -> tuple[FloatArray, FloatArray]:
        """W (P, n, d) and b (P, n) of all problems in float64, on the host."""
        weights = self._weights.swapaxes(-1, -2).double().cpu().numpy()
        return np.ascontiguousarray(weights), self._biases.double().cpu().numpy()

    def transform(self, which: int) -> FloatArray:
        """T of one problem in float64, (d, stride), on the host."""
        return np.asarray(self._transforms[which].double().cpu().numpy())
