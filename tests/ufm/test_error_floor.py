"""Error floors from targets alone: the comparisons carried out on explicit minima, the text, the plot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nrc_fast.ufm import minimum, predict

EPS = float(np.finfo(np.float64).eps)


@pytest.fixture
def targets(reference: Any) -> Any:
    return reference.targets_with(reference.covariance_with([1.3, 0.4, 0.05], seed=4), 30, [1.0, -2.0, 0.5], seed=5)


def mapped_back_mse(targets: Any, transform: Any, c: float) -> float:
    """Train on (y - ybar) @ transform, map the predictions back, and measure on the raw targets."""
    deviations = targets - targets.mean(axis=0)
    trained = deviations @ transform
    found = minimum(trained, lambda_W=0.5, lambda_H=c / 0.5)
    predictions = found.features(trained) @ found.weights().T + found.bias
    return float(np.sum((predictions @ np.linalg.inv(transform) - deviations) ** 2) / len(targets))


@pytest.mark.parametrize("c", [1e-3, 0.03, 0.2, 0.9, 5.0])
def test_errors_are_those_of_explicit_minima(targets: Any, c: float) -> None:
    floor = predict(targets, c=c)
    covariance = np.cov(targets.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(values) @ vectors.T
    standardize = np.diag(1 / np.sqrt(np.diag(covariance)))
    # Inverse roots of variances down to 0.05 multiply errors of some eps.
    assert floor.mse_floor == pytest.approx(mapped_back_mse(targets, np.eye(3), c), rel=1e-12)
    assert floor.whitened_floor == pytest.approx(mapped_back_mse(targets, whiten, c), rel=1e-12)
    assert floor.standardized_floor == pytest.approx(mapped_back_mse(targets, standardize, c), rel=1e-12)
    single = sum(minimum(targets[:, i], lambda_W=1.0, lambda_H=c).mse for i in range(3))
    assert floor.single_task_floor == pytest.approx(single, rel=16 * EPS)
    assert floor.rank == np.sum(values > c)
    assert floor.r2_ceiling == pytest.approx(1 - floor.mse_floor / np.trace(covariance), rel=0, abs=8 * EPS)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(1e-6, 3.0), st.floats(1.0, 3.0))
def test_one_model_for_all_outputs_is_no_worse(reference: Any, seed: int, n: int, c: float, more: float) -> None:
    covariance = reference.covariance_with(np.random.default_rng(seed).uniform(0.0, 2.0, n), seed)
    floor = predict(covariance=covariance, c=c)
    assert floor.mse_floor <= floor.single_task_floor_at(more * c) + 16 * n**2 * EPS


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.05, 0.9))
def test_whitening_helps_below_an_average_variance_of_one(reference: Any, seed: int, n: int, share: float) -> None:
    covariance = reference.covariance_with(np.random.default_rng(seed).uniform(0.1, 2.0, n), seed)
    correlations = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    smallest = min(np.linalg.eigvalsh(covariance)[0], np.linalg.eigvalsh(correlations)[0], 1.0)
    floor = predict(covariance=covariance, c=share * smallest)
    ratio = np.trace(covariance) / n
    assert floor.whitened_floor / floor.mse_floor == pytest.approx(ratio, rel=64 * n * EPS)
    assert floor.standardized_floor / floor.mse_floor == pytest.approx(ratio, rel=64 * n * EPS)


def test_weight_decay(targets: Any) -> None:
    known = predict(targets, weight_decay=0.1, feature_decay=0.4)
    assert known.c == pytest.approx(0.15 * 0.6, rel=4 * EPS)
    assert known.note == ""
    assumed = predict(targets, weight_decay=0.1)
    assert assumed.c == pytest.approx(0.15**2, rel=4 * EPS)
    assert "lambda_H = lambda_W is assumed" in assumed.note
    # At its critical weight decay, the feature decay in the same ratio, a direction is at its threshold.
    for value, decay in zip(known.eigenvalues, known.critical_weight_decays, strict=True):
        assert predict(targets, weight_decay=decay, feature_decay=4 * decay).c == pytest.approx(value, rel=16 * EPS)
    assert np.isnan(predict(targets, c=0.1).critical_weight_decays).all()
    summed = predict(targets, weight_decay=0.1, feature_decay=0.4, loss="half_sum", samples=30)
    assert summed.c == pytest.approx(0.1 * 0.4 / 30, rel=4 * EPS)


def test_curves(targets: Any) -> None:
    floor = predict(targets, c=0.1)
    cs = np.array([0.0, 0.01, 0.1, 1.0, 10.0])
    np.testing.assert_array_equal(floor.rank_at(cs), [predict(targets, c=c).rank for c in cs])
    np.testing.assert_array_equal(floor.mse_floor_at(cs), [predict(targets, c=c).mse_floor for c in cs])
    np.testing.assert_array_equal(floor.whitened_floor_at(cs), [predict(targets, c=c).whitened_floor for c in cs])
    assert floor.mse_floor_at(10.0) == pytest.approx(floor.variance, rel=4 * EPS)


def test_outputs_without_variance() -> None:
    floor = predict(np.array([[1.0, 5.0], [3.0, 5.0]]), c=0.1)
    assert (floor.rank, floor.mse_floor, floor.single_task_floor) == (1, 0.1, 0.1)
    assert floor.standardized_floor == pytest.approx(0.1)
    constant = predict(np.full((3, 2), 0.1), weight_decay=0.1)
    assert (constant.rank, constant.mse_floor, constant.standardized_floor) == (0, 0.0, 0.0)
    assert math.isnan(constant.r2_ceiling)
    assert "nan" in str(constant)


def test_text(targets: Any) -> None:
    text = str(predict(targets, weight_decay=0.2))
    floor = predict(targets, weight_decay=0.2)
    assert floor.rank == 2
    assert text.count("kept") == 2
    assert text.count("dropped") == 1
    assert (
        f"  floor of the training MSE, summed over outputs  {floor.mse_floor:.6g}  (R2 {floor.r2_ceiling:.6g})" in text
    )
    assert "2 of 3" in text
    assert "assumed" in text
    assert "whitening lowers" in text  # the average variance is 0.58
    assert "whitening raises" in str(predict(targets * 4.0, weight_decay=0.02))
    assert "..." in str(predict(covariance=np.eye(9), c=0.1))


def test_plot(targets: Any) -> None:
    pytest.importorskip("matplotlib")
    floor = predict(targets, c=0.1)
    figure = floor.plot()
    left, right = figure.axes
    line = left.get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), floor.rank_at(line.get_xdata()))
    assert set(line.get_ydata()) == {0, 1, 2, 3}
    assert set(floor.eigenvalues) <= set(line.get_xdata())
    for curve, wanted in zip(
        right.get_lines(), (floor.mse_floor_at, floor.single_task_floor_at, floor.standardized_floor_at), strict=False
    ):
        np.testing.assert_array_equal(curve.get_ydata(), wanted(curve.get_xdata()))
    assert left.get_lines()[-1].get_xdata()[0] == 0.1
    assert floor.plot(ax=(left, right)) is figure
    with pytest.raises(ValueError, match="2 are expected, for the rank, the MSE"):
        floor.plot(ax=left)
    predict(np.full((3, 2), 0.1), c=0.0).plot()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "give either"),
        ({"c": 0.1, "weight_decay": 0.1}, "give either"),
        ({"c": 0.1, "feature_decay": 0.1}, "goes with weight_decay"),
        ({"c": -0.1}, "c must be at least 0"),
        ({"c": [0.1, 0.2]}, "one number is expected"),
        ({"c": 0.1, "covariance": np.ones((2, 1, 1))}, "one at a time"),
        ({"weight_decay": 0.1, "loss": "id25"}, "give samples="),
    ],
)
def test_bad_input(keywords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(**({"covariance": np.eye(2)} | keywords))
