"""Eigenpairs and row spaces of small matrices of pairs, to about 30 digits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from support.double_double import Pairs, stacked

SWEEPS = 8


def eigenpairs(matrix: Pairs) -> tuple[Pairs, Pairs]:
    """Eigenvalues, descending, and eigenvectors as rows: LAPACK's, mended by Jacobi rotations."""
    exponent = int(np.frexp(np.abs(matrix.high).max())[1])
    scaled, size = matrix.times_power(-exponent), matrix.shape[0]
    vectors = _orthonormal(Pairs(np.linalg.eigh(scaled.high)[1].T[::-1].copy()))
    rotated = vectors @ scaled @ vectors.T
    state = [rotated, vectors]
    for _ in range(SWEEPS):
        off = rotated.high - np.diag(np.diagonal(rotated.high))
        if (np.abs(off) <= _rounding(rotated)).all():
            break
        state = _sweep(*state, size)
        rotated = state[0]
    values = Pairs(np.diagonal(rotated.high).copy(), np.diagonal(rotated.low).copy())
    order = np.lexsort((values.low, values.high))[::-1]
    return values[order].times_power(exponent), _orthonormal(state[1][order])


def _rounding(rotated: Pairs) -> NDArray[np.float64]:
    """Entries beside the diagonal that are as good as 0."""
    diagonal = np.abs(np.diagonal(rotated.high))
    rounding: NDArray[np.float64] = np.sqrt(np.outer(diagonal, diagonal)) * 1e-28 + diagonal.max() * 1e-32
    return rounding


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
    # Rotations by what is rounding would mix it with what is not.
    both = rotated[first, second].high * (np.abs(rotated.high) > _rounding(rotated))[first, second]
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
