"""Linear networks before training: explicit minima, trained networks beside thresholds, decays of scaled targets."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.linear_networks import trained, whitened_inputs

from nrc_fast.ufm import DeepErrorFloor, deep, minimum, penalties, predict, scaled_weight_decay

EPS = float(np.finfo(np.float64).eps)


@pytest.fixture
def targets(reference: Any) -> Any:
    return reference.targets_with(reference.covariance_with([1.3, 0.4, 0.05], seed=4), 30, [1.0, -2.0, 0.5], seed=5)


def mapped_back_mse(targets: Any, transform: Any, penalty: float, layers: int) -> float:
    """Train on (y - ybar) @ transform, map the predictions back, and measure on the raw targets."""
    deviations = targets - targets.mean(axis=0)
    trained_on = deviations @ transform
    found = deep(trained_on, lambda_W=[penalty] * (layers - 1), lambda_H=penalty)
    product = np.linalg.multi_dot([*found.weights()[::-1], np.eye(targets.shape[1])])
    predictions = found.features(trained_on) @ product.T + found.bias
    return float(np.sum((predictions @ np.linalg.inv(transform) - deviations) ** 2) / len(targets))


@pytest.mark.parametrize("layers", [2, 3, 5])
@pytest.mark.parametrize("decay", [1e-3, 0.05, 0.2, 1.5])
def test_errors_are_those_of_explicit_minima(targets: Any, layers: int, decay: float) -> None:
    floor = predict(targets, weight_decay=decay, layers=layers, loss="paper")
    covariance = np.cov(targets.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(values) @ vectors.T
    standardize = np.diag(1 / np.sqrt(np.diag(covariance)))
    assert floor.mse_floor == pytest.approx(mapped_back_mse(targets, np.eye(3), decay, layers), rel=1e-11)
    assert floor.whitened_floor == pytest.approx(mapped_back_mse(targets, whiten, decay, layers), rel=1e-11)
    assert floor.standardized_floor == pytest.approx(mapped_back_mse(targets, standardize, decay, layers), rel=1e-11)
    single = sum(deep(targets[:, i], lambda_W=[decay] * (layers - 1), lambda_H=decay).mse for i in range(3))
    assert floor.single_task_floor == pytest.approx(single, rel=32 * EPS)
    found = deep(targets, lambda_W=[decay] * (layers - 1), lambda_H=decay)
    assert (floor.rank, floor.rank_range) == (found.rank, found.rank_range)
    np.testing.assert_allclose(floor.error_share, found.error_share, rtol=8 * EPS)
    assert floor.r2_ceiling == pytest.approx(1 - floor.mse_floor / np.trace(covariance), rel=0, abs=16 * EPS)
    np.testing.assert_allclose(floor.critical_weight_decays**layers, found.thresholds, rtol=1e-13)


def test_two_layers_are_the_model_with_equal_penalties(targets: Any) -> None:
    for decay in (0.01, 0.1, 0.4):
        two, plain = predict(targets, weight_decay=decay, layers=2), predict(targets, weight_decay=decay)
        for name in ("rank", "mse_floor", "r2_ceiling", "single_task_floor", "standardized_floor", "whitened_floor"):
            assert getattr(two, name) == pytest.approx(getattr(plain, name), rel=64 * EPS)
        np.testing.assert_allclose(two.critical_weight_decays, plain.critical_weight_decays, rtol=16 * EPS)
        assert two.penalty == penalties(decay, n=3).lambda_W
        assert minimum(targets, lambda_W=two.penalty, lambda_H=two.penalty).rank == two.rank


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_trained_networks_lose_a_direction_at_its_weight_decay(layers: int) -> None:
    pytest.importorskip("scipy.optimize")
    X = whitened_inputs(16, 5, seed=0)
    Y = X @ np.diag([1.2, 0.6, 0.0, 0.0, 0.0])[:2].T
    critical = predict(Y, weight_decay=0.1, layers=layers, loss="paper").critical_weight_decays
    for factor, kept in ((0.97, 2), (1.03, 1)):
        decay = factor * critical[1]
        # Beyond the threshold the other stationary point may still be there: of some starts the lowest counts.
        runs = [trained(X, Y, decay, layers, seed=seed) for seed in range(4)]
        weights, loss = min(runs, key=lambda run: run[1])
        floor = predict(Y, weight_decay=decay, layers=layers, loss="paper")
        assert floor.rank == kept
        assert np.linalg.matrix_rank(weights[-1], tol=1e-3) == kept
        errors = X @ np.linalg.multi_dot(weights[::-1]).T - Y
        assert np.sum(errors**2) / len(Y) == pytest.approx(floor.mse_floor, rel=1e-5)
        assert loss == pytest.approx(deep(Y, lambda_W=[decay] * (layers - 1), lambda_H=decay).loss, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.floats(-6.0, 6.0))
def test_the_decay_of_scaled_targets(reference: Any, seed: int, layers: int, decade: float) -> None:
    """Targets s times as large at ``wd s^(2 - 2/L)``: the same rank and shares, and errors s^2 times as large."""
    rng = np.random.default_rng(seed)
    covariance, scale = reference.covariance_with(rng.uniform(0.01, 2.0, 3), seed), 10.0**decade
    decay = rng.uniform(0.001, 0.5)
    one = predict(covariance=covariance, weight_decay=decay, layers=layers)
    moved = scaled_weight_decay(decay, scale=scale, layers=layers)
    other = predict(covariance=scale**2 * covariance, weight_decay=moved, layers=layers)
    np.testing.assert_allclose(other.error_share, one.error_share, rtol=1e-10)
    assert other.mse_floor == pytest.approx(scale**2 * one.mse_floor, rel=1e-10)
    assert other.unit_weight_decay == pytest.approx(one.unit_weight_decay, rel=1e-10)
    # To standardised targets: wd (s^2)^(1/L - 1).
    back = scaled_weight_decay(moved, scale=1.0 / scale, layers=layers)
    assert back == pytest.approx(moved * (scale**2) ** (1 / layers - 1), rel=1e-12)
    assert back == pytest.approx(decay, rel=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_scaled_networks_of_relu_layers(layers: int) -> None:
    """The loss at weights times a, a^L = s, is s^2 times that of the targets as they are: so minima are too."""
    rng = np.random.default_rng(layers)
    sizes = [4, *[6] * (layers - 1), 2]
    weights = [rng.standard_normal((a, b)) for a, b in zip(sizes[1:], sizes[:-1], strict=True)]
    X, Y, scale, decay = rng.standard_normal((9, 4)), rng.standard_normal((9, 2)), 7.0, 0.03

    def loss(layers_of: list[Any], targets: Any, wd: float) -> float:
        rows = X
        for W in layers_of[:-1]:
            rows = np.maximum(rows @ W.T, 0.0)
        errors = rows @ layers_of[-1].T - targets
        return float(np.mean(errors**2) + 0.5 * wd * sum(np.sum(W**2) for W in layers_of))

    larger = [scale ** (1 / layers) * W for W in weights]
    moved = scaled_weight_decay(decay, scale=scale, layers=layers)
    assert loss(larger, scale * Y, moved) == pytest.approx(scale**2 * loss(weights, Y, decay), rel=1e-13)


def test_arrays_of_decays(targets: Any) -> None:
    floor = predict(targets, weight_decay=0.1, layers=3)
    decays = np.array([0.0, 0.01, 0.1, 1.0, 10.0])
    each = [predict(targets, weight_decay=decay, layers=3) for decay in decays]
    np.testing.assert_array_equal(floor.rank_at(decays), [one.rank for one in each])
    for name in ("mse_floor", "single_task_floor", "standardized_floor", "whitened_floor"):
        np.testing.assert_array_equal(getattr(floor, f"{name}_at")(decays), [getattr(one, name) for one in each])
    assert each[0].mse_floor == 0.0
    assert floor.mse_floor_at(10.0) == pytest.approx(floor.variance, rel=4 * EPS)
    scales = [1.0, 2.0, 1.0, 2.0, 4.0]
    np.testing.assert_allclose(scaled_weight_decay(decays, scale=scales, layers=2), decays * scales, rtol=2 * EPS)


def test_text_and_json(targets: Any) -> None:
    floor = predict(targets, weight_decay=0.06, layers=4)
    assert isinstance(floor, DeepErrorFloor)
    text = str(floor)
    assert text == repr(floor)
    assert "a linear network of 4 layers on whitened inputs" in text
    assert f"for targets of unit variance the same is {floor.unit_weight_decay:.6g}" in text
    assert text.count("kept") == floor.rank == 2
    assert text.count("dropped") == 1
    assert f"  training MSE, summed over outputs               {floor.mse_floor:.6g}" in text
    assert "a direction is predicted with at least 2/3 of its standard deviation until it goes" in text
    assert "until it goes" not in str(predict(targets, weight_decay=0.1, layers=2))
    assert "keeps 2 of 3 target directions" in floor._repr_html_()
    stored = json.loads(json.dumps(floor.to_dict()))
    assert stored["critical_weight_decays"] == floor.critical_weight_decays.tolist()
    assert (stored["layers"], stored["penalty"]) == (4, pytest.approx(0.09))
    assert "..." in str(predict(covariance=np.eye(9), weight_decay=0.1, layers=3))
    at_threshold = predict(covariance=np.eye(1), weight_decay=0.25 ** (2 / 3), layers=3, loss="paper")
    assert at_threshold.rank_range == (0, 1)
    assert "not determined" in str(at_threshold)


def test_targets_without_variance() -> None:
    constant = predict(np.full((3, 2), 0.1), weight_decay=0.1, layers=3)
    assert (constant.rank, constant.mse_floor, constant.standardized_floor) == (0, 0.0, 0.0)
    assert math.isnan(constant.r2_ceiling)
    assert math.isnan(constant.unit_weight_decay)
    assert constant.critical_weight_decays.tolist() == [0.0, 0.0]
    assert math.isfinite(constant.bounds["mse_floor"])
    assert "nan%" not in str(constant) + str(predict(np.full((3, 2), 0.1), weight_decay=0.1))
    assert "until it goes" not in str(predict(covariance=np.eye(2), weight_decay=9.0, layers=3))
    part = predict(np.array([[1.0, 5.0], [3.0, 5.0]]), weight_decay=0.1, layers=3)
    assert part.rank == 1
    assert part.standardized_floor > 0.0


def test_plot(targets: Any) -> None:
    pytest.importorskip("matplotlib")
    floor = predict(targets, weight_decay=0.1, layers=3)
    left, right = floor.plot().axes
    line = left.get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), floor.rank_at(line.get_xdata()))
    assert set(line.get_ydata()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(
        right.get_lines()[0].get_ydata(), floor.mse_floor_at(right.get_lines()[0].get_xdata())
    )
    assert left.get_xlabel() == "weight decay of each of 3 layers"
    assert left.get_lines()[-1].get_xdata()[0] == 0.1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"layers": 1}, "layers is 1; a number of layers from 2 to 10,000"),
        ({"layers": 10_001}, "layers is 10001; a number of layers from 2 to 10,000"),
        ({"layers": 10**30}, "a number of layers from 2 to 10,000"),
        ({"feature_decay": 0.1}, "goes with weight_decay= alone"),
        ({"weight_decay": None, "c": 0.1}, "goes with weight_decay= alone"),
        ({"c": 0.1}, "give either"),
        ({"weight_decay": -1.0}, "at least 0"),
        ({"loss": "half_sum"}, "give samples="),
    ],
)
def test_bad_input(keywords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(**({"covariance": np.eye(2), "weight_decay": 0.1, "layers": 3} | keywords))


def test_bad_kinds() -> None:
    with pytest.raises(TypeError, match=r"layers is 2\.0; a whole number is expected"):
        predict(covariance=np.eye(2), weight_decay=0.1, layers=2.0)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="scale must be positive"):
        scaled_weight_decay(0.1, scale=0.0, layers=3)
    with pytest.raises(ValueError, match="layers is 0; a number of layers from 1 to 10,000"):
        scaled_weight_decay(0.1, scale=2.0, layers=0)
    with pytest.raises(ValueError, match="for targets times 1e\\+200 leaves the range of float64"):
        scaled_weight_decay(0.1, scale=1e200, layers=10)
    # Only a decay that is no float64 number itself is refused.
    assert scaled_weight_decay(1e-300, scale=1e200, layers=10) == pytest.approx(1e60, rel=1e-12)
