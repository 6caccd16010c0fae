"""Every number of `ufm.minimum`, `predict` and `deep` is within its bound of the number to 60 digits, and not far."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ufm_reference import covariance_with, targets_with

from nrc_fast import FeatureStatistics, ufm

mp = pytest.importorskip("mpmath")

from support.exact_ufm import (  # noqa: E402 - mpmath may be missing
    DIGITS,
    Comparison,
    Problem,
    exact_deep,
    exact_deep_floor,
    exact_deep_numbers,
    exact_error_floor,
    exact_minimum,
    exact_threshold,
    exactly,
)

EPSILON = 2.0**-52
MOST = 100.0  # times the error that a bound is in the median


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with mp.workdps(DIGITS):
        yield


def threshold(rng: np.random.Generator, values: list[Any], which: int) -> float:
    """A c at, near, below or above an eigenvalue, or anywhere."""
    one = float(values[int(rng.integers(len(values)))])
    largest = float(values[0])
    candidates = (
        one,
        one * (1.0 + 1e-9 * rng.uniform(-1.0, 1.0)),
        3.0 * float(values[-1]),
        1.5 * largest,
        largest * 10.0 ** rng.uniform(-25.0, 1.0),
    )
    return candidates[which % 5] or 1e-30 * largest


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_minimum_within_its_bounds(bias: bool, has_room: bool) -> None:
    """With as many features as outputs and more, and with fewer, which hold the leading directions."""
    rng, compared = np.random.default_rng(17), Comparison()
    for index in range(28):
        problem = Problem(rng, index)
        c = threshold(rng, problem.spectrum(about_mean=bias)[0], index)
        lambda_W = 10.0 ** rng.uniform(-20, 20)
        d = None if has_room else max(1, problem.n - 1 - index % 3)
        found = ufm.minimum(**problem.given, lambda_W=lambda_W, lambda_H=c / lambda_W, bias=bias, d=d)
        compared.add(f"{index}", found, exact_minimum(problem, lambda_W, c / lambda_W, bias=bias, d=d))
    assert not compared.violations
    medians = compared.medians()
    assert max(medians.values()) < MOST, medians
    assert len(medians) > 9


@pytest.mark.parametrize("has_room", [True, False])
def test_error_floor_within_its_bounds(has_room: bool) -> None:
    rng, compared, ties = np.random.default_rng(18), Comparison(), []
    for index in range(28):
        problem = Problem(rng, index)
        problem.given.pop("mean", None)
        values = problem.spectrum(about_mean=True)[0]
        c, d = threshold(rng, values, index), None if has_room else max(1, problem.n - 1 - index % 3)
        if index % 3:
            decay = math.sqrt(c)
            found = ufm.predict(**problem.given, weight_decay=decay, feature_decay=2.0 * decay, loss="torch_mse", d=d)
            product = exactly(decay) * exactly(2.0 * decay) * mp.mpf(problem.n) ** 2 / 4
            exact = exact_error_floor(problem, product, d)
            if has_room:
                exact["critical_weight_decays"] = [exactly(decay) * mp.sqrt(value / product) for value in values]
        else:
            found, exact = ufm.predict(**problem.given, c=c, d=d), exact_error_floor(problem, exactly(c), d)
        if not has_room and math.isnan(found.standardized_floor):
            ties.append(index)  # what is kept of correlations that tie is open
            del exact["standardized_floor"]
        compared.add(f"{index}", found, exact)
    assert not compared.violations
    assert len(ties) < 6
    medians = compared.medians()
    if not has_room:
        # Correlations of outputs tie more often than their covariance, and what is kept of a tie is open.
        del medians["standardized_floor"]
    assert max(medians.values()) < MOST, medians
    assert len(medians) > (7 if has_room else 4)


def test_deep_minimum_within_its_bounds() -> None:
    rng, compared = np.random.default_rng(19), Comparison()
    for index in range(42):
        problem, bias, m = Problem(rng, index), bool(index % 3), int(rng.integers(1, 5))
        values = problem.spectrum(about_mean=bias)[0]
        c = exactly(threshold(rng, values, index))
        product = exact_threshold(c, m) * (mp.mpf(10) ** rng.uniform(-500, 0) if index % 4 == 0 else 1)
        spread = rng.uniform(-20, 20, m + 1)
        logarithm = mp.log10(product) / (m + 1)
        penalties = [float(10 ** (logarithm + exactly(part))) for part in spread - spread.mean()]
        found = ufm.deep(**problem.given, lambda_W=penalties[:-1], lambda_H=penalties[-1], bias=bias)
        compared.add(f"{index}", found, exact_deep(problem, penalties, bias=bias))
    assert not compared.violations
    medians = compared.medians()
    assert max(medians.values()) < MOST, medians
    assert len(medians) > 9


def test_deep_error_floor_within_its_bounds() -> None:
    rng, compared = np.random.default_rng(20), Comparison()
    for index in range(28):
        problem, layers = Problem(rng, index), int(rng.integers(2, 6))
        problem.given.pop("mean", None)
        values = problem.spectrum(about_mean=True)[0]
        product = exact_threshold(exactly(threshold(rng, values, index)), layers - 1)
        decay = float(product ** (mp.mpf(1) / layers))
        found = ufm.predict(**problem.given, weight_decay=decay, layers=layers)
        compared.add(f"{index}", found, exact_deep_floor(problem, exactly(decay), layers))
    assert not compared.violations
    medians = compared.medians()
    # Of outputs in units that are far apart one direction has nearly all of the variance.
    assert medians.pop("standardized_floor") < 1.5 * MOST
    assert max(medians.values()) < MOST, medians
    assert len(medians) > 7


@pytest.mark.parametrize("penalty", [1e-300, 1e-200, 1e-45, 1e-3, 1e100])
@pytest.mark.parametrize("m", [1, 2, 5, 10])
def test_deep_minimum_of_extreme_penalties(m: int, penalty: float) -> None:
    """Products of up to eleven penalties are far beyond float64 long before losses and Grams are."""
    for values in ([4.0, 1.0], [4e-100, 1e-100], [3e200, 1e190]):
        exact = exact_deep_numbers([exactly(value) for value in values], [exactly(penalty)] * (m + 1))
        found = ufm.deep(covariance=np.diag(values), lambda_W=[penalty] * m, lambda_H=penalty)
        assert found.rank == exact["rank"]
        for name in ("loss", "mse", "gram_values", "layer_singular_values", "thresholds", "penalty_product"):
            got = np.diagonal(found.gram) if name == "gram_values" else getattr(found, name)
            for one, number in zip(np.ravel(np.array(exact[name], dtype=object)), np.ravel(got), strict=True):
                if mp.mpf(10) ** -300 < one < mp.mpf(10) ** 308:
                    assert abs(exactly(number) - one) <= mp.mpf(1e-13) * one
                else:
                    assert (number == math.inf) if one > 1 else (number < 1e-299)


def test_a_small_direction_counts() -> None:
    """At lambda_n/lambda_1 = 1e-18 the error of a model that keeps it was off by a quarter."""
    targets = targets_with(covariance_with([1.0, 0.0], 3), 50, [2.0, 1.0], 4)
    vectors = np.linalg.eigh(np.cov(targets.T))[1]
    small = np.random.default_rng(5).standard_normal(50)
    targets = targets + 1e-9 * small[:, np.newaxis] * vectors[:, 0]
    variance = float(np.linalg.svd(targets - targets.mean(axis=0))[1][1] ** 2 / 50)
    found = ufm.minimum(targets, lambda_W=1.0, lambda_H=3.0 * variance)
    assert found.mse == pytest.approx(4.0 * variance, rel=1e-5)
    assert found.bounds["mse"] < 1e-9 * found.mse
    assert found.rank == 1
    assert ufm.predict(targets, c=3.0 * variance).mse_floor == found.mse


def test_outputs_that_depend_on_others_are_no_directions() -> None:
    rng = np.random.default_rng(6)
    targets = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 4)) + 30.0
    for stored in (targets, targets.astype(np.float32), np.asfortranarray(targets)):
        found = ufm.minimum(stored, lambda_W=1e-40, lambda_H=1e-40)
        assert (found.rank, found.shrinkage.values[2]) == (2, 0.0)
        assert found.rank_range[1] == 4  # what is stored may hold them
    steps = 1.0 + EPSILON * np.arange(4.0)  # one output alone varies, by as little as it may
    found = ufm.minimum(steps, lambda_W=1e-20, lambda_H=1e-20)
    assert found.rank == 1
    assert found.shrinkage.values[0] == pytest.approx(1.25 * EPSILON**2, rel=1e-14)


@pytest.mark.parametrize("penalty", [1e-300, 1e-200, 1e-45, 1e-3, 1e200])
def test_deep_minimum_at_any_scale_of_penalties(penalty: float) -> None:
    """The loss is homogeneous: penalties and targets at scales s^2 and s give losses at the scale s^2."""
    found = ufm.deep(covariance=np.diag([4.0, 1.0]), lambda_W=[penalty, penalty], lambda_H=penalty)
    if penalty < 1e-40:
        # z is all but sqrt(lambda), and the loss is what is paid for it.
        assert found.loss == pytest.approx(1.5 * (4.0 ** (1 / 3) + 1.0) * penalty, rel=1e-13)
        np.testing.assert_allclose(found.gram, np.diag([4.0 ** (2 / 3), 1.0]), rtol=1e-13)
    elif penalty > 1.0:
        assert (found.rank, found.loss) == (0, 2.5)
    assert 0.0 < found.bounds["loss"] < 1e-13 * found.loss


def test_a_rank_that_is_not_determined() -> None:
    covariance = np.diag([0.2, 0.09])  # 0.3 * 0.3 is a rounding below
    for found in (
        ufm.minimum(covariance=covariance, lambda_W=0.3, lambda_H=0.3),
        ufm.predict(covariance=covariance, weight_decay=0.3, feature_decay=0.3, loss="paper"),
        ufm.deep(covariance=covariance, lambda_W=[0.3], lambda_H=0.3),
    ):
        assert found.rank_range == (1, 2)
        assert found.bounds["rank"] == 1
    for text in (
        str(ufm.minimum(covariance=covariance, lambda_W=0.3, lambda_H=0.3)),
        str(ufm.predict(covariance=covariance, weight_decay=0.3, feature_decay=0.3, loss="paper")),
    ):
        assert text.count("whether that direction is kept is not determined") == 1
    for lambda_W in (0.1, 0.31):
        found = ufm.minimum(covariance=covariance, lambda_W=lambda_W, lambda_H=0.3)
        assert found.rank_range == (found.rank, found.rank)
        assert found.bounds["rank"] == 0
        assert "not determined" not in str(found)


def test_bounds_of_a_batch_are_those_of_its_problems() -> None:
    covariances = np.stack([covariance_with([3.0, 1.0, 1e-9], seed) for seed in range(4)])
    penalties = np.array([[0.1], [1e-5]])
    batch = ufm.minimum(covariance=covariances, lambda_W=penalties, lambda_H=0.1)
    deep = ufm.deep(covariance=covariances, lambda_W=[penalties, 0.1], lambda_H=0.1)
    for i, j in np.ndindex(2, 4):
        one = ufm.minimum(covariance=covariances[j], lambda_W=penalties[i, 0], lambda_H=0.1)
        two = ufm.deep(covariance=covariances[j], lambda_W=[penalties[i, 0], 0.1], lambda_H=0.1)
        for many, single in ((batch, one), (deep, two)):
            for name, bound in single.bounds.items():
                np.testing.assert_allclose(many.bounds[name][(i, j)], bound, rtol=1e-6)
            assert [part[i, j] for part in many.rank_range] == list(single.rank_range)


def test_statistics_hand_on_their_own_errors() -> None:
    targets = targets_with(covariance_with([3.0, 1.0], 1), 400, [5.0, -2.0], 2)
    statistics = FeatureStatistics(3, n_targets=2)
    statistics.update(np.random.default_rng(0).standard_normal((400, 3)), targets)
    summed, exact = (ufm.minimum(given, lambda_W=0.1, lambda_H=0.1) for given in (statistics, targets))
    assert statistics.target_error > 0.0
    for name in ("loss", "mse", "r2", "weight_norm_squared", "cka"):
        assert abs(getattr(summed, name) - getattr(exact, name)) <= summed.bounds[name] + exact.bounds[name]
    assert exact.bounds["weight_norm_squared"] < summed.bounds["weight_norm_squared"]
    errors = statistics.target_error / (2.0 * np.sqrt(summed.shrinkage.values))
    assert summed.bounds["weight_norm_squared"] >= errors.sum()


@pytest.mark.parametrize("d", [None, 2])
def test_predictions_of_reports_within_their_bounds(d: int | None) -> None:
    """From a covariance that is exact, and from one that is off by as much as is said of it."""
    rng, compared = np.random.default_rng(20), Comparison()
    for index in range(1, 40, 2):
        problem = Problem(rng, index)
        covariance = problem.given["covariance"]
        c = threshold(rng, problem.spectrum(about_mean=True)[0], index)
        exact = exact_minimum(problem, 1.0, c, bias=True, d=d)
        for error in (0.0, 1e-9 * float(np.linalg.norm(covariance))):
            noise = rng.standard_normal(covariance.shape)
            noise *= 0.5 * error / np.linalg.norm(noise + noise.T)
            found = ufm.predicted_spectrum(covariance + noise + noise.T, c, d=d, covariance_error=error)
            least = found.rank - found.bounds["rank"]
            ranged = SimpleNamespace(**vars(found), rank_range=(least, found.rank + found.bounds["rank"]))
            names = [name for name in exact if hasattr(found, name)]
            compared.add(f"{index} {error:.1g}", ranged, {name: exact[name] for name in names})
    assert not compared.violations, compared.violations
    assert len(compared.medians()) > 5


def test_numbers_that_are_not_defined_have_no_bounds() -> None:
    found = ufm.minimum(covariance=np.diag([4.0, 1.0]), lambda_W=3.0, lambda_H=3.0)
    assert found.rank == 0
    for name in ("cka", "explained_variance_ratio", "cosines"):
        assert np.isnan(found.bounds[name]).all()
    assert found.bounds["head_gram_shape"] == 0.0
    assert np.isnan(ufm.minimum(covariance=np.zeros((2, 2)), lambda_W=3.0, lambda_H=3.0).bounds["r2"])


# ---- laws ----


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(-60, 60), st.floats(-12.0, 0.0))
def test_scale_of_the_targets(seed: int, exponent: int, decade: float) -> None:
    """Targets 2^k times as large, penalties 4^k times: losses and bounds are 4^k times as large, to the bit."""
    rng = np.random.default_rng(seed)
    targets = rng.standard_normal((12, 3)) * 10.0 ** rng.uniform(-6, 0, 3)
    penalties = {"lambda_W": 0.3, "lambda_H": 10.0**decade}
    one = ufm.minimum(targets, **penalties)
    other = ufm.minimum(np.ldexp(targets, exponent), lambda_W=0.3, lambda_H=math.ldexp(10.0**decade, 2 * exponent))
    for name in ("mse", "loss"):
        assert getattr(other, name) == math.ldexp(getattr(one, name), 2 * exponent)
        assert other.bounds[name] == pytest.approx(math.ldexp(one.bounds[name], 2 * exponent), rel=1e-9)
    for name in ("r2", "cka"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
    assert other.rank_range == one.rank_range


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(-14.0, 0.0))
def test_rotated_outputs(seed: int, decade: float) -> None:
    """Outputs in another order: the same numbers. Rotated ones, which rounds them: within their bounds and that."""
    rng = np.random.default_rng(seed)
    targets = rng.standard_normal((12, 4)) * 10.0 ** rng.uniform(-7, 0, 4)
    order, penalties = rng.permutation(4), {"lambda_W": 1.0, "lambda_H": 10.0**decade}
    one = ufm.minimum(targets, **penalties)
    permuted = ufm.minimum(targets[:, order], **penalties)
    for name in ("loss", "mse", "r2", "weight_norm_squared"):
        assert abs(getattr(one, name) - getattr(permuted, name)) <= one.bounds[name] + permuted.bounds[name]
    np.testing.assert_allclose(
        permuted.gram, one.gram[np.ix_(order, order)], rtol=0, atol=one.bounds["gram"] + permuted.bounds["gram"]
    )
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    rotated = ufm.minimum(targets @ rotation, **penalties)
    # Singular values of the targets are off by roundings of the largest, and the loss by sqrt(c) times these at most.
    moved = 16 * EPSILON * math.sqrt(float(np.trace(one.moments.covariance)) * 10.0**decade)
    assert abs(one.loss - rotated.loss) <= one.bounds["loss"] + rotated.bounds["loss"] + moved
