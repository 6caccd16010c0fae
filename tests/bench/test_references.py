"""What the benchmarks compare with: features of every kind, and float64 values of them."""

from __future__ import annotations

import numpy as np
import pytest
from support.benches import EPSILON, bench

from nrc_fast import testing


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_references(dtype: str, layout: str) -> None:
    references = bench("references")
    H = bench("features").random_features(bench("cases").Case(9_001, 17, dtype, layout))
    exact = testing.reference_rows(H)
    assert exact.shape == (9_001, 17)
    assert bool(H[0].ndim == 1 and (exact != 0.0).any(axis=1).all())  # rivals divide by the norms
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    centered = exact - exact.mean(axis=0)
    rounding = 64 * EPSILON["float64"]
    for found, expected in (
        (references.gram(H), testing.reference_gram(H)),
        (references.unit_gram(H), unit.T @ unit),
        (references.centered_gram(H), centered.T @ centered),
        (references.column_means(H), exact.mean(axis=0)),
    ):
        assert np.linalg.norm(found - expected) <= rounding * np.linalg.norm(expected)
    for k in (1, 3, 16):
        assert references.nrc1(H, k) == pytest.approx(testing.reference_nrc1(H, k), rel=1e-12)
    basis = np.linalg.qr(np.ones((17, 2)) + np.eye(17, 2))[0].T
    residuals = testing.reference_residuals(H, basis.T, unit=True)
    assert references.unit_residual(H, basis) == pytest.approx(residuals.mean(), rel=rounding)


def test_error_of_a_triangle() -> None:
    error = bench("references").lower_triangle_error
    reference = np.array([[4.0, 2.0], [2.0, 9.0]])
    lower, upper = np.tril(reference), np.triu(reference)
    assert error(lower, reference) == error(upper, reference) == error(reference, reference) == 0.0
    wrong = lower.copy()
    wrong[1, 0] = 3.0
    assert error(wrong, reference) == pytest.approx(1.0 / np.linalg.norm(lower))


# ---- kinds of features ----


def spectrum(H: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, eigenvalues of the covariance from the largest, and eigenvectors as rows."""
    exact = H.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(exact.T, bias=True))
    return exact.mean(axis=0), values[::-1], vectors[:, ::-1].T


def test_collapsed_features_vary_in_three_directions() -> None:
    H = bench("features").random_features(bench("cases").Case(40_000, 50, kind="collapsed"))
    assert H.dtype == np.float32
    mean, values, vectors = spectrum(H)
    sampling = 5.0 * np.sqrt(2.0 / len(H))
    # sqrt(d) in length against 1e-2 in every direction; extreme eigenvalues of 47 of them are further apart.
    np.testing.assert_allclose(values[:3], 50.0, rtol=sampling)
    np.testing.assert_allclose(values[3:], 1e-4, rtol=sampling + 2.0 * np.sqrt(50.0 / len(H)))
    outside = mean - vectors[:3].T @ (vectors[:3] @ mean)
    assert np.linalg.norm(mean) == pytest.approx(0.5 * np.sqrt(50.0), rel=0.05)
    assert 1e-3 < np.linalg.norm(outside) / np.sqrt(50.0) < 2e-2


def test_power_features_have_the_spectrum_and_are_turned() -> None:
    H = bench("features").random_features(bench("cases").Case(40_000, 50, kind="power"))
    mean, values, vectors = spectrum(H)
    expected = np.arange(1.0, 51.0) ** -0.5
    np.testing.assert_allclose(values, expected, rtol=5.0 * np.sqrt(2.0 / len(H)) + 2.0 * np.sqrt(50.0 / len(H)))
    assert np.abs(vectors[:3]).max() < 0.5  # no axis of the features
    assert 0.25 < np.linalg.norm(mean) / np.sqrt(expected.sum()) < 1.0


@pytest.mark.parametrize("kind", ["layer", "collapsed", "power"])
def test_features_are_the_same_in_every_run_and_layout(kind: str) -> None:
    features, Case = bench("features"), bench("cases").Case
    H = features.random_features(Case(301, 17, k=3, kind=kind)).copy()
    assert np.array_equal(features.random_features(Case(301, 17, layout="strided", kind=kind)), H)
    assert np.array_equal(features.random_features(Case(301, 17, "float64", kind=kind)), H.astype(np.float64))
    assert np.array_equal(features.random_features(Case(301, 17, k=5, kind=kind)), H)
    assert np.isfinite(H).all()


def test_one_set_of_features_is_kept() -> None:
    """Two may not fit into memory."""
    features, Case = bench("features"), bench("cases").Case
    first = features.random_features(Case(30, 7, k=2))
    assert features.random_features(Case(30, 7, k=3)) is first
    features.random_features(Case(31, 7))
    assert len(features._drawn) == 1


@pytest.mark.parametrize("kind", ["layer", "collapsed", "power"])
@pytest.mark.parametrize(("d", "k"), [(200, 3), (13, 4), (9, 9)])
def test_leading_components_are_those_of_the_covariance(kind: str, d: int, k: int) -> None:
    references = bench("references")
    H = bench("features").random_features(bench("cases").Case(1_003, d, kind=kind))
    basis = references.leading_components(H, k)
    np.testing.assert_allclose(basis @ basis.T, np.eye(k), atol=64 * EPSILON["float64"])
    expected = references.unit_residual(H, references.principal_components(H, k))
    assert references.unit_residual(H, basis) == pytest.approx(expected, rel=1e-12, abs=1e-14)
