from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import exact_rotation, mixed_rows

from nrc_fast.base import linalg

EPS = np.finfo(np.float64).eps
SIZES = [1, 2, 3, 5, 16, 33]


def rotation(d: int, seed: int) -> linalg.FloatArray:
    return linalg.orthonormalize(np.random.default_rng(seed).standard_normal((d, d)))


@pytest.mark.parametrize("d", SIZES)
def test_eigh_descending_rebuilds_the_matrix_from_its_lower_triangle(d: int) -> None:
    matrix = np.random.default_rng(d).standard_normal((d, d))
    symmetric = np.tril(matrix) + np.tril(matrix, -1).T
    values, vectors = linalg.eigh_descending(matrix)
    assert np.all(np.diff(values) <= 0)
    # LAPACK's backward error is a modest multiple of d eps |A|; the products add d eps more.
    tolerance = 4 * d * EPS * np.linalg.norm(symmetric, 2)
    np.testing.assert_allclose((vectors * values) @ vectors.T, symmetric, rtol=0, atol=tolerance)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(d), rtol=0, atol=4 * d * EPS)


@pytest.mark.parametrize("d", SIZES)
def test_eigenvectors_have_a_positive_largest_entry_whatever_lapack_chose(d: int) -> None:
    vectors = rotation(d, seed=d)
    _, found = linalg.eigh_descending((vectors * np.arange(d, 0.0, -1.0)) @ vectors.T)
    assert np.all(found[np.argmax(np.abs(found), axis=0), np.arange(d)] > 0)
    signs = np.sign(np.sum(found * vectors, axis=0))
    # Gaps are 1, so an eigenvector moves by no more than the backward error, some d eps |A| = d^2 eps.
    np.testing.assert_allclose(found, vectors * signs, rtol=0, atol=8 * d**2 * EPS)


@pytest.mark.parametrize("noise", [0.0, 1e-15, -1e-15])
def test_tied_entries_are_decided_by_the_first_one(noise: float) -> None:
    # The eigenvectors are (1, 1) and (1, -1) over sqrt(2); noise makes either entry the larger one.
    _, vectors = linalg.eigh_descending(np.array([[2.0 + noise, -1.0], [-1.0, 2.0]]))
    np.testing.assert_allclose(vectors * 2**0.5, [[1.0, 1.0], [-1.0, 1.0]], rtol=0, atol=1e-14)


def test_covariance_spectrum_of_a_singular_covariance_has_an_exact_zero() -> None:
    for seed in range(20):
        # One-hot targets: Sigma = (I - 1/n) / n in a random basis, rank n - 1.
        basis = rotation(5, seed)
        values, _ = linalg.covariance_spectrum((basis * np.array([0.2, 0.2, 0.2, 0.2, 0.0])) @ basis.T)
        assert values[-1] == 0.0
        np.testing.assert_allclose(values[:-1], 0.2, rtol=4 * 5 * EPS)


def test_positive_sqrt_of_2_by_2_is_the_closed_form() -> None:
    a, b, k = 1.3, 0.5, -0.4
    delta = np.sqrt(a * b - k**2)
    expected = np.array([[a + delta, k], [k, b + delta]]) / np.sqrt(a + b + 2 * delta)
    root = linalg.positive_sqrt(np.array([[a, k], [k, b]]))
    # An error dA of A moves its root by dA / (2 sqrt(lambda_min)); the eigenvalues here are 1.466 and 0.334.
    np.testing.assert_allclose(root, expected, rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("n", SIZES)
def test_positive_sqrt_squares_to_the_matrix_and_is_symmetric(n: int) -> None:
    samples = np.random.default_rng(n).standard_normal((3 * n, n))
    covariance = samples.T @ samples
    root = linalg.positive_sqrt(covariance)
    assert np.array_equal(root, root.T)
    assert linalg.eigh_descending(root)[0][-1] > 0
    tolerance = 8 * n * EPS * np.linalg.norm(covariance, 2)
    np.testing.assert_allclose(root @ root, covariance, rtol=0, atol=tolerance)


def test_positive_sqrt_clips_rounding_below_zero() -> None:
    assert linalg.positive_sqrt(np.diag([4.0, -1e-17])).tolist() == [[2.0, 0.0], [0.0, 0.0]]


@given(st.floats(1e-300, 1e300), st.integers(1, 7))
def test_scale_to_unit_is_exact(scale: float, size: int) -> None:
    array = scale * np.arange(1.0, size + 1.0)
    scaled, exponent = linalg.scale_to_unit(array)
    assert 0.5 <= np.abs(scaled).max() < 1.0
    assert np.array_equal(np.ldexp(scaled, exponent), array)


def test_scale_to_unit_leaves_zeros_and_empty_arrays() -> None:
    for array in (np.zeros((2, 3)), np.zeros((0, 3))):
        scaled, exponent = linalg.scale_to_unit(array)
        assert exponent == 0
        assert np.array_equal(scaled, array)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 7), (3, 5), (5, 5), (7, 3)])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_row_space_spans_the_rows_at_any_scale(n: int, d: int, scale: float) -> None:
    weights = scale * np.random.default_rng(n + d).standard_normal((n, d))
    basis = linalg.row_space(weights).basis
    assert basis.shape == (min(n, d), d)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), rtol=0, atol=4 * d * EPS)
    lost = weights - weights @ basis.T @ basis
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=4 * (n + d) * EPS * np.abs(weights).max() * d**0.5)


@pytest.mark.parametrize(
    ("n", "d", "rank"), [(1, 7, 1), (3, 5, 3), (5, 5, 5), (7, 3, 3), (4, 6, 2), (0, 3, 0), (2, 3, 0)]
)
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_row_space_and_inverse_give_the_pseudo_inverse(n: int, d: int, rank: int, scale: float) -> None:
    rng = np.random.default_rng(n + d)
    weights = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))
    basis, inverse = linalg.row_space_and_inverse(scale * weights)
    assert np.array_equal(basis, linalg.row_space(scale * weights).basis)
    assert inverse.shape == (n, rank)
    values = np.linalg.svd(weights, compute_uv=False)[:rank]
    # The pseudo-inverse is as large as 1/sigma_min, and known to eps times the condition of that.
    tolerance = 16 * d * EPS * values[0] / values[-1] ** 2 if rank else 0.0
    np.testing.assert_allclose(basis.T @ (scale * inverse).T, np.linalg.pinv(weights), rtol=0, atol=tolerance)


@pytest.mark.parametrize("d", [4, 16, 64])
@pytest.mark.parametrize("digits", [0, 4, 10, 20, 28])
def test_the_error_of_a_row_space_holds_its_angle_to_the_exact_one(d: int, digits: int) -> None:
    """Weights whose row space is that of the first three rows of the rotation, with a condition of 2^(1.5 digits)."""
    rotation = exact_rotation(d)
    mixed = mixed_rows(digits)
    space = linalg.row_space(mixed @ rotation[:3])
    values = np.linalg.svd(mixed, compute_uv=False)
    np.testing.assert_allclose(space.singular_values, values / values[0], rtol=0, atol=4 * d * EPS)
    sine = np.linalg.norm(space.basis @ rotation[3:].T, 2)
    assert sine <= space.error + d * EPS  # and the rounding of the product itself
    assert space.error <= 16 * EPS * values[0] / values[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_row_space_counts_every_direction_of_the_stored_weights(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((2, 9))
    stored = np.concatenate([rows, rows[:1] / 3 + rows[1:] / 7]).astype(dtype)  # the sum is rounded
    space = linalg.row_space(stored.astype(np.float64))
    assert space.basis.shape == (3, 9)
    assert space.singular_values[-1] < 2 * np.finfo(dtype).eps
    directions = np.linalg.qr(stored.astype(np.float64).T)[0]
    np.testing.assert_allclose(
        space.basis.T @ space.basis, directions @ directions.T, rtol=0, atol=2 * space.error + 8 * 9 * EPS
    )


@pytest.mark.parametrize("scale", [2.0**-1000, 1.0, 2.0**1000])
@pytest.mark.parametrize("shape", [(2, 9), (9, 2)])
def test_row_space_drops_what_is_below_the_larger_dimension_times_epsilon(shape: tuple[int, int], scale: float) -> None:
    for factor, rank in [(8.5, 1), (9.5, 2)]:
        weights = np.zeros(shape)
        weights[0, 0], weights[1, 1] = scale, factor * EPS * scale
        assert linalg.row_space(weights).basis.tolist() == np.eye(shape[1])[:rank].tolist()


def test_row_space_of_zero_weights_is_empty_and_of_all_directions_exact() -> None:
    assert linalg.row_space(np.zeros((3, 5))).basis.shape == (0, 5)
    assert linalg.row_space(np.zeros((3, 5))).error == 0.0
    assert linalg.row_space(np.diag([1.0, 1e-12])).error == 0.0


@pytest.mark.parametrize(("d", "k"), [(1, 1), (5, 1), (5, 5), (33, 7)])
def test_orthonormalize_keeps_leading_spans_and_directions(d: int, k: int) -> None:
    columns = np.random.default_rng(d + k).standard_normal((d, k))
    basis = linalg.orthonormalize(columns)
    np.testing.assert_allclose(basis.T @ basis, np.eye(k), rtol=0, atol=4 * d * EPS)
    triangle = basis.T @ columns
    assert np.all(np.diag(triangle) > 0)
    tolerance = 4 * d * EPS * np.linalg.norm(columns, 2)
    np.testing.assert_allclose(np.tril(triangle, -1), 0.0, rtol=0, atol=tolerance)
    np.testing.assert_allclose(linalg.orthonormalize(basis), basis, rtol=0, atol=4 * d * EPS)
