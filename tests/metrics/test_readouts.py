from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.base import linalg
from nrc_fast.metrics.readouts import linear_readout_error, regularized_readout_bound, regularized_readout_error

EPS = float(np.finfo(np.float64).eps)


def moments(features: Any, targets: Any) -> tuple[Any, Any, Any]:
    centered, deviations = features - features.mean(axis=0), targets - targets.mean(axis=0)
    rows = len(features)
    return centered.T @ centered / rows, deviations.T @ deviations / rows, centered.T @ deviations / rows


@pytest.mark.parametrize("rank", [16, 5])
def test_readout_error_is_that_of_least_squares(peer: Any, rank: int) -> None:
    rng = np.random.default_rng(4)
    features = peer.features if rank == 16 else peer.features[:, :rank] @ rng.standard_normal((rank, 16))
    with_intercept = np.column_stack([features, np.ones(len(features))])
    solution = np.linalg.lstsq(with_intercept, peer.targets, rcond=None)[0]
    expected = np.mean(np.sum((with_intercept @ solution - peer.targets) ** 2, axis=1))
    covariance, targets, cross = moments(features, peer.targets)
    error = linear_readout_error(*linalg.eigh_descending(covariance), targets, cross)
    # The explained part divides by lambda: relative error d eps times the condition of the kept spectrum.
    kept = np.linalg.eigvalsh(covariance)[-rank:]
    tolerance = 4 * 16 * EPS * kept[-1] / kept[0] * np.trace(targets)
    assert error == pytest.approx(expected, rel=0, abs=tolerance)


def test_readout_error_of_targets_that_are_linear_in_the_features_is_rounding_and_not_negative() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((50, 6))
        targets = features @ rng.standard_normal((6, 3)) + [1.0, 2.0, 3.0]
        covariance, target_covariance, cross = moments(features, targets)
        error = linear_readout_error(*linalg.eigh_descending(covariance), target_covariance, cross)
        assert 0.0 <= error < 50 * EPS * np.trace(target_covariance)


def test_readout_takes_nothing_from_directions_of_rounding() -> None:
    # 1e-17 cannot be told from 0 beside 1; divided by it, (1e-10)^2 would explain 0.001 of the variance.
    cross = np.array([[0.5], [1e-10]])
    assert linear_readout_error(np.array([1.0, 1e-17]), np.eye(2), np.eye(1), cross) == 0.75
    kept = linear_readout_error(np.array([1.0, 8 * EPS]), np.eye(2), np.eye(1), cross)
    assert 0.75 - kept == pytest.approx(1e-20 / (8 * EPS), abs=EPS)


def test_readout_of_features_without_variance_is_the_mean() -> None:
    targets = np.diag([1.0, 2.0])
    assert linear_readout_error(np.zeros(4), np.eye(4), targets, np.zeros((4, 2))) == 3.0


@pytest.mark.parametrize("floor", [1e-13, 1e-9])
def test_regularized_readout_is_that_of_the_spectrum_above_the_floor(peer: Any, floor: float) -> None:
    covariance, targets, cross = moments(peer.features, peer.targets)
    values, vectors = linalg.eigh_descending(covariance)
    expected = linear_readout_error(values, vectors, targets, cross)
    value, slope = regularized_readout_error(covariance, targets, cross, floor)
    # The share of the smallest direction that four solves leave, and rounding as in the readout from a spectrum.
    lost = (floor / values[-1]) ** 4 + 4 * 16 * EPS * values[0] / values[-1]
    assert value == pytest.approx(expected, rel=0.0, abs=lost * np.trace(targets))
    assert slope == pytest.approx(np.linalg.norm(np.linalg.solve(covariance, cross)), rel=1e-6)


@pytest.mark.parametrize("floor", [1e-12, 1e-3])
def test_a_factor_in_float32_is_made_good_by_the_solves(peer: Any, floor: float) -> None:
    covariance, targets, cross = moments(peer.features, peer.targets)
    values, _ = linalg.eigh_descending(covariance)
    double, _ = regularized_readout_error(covariance, targets, cross, floor)
    single, _ = regularized_readout_error(covariance, targets, cross, floor, single_precision=True)
    lost = ((floor + 16 * 2.0**-24 * values[0]) / values[-1]) ** 4  # or 0, where float32 does not do
    assert single == pytest.approx(double, rel=0.0, abs=(2 * lost + 1e-13) * np.trace(targets))


def test_regularized_readout_takes_nothing_from_below_the_floor() -> None:
    cross = np.array([[0.5], [1e-10]])
    value, _ = regularized_readout_error(np.diag([1.0, 1e-17]), np.eye(1), cross, 1e-12)
    assert value == pytest.approx(0.75, abs=8 * 1e-20 / 1e-12)


@pytest.mark.parametrize("rank", [0, 1, 5, 15])
def test_the_bound_holds_what_directions_below_the_floor_could_explain(peer: Any, rank: int) -> None:
    rng = np.random.default_rng(5)
    mixed = rng.standard_normal((rank, 16))
    covariance, targets, cross = moments(peer.features[:, :rank] @ mixed, peer.targets)
    error = 1e-10
    value, slope = regularized_readout_error(covariance, targets, cross, 4 * error)
    variance = float(np.trace(targets))
    bound = regularized_readout_bound(
        value, slope, variance, 16, floor=4 * error, errors=(error, error), is_resolved=False
    )
    exact = linear_readout_error(*linalg.eigh_descending(covariance), targets, cross)
    assert abs(value - exact) <= bound
    assert bound <= variance
