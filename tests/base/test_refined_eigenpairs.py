"""Eigenvalues to a rounding, and another matrix in the eigenbasis, against 50 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nrc_fast.base.refined_eigenpairs import in_eigenbasis

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


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1e-9, 1e-14])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_errors_are_within_their_bounds_and_these_are_roundings(n: int, spread: float) -> None:
    rng = np.random.default_rng([n, int(-np.log10(spread + 1e-30))])
    for scale in (1.0, 1e-150, 1e150):
        eigenvalues = 10.0 ** -np.arange(n) if not spread else 1.0 - spread * np.arange(n)
        turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
        matrix, weights = symmetric(scale * (turn * eigenvalues) @ turn.T), rng.standard_normal((n, n + 1))
        other = symmetric(weights @ weights.T)
        found = in_eigenbasis(matrix, other)
        with mp.workdps(50):
            values, sizes = exact(matrix, other)
            off = float(mp.norm([value - mp.mpf(float(one)) for value, one in zip(values, found.values, strict=True)]))
            apart = float(mp.norm(list((sizes - np.abs(found.matrix)).ravel())))
        assert off <= found.error
        if spread == 0.0 or spread > 1e-8:
            assert found.error <= 0.51 * EPSILON * np.linalg.norm(found.values)
            assert found.matrix_error <= 0.51 * EPSILON * np.linalg.norm(other)
        # Errors turn the basis, by no more than they are over the gap between eigenvalues.
        gap = min(np.abs(np.diff(eigenvalues)).min(), 1.0) * scale if n > 1 else np.inf
        turned = 2.0 * n * (found.error - 0.5 * EPSILON * np.linalg.norm(found.values)) / gap
        assert apart <= found.matrix_error + min(turned, 2.0) * np.linalg.norm(other)


def test_eigenvalues_that_tie_are_not_told_apart() -> None:
    other = np.array([[2.0, 1.0], [1.0, 3.0]])
    found = in_eigenbasis(np.eye(2), other)
    assert found.values.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(np.linalg.eigvalsh(found.matrix), np.linalg.eigvalsh(other), rtol=4 * EPSILON)


def test_without_lapack_s_error_of_the_basis() -> None:
    """An entry beside the diagonal that LAPACK's vectors leave is seen and taken off: bounds are below its own."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(20):
        half = rng.standard_normal((4, 4))
        matrix = symmetric(half @ half.T)
        values, vectors = np.linalg.eigh(matrix)
        rotated = vectors.T @ matrix @ vectors
        plain = float(np.linalg.norm(rotated - np.diag(values)))
        errors.append(in_eigenbasis(matrix, matrix).error / plain)
        with mp.workdps(50):
            diagonal, _ = exact(matrix, matrix)
        found = in_eigenbasis(matrix, matrix).matrix
        np.testing.assert_allclose(found.diagonal(), np.array(diagonal, dtype=float), rtol=0, atol=plain)
        assert np.abs(found - np.diag(found.diagonal())).max() < 1e-30 * values[-1] + 1e-3 * plain
    assert np.median(errors) < 1.0
