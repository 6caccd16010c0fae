"""Matrices of pairs of float64 numbers, about 31 digits: sums, products and eigenpairs, in plain numpy.

Each operation is an error-free transformation of its leading parts (Knuth's sum, Dekker's product, Ozaki's split of
matrices into slices whose products BLAS adds without rounding), with a rounding of about 2^-104 for what is left.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

DIGITS = 60  # of the decimals that scalars become
SPLITTER = 2.0**27 + 1.0
SWEEPS = 8


def _two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    product = a * b
    scaled_a, scaled_b = SPLITTER * a, SPLITTER * b
    high_a, high_b = scaled_a - (scaled_a - a), scaled_b - (scaled_b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


class Pairs:
    """An array of unevaluated sums high + low."""

    def __init__(self, high: Any, low: Any = None) -> None:
        self.high: FloatArray = np.asarray(high, dtype=np.float64)
        self.low: FloatArray = np.zeros_like(self.high) if low is None else np.asarray(low, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.high.shape

    @property
    def T(self) -> Pairs:
        return Pairs(self.high.T, self.low.T)

    def __getitem__(self, key: Any) -> Pairs:
        return Pairs(self.high[key], self.low[key])

    def __neg__(self) -> Pairs:
        return Pairs(-self.high, -self.low)

    def __add__(self, other: Pairs) -> Pairs:
        high, error = _two_sum(self.high, other.high)
        low, rest = _two_sum(self.low, other.low)
        high, error = _two_sum(high, error + low)
        return Pairs(*_two_sum(high, error + rest))

    def __sub__(self, other: Pairs) -> Pairs:
        return self + (-other)

    def __mul__(self, other: Pairs) -> Pairs:
        high, error = _two_product(self.high, other.high)
        return Pairs(*_two_sum(high, error + (self.high * other.low + self.low * other.high)))

    def __truediv__(self, other: Pairs) -> Pairs:
        first = self.high / other.high
        rest = self - other * Pairs(first)
        second = rest.high / other.high
        rest = rest - other * Pairs(second)
        return Pairs(*_two_sum(first, second)) + Pairs(rest.high / other.high)

    def __matmul__(self, other: Pairs) -> Pairs:
        return product(self, other)

    def root(self) -> Pairs:
        """Square roots, 0 for 0."""
        guess = np.sqrt(self.high)
        safe = Pairs(np.where(guess > 0.0, guess, 1.0))
        found = safe + (self - safe * safe) / (safe + safe)
        return Pairs(np.where(guess > 0.0, found.high, 0.0), np.where(guess > 0.0, found.low, 0.0))

    def sum(self, axis: int) -> Pairs:
        """Sums along an axis, by halves."""
        high, low = np.moveaxis(self.high, axis, 0), np.moveaxis(self.low, axis, 0)
        part = Pairs(high, low)
        while part.shape[0] > 1:
            half = part.shape[0] // 2
            rest = part[2 * half :]
            part = part[:half] + part[half : 2 * half]
            if rest.shape[0]:
                part = Pairs(np.concatenate([part.high, rest.high]), np.concatenate([part.low, rest.low]))
        return part[0]

    def times_power(self, exponent: int) -> Pairs:
        return Pairs(np.ldexp(self.high, exponent), np.ldexp(self.low, exponent))

    def decimals(self) -> list[Decimal]:
        """The elements, exactly."""
        with localcontext() as context:
            context.prec = DIGITS
            return [
                Decimal(high) + Decimal(low)
                for high, low in zip(self.high.ravel().tolist(), self.low.ravel().tolist(), strict=True)
            ]


def stacked(rows: list[Pairs]) -> Pairs:
    return Pairs(np.stack([row.high for row in rows]), np.stack([row.low for row in rows]))


def product(a: Pairs, b: Pairs) -> Pairs:
    """Matrix product of (m, p) and (p, n)."""
    total = Pairs(a.high @ b.low + a.low @ b.high)
    bits = (53 - math.ceil(math.log2(max(a.shape[1], 2)))) // 2
    left, right = _slices(a.high, bits, axis=1), _slices(b.high, bits, axis=0)
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            if (i + j) * bits < 2 * 53 + 6:
                total = total + Pairs(one @ other)
    return total


def _slices(matrix: FloatArray, bits: int, *, axis: int) -> list[FloatArray]:
    """Matrices of `bits` significant bits that add up to one, aligned along an axis."""
    rest, found = matrix.copy(), []
    while rest.any():
        peak = np.abs(rest).max(axis=axis, keepdims=True)
        _, exponent = np.frexp(peak)
        grid = np.ldexp(0.75, exponent + 53 - bits + 1)
        head = (rest + grid) - grid
        rest = rest - head
        found.append(head)
    return found


def eigenpairs(matrix: Pairs) -> tuple[Pairs, Pairs]:
    """Eigenvalues, descending, and eigenvectors as rows: LAPACK's, mended by Jacobi rotations."""
    exponent = int(np.frexp(np.abs(matrix.high).max())[1])
    scaled, size = matrix.times_power(-exponent), matrix.shape[0]
    vectors = _orthonormal(Pairs(np.linalg.eigh(scaled.high)[1].T[::-1].copy()))
    rotated = vectors @ scaled @ vectors.T
    state = [rotated, vectors]
    for _ in range(SWEEPS):
        off = rotated.high - np.diag(np.diagonal(rotated.high))
        diagonal = np.abs(np.diagonal(rotated.high))
        scale = np.sqrt(np.outer(diagonal, diagonal)) * 1e-28 + diagonal.max() * 1e-32
        if (np.abs(off) <= scale).all():
            break
        state = _sweep(*state, size)
        rotated = state[0]
    values = Pairs(np.diagonal(rotated.high).copy(), np.diagonal(rotated.low).copy())
    order = np.lexsort((values.low, values.high))[::-1]
    return values[order].times_power(exponent), _orthonormal(state[1][order])


def _sweep(rotated: Pairs, vectors: Pairs, size: int) -> list[Pairs]:
    """One rotation of every pair, half of the rows at a time (round robin)."""
    players = list(range(size + size % 2))
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = [
            (min(p, q), max(p, q))
            for p, q in zip(players[:half], players[: half - 1 : -1], strict=True)
            if max(p, q) < size
        ]
        players = [players[0], players[-1], *players[1:-1]]
        first, second = np.array([p for p, _ in pairs]), np.array([q for _, q in pairs])
        cosine, sine = _rotations(rotated, first, second)
        for axis in (0, 1):
            rotated = _turned(rotated if axis == 0 else rotated.T, first, second, (cosine, sine))
        vectors = _turned(vectors, first, second, (cosine, sine))
    return [rotated, vectors]


def _rotations(rotated: Pairs, first: NDArray[np.intp], second: NDArray[np.intp]) -> tuple[Pairs, Pairs]:
    apart = (rotated[second, second] - rotated[first, first]).high
    both = rotated[first, second].high
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        tau = apart / (2.0 * both)
        tangent = np.where(tau < 0.0, -1.0, 1.0) / (np.abs(tau) + np.sqrt(1.0 + tau * tau))
    tangent = np.where(both == 0.0, 0.0, np.nan_to_num(tangent))
    one = Pairs(np.ones(len(first)))
    cosine = one / (one + Pairs(tangent) * Pairs(tangent)).root()
    return cosine[:, np.newaxis], (cosine * Pairs(tangent))[:, np.newaxis]


def _turned(matrix: Pairs, first: NDArray[np.intp], second: NDArray[np.intp], rotations: tuple[Pairs, Pairs]) -> Pairs:
    cosine, sine = rotations
    upper = cosine * matrix[first] - sine * matrix[second]
    lower = sine * matrix[first] + cosine * matrix[second]
    high, low = matrix.high.copy(), matrix.low.copy()
    high[first], low[first], high[second], low[second] = upper.high, upper.low, lower.high, lower.low
    return Pairs(high, low)


def _orthonormal(rows: Pairs) -> Pairs:
    """Nearly orthonormal rows made so, by Newton's iteration."""
    for _ in range(2):
        error = Pairs(np.eye(rows.shape[0])) - rows @ rows.T
        step = error @ rows
        rows = rows + Pairs(0.5 * step.high, 0.5 * step.low)
    return rows


def row_space(matrix: Pairs) -> Pairs:
    """Orthonormal rows that span those of a matrix of full rank, by Gram and Schmidt, twice."""
    found: list[Pairs] = []
    for index in range(matrix.shape[0]):
        row = matrix[index]
        for _ in range(3):
            for other in found:
                row = row - other * (row * other).sum(0)
        found.append(row / (row * row).sum(0).root())
    return stacked(found)
