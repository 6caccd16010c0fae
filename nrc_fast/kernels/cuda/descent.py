"""Steps of gradient descent on the unconstrained feature model on a CUDA device, in torch's memory."""

from __future__ import annotations

from nrc_fast.base.arrays import IntArray
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.descent_state import DescentState

__all__ = ["take_steps"]


def take_steps(device: CudaDevice, state: DescentState, steps: IntArray) -> None:
    """Launch `steps` (P,) steps of every problem of a state there; what one problem does depends on no other."""
    problems, d, stride = state.transforms.shape
    counts = device.place(steps)
    velocities = [0, 0, 0] if state.velocities is None else [part.data_ptr() for part in state.velocities]
    request = device.core.DescentRequest(
        problems=problems,
        d=d,
        n=state.weights.shape[-1],
        stride=stride,
        transforms=state.transforms.data_ptr(),
        weights=state.weights.data_ptr(),
        biases=state.biases.data_ptr(),
        transform_velocities=velocities[0],
        weight_velocities=velocities[1],
        bias_velocities=velocities[2],
        moments=state.moments.data_ptr(),
        moment_index=state.moment_index.data_ptr(),
        rates=state.rates.data_ptr(),
        steps=counts.data_ptr(),
        double_precision=state.transforms.dtype == device.torch.float64,
    )
    device.launch("descent", request, device.core.descent_workspace(request, device.index))
