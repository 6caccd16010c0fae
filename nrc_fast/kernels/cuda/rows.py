"""Rows in the memory of a CUDA device, read by the kernels where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.kernels.arrays import DTYPES
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.interface import Backend, Rows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeviceBackend", "DeviceRows"]

# Values that are looked at together, so that masks of single values stay small.
FINITE_VALUES = 1 << 26
# Values that are in float64 at a time.
IMAGE_VALUES = 1 << 24


class DeviceBackend(Backend, Protocol):
    """A backend of a CUDA device, as far as its rows know it."""

    @property
    def device(self) -> CudaDevice:
        """The device."""


@dataclass(frozen=True)
class DeviceRows(Rows):
    """A matrix in the memory of a device: `array` is a tensor.

    Attributes
    ----------
    ready : callable, optional
        Makes the current stream wait until the rows are there.
    """

    name: str
    array: Tensor
    dtype: str
    backend: DeviceBackend
    ready: Callable[[], None] | None = None

    @property
    def device(self) -> CudaDevice:
        """Where the rows lie."""
        return self.backend.device

    @property
    def tensor(self) -> Tensor:
        """The tensor, for what is launched on the current stream: that waits until the rows are there."""
        if self.ready is not None:
            self.ready()
        return self.array

    @property
    def matrix(self) -> object:
        """The matrix as the kernels of its device take it; they may be launched on the current stream at once."""
        tensor = self.tensor
        matrix: object = self.device.core.Matrix(tensor.data_ptr(), *tensor.shape, *tensor.stride(), DTYPES[self.dtype])
        return matrix

    def part(self, first: int, last: int) -> DeviceRows:
        """Rows `first` to `last`, not copied."""
        return replace(self, array=self.array[first:last])

    def take(self, mask: BoolArray) -> DeviceRows:
        """A copy of the rows where `mask` is set."""
        return self.holding(self.tensor[self.device.place(np.flatnonzero(mask))], self.dtype)

    def holding(self, values: Tensor, dtype: str) -> DeviceRows:
        """Other values in the same memory, under the same name."""
        return DeviceRows(self.name, values, dtype, self.backend)

    def buffer(self, name: str, count: int) -> DeviceRows:
        """Memory for `count` rows of this kind, beside them."""
        return DeviceRows(name, self.device.empty((count, self.columns), self.array.dtype), self.dtype, self.backend)

    def loaded(self) -> DeviceRows:
        """These rows, which lie in memory already."""
        return self

    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array on the host."""
        return self.device.fetch(self.tensor.double())

    def images(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``W h`` of each row, (N, n), and ``|h|^2``, (N,), in float64 and on the host."""
        step, transposed = max(IMAGE_VALUES // self.columns, 1), self.device.place(np.ascontiguousarray(weights.T))
        found, squares = np.empty((self.count, len(weights))), np.empty(self.count)
        for first in range(0, self.count, step):
            rows = slice(first, first + step)
            values = self.tensor[rows].double()
            found[rows] = self.device.fetch(values @ transposed)
            squares[rows] = self.device.fetch(values.square().sum(dim=1))
        return found, squares

    def finite_rows(self) -> BoolArray:
        """Which rows hold neither NaN nor infinite values, (N,), on the host."""
        torch, step = self.device.torch, max(FINITE_VALUES // self.columns, 1)
        parts = [torch.isfinite(part).all(dim=1) for part in torch.split(self.tensor, step)]
        return np.concatenate([np.zeros(0, np.bool_), *map(self.device.fetch, parts)])

    def copy_to(self, target: Tensor) -> None:
        """Copy the rows into a tensor of their shape and dtype."""
        target[...] = self.tensor
