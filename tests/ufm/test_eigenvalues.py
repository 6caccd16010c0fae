"""Eigenvalues beside those in arithmetic of 60 digits, down to 1e-18 of the largest and where they tie."""

from __future__ import annotations

import numpy as np
import pytest
from support.ufm_reference import covariance_with

from nrc_fast.base.double_double import Pair, outer_squares
from nrc_fast.ufm.eigenvalues import MOST_OUTPUTS, spectrum

mp = pytest.importorskip("mpmath")

EPSILON = 2.0**-52


def plain(matrix: np.ndarray) -> Pair:
    return Pair(matrix, np.zeros_like(matrix))


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [1.0, 1e-18],
        [1.0, 1.0, 1e-9, 1e-18],
        [1.0, 1e-6, 1e-12, 1.000001e-12],
        [1.0, 1.0, 1.0],
        [1.0, 1.0 - 1e-15, 0.5, 1e-16, 1e-16],
    ],
)
@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e120])
def test_values_have_their_digits(values: list[float], scale: float) -> None:
    n = len(values)
    rng = np.random.default_rng(n)
    rows = np.linalg.qr(rng.standard_normal((n + 3, n)))[0] * np.sqrt(values)
    rows = rows @ np.linalg.qr(rng.standard_normal((n, n)))[0]
    gram = outer_squares(plain(rows))
    exponent = int(np.frexp(scale)[1])
    matrix = Pair(*(np.ldexp(part, exponent) for part in gram))
    found = spectrum(matrix, np.zeros(n), np.zeros(()))
    with mp.workdps(60):
        exact = mp.matrix(matrix.high.tolist()) + mp.matrix(matrix.low.tolist())
        wanted = sorted(mp.eigsy(exact, eigvals_only=True), reverse=True)
        for value, error, one in zip(found.values, found.errors, wanted, strict=True):
            assert abs(mp.mpf(float(value)) - one) <= mp.mpf(float(error)) * (1 + mp.mpf(10) ** -9)
            assert error <= 1e-10 * value
        # U is (1 + X) U' with orthonormal U', whose entries off the diagonal are bounded.
        vectors = mp.matrix(found.vectors.tolist())
        skew = (vectors.T * vectors - mp.eye(n)) / 2
        image = vectors.T * exact * vectors
        image -= skew * image + image * skew
        for i, j in np.ndindex(n, n):
            assert abs(skew[i, j]) <= mp.mpf(float(found.skew[i, j])) + mp.mpf(10) ** -28
            assert i == j or abs(image[i, j]) <= mp.mpf(float(found.mixing[i, j])) + wanted[0] * mp.mpf(10) ** -28


def test_what_is_less_than_its_noise_is_zero_with_that_error() -> None:
    matrix = np.array([[0.1, 0.3], [0.3, 0.9]])  # singular but for the rounding of its entries
    noise = np.sqrt(2.0 * EPSILON * np.diagonal(matrix))
    found = spectrum(plain(matrix), noise, np.zeros(()))
    assert found.values[1] == 0.0
    assert 0.0 < found.errors[1] < 2.0 * EPSILON
    diagonal = spectrum(plain(np.diag([1.0, 1e-18])), np.sqrt(2.0 * EPSILON * np.array([1.0, 1e-18])), np.zeros(()))
    assert diagonal.values.tolist() == [1.0, 1e-18]  # of units of their own


def test_the_error_of_the_matrix_is_one_of_its_values() -> None:
    found = spectrum(plain(np.diag([2.0, 1.0])), np.zeros(2), np.array(0.25))
    np.testing.assert_allclose(found.errors, 0.25, rtol=1e-12)
    assert found.mixing[0, 1] == pytest.approx(0.25)


def test_a_batch_is_its_matrices() -> None:
    matrices = np.stack([covariance_with([1.0, 0.5, 10.0**-k], k) for k in range(0, 20, 4)]).reshape(5, 1, 3, 3)
    batch = spectrum(plain(matrices), np.zeros((5, 1, 3)), np.zeros((5, 1)))
    assert batch.vectors.shape == (5, 1, 3, 3)
    for i in range(5):
        one = spectrum(plain(matrices[i, 0]), np.zeros(3), np.zeros(()))
        for name in ("values", "vectors", "errors"):
            np.testing.assert_array_equal(getattr(batch, name)[i, 0], getattr(one, name))


def test_many_outputs_have_the_bounds_of_lapack() -> None:
    n = MOST_OUTPUTS + 8
    values = np.linspace(1.0, 0.1, n)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    matrix = (rotation * values) @ rotation.T
    matrix = 0.5 * (matrix + matrix.T)
    found = spectrum(plain(matrix), np.zeros(n), np.zeros(()))
    with mp.workdps(30):
        wanted = sorted(mp.eigsy(mp.matrix(matrix.tolist()), eigvals_only=True), reverse=True)
    errors = np.array([float(abs(mp.mpf(float(a)) - b)) for a, b in zip(found.values, wanted, strict=True)])
    assert (errors <= found.errors).all()
    assert found.errors.max() < 64 * EPSILON


def test_values_that_tie_have_bounds_in_the_order_of_their_last_digits() -> None:
    """What float64 rounds to one number differs beyond it: the larger error is that of the smaller value here."""
    rest = np.diag([-5e-17, 1e-17])
    found = spectrum(Pair(np.eye(2), rest), np.zeros(2), np.zeros(()))
    assert found.values.tolist() == [1.0, 1.0]
    assert found.errors[0] >= 1e-17
    assert 5e-17 <= found.errors[1] < 6e-17
