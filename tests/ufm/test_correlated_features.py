"""Shares and CKA of features without a bias, against 60 digits, where rounding of float64 would hide them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.ufm_reference import covariance_with, targets_with

from nrc_fast import ufm
from nrc_fast.ufm.correlated_features import root_of_penalties

mp = pytest.importorskip("mpmath")

from support.exact_ufm import DIGITS, Comparison, exact_minimum, exactly  # noqa: E402 - mpmath may be missing
from support.minima_ladder import LadderProblem, Rung  # noqa: E402

EPSILON = 2.0**-52


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with mp.workdps(DIGITS + 20):
        yield


@pytest.mark.parametrize("given", ["Y", "covariance"])
@pytest.mark.parametrize("condition", [1e3, 1e9, 1e15])
def test_small_shares_have_their_digits(condition: float, given: str) -> None:
    """The smallest share is known to some roundings of it, and to those of sums of pairs beside its variance."""
    for seed in range(3):
        problem = LadderProblem(Rung(4, condition, 1.0, "far below", given, seed))
        found = ufm.minimum(**problem.given, lambda_W=1e-15, lambda_H=1e-15, bias=False)
        exact = exact_minimum(problem, 1e-15, 1e-15, bias=False)
        for share, bound, wanted in zip(
            found.explained_variance_ratio,
            found.bounds["explained_variance_ratio"],
            exact["explained_variance_ratio"],
            strict=True,
        ):
            assert abs(exactly(share) - wanted) <= exactly(bound)
            assert bound <= (32.0 + 1e-8 * condition) * EPSILON * share
        assert abs(exactly(found.cka) - exact["cka"]) <= exactly(found.bounds["cka"])
        assert found.bounds["cka"] <= 32.0 * EPSILON


def test_a_batch_is_its_problems() -> None:
    covariances = np.stack([covariance_with([3.0, 1.0, 1e-9], seed) for seed in range(4)])
    means, penalties = np.random.default_rng(0).standard_normal((4, 3)), np.array([[0.1], [1e-5], [30.0]])
    batch = ufm.minimum(covariance=covariances, mean=means, lambda_W=penalties, lambda_H=0.1, bias=False)
    for i, j in np.ndindex(3, 4):
        given = {"covariance": covariances[j], "mean": means[j]}
        one = ufm.minimum(**given, lambda_W=penalties[i, 0], lambda_H=0.1, bias=False)
        np.testing.assert_array_equal(batch.explained_variance_ratio[i, j], one.explained_variance_ratio)
        np.testing.assert_array_equal(np.asarray(batch.cka)[i, j], one.cka)
        for name in ("explained_variance_ratio", "cka"):
            np.testing.assert_allclose(batch.bounds[name][i, j], one.bounds[name], rtol=1e-9)


def test_errors_that_targets_come_with_widen_the_bounds() -> None:
    class Measured:
        target_covariance, target_mean = covariance_with([3.0, 1.0, 1e-3], 1), np.array([1.0, 2.0, 0.5])
        target_error, target_mean_error = 1e-9, 1e-9

    class Moved(Measured):
        target_covariance = Measured.target_covariance + 0.5e-9 * covariance_with([1.0, -0.5, 0.3], 2)
        target_mean = Measured.target_mean + 0.5e-9

    options = {"lambda_W": 0.1, "lambda_H": 1e-3, "bias": False}
    one, other = (ufm.minimum(kind(), **options) for kind in (Measured, Moved))
    for name in ("explained_variance_ratio", "cka"):
        moved = np.abs(np.asarray(getattr(one, name)) - np.asarray(getattr(other, name))).max()
        assert 1e-13 < moved <= np.max(one.bounds[name]) < 1e-4


def test_what_is_open_or_undefined() -> None:
    """No direction is kept; which one is kept is open; without penalties a direction may be no more than rounding."""
    targets = targets_with(covariance_with([3.0, 1.0], 1), 40, [5.0, -2.0], 2)
    dropped = ufm.minimum(targets, lambda_W=100.0, lambda_H=100.0, bias=False)
    assert np.isnan([dropped.cka, dropped.bounds["cka"]]).all()
    assert np.isnan(dropped.explained_variance_ratio).all()
    tied = ufm.minimum(covariance=np.eye(3), mean=[1.0, 0.0, 0.0], lambda_W=0.1, lambda_H=0.1, bias=False, d=2)
    assert tied.bounds["cka"] == 1.0
    dependent = targets @ np.array([[1.0, 0.5, 0.2], [0.0, 1.0, -0.3]])
    limit = ufm.minimum(dependent, lambda_W=0.0, lambda_H=0.0, bias=False)
    assert limit.rank == 2
    assert limit.bounds["cka"] == 1.0


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150])
def test_roots_of_penalties(scale: float) -> None:
    for weight, feature in ((0.3, 0.7), (0.3, 1e-7), (0.0, 0.0), (4.0, 1.0)):
        found = root_of_penalties(np.array(weight * scale), np.array(feature))
        wanted = mp.sqrt(exactly(weight * scale) * exactly(feature))
        assert abs(exactly(found.high) + exactly(found.low) - wanted) <= mp.mpf(2) ** -100 * wanted


def test_many_outputs_have_the_bounds_of_lapack() -> None:
    problem = LadderProblem(Rung(34, 1e2, 1.0, "below", "covariance", 1))
    options = {"lambda_W": 0.1, "lambda_H": 0.01, "bias": False}
    found, compared = ufm.minimum(**problem.given, **options), Comparison()
    exact = exact_minimum(problem, 0.1, 0.01, bias=False)
    compared.add("34", found, {name: exact[name] for name in ("rank", "explained_variance_ratio", "cka")})
    assert not compared.violations
    assert found.bounds["cka"] < 1e-10
