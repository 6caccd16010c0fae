"""Arrays and tensors that end at a page which nobody may touch, as the memory of an emulated device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of memory on a device, where nothing else is asked for: that of the widest load.
ALIGNMENT = 16


def guarded_bytes(core: Any, size: int, alignment: int = ALIGNMENT) -> NDArray[np.uint8]:
    """Memory that holds 255, so that what is in it must not matter: NaN."""
    if size == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(core.GuardedMemory(size, alignment), np.uint8)


def guarded_copy(core: Any, array: NDArray[Any], alignment: int = ALIGNMENT) -> NDArray[Any]:
    placed: NDArray[Any] = guarded_bytes(core, array.nbytes, alignment).view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def guarded_tensor(core: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """A tensor of the host whose bytes are 255."""
    import torch

    size = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
    return torch.from_numpy(guarded_bytes(core, size)).view(dtype).reshape(shape)
