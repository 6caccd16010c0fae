"""Leading eigenpairs of a symmetric matrix from its products with a few vectors, each with what it is off by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import one_blas_thread
from nrc_fast.base.linalg import EPSILON, fix_signs, long_norm
from nrc_fast.base.vector_blocks import PlacedBlock, VectorBlocks

__all__ = ["EXTRA_VECTORS", "LEAST_FEATURES", "BlockKrylov", "LeadingPairs", "is_close", "leading_pairs", "start_block"]

# Vectors in a block beyond the pairs that are wanted: they make those converge, and the pair after the last known.
EXTRA_VECTORS = 7
# Features for each vector of a block from which on leading pairs cost less than a whole decomposition.
LEAST_FEATURES = 12
# Share of a start that is spread over all directions: a direction that no row of the sample has is found all the same.
SPREAD = 2.0**-10
# A direction that is left of an image below this many roundings of it is rounding itself.
LEAST_NEW = 64.0
# Roundings of the largest eigenvalue that no product can be told from.
ROUNDINGS = 32.0
# Beyond this share of all dimensions a whole decomposition costs less.
MOST_DIMENSIONS = 0.25
# Rows of a matrix that a start is made of.
STARTING_ROWS = 64

HOST_BLOCKS = VectorBlocks()


@dataclass(frozen=True, eq=False)
class LeadingPairs:
    """Approximate leading eigenpairs of a positive semidefinite matrix C of d x d, or all of them.

    Attributes
    ----------
    values : (m,) float64 array
        Descending.
    vectors : (m, d) float64 array
        Orthonormal rows; of all pairs of a matrix on a device, only those that were asked for.
    distances : (m,) float64 array
        ``|C v - theta v|`` of each pair; no eigenvalue is farther away from theta (Weyl).
    trace : float
        Of C.
    """

    values: FloatArray
    vectors: FloatArray
    distances: FloatArray
    trace: float

    @property
    def d(self) -> int:
        """Size of the matrix."""
        return int(self.vectors.shape[1])

    @property
    def is_whole(self) -> bool:
        """Whether these are all the pairs that there are."""
        return len(self.values) == self.d

    def part(self, k: int) -> LeadingPairs:
        """The leading k of these pairs."""
        return LeadingPairs(self.values[:k], self.vectors[:k], self.distances[:k], self.trace)

    def scaled(self, exponent: int) -> LeadingPairs:
        """The pairs of the matrix times ``2.0**exponent``."""
        values, distances = np.ldexp(self.values, exponent), np.ldexp(self.distances, exponent)
        return LeadingPairs(values, self.vectors, distances, math.ldexp(self.trace, exponent))

    def distance(self, k: int) -> float:
        """Norm of a change of C that would make the span of the leading k vectors invariant, at most."""
        return long_norm(self.distances[:k])

    def outside(self, k: int) -> float:
        """Sum of all eigenvalues but the leading k, at most: what these k take of the trace they have for certain."""
        return max(self.trace - float(self.values[:k].sum()), 0.0)

    def next_value(self, k: int) -> float:
        """The largest eigenvalue but the leading k, at most.

        What is left of the trace bounds it for certain; the next pair and its distance, where they are less, only if
        no leading direction was missed, which is very probable from a start that has all of them.
        """
        if self.is_whole:
            return float(self.values[k]) if k < self.d else 0.0
        left = self.outside(k) + math.sqrt(self.d) * EPSILON * self.trace
        return min(float(self.values[k]) + float(self.distances[k]), left) if k < len(self.values) else left


class BlockKrylov:
    """Rayleigh-Ritz on the span of ``Q, Q C, Q C^2, ...`` for a symmetric matrix C that is known by its products only.

    All blocks and their images are kept, and each block is orthogonal to all before. After q products an eigenvector
    with a gap is known to about ``exp(-4 q sqrt(gap))`` of its angle, where one that is wanted is told from those
    beyond the whole block by its relative gap.

    Parameters
    ----------
    start : (b, d) float64 array
        Rows that span the first block.
    blocks : VectorBlocks
        In whose memory they lie, as the images do. What crosses to the host is no more than the products of vectors
        with one another, and the pairs that are found.

    Attributes
    ----------
    block : (b, d) float64 array
        Orthonormal rows whose products with C are wanted next; fewer than before where the span of some is exhausted,
        none where all is.

    References
    ----------
    Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
    decomposition", NeurIPS 2015; Saad, "Numerical methods for large eigenvalue problems", chapter 6.

    Examples
    --------
    >>> C = np.diag([4.0, 1.0, 0.0])
    >>> krylov = BlockKrylov(np.array([[1.0, 1.0, 1.0]]))
    >>> while len(krylov.block):
    ...     krylov.add(krylov.block @ C)
    >>> krylov.pairs(2, trace=5.0).values.round(12).tolist()
    [4.0, 1.0]
    """

    def __init__(self, start: PlacedBlock, blocks: VectorBlocks = HOST_BLOCKS) -> None:
        self._blocks = blocks
        self.block = self._orthonormal_rows(start, LEAST_NEW * EPSILON * blocks.largest(start))
        self._basis: PlacedBlock = start[:0]
        self._images: PlacedBlock = self._basis
        self._projected: FloatArray = np.empty((0, 0))
        self._exponent: int | None = None  # of the power of two that images are divided by, so that they can be squared

    @property
    def dimensions(self) -> int:
        """Vectors whose products are known."""
        return len(self._basis)

    def add(self, image: PlacedBlock) -> None:
        """Take over ``block @ C``, and choose the next block."""
        blocks = self._blocks
        if self._exponent is None:
            self._exponent = blocks.scaled_to_unit(image)[1]
        image = blocks.times_power(image, -self._exponent)
        before, own = blocks.fetch(self._basis @ image.T), blocks.fetch(self.block @ image.T)
        self._projected = np.block([[self._projected, before], [before.T, 0.5 * (own + own.T)]])
        self._basis = blocks.joined(self._basis, self.block)
        self._images = blocks.joined(self._images, image)
        size = float(blocks.norms(image).max(initial=0.0))
        block = self._orthonormal_rows(self._without_basis(image), LEAST_NEW * EPSILON * size)
        # What is left of an image may be small beside it, and its rounding not orthogonal to the basis.
        self.block = self._orthonormal_rows(self._without_basis(block), 0.5)

    def _without_basis(self, rows: PlacedBlock) -> PlacedBlock:
        for _ in range(2):
            rows = rows - (rows @ self._basis.T) @ self._basis
        return rows

    def _orthonormal_rows(self, rows: PlacedBlock, floor: float) -> PlacedBlock:
        """Orthonormal rows of the same span, but for directions with a singular value up to `floor`."""
        basis, triangle = self._blocks.factored(rows)
        turns, values, _ = np.linalg.svd(triangle)
        return self._blocks.contiguous((basis @ self._blocks.place(turns[:, values > floor])).T)

    def pairs(self, count: int, *, trace: float) -> LeadingPairs:
        """The leading pairs that the span has, at most `count` of them, on the host."""
        blocks = self._blocks
        values, coordinates = np.linalg.eigh(self._projected)
        count = min(count, len(values))
        values, coordinates = values[::-1][:count].copy(), coordinates[:, ::-1][:, :count].T
        vectors: FloatArray = fix_signs(blocks.fetch(blocks.place(coordinates) @ self._basis).T).T
        placed = blocks.place(vectors)
        placed_coordinates = placed @ self._basis.T  # with the signs that were chosen
        left = placed_coordinates @ self._images - blocks.place(values[:, np.newaxis]) * placed
        exponent = self._exponent or 0
        distances = blocks.norms(left)
        found = LeadingPairs(values, np.ascontiguousarray(vectors), distances, math.ldexp(trace, -exponent))
        return found.scaled(exponent)


def leading_pairs(
    matrix: PlacedBlock, count: int, *, tolerance: float, trace: float, blocks: VectorBlocks = HOST_BLOCKS
) -> LeadingPairs | None:
    """The leading `count` eigenpairs of a matrix that is known, without decomposing it.

    Parameters
    ----------
    matrix : (d, d) float64 array
        Positive semidefinite; both triangles filled.
    count : int
    tolerance : float
        How far each pair may be off, ``|C v - theta v|``; rounding is never asked for more than it can give.
    trace : float
        Of the matrix.
    blocks : VectorBlocks
        In whose memory the matrix lies.

    Returns
    -------
    LeadingPairs or None
        On the host. One more than `count`, where there are more, and that one as far as it was found. None where a
        whole decomposition would cost less.

    Examples
    --------
    >>> C = np.diag(0.5 ** np.arange(400.0))
    >>> pairs = leading_pairs(C, 2, tolerance=1e-12, trace=float(np.trace(C)))
    >>> pairs.values[:2].round(12).tolist()
    [1.0, 0.5]
    """
    d = len(matrix)
    most = int(MOST_DIMENSIONS * d)
    rows = blocks.picked(matrix, np.linspace(0, d - 1, min(STARTING_ROWS, d)).astype(np.intp))
    looked_at = 0
    # More threads gain little where memory is the limit, and wait actively for one another and beside what comes next.
    with one_blas_thread():
        krylov = BlockKrylov(start_block(rows, count + EXTRA_VECTORS, blocks), blocks)
        while len(krylov.block) and krylov.dimensions + len(krylov.block) <= most:
            krylov.add(krylov.block @ matrix)
            # Looking costs as much as some products once there are many dimensions.
            if len(krylov.block) and krylov.dimensions < looked_at + max(1, looked_at // 4):
                continue
            looked_at = krylov.dimensions
            found = krylov.pairs(count + 1, trace=trace)
            if not len(krylov.block) or is_close(found, count, tolerance):
                return found
    return None


def is_close(pairs: LeadingPairs, count: int, tolerance: float) -> bool:
    """Whether the leading `count` pairs are no farther off than the tolerance, or than rounding."""
    if len(pairs.values) < count:
        return False
    return float(pairs.distances[:count].max()) <= max(tolerance, ROUNDINGS * EPSILON * float(pairs.values[0]))


def start_block(rows: PlacedBlock, count: int, blocks: VectorBlocks = HOST_BLOCKS) -> PlacedBlock:
    """Vectors to start from: sums of rows with signs, which have the leading directions, and a little of all others.

    The signs are the same for equal numbers, on every machine.

    Parameters
    ----------
    rows : (p, d) float64 array
        Some rows of the features about their mean, or of the matrix; there may be none.
    count : int
        How many vectors are wanted.
    blocks : VectorBlocks
        In whose memory the rows lie.

    Returns
    -------
    (b, d) float64 array
        ``b = min(count, d)``.

    Examples
    --------
    >>> start_block(np.array([[1.0, 0.0, 0.0]]), 1).round(3).tolist()
    [[-1.001, -0.001, -0.001]]
    """
    d = rows.shape[1]
    count = min(count, d)
    largest = blocks.largest(rows)
    scaled = rows / largest if largest > 0.0 else rows
    size = blocks.norm(scaled)
    spread = blocks.place(SPREAD / math.sqrt(d) * _signs(count, d, seed=1))
    if size > 0.0:
        spread = spread + blocks.place(_signs(count, len(rows), seed=2)) @ (scaled / size)
    return spread


def _signs(rows: int, columns: int, *, seed: int) -> FloatArray:
    """A matrix of 1 and -1 that looks random: SplitMix64 of the place."""
    state = np.arange(rows * columns, dtype=np.uint64) + np.uint64(seed << 40)
    state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    return np.where(state >> np.uint64(63), 1.0, -1.0).reshape(rows, columns)
