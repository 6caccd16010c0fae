"""Eigenvalues to a rounding, and another matrix in the eigenbasis, against 50 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nrc_fast.base.double_double import Pair, exactly
from nrc_fast.base.refined_eigenpairs import in_basis, in_eigenbasis, jacobi_rotations, refined_basis

mp = pytest.importorskip("mpmath")
FloatArray = NDArray[np.float64]
EPSILON = 2.0**-52


def symmetric(lower: FloatArray) -> FloatArray:
    return np.tril(lower) + np.tril(lower, -1).T


def exact(matrix: FloatArray, other: FloatArray) -> tuple[list[Any], FloatArray]:
    """Eigenvalues, descending, and sizes of the entries of the other matrix in their basis, whose signs are open."""
    values, vectors = mp.eigsy(mp.matrix(matrix.tolist()))
    order = sorted(range(len(matrix)), key=lambda index: -values[index])
    rotated = vectors.T * mp.matrix(other.tolist()) * vectors
    return [values[i] for i in order], np.array([[abs(rotated[i, j]) for j in order] for i in order])


def whole(pair: Pair) -> list[Any]:
    return [mp.mpf(high) + mp.mpf(low) for high, low in zip(*(part.ravel().tolist() for part in pair), strict=True)]


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1e-9, 1e-14])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_errors_are_within_their_bounds_which_are_far_below_a_rounding(n: int, spread: float) -> None:
    rng = np.random.default_rng([n, int(-np.log10(spread + 1e-30))])
    for scale in (1.0, 1e-150, 1e150):
        eigenvalues = 10.0 ** -np.arange(n) if not spread else 1.0 - spread * np.arange(n)
        turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
        matrix, weights = symmetric(scale * (turn * eigenvalues) @ turn.T), rng.standard_normal((n, n + 1))
        other = symmetric(weights @ weights.T)
        found = in_eigenbasis(exactly(matrix), exactly(other))
        with mp.workdps(50):
            values, sizes = exact(matrix, other)
            off = float(mp.norm([value - one for value, one in zip(values, whole(found.values), strict=True)]))
            sizes = zip(sizes.ravel().tolist(), whole(found.matrix), strict=True)
            apart = float(mp.norm([size - abs(one) for size, one in sizes]))
        assert off <= found.error
        if spread == 0.0 or spread > 1e-8:
            assert found.error <= 1e-9 * EPSILON * np.linalg.norm(found.values.high)
            assert found.matrix_error <= 1e-9 * EPSILON * np.linalg.norm(other)
        # Errors turn the basis, by no more than they are over the gap between eigenvalues.
        gap = min(np.abs(np.diff(eigenvalues)).min(), 1.0) * scale if n > 1 else np.inf
        assert apart <= found.matrix_error + min(2.0 * n * found.error / gap, 2.0) * np.linalg.norm(other)


def test_what_rounding_has_left_of_a_matrix_counts() -> None:
    """Pairs that differ in what float64 does not hold have other eigenvalues, and another basis."""
    matrix, other = np.array([[2.0, 1.0], [1.0, 3.0]]), np.diag([1.0, 2.0])
    rest = 1e-20 * np.array([[1.0, -2.0], [-2.0, 3.0]])
    plain, found = (in_eigenbasis(Pair(matrix, part), exactly(other)) for part in (0.0 * rest, rest))
    with mp.workdps(50):
        moved = mp.matrix(matrix.tolist()) + mp.matrix(rest.tolist())
        exactly_moved = sorted(mp.eigsy(moved)[0], reverse=True)
        off = [abs(value - one) for value, one in zip(exactly_moved, whole(found.values), strict=True)]
        assert max(off) <= found.error < 1e-25
        assert abs(whole(plain.values)[0] - exactly_moved[0]) > 1e-21
        assert abs(whole(plain.matrix)[1] - whole(found.matrix)[1]) > 1e-22


def test_eigenvalues_that_tie_are_not_told_apart() -> None:
    other = np.array([[2.0, 1.0], [1.0, 3.0]])
    found = in_eigenbasis(exactly(np.eye(2)), exactly(other))
    assert found.values.high.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(np.linalg.eigvalsh(found.matrix.high), np.linalg.eigvalsh(other), rtol=4 * EPSILON)


def test_what_lapack_leaves_beside_the_diagonal_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        half = rng.standard_normal((4, 4))
        matrix = symmetric(half @ half.T)
        values, vectors = np.linalg.eigh(matrix)
        plain = vectors.T @ matrix @ vectors
        found = in_eigenbasis(exactly(matrix), exactly(matrix)).matrix.high
        beside, before = (np.abs(one - np.diag(one.diagonal())).max() for one in (found, plain))
        assert beside < 1e-9 * before
        np.testing.assert_allclose(found.diagonal(), values[::-1], rtol=0, atol=8 * EPSILON * values[-1])


@pytest.mark.parametrize("values", [[1.0, 1e-6, 1e-12], [1.0, 0.9, 1e-9, 1e-18], [1.0, 1.0, 0.5]])
def test_a_refined_basis_is_orthonormal_and_diagonal_far_below_a_rounding(values: list[float]) -> None:
    n = len(values)
    turn = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]
    matrix = symmetric((turn * values) @ turn.T)
    vectors = np.linalg.eigh(matrix)[1]
    rough = in_basis([exactly(matrix)], exactly(vectors))[0].matrix.high
    vectors = vectors @ jacobi_rotations(rough[np.newaxis])[0]
    plain = in_basis([exactly(matrix)], exactly(vectors))[0]
    basis = refined_basis(vectors, plain)
    found = in_basis([exactly(matrix)], basis)[0]
    with mp.workdps(50):
        columns = mp.matrix(basis.high.tolist()) + mp.matrix(basis.low.tolist())
        skew = columns.T * columns - mp.eye(n)
        image = columns.T * mp.matrix(matrix.tolist()) * columns
        image -= (skew * image + image * skew) / 2
        assert float(mp.norm(skew)) <= 1e-9 * EPSILON
        for i, j in np.ndindex(n, n):
            entry = mp.mpf(float(found.matrix.high[i, j])) + mp.mpf(float(found.matrix.low[i, j]))
            assert abs(image[i, j] - entry) <= mp.mpf(float(found.errors[i, j]))
    if values[0] > values[1]:
        assert np.linalg.norm(found.matrix.high - np.diag(found.matrix.high.diagonal())) <= 1e-9 * EPSILON


def test_a_batch_of_bases_is_its_matrices() -> None:
    rng = np.random.default_rng(4)
    halves = rng.standard_normal((3, 2, 4, 4))
    matrices = np.stack([symmetric(half @ half.T) / 32.0 for half in halves.reshape(-1, 4, 4)]).reshape(halves.shape)
    vectors = np.linalg.eigh(matrices)[1]
    seen = in_basis([exactly(matrices)], exactly(vectors))[0]
    basis = refined_basis(vectors, seen)
    for i, j in np.ndindex(3, 2):
        one = in_basis([exactly(matrices[i, j])], exactly(vectors[i, j]))[0]
        np.testing.assert_array_equal(seen.matrix.high[i, j], one.matrix.high)
        np.testing.assert_array_equal(basis.high[i, j], refined_basis(vectors[i, j], one).high)
