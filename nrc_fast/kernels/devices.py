"""Which device values lie on or are sent to, and the way of small ones to it and back."""

from __future__ import annotations

from typing import Any

from nrc_fast.kernels.cuda import device

__all__ = ["device_of", "is_on_device", "on_host", "placed_beside", "require_device", "tensor_device"]


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


def tensor_device(tensor: Any) -> device.CudaDevice:
    """The device that a tensor lies on.

    Raises
    ------
    RuntimeError
        This build or this machine cannot use it.
    """
    return device.cuda_device(tensor.device.index)


def device_of(name: Any, *inputs: Any) -> device.CudaDevice | None:
    """The CUDA device that is named, or that the first tensor on one lies on; None for the CPU.

    Raises
    ------
    RuntimeError
        The named device, or the one of the tensors, cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> device_of("cpu") is device_of(None, np.ones(3)) is None
    True
    """
    if name is None:
        name = next((values.device for values in inputs if is_on_device(values)), None)
    kind, _, number = str(name).partition(":")
    if kind != "cuda" or not (number.isdecimal() or not number):
        require_device(name)
        return None
    return device.cuda_device(int(number) if number else None)


def placed_beside(tensor: Any, values: Any) -> Any:
    """A tensor, copied to the device that some values lie on where it lies on the host."""
    return tensor_device(values).move(tensor) if is_on_device(values) and not is_on_device(tensor) else tensor


def on_host(values: Any) -> Any:
    """A tensor on a CUDA device as one in the memory of the host; anything else as it is.

    For what is small and worked on by the host, such as weights.

    Examples
    --------
    >>> on_host(2.0)
    2.0
    """
    return tensor_device(values).bring(values) if is_on_device(values) else values
