from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nrc_fast.base import linalg
from nrc_fast.metrics.spectra import explained_variance_ratio, stable_rank
from nrc_fast.metrics.targets import (
    cka_bound,
    explicit_error_bound,
    linear_cka,
    prediction_error_from_moments,
    r_squared,
    r_squared_bound,
)

EPS = float(np.finfo(np.float64).eps)


def moments(features: Any, targets: Any) -> tuple[Any, Any, Any]:
    centered, deviations = features - features.mean(axis=0), targets - targets.mean(axis=0)
    rows = len(features)
    return centered.T @ centered / rows, deviations.T @ deviations / rows, centered.T @ deviations / rows


def test_numbers_of_other_packages(peer: Any) -> None:
    features, targets, cross = moments(peer.features, peer.targets)
    spectrum, _ = linalg.eigh_descending(features)
    shares = explained_variance_ratio(spectrum)
    np.testing.assert_allclose(shares[:3], peer.explained_variance_ratio, rtol=1e-12)
    assert 1 - shares[:3].sum() == pytest.approx(peer.numbers["nrc1_variance"], rel=1e-12)
    assert stable_rank(spectrum) == pytest.approx(peer.numbers["stable_rank"], rel=1e-12)
    assert linear_cka(features, targets, cross) == pytest.approx(peer.numbers["cka"], rel=1e-12)


def test_cka_is_that_of_the_kernels(peer: Any) -> None:
    rows = len(peer.features)
    centering = np.eye(rows) - np.full((rows, rows), 1 / rows)
    kernel = centering @ peer.features @ peer.features.T @ centering
    other = centering @ peer.targets @ peer.targets.T @ centering
    expected = np.sum(kernel * other) / (np.linalg.norm(kernel) * np.linalg.norm(other))
    # Sums over 200 rows on both sides: 200 eps each way, relative to a CKA of 0.02 and more.
    assert linear_cka(*moments(peer.features, peer.targets)) == pytest.approx(expected, rel=400 * EPS / expected)


@pytest.mark.parametrize(("h", "y"), [(-500, -500), (-500, 400), (500, 400)])
def test_cka_does_not_see_units(peer: Any, h: int, y: int) -> None:
    features, targets, cross = moments(peer.features, peer.targets)
    scaled = np.ldexp(features, 2 * h), np.ldexp(targets, 2 * y), np.ldexp(cross, h + y)
    assert linear_cka(*scaled) == linear_cka(features, targets, cross)


def test_cka_is_nan_without_variance_and_one_for_a_rotation() -> None:
    basis = linalg.orthonormalize(np.random.default_rng(5).standard_normal((3, 3)))
    covariance = (basis * [1.0, 1.0 / 3.0, 1.0 / 9.0]) @ basis.T
    zero = np.zeros((3, 3))
    assert math.isnan(linear_cka(zero, covariance, zero))
    assert math.isnan(linear_cka(covariance, zero, zero))
    turned = linalg.orthonormalize(np.random.default_rng(6).standard_normal((3, 3))) @ covariance
    rotated = linear_cka(covariance, covariance, turned)
    assert rotated == pytest.approx(1.0, rel=20 * EPS)
    assert rotated <= 1.0


def test_prediction_error_is_that_of_the_rows(peer: Any) -> None:
    bias = np.array([0.3, -0.2, 0.1])
    explicit = np.mean(np.sum((peer.features @ peer.weights.T + bias - peer.targets) ** 2, axis=1))
    error = prediction_error_from_moments(
        peer.weights,
        bias,
        peer.features.mean(axis=0),
        peer.targets.mean(axis=0),
        *moments(peer.features, peer.targets),
    )
    assert error == pytest.approx(explicit, rel=200 * EPS)  # sums over 200 rows; nothing cancels here


def test_prediction_error_of_a_perfect_head_is_rounding_and_not_negative() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        features, weights, bias = rng.standard_normal((50, 6)), rng.standard_normal((3, 6)), np.ones(3)
        targets = features @ weights.T + bias
        error = prediction_error_from_moments(
            weights, bias, features.mean(axis=0), targets.mean(axis=0), *moments(features, targets)
        )
        assert 0.0 <= error < 50 * EPS * 2 * np.trace(moments(targets, targets)[0])


def test_r_squared() -> None:
    covariance = np.array([[3.0, 9.0], [9.0, 1.0]])  # only the diagonal counts
    assert r_squared(0.0, covariance) == 1.0
    assert r_squared(1.0, covariance) == 0.75
    assert r_squared(8.0, covariance) == -1.0
    assert math.isnan(r_squared(0.0, np.zeros((2, 2))))


@pytest.mark.parametrize("share", [1e-18, 1e-6, 0.3, 40.0])
def test_r_squared_is_off_by_its_own_roundings_too(share: float) -> None:
    exact = 1 - Fraction(share)
    found = r_squared(share, np.eye(1))
    assert abs(Fraction(found) - exact) <= Fraction(r_squared_bound(share, 1.0, mse_bound=0.0, variance_error=0.0))
    # The variance is larger, or smaller, by a thousandth.
    bound = r_squared_bound(share, 1.0, mse_bound=0.0, variance_error=1e-3)
    for variance in (Fraction(999, 1000), Fraction(1001, 1000)):
        assert abs(Fraction(found) - (1 - Fraction(share) / variance)) <= Fraction(bound)
    assert bound <= 1.1e-3 * share + 1e-15 * (1.0 + share)


def test_r_squared_of_an_unknown_variance_is_unknown() -> None:
    assert r_squared_bound(0.1, 1.0, mse_bound=0.0, variance_error=1.0) == math.inf
    assert math.isnan(r_squared_bound(0.1, 0.0, mse_bound=0.0, variance_error=0.0))


def test_the_sum_of_equal_errors_rounds_one_way() -> None:
    """In each of eight lanes, of which a segment has at most 191 rows."""
    value = 0.1 + 1e-3
    lane = 0.0
    for _ in range(24):
        lane += value
    total = 0.0
    for _ in range(8):
        total += lane
    error = abs(Fraction(total) / (24 * 8) - Fraction(value))
    assert 0 < error <= Fraction(explicit_error_bound(value, 0.0, d=1, chunks=1))


@pytest.mark.parametrize("off", [1e-9, 0.1, 0.4, 0.9])
def test_the_bound_of_cka_counts_errors_as_large_as_what_they_belong_to(off: float) -> None:
    """A norm that is smaller by its error divides by less: more than the first order says."""
    value, norms = 0.09, (1.0, 1.0, 0.3)
    bound = cka_bound(value, norms, (off, 0.0, 0.0))
    assert abs(value / (1.0 - off) - value) <= bound
    half = 0.5 * off
    assert abs((0.3 + half) ** 2 / (1.0 - half) - value) <= cka_bound(value, norms, (half, 0.0, half))
    assert bound <= value * off / (1.0 - off) + 16 * EPS
    assert cka_bound(value, norms, (0.7, 0.4, 0.0)) == 1.0


@pytest.mark.parametrize("exponent", [-900, 900])
def test_the_bound_of_cka_has_no_scale(exponent: int) -> None:
    norms, errors = (2.0, 3.0, 1.5), (1e-6, 1e-7, 1e-8)
    powers = 2.0**exponent, 2.0 ** (-exponent // 2), 2.0 ** (exponent // 4)
    scaled = [(parts[0] * powers[0], parts[1] * powers[1], parts[2] * powers[2]) for parts in (norms, errors)]
    assert cka_bound(0.375, *scaled) == pytest.approx(cka_bound(0.375, norms, errors), rel=1e-12, abs=0)
