"""Which backend values lie in or are sent to, and the way of small ones to it and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeGuard, TypeVar, cast

from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cuda import cards, device, hopper
from nrc_fast.kernels.cuda.backend import CudaBackend
from nrc_fast.kernels.interface import Backend

if TYPE_CHECKING:
    import torch

__all__ = [
    "Device",
    "backend_of",
    "cuda_summary",
    "hopper_summary",
    "is_on_device",
    "on_host",
    "ordered_backend",
    "placed_beside",
    "require_device",
    "tensor_backend",
]

# How users name a device: "cpu", "cuda", "cuda:1", or as torch does.
Device: TypeAlias = "str | torch.device"

Value = TypeVar("Value")

cuda_summary = cards.cuda_summary


def hopper_summary() -> str:
    """One line on whether the Gram kernel of Hopper cards runs here: it is off unless the environment asks for it.

    Where it does, the cards are tried.

    Examples
    --------
    >>> hopper_summary()
    'off; NRC_FAST_HOPPER=1 asks for it, and cards are tried before it runs'
    """
    if not hopper.is_asked_for():
        return f"off; {hopper.VARIABLE}=1 asks for it, and cards are tried before it runs"
    core = cards.cuda_core()
    if core is None:
        return "asked for, but the CUDA kernels are not built"
    found = []
    for index in range(core.device_count()):
        try:
            device.cuda_device(index)
        except RuntimeError as error:
            found.append(str(error))
        else:
            found.append(f"on, cuda:{index} has passed its probes")
    return "; ".join(found) or f"asked for, but there is no device: {core.device_problem()}"


def require_device(name: Device | None) -> None:
    """Check that a name is that of the CPU, or None, which follows the input.

    Raises
    ------
    RuntimeError
        The name is that of something else.
    """
    if name is None or str(name).split(":")[0] == "cpu":
        return
    msg = (
        f"device {str(name)!r} cannot be used: nrc_fast has no kernels for it. Leave device=None, which follows the "
        "input, or give 'cpu' or 'cuda'"
    )
    raise RuntimeError(msg)


def is_on_device(values: object) -> TypeGuard[torch.Tensor]:
    """Whether something is a tensor on a CUDA device.

    Examples
    --------
    >>> import numpy as np
    >>> is_on_device(np.ones(3))
    False
    """
    return bool(getattr(values, "is_cuda", False))


def tensor_backend(tensor: torch.Tensor) -> CudaBackend:
    """The backend of the CUDA device that a tensor lies on.

    Raises
    ------
    RuntimeError
        This build or this machine cannot use the device.
    """
    return CudaBackend(device.cuda_device(tensor.device.index))


def ordered_backend(name: Device) -> Backend:
    """The backend of a device that the user names.

    Raises
    ------
    RuntimeError
        There are no kernels for it, or this build or this machine cannot use it.

    Examples
    --------
    >>> ordered_backend("cpu")
    CPU
    """
    kind, _, number = str(name).partition(":")
    if kind == "cuda" and (number.isdecimal() or not number):
        return CudaBackend(device.cuda_device(int(number) if number else None))
    require_device(name)
    return CPU


def backend_of(name: Device | None, *inputs: object) -> Backend:
    """The backend of the device that is named; with None, that of the first tensor on one, or of the host.

    Raises
    ------
    RuntimeError
        The named device, or the one of the tensors, cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> backend_of(None, np.ones(3))
    CPU
    """
    if name is not None:
        return ordered_backend(name)
    there = next(filter(is_on_device, inputs), None)
    return CPU if there is None else tensor_backend(there)


def placed_beside(tensor: torch.Tensor, values: object) -> torch.Tensor:
    """A tensor where some values lie: a copy on their device if they have one and it lies on the host, else itself."""
    if is_on_device(values) and not is_on_device(tensor):
        return tensor_backend(values).device.move(tensor)
    return tensor


def on_host(values: Value) -> Value:
    """A tensor on a CUDA device as one in the memory of the host; anything else as it is.

    For what is small and worked on by the host, such as weights.

    Examples
    --------
    >>> on_host(2.0)
    2.0
    """
    return cast("Value", tensor_backend(values).device.bring(values)) if is_on_device(values) else values
