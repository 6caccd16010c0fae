"""Blocks of vectors and what block Krylov iteration does with them, in numpy's memory; others override it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import scale_to_unit

__all__ = ["PlacedBlock", "VectorBlocks"]

# Vectors as rows of a float64 array: of numpy or, on a device, a tensor.
PlacedBlock = Any


class VectorBlocks:
    """Float64 arrays of numpy. Whatever the memory, numbers and small matrices are on the host."""

    def place(self, array: FloatArray) -> PlacedBlock:
        """An array of the host in this memory."""
        return array

    def fetch(self, block: PlacedBlock) -> FloatArray:
        """A block on the host."""
        found: FloatArray = block
        return found

    def picked(self, matrix: PlacedBlock, rows: Any) -> PlacedBlock:
        """Some rows of a matrix, by their numbers."""
        return matrix[rows]

    def joined(self, first: PlacedBlock, second: PlacedBlock) -> PlacedBlock:
        """The vectors of two blocks."""
        return np.concatenate([first, second])

    def contiguous(self, block: PlacedBlock) -> PlacedBlock:
        """The block, row by row in memory."""
        return np.ascontiguousarray(block)

    def factored(self, block: PlacedBlock) -> tuple[PlacedBlock, FloatArray]:
        """Orthonormal columns (d, b) of the span of b vectors, and the triangle (b, b) that they come from."""
        basis, triangle = np.linalg.qr(block.T)
        return basis, triangle

    def scaled_to_unit(self, block: PlacedBlock) -> tuple[PlacedBlock, int]:
        """The block divided by a power of two so that its largest magnitude is about 1, and the exponent."""
        return scale_to_unit(block)

    def times_power(self, block: PlacedBlock, exponent: int) -> PlacedBlock:
        """The block times ``2.0**exponent``."""
        return np.ldexp(block, exponent)

    def norms(self, block: PlacedBlock) -> FloatArray:
        """Length of each vector."""
        lengths: FloatArray = np.linalg.norm(block, axis=1)
        return lengths

    def largest(self, block: PlacedBlock) -> float:
        """The largest magnitude; 0 where there is none."""
        return float(np.abs(block).max(initial=0.0))

    def norm(self, block: PlacedBlock) -> float:
        """Root of the sum of all squares."""
        return float(np.linalg.norm(block))
