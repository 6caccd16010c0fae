"""Symmetric matrices in the memory of a CUDA device: what comes to the host are a few vectors and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray
from nrc_fast.base.leading import LeadingPairs, leading_pairs
from nrc_fast.base.linalg import fix_signs
from nrc_fast.base.symmetric import EigenPairs, HostMatrix, Solver, SymmetricMatrix
from nrc_fast.base.vector_blocks import VectorBlocks
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.spectrum import checked_eigh

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeviceMatrix", "covariance_of_sums"]


class DeviceBlocks(VectorBlocks):
    """Blocks of vectors as float64 tensors of a device."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._torch = device.torch

    def place(self, array: FloatArray) -> Tensor:
        """An array of the host on the device."""
        return self._device.place(array)

    def fetch(self, block: Tensor) -> FloatArray:
        """A block on the host."""
        return self._device.fetch(block)

    def picked(self, matrix: Tensor, rows: IntArray) -> Tensor:
        """Some rows of a matrix, by their numbers."""
        return matrix[self._device.place(rows.astype(np.int64))]

    def joined(self, first: Tensor, second: Tensor) -> Tensor:
        """The vectors of two blocks."""
        both: Tensor = self._torch.cat([first, second])
        return both

    def contiguous(self, block: Tensor) -> Tensor:
        """The block, row by row in memory."""
        return block.contiguous()

    def factored(self, block: Tensor) -> tuple[Tensor, FloatArray]:
        """Orthonormal columns (d, b) of the span of b vectors, and the triangle (b, b) that they come from."""
        basis, triangle = self._torch.linalg.qr(block.mT)
        return basis, self.fetch(triangle)

    def scaled_to_unit(self, block: Tensor) -> tuple[Tensor, int]:
        """The block divided by a power of two so that its largest magnitude is about 1, and the exponent."""
        exponent = math.frexp(self.largest(block))[1]
        return self.times_power(block, -exponent), exponent

    def times_power(self, block: Tensor, exponent: int) -> Tensor:
        """The block times ``2.0**exponent``."""
        half = exponent // 2  # the power itself may be none of float64
        return block * math.ldexp(1.0, half) * math.ldexp(1.0, exponent - half)

    def norms(self, block: Tensor) -> FloatArray:
        """Length of each vector."""
        return self.fetch(self._torch.linalg.vector_norm(block, dim=1))

    def largest(self, block: Tensor) -> float:
        """The largest magnitude; 0 where there is none."""
        return float(self.fetch(block.abs().amax())) if block.numel() else 0.0

    def norm(self, block: Tensor) -> float:
        """Root of the sum of all squares."""
        return float(self.fetch(self._torch.linalg.vector_norm(block)))


class DeviceMatrix(SymmetricMatrix):
    """A matrix in the memory of a device.

    Parameters
    ----------
    values : tensor
        (d, d), float64, both triangles.
    device : CudaDevice
    """

    def __init__(self, values: Tensor, device: CudaDevice) -> None:
        self._values = values
        self._device = device
        self._blocks = DeviceBlocks(device)

    @property
    def d(self) -> int:
        """Its size."""
        return len(self._values)

    def diagonal(self) -> FloatArray:
        """(d,) float64 array."""
        return self._device.fetch(self._values.diagonal())

    def scaled_norm(self) -> tuple[float, int]:
        """Frobenius norm as `linalg.scaled_norm` gives it."""
        scaled, exponent = self._blocks.scaled_to_unit(self._values)
        return self._blocks.norm(scaled), exponent

    def products(self, vectors: FloatArray) -> FloatArray:
        """``V C`` of some vectors (k, d)."""
        return self._device.fetch(self._device.place(vectors) @ self._values)

    def along_placed(self, vectors: Tensor) -> FloatArray:
        """``v^T C v`` of each of some vectors (k, d) on the device."""
        return self._device.fetch(((vectors @ self._values) * vectors).sum(dim=1))

    def outside(self, vectors: FloatArray) -> float:
        """Trace of what lies outside the span of orthonormal vectors (k, d)."""
        if len(vectors) == self.d:
            return 0.0
        placed = self._device.place(vectors)
        rest = self._values - placed.mT @ (placed @ self._values)
        rest -= (rest @ placed.mT) @ placed
        return max(float(self._device.fetch(rest.trace())), 0.0)

    def solver(self, added: float, *, single_precision: bool) -> Solver | None:
        """Solutions with ``C + added I``, by a factor in float32 or float64; None where it is not positive definite."""
        device, torch = self._device, self._device.torch
        dtype = torch.float32 if single_precision else torch.float64
        raised = self._values.to(dtype, copy=True)
        raised.diagonal().add_(added)
        factor, info = torch.linalg.cholesky_ex(raised)
        if int(device.fetch(info)):
            return None

        def solve(right: FloatArray) -> FloatArray:
            solution: FloatArray = device.fetch(torch.cholesky_solve(device.place(right).to(dtype), factor).double())
            return solution

        return solve

    def leading(self, count: int, *, tolerance: float, trace: float) -> LeadingPairs | None:
        """As `leading.leading_pairs`, computed on the device."""
        return leading_pairs(self._values, count, tolerance=tolerance, trace=trace, blocks=self._blocks)

    def decomposed(self) -> EigenPairs:
        """All eigenpairs, by the device; its result is checked, and where it is wrong the host computes them."""
        found = checked_eigh(self._values, self._device)
        return HostMatrix(self.on_host()).decomposed() if found is None else DevicePairs(*found, self._device)

    def raised(self, vector: FloatArray) -> DeviceMatrix:
        """``C + v v^T``."""
        placed = self._device.place(vector)
        return DeviceMatrix(self._values + placed.outer(placed), self._device)

    def on_host(self) -> FloatArray:
        """The matrix, (d, d), both triangles; not to be written to."""
        return self._device.fetch(self._values)


class DevicePairs(EigenPairs):
    """All eigenpairs, whose vectors stay on a device.

    Parameters
    ----------
    values, vectors : tensors
        Ascending, (d,) and (d, d), the vectors in the columns.
    device : CudaDevice
    """

    def __init__(self, values: Tensor, vectors: Tensor, device: CudaDevice) -> None:
        self.values = device.fetch(values)[::-1].copy()
        self._ascending = vectors
        self._device = device

    def vectors(self, count: int) -> FloatArray:
        """The leading vectors as orthonormal rows (count, d) on the host."""
        last = self._device.fetch(self._ascending[:, len(self._ascending) - count :])
        leading: FloatArray = fix_signs(last[:, ::-1]).T
        return leading

    def products(self, columns: FloatArray) -> FloatArray:
        """``V^T B`` of all vectors V with some columns B (d, n), (d, n), each row up to its sign."""
        found: FloatArray = self._device.fetch(self._ascending.mT @ self._device.place(columns))[::-1].copy()
        return found

    def along(self, matrix: SymmetricMatrix) -> FloatArray:
        """``v^T S v`` of all vectors with a matrix in the same memory, (d,)."""
        if not isinstance(matrix, DeviceMatrix):
            return matrix.along(self.vectors(len(self._ascending)))
        found: FloatArray = matrix.along_placed(self._ascending.mT)[::-1].copy()
        return found


def covariance_of_sums(lower: Tensor, offset: FloatArray | None, count: int, device: CudaDevice) -> DeviceMatrix:
    """``G / N - o o^T`` of the lower triangle of G and a mean o of the host; none is zero."""
    values = (lower.tril() + lower.tril(-1).mT) / count
    if offset is not None:
        placed = device.place(offset)
        values -= placed.outer(placed)
    return DeviceMatrix(values, device)
