"""Memory on a CUDA device that a pass writes its results into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray
from nrc_fast.kernels.cuda.device import CudaDevice

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeviceResults"]


class DeviceResults:
    """Float64 results by name and whole numbers that are counted of the rows, in one piece that one copy fetches.

    All of them start as zeros.

    Parameters
    ----------
    device : CudaDevice
    shapes : dict
        Shapes of the results, by name.
    counts : int
        How many numbers are counted.
    """

    def __init__(self, device: CudaDevice, shapes: dict[str, tuple[int, ...]], counts: int) -> None:
        self.device = device
        self.shapes = shapes
        ends = np.cumsum([0, *map(math.prod, shapes.values())]).tolist()
        self._places = dict(zip(shapes, pairwise(ends), strict=True))
        self._memory = device.zeros(ends[-1] + counts)
        self.counts = self._memory[ends[-1] :].view(device.torch.int64)

    @property
    def memory(self) -> Tensor:
        """All of them in one tensor."""
        return self._memory

    def tensor(self, name: str) -> Tensor:
        """A result on the device."""
        first, last = self._places[name]
        return self._memory[first:last].view(self.shapes[name])

    @property
    def addresses(self) -> dict[str, int]:
        """Where all results begin, by name; 0 for those that have no elements."""
        base = int(self._memory.data_ptr())
        return {name: base + 8 * first if last > first else 0 for name, (first, last) in self._places.items()}

    def fetch(self, leave: Sequence[str] = ()) -> tuple[dict[str, FloatArray], IntArray]:
        """Results and counts on the host, but for the leading ones named; waits for the passes that write them."""
        start = max((self._places[name][1] for name in leave), default=0)
        memory: FloatArray = self.device.fetch(self._memory[start:])
        arrays = {
            name: memory[first - start : last - start].reshape(self.shapes[name])
            for name, (first, last) in self._places.items()
            if name not in leave
        }
        return arrays, memory[len(memory) - len(self.counts) :].view(np.int64)
