"""Fewer features than outputs: the minimum holds the leading directions, by its loss, its gradients and its bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nrc_fast import ufm

EPS = 2.0**-52
LAMBDA_W, LAMBDA_H = 0.05, 0.08
SIZES = [(5, 1), (5, 2), (4, 3)]


def targets_of(n: int, seed: int, samples: int = 30) -> Any:
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((samples, n)) @ np.diag([3.0, 2.0, 1.0, 0.6, 0.3][:n]) @ rng.standard_normal((n, n)) + 1.0
    )


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_no_gradient_is_left(reference: Any, n: int, d: int) -> None:
    targets = targets_of(n, d)
    found = ufm.minimum(targets, lambda_W=LAMBDA_W, lambda_H=LAMBDA_H, d=d)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    for turn in (None, rotation):
        H, W = found.features(targets, turn), found.weights(turn)
        assert (H.shape, W.shape) == ((len(targets), d), (n, d))
        loss, gradients = reference.loss_and_gradients(H, W, found.bias, targets, LAMBDA_W, LAMBDA_H, 0.0)
        assert found.loss == pytest.approx(loss, rel=1e-14)
        assert max(np.abs(part).max() for part in gradients) < 1e-13 * np.abs(targets).max()
        assert np.linalg.norm(W @ W.T - found.gram) < 1e-13 * np.linalg.norm(found.gram)
    error = found.features(targets) @ found.weights().T + found.bias - targets
    assert found.mse == pytest.approx(np.sum(error**2) / len(targets), rel=1e-13)
    np.testing.assert_allclose(found.residual_covariance, error.T @ error / len(targets), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_descent_over_weights_and_features_ends_there(reference: Any, n: int, d: int) -> None:
    """L-BFGS over W (n x d), H and b, from random starts, on the loss as it is defined."""
    optimise = pytest.importorskip("scipy.optimize")
    targets = targets_of(n, 10 + d)
    samples, rng = len(targets), np.random.default_rng(n)
    ends = np.cumsum([samples * d, n * d])

    def objective(flat: Any) -> Any:
        H, W, b = np.split(flat, ends)
        H, W = H.reshape(samples, d), W.reshape(n, d)
        loss, parts = reference.loss_and_gradients(H, W, b, targets, LAMBDA_W, LAMBDA_H, 0.0)
        return loss, np.concatenate([part.ravel() for part in parts])

    found = ufm.minimum(targets, lambda_W=LAMBDA_W, lambda_H=LAMBDA_H, d=d)
    options = {"maxiter": 4000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30}
    reached = optimise.minimize(
        objective, rng.standard_normal(ends[-1] + n), jac=True, method="L-BFGS-B", options=options
    )
    W = np.split(reached.x, ends)[1].reshape(n, d)
    assert reached.fun == pytest.approx(found.loss, rel=1e-12)
    np.testing.assert_allclose(W @ W.T, found.gram, rtol=0, atol=1e-5 * np.linalg.norm(found.gram))
    profiled = ufm.refine(targets, lambda_W=LAMBDA_W, lambda_H=LAMBDA_H, d=d)
    assert profiled.weights.shape == (n, d)
    assert profiled.loss == pytest.approx(found.loss, rel=1e-12)
    assert profiled.mse == pytest.approx(found.mse, rel=1e-6)


def test_refinement_has_a_bias_of_any_penalty() -> None:
    """Of one output more than features; the same value as minimising over W, H and b at once."""
    optimise = pytest.importorskip("scipy.optimize")
    targets, d, lambda_b = targets_of(3, 4), 2, 0.3
    samples, ends = len(targets), np.cumsum([len(targets) * 2, 6])

    def objective(flat: Any) -> float:
        H, W, b = np.split(flat, ends)
        error = H.reshape(samples, d) @ W.reshape(3, d).T + b - targets
        fit = np.sum(error**2) + LAMBDA_H * np.sum(H**2)
        return float(0.5 * fit / samples + 0.5 * LAMBDA_W * np.sum(W**2) + 0.5 * lambda_b * np.sum(b**2))

    def gradient(flat: Any) -> Any:
        H, W, b = np.split(flat, ends)
        H, W = H.reshape(samples, d), W.reshape(3, d)
        error = H @ W.T + b - targets
        parts = (error @ W + LAMBDA_H * H) / samples, error.T @ H / samples + LAMBDA_W * W
        return np.concatenate([*(part.ravel() for part in parts), error.mean(axis=0) + lambda_b * b])

    start = np.random.default_rng(1).standard_normal(ends[-1] + 3)
    options = {"maxiter": 4000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30}
    reached = optimise.minimize(objective, start, jac=gradient, method="L-BFGS-B", options=options)
    found = ufm.refine(targets, lambda_W=LAMBDA_W, lambda_H=LAMBDA_H, lambda_b=lambda_b, d=d)
    assert found.loss == pytest.approx(reached.fun, rel=1e-10)


def test_room_for_all_changes_nothing() -> None:
    covariance = np.cov(targets_of(4, 0).T)
    options = {"covariance": covariance, "lambda_W": [0.01, 0.4], "lambda_H": 0.3}
    one = ufm.minimum(**options)
    for d in (4, 9):
        other = ufm.minimum(**options, d=d)
        np.testing.assert_array_equal(other.gram, one.gram)
        for name, bound in one.bounds.items():
            np.testing.assert_array_equal(other.bounds[name], bound)
        assert other.weights().shape == (2, 4, d)
        np.testing.assert_array_equal(other.weights()[..., :4], one.weights())
    assert "d = 9" in str(ufm.minimum(covariance=covariance, lambda_W=0.1, lambda_H=0.1, d=9))


def test_a_batch_is_that_of_its_problems() -> None:
    covariances = np.stack([np.cov(targets_of(3, seed).T) for seed in range(3)])
    penalties = np.array([[1e-3], [0.4]])
    batch = ufm.minimum(covariance=covariances, lambda_W=penalties, lambda_H=0.3, d=2)
    for i, j in np.ndindex(2, 3):
        one = ufm.minimum(covariance=covariances[j], lambda_W=penalties[i, 0], lambda_H=0.3, d=2)
        assert (one.rank, one.loss) == (batch.rank[i, j], pytest.approx(batch.loss[i, j], rel=1e-14))
        for name, bound in one.bounds.items():
            np.testing.assert_allclose(batch.bounds[name][i, j], bound, rtol=1e-6)
        np.testing.assert_allclose(one.weights(), batch.weights()[i, j], rtol=0, atol=1e-12)


def test_a_direction_that_ties_is_not_determined() -> None:
    tied = ufm.minimum(covariance=np.eye(3), lambda_W=0.1, lambda_H=0.1, d=2)
    assert "which direction is kept is not determined" in str(tied)
    # The loss does not mind; of matrices nothing is known but their size.
    assert tied.loss == pytest.approx(2 * (0.1 - 0.005) + 0.5, rel=1e-14)
    assert tied.bounds["loss"] < 1e-14
    assert tied.bounds["gram"] >= np.linalg.norm(tied.gram - np.diag([0.0, 0.9, 0.9]))
    known = ufm.minimum(covariance=np.diag([3.0, 1.0, 1.0]), lambda_W=0.1, lambda_H=0.1, d=1)
    assert "not determined" not in str(known)
    assert known.bounds["gram"] < 1e-13
    dropped = ufm.minimum(covariance=np.eye(3), lambda_W=2.0, lambda_H=2.0, d=2)
    assert (dropped.rank, dropped.bounds["gram"]) == (0, pytest.approx(0.0, abs=1e-300))
    assert "not determined" not in str(dropped)


def test_a_small_gap_widens_the_bound() -> None:
    """The kept direction turns by what the covariance is off by, over the gap."""
    gaps = [1e-2, 1e-6, 1e-10]
    bounds = []
    for gap in gaps:
        rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
        covariance = rotation @ np.diag([1.0 + gap, 1.0, 0.1]) @ rotation.T
        bounds.append(ufm.minimum(covariance=covariance, lambda_W=0.1, lambda_H=0.1, d=1).bounds["gram"])
    assert bounds == sorted(bounds)
    assert bounds[2] > 1e2 * bounds[1] > 1e4 * bounds[0]


def test_forecast_for_fewer_features() -> None:
    covariance = np.array([[4.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 0.5]])
    floor = ufm.predict(covariance=covariance, weight_decay=0.3, feature_decay=0.3, loss="paper", d=2)
    closed = ufm.minimum(covariance=covariance, lambda_W=0.3, lambda_H=0.3, d=2)
    assert (floor.rank, floor.mse_floor, floor.r2_ceiling) == (
        *(2, pytest.approx(closed.mse, rel=1e-14)),
        pytest.approx(closed.r2, rel=1e-14),
    )
    deviations = np.sqrt(np.diag(covariance))
    correlations = covariance / np.outer(deviations, deviations)
    left = ufm.minimum(covariance=correlations, lambda_W=0.3, lambda_H=0.3, d=2).residual_covariance
    assert floor.standardized_floor == pytest.approx(float(np.diag(left) @ np.diag(covariance)), rel=1e-13)
    assert math.isnan(floor.whitened_floor)
    assert np.isnan(floor.critical_weight_decays).tolist() == [False, False, True]
    text = str(floor)
    assert "no room" in text.splitlines()[6]
    assert "  there is room for the first 2 of 3 directions; of whitened targets none leads" in text
    one, all_of_them = (ufm.predict(covariance=covariance, c=0.09, d=d) for d in (3, None))
    assert str(one) == str(all_of_them)


def test_a_forecast_says_that_directions_tie() -> None:
    """Of diagonal covariances all correlations tie: which output is kept is open, and so is the error mapped back."""
    for order in ([4.0, 2.0, 1.0], [1.0, 2.0, 4.0]):
        tied = ufm.predict(covariance=np.diag(order), c=0.09, d=2)
        assert math.isnan(tied.standardized_floor)
        assert math.isnan(float(np.asarray(tied.bounds["standardized_floor"])))
        assert "not determined" not in str(tied)  # the covariance has no ties
        # Nothing is kept of correlations from c = 1 on, and of a width for all nothing is open.
        np.testing.assert_array_equal(tied.standardized_floor_at([0.5, 1.5]), [math.nan, 7.0])
        assert ufm.predict(covariance=np.diag(order), c=0.09, d=3).standardized_floor == pytest.approx(0.63)
    for d, is_open in ((1, False), (2, True)):
        floor = ufm.predict(covariance=np.diag([3.0, 1.0, 1.0]), c=0.09, d=d)
        assert ("which direction is kept is not determined" in str(floor)) == is_open
        assert ("which direction is kept is not determined" in floor._repr_html_()) == is_open
    # An output without variance is none of the correlations.
    assert ufm.predict(covariance=np.diag([4.0, 1.0, 0.0]), c=0.09, d=2).standardized_floor == pytest.approx(0.45)


def test_bad_widths() -> None:
    options = {"covariance": np.diag([2.0, 1.0]), "lambda_W": 0.1, "lambda_H": 0.1}
    with pytest.raises(ValueError, match="d is 0; a number of features from 1 on"):
        ufm.minimum(**options, d=0)
    with pytest.raises(TypeError):
        ufm.minimum(**options, d=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"there is no closed form; use nrc_fast\.ufm\.refine"):
        ufm.minimum(**options, mean=[1.0, 0.0], lambda_b=0.1, d=1)
    narrow = ufm.minimum(**options, d=1)
    with pytest.raises(ValueError, match="d is 3; 1, which this minimum is of, is expected"):
        narrow.weights(d=3)
    with pytest.raises(ValueError, match=r"rotation has shape \(2, 1\); \(1, 1\) is expected"):
        narrow.weights(np.ones((2, 1)))
    with pytest.raises(ValueError, match="d is 0; a number of features from 1 on is expected"):
        ufm.minimum(**options).weights(d=0)
    # What is not kept needs no room.
    assert ufm.minimum(**(options | {"lambda_W": 15.0})).weights(d=1).shape == (2, 1)


# ---- laws ----


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(-8.0, 0.0))
def test_more_room_costs_less(seed: int, d: int, decade: float) -> None:
    """Each direction that finds room takes ``(sqrt(lambda) - sqrt(c))_+^2/2`` from the loss."""
    covariance = np.cov(np.random.default_rng(seed).standard_normal((9, 5)).T)
    penalties = {"lambda_W": 1.0, "lambda_H": 10.0**decade}
    one, more = (ufm.minimum(covariance=covariance, **penalties, d=width) for width in (d, d + 1))
    value = np.linalg.eigvalsh(covariance)[::-1][d]
    gain = 0.5 * max(math.sqrt(value) - math.sqrt(10.0**decade), 0.0) ** 2
    size = float(np.trace(covariance))
    assert one.loss - more.loss == pytest.approx(gain, abs=16 * EPS * size)
    assert one.rank <= min(d, more.rank)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_outputs_in_another_order_or_rotated(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    targets, penalties = rng.standard_normal((12, 4)), {"lambda_W": 1.0, "lambda_H": 0.01}
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    one = ufm.minimum(targets, **penalties, d=d)
    for turn in (np.eye(4)[rng.permutation(4)], rotation):
        other = ufm.minimum(targets @ turn.T, **penalties, d=d)
        values = np.linalg.eigvalsh(np.cov(targets.T, bias=True))[::-1]
        moved = 64 * EPS * values[0] / (values[d - 1] - values[d])
        assert other.loss == pytest.approx(one.loss, rel=1e-13)
        assert np.linalg.norm(turn.T @ other.gram @ turn - one.gram) <= moved * np.linalg.norm(one.gram) + (
            one.bounds["gram"] + other.bounds["gram"]
        )
