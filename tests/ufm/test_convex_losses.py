"""Convex losses against their definitions: values and conjugates with many digits, derivatives by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nrc_fast.ufm.convex_losses import (
    Absolute,
    ConvexLoss,
    CrossEntropy,
    Curvature,
    Huber,
    Logistic,
    SmoothedAbsolute,
    Squared,
)

EPS = float(np.finfo(np.float64).eps)
LABELS = np.array([0, 2, 1, 1])
ANSWERS = np.array([[True, False, True], [False, False, True], [True, True, True], [False, True, False]])
LOSSES: dict[str, ConvexLoss] = {
    "squared": Squared(),
    "huber": Huber(0.7),
    "absolute": Absolute(),
    "smoothed": SmoothedAbsolute(0.1),
    "logistic": Logistic(ANSWERS),
    "cross_entropy": CrossEntropy(LABELS),
}


def exact_value(name: str, r: Any, k: int, mp: Any) -> Any:
    """l(r) of row k with 50 digits."""
    r = [mp.mpf(float(value)) for value in r]
    if name == "squared":
        return sum(value**2 for value in r) / 2
    if name == "huber":
        delta = mp.mpf(0.7)
        return sum(v**2 / 2 if abs(v) <= delta else delta * abs(v) - delta**2 / 2 for v in r)
    if name == "absolute":
        return sum(abs(value) for value in r)
    if name == "smoothed":
        w = mp.mpf(0.1)
        t = [mp.sqrt(v**2 + w**2) for v in r]
        return sum(v - w - w * mp.log((v + w) / (2 * w)) for v in t)
    if name == "logistic":
        return sum(mp.log(1 + mp.exp(v)) - (v if y else 0) for v, y in zip(r, ANSWERS[k], strict=True))
    return mp.log(sum(mp.exp(v) for v in r)) - r[LABELS[k]]


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("size", [1e-3, 1.0, 40.0])
def test_values_to_the_last_digits(name: str, size: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        r = size * np.random.default_rng(3).standard_normal((4, 3))
        values = LOSSES[name].values(r)
        exact = [exact_value(name, row, k, mpmath.mp) for k, row in enumerate(r)]
        # Relative to the value, whatever its size: differences of nearly equal numbers are not taken.
        for value, wanted in zip(values, exact, strict=True):
            assert abs(value - wanted) <= (16 * EPS + 4 * EPS * size) * wanted + (4e-16 * size if size > 1 else 0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "absolute"])
def test_gradients_and_curvatures_are_derivatives(name: str) -> None:
    loss, rng = LOSSES[name], np.random.default_rng(5)
    r, move, step = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), 1e-5
    slope = (loss.values(r + step * move) - loss.values(r - step * move)) / (2 * step)
    np.testing.assert_allclose(slope, np.sum(loss.gradients(r) * move, axis=1), rtol=0, atol=1e-8)
    curvature = loss.curvature(r)
    matrices = [
        np.diag(q) - (np.outer(q, q) if curvature.is_of_probabilities else 0.0)
        for q in np.broadcast_to(curvature.diagonal, (4, 3))
    ]
    bend = (loss.gradients(r + step * move) - loss.gradients(r - step * move)) / (2 * step)
    np.testing.assert_allclose(bend, np.einsum("mij,mj->mi", np.array(matrices), move), rtol=0, atol=1e-7)
    assert max(np.linalg.eigvalsh(matrix)[-1] for matrix in matrices) <= (
        loss.smoothness * (1 + EPS) if np.isfinite(loss.smoothness) else 1 / 0.1
    )
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    mean = sum(share * matrix for share, matrix in zip(shares, matrices, strict=True))
    np.testing.assert_allclose(curvature.mean(shares), mean, rtol=0, atol=4 * EPS)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "smoothed"])
def test_fenchel_and_young(name: str) -> None:
    """l(r) + l*(u) >= u.r, with equality where u is the gradient at r."""
    loss, rng = LOSSES[name], np.random.default_rng(6)
    r, other = 3.0 * rng.standard_normal((2, 4, 3))
    u = loss.gradients(r)
    products = np.sum(u * r, axis=1)
    np.testing.assert_allclose(loss.values(r) + loss.conjugates(u), products, rtol=0, atol=64 * EPS)
    for factor in (0.0, 0.5, 1.0):
        left = loss.values(other) + loss.conjugates(factor * u) - factor * np.sum(u * other, axis=1)
        assert left.min() >= -64 * EPS


def test_confident_logits_keep_their_digits() -> None:
    loss = CrossEntropy(np.array([0]))
    assert loss.values(np.array([[80.0, 0.0, 0.0]]))[0] == pytest.approx(2.0 * np.exp(-80.0), rel=1e-14)
    assert loss.gradients(np.array([[80.0, 0.0, 0.0]]))[0, 0] == pytest.approx(-2.0 * np.exp(-80.0), rel=1e-14)
    assert loss.values(np.array([[-800.0, 0.0, 0.0]]))[0] == pytest.approx(800.0 + np.log(2.0), rel=1e-15)
    answers = Logistic(np.array([[True]]))
    assert answers.values(np.array([[80.0]]))[0] == pytest.approx(np.exp(-80.0), rel=1e-13)
    assert answers.gradients(np.array([[80.0]]))[0, 0] == pytest.approx(-np.exp(-80.0), rel=1e-13)


@given(st.integers(0, 10**6), st.sampled_from(["squared", "huber", "absolute", "logistic", "cross_entropy"]))
def test_balanced_gradients_have_mean_zero_and_a_conjugate(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    classes = 3
    rows = 12
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    answers = np.vstack(
        [np.ones((1, classes), bool), np.zeros((1, classes), bool), rng.random((rows - 2, classes)) < 0.5]
    )
    losses: dict[str, ConvexLoss] = {**LOSSES, "logistic": Logistic(answers), "cross_entropy": CrossEntropy(labels)}
    loss = losses[name]
    shares = rng.uniform(0.5, 1.5, rows)
    shares /= shares.sum()
    r = rng.standard_normal((rows, classes))
    gradients = loss.gradients(r)
    balanced = loss.balanced(r, shares, gradients)
    assert np.abs(shares @ balanced).max() < 1e-12
    assert np.isfinite(loss.conjugates(balanced)).all()
    low, high = {"huber": (-0.7, 0.7), "squared": (-np.inf, np.inf)}.get(name, (-1.0, 1.0))
    assert low <= balanced.min()
    assert balanced.max() <= high


@pytest.mark.parametrize("is_of_probabilities", [False, True])
def test_responses_are_inverses(is_of_probabilities: bool) -> None:
    """(Q^-1 + P)^-1 = Q - Q (P^-1 + Q)^-1 Q, also of a singular Q."""
    rng = np.random.default_rng(8)
    q = rng.uniform(0.1, 1.0, (5, 4))
    q /= q.sum(axis=1, keepdims=True)
    factor = rng.standard_normal((4, 4))
    gram = factor @ factor.T
    found = Curvature(q, is_of_probabilities).responses(gram)
    for row, matrix in zip(q, found, strict=True):
        Q = np.diag(row) - (np.outer(row, row) if is_of_probabilities else 0.0)
        np.testing.assert_allclose(matrix, Q - Q @ np.linalg.inv(np.linalg.inv(gram) + Q) @ Q, rtol=0, atol=1e-13)


def test_responses_of_curvatures_of_any_size() -> None:
    """Of one output that is fitted and one that is free: the first keeps its digits."""
    gram = np.array([[2.0, 0.9], [0.9, 1.0]])
    found = Curvature(np.array([[1e12, 1e-12], [0.0, 1.0]])).responses(gram)
    np.testing.assert_allclose(found[0], [[0.5, -0.45e-12], [-0.45e-12, 1e-12]], rtol=1e-11)
    np.testing.assert_allclose(found[1], [[0.0, 0.0], [0.0, 0.5]], rtol=1e-15)
