"""Which backend values lie in or are sent to, and the way of small ones to it and back."""

from __future__ import annotations

from typing import Any

from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cuda import cards, device
from nrc_fast.kernels.cuda.backend import CudaBackend
from nrc_fast.kernels.interface import Backend

__all__ = [
    "backend_of",
    "cuda_summary",
    "is_on_device",
    "on_host",
    "ordered_backend",
    "placed_beside",
    "require_device",
    "tensor_backend",
]

cuda_summary = cards.cuda_summary


def require_device(name: Any) -> None:
    """Check that a name is that of the CPU, or None, which follows the input.

    Raises
    ------
    RuntimeError
        It names something else.
    """
    if name is None or str(name).split(":")[0] == "cpu":
        return
    msg = (
        f"device {str(name)!r} cannot be used: nrc_fast has no kernels for it. Leave device=None, which follows the "
        "input, or give 'cpu' or 'cuda'"
    )
    raise RuntimeError(msg)


def is_on_device(values: Any) -> bool:
    """Whether something is a tensor on a CUDA device.

    Examples
    --------
    >>> import numpy as np
    >>> is_on_device(np.ones(3))
    False
    """
    return bool(getattr(values, "is_cuda", False))


def tensor_backend(tensor: Any) -> CudaBackend:
    """The backend of the device that a tensor lies on.

    Raises
    ------
    RuntimeError
        This build or this machine cannot use it.
    """
    return CudaBackend(device.cuda_device(tensor.device.index))


def ordered_backend(name: Any) -> Backend:
    """The backend of a device that the user names.

    Raises
    ------
    RuntimeError
        It cannot be used.

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


def backend_of(name: Any, *inputs: Any) -> Backend:
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


def placed_beside(tensor: Any, values: Any) -> Any:
    """A tensor, copied to the device that some values lie on where it lies on the host."""
    if is_on_device(values) and not is_on_device(tensor):
        return tensor_backend(values).device.move(tensor)
    return tensor


def on_host(values: Any) -> Any:
    """A tensor on a CUDA device as one in the memory of the host; anything else as it is.

    For what is small and worked on by the host, such as weights.

    Examples
    --------
    >>> on_host(2.0)
    2.0
    """
    return tensor_backend(values).device.bring(values) if is_on_device(values) else values
