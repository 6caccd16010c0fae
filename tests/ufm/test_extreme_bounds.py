"""Bounds of minima where float64 ends: targets that few roundings tell apart, and scales whose products leave it."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from nrc_fast import ufm
from nrc_fast.base.double_double import Pair, exactly
from nrc_fast.ufm.bounds import Ends, apart
from nrc_fast.ufm.correlated_features import CorrelatedFeatures
from nrc_fast.ufm.eigenvalues import spectrum
from nrc_fast.ufm.spectral import shrink
from nrc_fast.ufm.targets import TargetMoments, target_moments

EPSILON = 2.0**-52


def exact_variance(targets: np.ndarray) -> Fraction:
    values = [Fraction(value) for value in targets.ravel().tolist()]
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


@pytest.mark.parametrize("steps", [3, 1000, 10**6])
def test_targets_that_few_roundings_of_their_mean_tell_apart(steps: int) -> None:
    """The mean in float64 is off by a share of what they vary by, whose square counts with all its digits."""
    rng = np.random.default_rng(steps)
    for _ in range(20):
        targets = 1.0 + EPSILON * rng.integers(0, steps + 1, (7, 1))
        exact, moments = exact_variance(targets), target_moments(targets)
        assert moments.covariance_rest is not None
        found = Fraction(moments.covariance.item()) + Fraction(moments.covariance_rest.item())
        assert abs(found - exact) <= Fraction(moments.covariance_error)
        seen = ufm.predict(targets, c=float(exact) / 2.0)
        for name, wanted in (("eigenvalues", exact), ("variance", exact), ("mse_floor", Fraction(float(exact) / 2.0))):
            value, bound = np.ravel(getattr(seen, name))[0], np.ravel(seen.bounds[name])[0]
            assert abs(Fraction(float(value)) - wanted) <= Fraction(float(bound)), name


def test_an_eigenvalue_that_counts_as_zero_is_within_its_error() -> None:
    """The value and its own error, which is far below a rounding of it, add up to no less than both."""
    found = spectrum(exactly(np.array([[0.3]])), np.ones(1), np.array(1e-30))
    assert found.values.item() == 0.0
    assert Fraction(found.errors.item()) >= Fraction(0.3) + Fraction(1e-30)
    rest = spectrum(Pair(np.array([[0.3]]), np.array([[1e-18]])), np.ones(1), np.zeros(()))
    assert Fraction(rest.errors.item()) >= Fraction(0.3) + Fraction(1e-18)


def test_ends_are_rounded_as_numbers_are() -> None:
    """Beside a number that is 0 the distance is that of an end, which is itself off by so many roundings."""
    zero, ends = np.array(0.0), Ends(np.array(0.0), np.array(1.0))
    assert apart(zero, ends, 3.0) >= 1.0 + 3.0 * EPSILON
    assert apart(np.array(np.inf), Ends(np.array(1.0), np.array(np.inf)), 0.0) == np.inf


@pytest.mark.parametrize("covariance", [np.diag([4e250, 1e250]), np.array([[4e250, 1e250], [1e250, 1e250]])], ids=len)
@pytest.mark.parametrize("lambda_b", [0.0, 1.0])
def test_norms_beyond_float64(covariance: np.ndarray, lambda_b: float) -> None:
    """They are infinite and so are their bounds; shapes, which have no scale, keep their digits."""
    wide, narrow, plain = (
        ufm.minimum(covariance=sigma, lambda_W=W, lambda_H=1.0 / W, lambda_b=lambda_b)
        for sigma, W in ((covariance, 1e-250), (covariance, 1e250), (covariance / 1e250, 1.0))
    )
    assert wide.weight_norm_squared == wide.bounds["weight_norm_squared"] == np.inf
    assert narrow.feature_norm_squared == narrow.bounds["feature_norm_squared"] == np.inf
    assert np.isinf(np.diagonal(wide.gram)).all()
    assert wide.bounds["gram"] == np.inf
    for name in ("cosines", "head_gram_shape"):
        limit = ufm.minimum(covariance=covariance / 1e250, lambda_W=1e-125, lambda_H=1e-125, lambda_b=lambda_b)
        np.testing.assert_allclose(getattr(wide, name), getattr(limit, name), atol=1e-12)
        assert np.max(wide.bounds[name]) < 1e-12
    assert plain.rank == 1


@pytest.mark.parametrize("exponent", [-400, 400])
@pytest.mark.parametrize("length", [0.0, 2.0])
def test_a_penalised_bias_at_any_scale(exponent: int, length: float) -> None:
    """Targets 2^k times as large, penalties 4^k times: shares and bounds are the same, though squares underflow."""
    covariance, mean = np.diag([3.0, 1.0, 0.5]), np.array([length, 0.0, 0.0])
    one = ufm.minimum(covariance=covariance, mean=mean, lambda_W=1.0, lambda_H=0.25, lambda_b=0.2)
    far = ufm.minimum(
        covariance=np.ldexp(covariance, 2 * exponent),
        mean=np.ldexp(mean, exponent),
        lambda_W=1.0,
        lambda_H=math.ldexp(0.25, 2 * exponent),
        lambda_b=0.2,
    )
    for name in ("explained_variance_ratio", "cka", "r2", "cosines"):
        np.testing.assert_array_equal(getattr(far, name), getattr(one, name))
        np.testing.assert_allclose(far.bounds[name], one.bounds[name], rtol=1e-9)
    assert far.mse == math.ldexp(one.mse, 2 * exponent)


def test_an_eigenvalue_that_more_digits_find_below_zero() -> None:
    """It counts as 0, with an error of what it was taken for."""
    moments, penalties = TargetMoments(np.diag([1.0, -1e-20]), np.array([1.0, 0.0])), (np.array(1e-40), np.array(1e-20))
    shrinkage = shrink(moments, *penalties, None)
    assert shrinkage.spectrum is not None
    rough = replace(shrinkage.spectrum, values=np.array([2.0, 1e-30]))
    found = CorrelatedFeatures(
        moments, replace(shrinkage, values=rough.values, spectrum=rough), exactly(penalties[1]), None
    )
    np.testing.assert_array_equal(found.shares, [1.0, 0.0])
    assert abs(found.cka - 1.0) <= found.cka_error


def test_a_covariance_that_rounding_made_indefinite() -> None:
    """What lies below 0 is left out of the features' variance, and bounds hold the shares with it."""
    covariance, mean = np.diag([1.0, -1e-17]), np.array([0.0, 1e-6])
    found = ufm.minimum(covariance=covariance, mean=mean, lambda_W=1e-10, lambda_H=1e-10, bias=False)
    assert found.rank == 2
    factors = [(1.0 - 1e-10), (math.sqrt(1e-12 - 1e-17) - 1e-10) / (1e-12 - 1e-17)]
    parts = [factors[0], -1e-17 * factors[1]]
    for value, part, bound in zip(
        found.explained_variance_ratio, parts, found.bounds["explained_variance_ratio"], strict=True
    ):
        assert abs(value - part / sum(parts)) <= bound
    assert found.bounds["explained_variance_ratio"][0] < 1e-10


def test_the_product_of_deep_penalties_beyond_float64_has_an_infinite_bound() -> None:
    found = ufm.deep(covariance=np.diag([4.0, 1.0]), lambda_W=[1e200, 1e200], lambda_H=1e200)
    assert found.penalty_product == found.bounds["penalty_product"] == np.inf


@pytest.mark.parametrize("decay", [1e-158, 1e-170])
@pytest.mark.parametrize("scale", [1.0, 1e100])
def test_squared_errors_below_float64(decay: float, scale: float) -> None:
    """Of a share of 1e-165 that is lost the square vanishes, which times the variance need not."""
    covariance = scale * np.array([[1.0, 0.5], [0.5, 1.0]])
    found = ufm.predict(covariance=covariance, weight_decay=decay, layers=2)
    # Of two layers what is lost of a direction with the variance v is decay/v of it with this loss and n = 2.
    exact = {"mse_floor": 2 * Fraction(decay) ** 2, "single_task_floor": 2 * Fraction(decay) ** 2}
    exact["standardized_floor"] = exact["mse_floor"] * Fraction(scale)
    exact["whitened_floor"] = exact["mse_floor"] * Fraction(scale)
    for name, wanted in exact.items():
        assert abs(Fraction(getattr(found, name)) - wanted) <= Fraction(found.bounds[name]), name
