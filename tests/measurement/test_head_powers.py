"""Heads of linear networks that were trained here: NRC3 of their depth, their exponent, and the laws of both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.linear_networks import trained, whitened_inputs
from support.ufm_reference import covariance_with, targets_with

import nrc_fast as nrc
from nrc_fast import ufm


def linear_targets(X: Any, scales: list[float], seed: int) -> Any:
    """Targets that are linear in the inputs, with these standard deviations where the inputs are whitened."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, len(scales))))[0] for size in (len(scales), X.shape[1]))
    return X @ (left * scales @ right.T).T


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_trained_linear_networks_on_whitened_inputs(layers: int) -> None:
    """All of the head is known: NRC3 of the depth L - 1 vanishes, that of depth 1 does not, and so is its scale."""
    pytest.importorskip("scipy.optimize")
    X = whitened_inputs(24, 8, seed=1)
    Y = linear_targets(X, [1.3, 0.8, 0.5], seed=layers)
    decay = 0.03
    weights, loss = trained(X, Y, decay, layers, seed=layers)
    W, expected = weights[-1], ufm.deep(Y, lambda_W=[decay] * (layers - 1), lambda_H=decay)
    assert loss == pytest.approx(expected.loss, rel=1e-13)
    shape = nrc.nrc3(W, Y, depth=layers - 1)
    assert shape < 1e-13
    if layers > 2:
        assert nrc.nrc3(W, Y) > 5e-3
        assert nrc.nrc3(W, Y, depth=layers) > 1e-4
    assert nrc.nrc3_gamma(W, Y, depth=layers - 1) == pytest.approx(decay**layers, rel=1e-4)
    assert np.trace(W @ W.T) == pytest.approx(np.sum(expected.layer_singular_values[-1] ** 2), rel=1e-6)
    exponent = nrc.head_exponent(W, Y)
    assert 1.0 / layers < exponent.exponent < 1.0 / layers + 0.05  # above the limit of weak decay
    assert exponent.outside_share < 1e-12
    # The minimum itself has the same exponent, and the last two layers are balanced.
    ideal = nrc.head_exponent(expected.weights(8)[-1], Y)
    assert exponent.exponent == pytest.approx(ideal.exponent, abs=1e-5)
    np.testing.assert_allclose(W.T @ W, weights[-2] @ weights[-2].T, rtol=0, atol=1e-6)


def test_with_correlated_inputs_only_the_product_says_what_the_head_is() -> None:
    pytest.importorskip("scipy.optimize")
    X = whitened_inputs(24, 6, seed=2) * np.array([1.0, 0.8, 0.6, 0.5, 0.4, 0.3])
    Y = linear_targets(X, [3.0, 2.0, 2.0], seed=3)
    weights, _ = trained(X, Y, 0.01, 3, seed=0)
    W, product = weights[-1], np.linalg.multi_dot(weights[::-1])
    values, vectors = np.linalg.eigh(product @ product.T)
    np.testing.assert_allclose(W @ W.T, vectors * values ** (1 / 3) @ vectors.T, rtol=0, atol=1e-6)
    assert nrc.nrc3(W, Y, depth=2) > 1e-3
    assert nrc.head_exponent(W, Y).outside_share > 1e-4


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.floats(-25, 25), st.floats(-8, 8))
def test_laws(seed: int, depth: int, of_weights: float, of_targets: float) -> None:
    """Scales of W change nothing, those of Y gamma alone; rotated outputs change nothing, and so does their order."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 5)), 7
    W = rng.standard_normal((n, d))
    Y = targets_with(covariance_with(np.geomspace(1.0, rng.uniform(0.05, 0.8), n), seed), 30, np.zeros(n), seed + 1)
    value, power = nrc.nrc3(W, Y, depth=depth), nrc.head_exponent(W, Y)
    gamma = nrc.nrc3_gamma(W, Y, depth=depth, return_bound=True)[0]
    rotation = np.linalg.qr(rng.standard_normal((n, n)))[0]
    order = rng.permutation(n)
    scale = 10.0**of_targets
    others = {
        "scale of W": (10.0**of_weights * W, Y, 1.0),
        "rotated features": (W @ np.linalg.qr(rng.standard_normal((d, d)))[0], Y, 1.0),
        "scale of Y": (W, scale * Y, scale ** (2 * depth)),
        "rotated outputs": (rotation @ W, Y @ rotation.T, 1.0),
        "order of outputs": (W[order], Y[:, order], 1.0),
    }
    for name, (weights, targets, factor) in others.items():
        assert nrc.nrc3(weights, targets, depth=depth) == pytest.approx(value, rel=1e-9), name
        # Where NRC3 is flat around its minimum gamma is known to the root of the rounding.
        found, bound = nrc.nrc3_gamma(weights, targets, depth=depth, return_bound=True)
        assert abs(found / factor - gamma) <= 2.0 * bound / factor + 1e-12 * gamma, name
        other = nrc.head_exponent(weights, targets)
        assert other.exponent == pytest.approx(power.exponent, rel=1e-8, abs=1e-9), name
        assert other.residual_share == pytest.approx(power.residual_share, rel=1e-8, abs=1e-14), name


def test_depth_one_is_what_there_was() -> None:
    rng = np.random.default_rng(0)
    W, Y = rng.standard_normal((3, 8)), rng.standard_normal((40, 3))
    assert nrc.nrc3(W, Y, depth=1, return_bound=True) == nrc.nrc3(W, Y, return_bound=True)
    assert nrc.nrc3_gamma(W, Y, depth=1, return_bound=True) == nrc.nrc3_gamma(W, Y, return_bound=True)
    np.testing.assert_array_equal(nrc.nrc3_curve(W, Y, [0.0, 0.1], depth=1), nrc.nrc3_curve(W, Y, [0.0, 0.1]))


def test_values_at_given_products_of_penalties() -> None:
    covariance = covariance_with([2.0, 1.0, 0.5], seed=0)
    gammas = [0.0, 1e-4, 0.25 / 16]
    for gamma in gammas[1:]:
        penalty = gamma ** (1 / 3) * (1.0 - 1e-12)
        W = ufm.deep(covariance=covariance, lambda_W=[penalty, penalty], lambda_H=penalty).weights()[-1]
        curve = nrc.nrc3_curve(W, None, gammas, covariance=covariance, depth=2)
        assert curve[gammas.index(gamma)] < 1e-20
        assert sorted(curve)[1] > 1e-5
        value, bound = nrc.nrc3(W, covariance=covariance, gamma=gamma, depth=2, return_bound=True)
        assert value == curve[gammas.index(gamma)]
        assert bound < 1e-15


def test_bad_input() -> None:
    W, covariance = np.eye(2), np.diag([4.0, 1.0])
    for depth in (0, -1):
        with pytest.raises(ValueError, match=f"depth is {depth}; a number of layers from 1 to 10,000"):
            nrc.nrc3(W, covariance=covariance, depth=depth)
    for depth in (1, 2, np.int64(3)):
        for found in (nrc.nrc3, nrc.nrc3_gamma):
            value = found(W, covariance=covariance, depth=depth, return_bound=True)
            assert [type(number) for number in value] == [float, float]
    for kind in (1.5, "2", True):
        with pytest.raises(TypeError, match=r"depth is .*; a whole number is expected"):
            nrc.nrc3_gamma(W, covariance=covariance, depth=kind)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"gamma is 0\.07; it must lie in \[0, the product of .*\] = \[0, 0\.0625\]"):
        nrc.nrc3(W, covariance=covariance, gamma=0.07, depth=2)
    with pytest.raises(ValueError, match="give either the targets Y or their covariance"):
        nrc.head_exponent(W)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        nrc.head_exponent(W, covariance=np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="W has 2 rows and Y has 3 columns"):
        nrc.head_exponent(W, np.ones((5, 3)))


def test_text_of_the_exponent() -> None:
    sigma = np.diag([8.0, 1.0])
    found = nrc.head_exponent(np.array([[2.0**0.5, 0.0], [0.0, 1.0]]), covariance=sigma)
    assert found.layers == pytest.approx(3.0, rel=1e-12)
    first, second, third = str(found).splitlines()
    assert first.startswith("W W^T goes like Sigma^p with p = 0.3333 (bound ")
    assert first.endswith("by 2 of 2 directions of the targets")
    assert "of |W W^T|^2 is no multiple of that power; 0 lies outside" in second
    assert (
        third
        == "  Linear networks of 2, 3, 4 layers have p = 0.5, 0.333, 0.25 at weak decay; more decay makes it larger"
    )
    assert "p = 0.3333" in found._repr_html_()
    none = nrc.head_exponent(np.eye(2), covariance=np.eye(2))
    assert repr(none).startswith("No exponent: all directions of the targets have the same variance")
    assert math.isnan(none.layers)
    falling = nrc.head_exponent(np.diag([1.0, 2.0]), covariance=sigma)
    assert falling.exponent < 0.0
    assert math.isnan(falling.layers)
