"""Distances of heads: against searches over rotations, the fixed point of federated averaging, and identities."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nrc_fast.ufm import aligned_distance, bures_wasserstein, minimum, optimal_gram, relative_gram_error

EPS = float(np.finfo(np.float64).eps)


def root_of(matrix: Any) -> Any:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_distance_is_that_of_the_formula(reference: Any, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (reference.covariance_with(rng.uniform(0.1, 2.0, n), seed + k) for k in range(2))
    root = root_of(first)
    square = np.trace(first) + np.trace(second) - 2 * np.trace(root_of(root @ second @ root))
    distance = bures_wasserstein(first, second)
    # The formula cancels: an error of some n^2 eps of traces of up to 2n.
    assert distance**2 == pytest.approx(square, rel=0, abs=256 * n**3 * EPS)
    assert bures_wasserstein(second, first) == pytest.approx(distance, rel=0, abs=64 * n * EPS)
    assert bures_wasserstein(first, first) < 64 * n * EPS  # and the formula is good to 1e-8 only


def test_no_rotation_brings_weights_closer() -> None:
    rng = np.random.default_rng(0)
    weights, other = rng.standard_normal((2, 5)), rng.standard_normal((2, 5))
    least = aligned_distance(weights, other)
    assert least == pytest.approx(bures_wasserstein(weights @ weights.T, other @ other.T), rel=1e-12)
    turns = [np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(300)]
    assert min(np.linalg.norm(weights - other @ turn) for turn in turns) >= least
    assert aligned_distance(weights, weights @ turns[0]) < 64 * EPS
    assert aligned_distance(weights, np.pad(other, ((0, 0), (0, 4)))) == pytest.approx(least, rel=1e-14)


def test_trained_weights_reach_the_predicted_ones(reference: Any) -> None:
    pytest.importorskip("scipy")
    targets = reference.targets_with(reference.covariance_with([1.3, 0.4], seed=1), 15, [0.5, 1.0], seed=2)
    _, W, _ = reference.optimise(targets, 4, 0.2, 0.1, seed=3)
    predicted = minimum(targets, lambda_W=0.2, lambda_H=0.1)
    assert aligned_distance(W, predicted.weights()) < 1e-4
    assert relative_gram_error(W @ W.T, predicted.gram) < 1e-4
    assert aligned_distance(1.01 * W, predicted.weights()) > 5e-3


def test_fixed_point_of_federated_averaging(reference: Any) -> None:
    """FedAvg of the closest optimal heads goes to the barycentre, below the head of the pooled targets."""
    lambda_W, lambda_H, shares = 0.1, 0.05, np.array([0.2, 0.5, 0.3])
    covariances = [reference.covariance_with([2.0, 0.9, 0.3], seed=k) for k in range(3)]
    means = np.random.default_rng(0).standard_normal((3, 3))
    heads = [optimal_gram(covariance, lambda_W=lambda_W, lambda_H=lambda_H) for covariance in covariances]
    gram = np.eye(3)
    for _ in range(100):
        root = root_of(gram)
        inverse = np.linalg.inv(root)
        # The head closest to W with Gram G_m is T_m W; its distance is that of the Grams.
        turns = [inverse @ root_of(root @ head @ root) @ inverse for head in heads]
        for turn, head in zip(turns, heads, strict=True):
            assert np.linalg.norm(turn @ root - root) == pytest.approx(bures_wasserstein(gram, head), abs=1e-12)
        average = sum(share * turn for share, turn in zip(shares, turns, strict=True))
        gram = average @ gram @ average.T
    # The barycentre is where the mean of these maps is the identity.
    np.testing.assert_allclose(average, np.eye(3), rtol=0, atol=1e-12)
    within = sum(share * covariance for share, covariance in zip(shares, covariances, strict=True))
    pooled = within + np.cov(means.T, aweights=shares, bias=True)
    chain = [
        *(gram, sum(share * head for share, head in zip(shares, heads, strict=True))),
        *(optimal_gram(matrix, lambda_W=lambda_W, lambda_H=lambda_H) for matrix in (within, pooled)),
    ]
    for lower, upper in itertools.pairwise(chain):
        assert np.linalg.eigvalsh(upper - lower)[0] > -1e-12


def test_fully_active_head_is_the_paper_s_map(reference: Any) -> None:
    covariance = reference.covariance_with([2.0, 0.9, 0.3], seed=5)
    wanted = math.sqrt(0.05 / 0.1) * root_of(covariance) - 0.05 * np.eye(3)
    found = optimal_gram(covariance, lambda_W=0.1, lambda_H=0.05)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=32 * EPS)
    assert relative_gram_error(1.1 * found, found) == pytest.approx(0.1, rel=1e-12)


def test_batches_singular_and_extreme(reference: Any) -> None:
    stack = np.stack([reference.covariance_with([1.0, 0.5], seed=k) for k in range(4)])
    together = bures_wasserstein(stack, stack[0])
    errors = relative_gram_error(stack, stack[0])
    assert together.shape == errors.shape == (4,)
    for k in range(4):
        assert together[k] == bures_wasserstein(stack[k], stack[0])
        assert errors[k] == relative_gram_error(stack[k], stack[0])
    assert bures_wasserstein(np.diag([1.0, 0.0]), np.diag([0.0, 1.0])) == pytest.approx(math.sqrt(2.0))
    assert bures_wasserstein(np.zeros((2, 2)), np.zeros((2, 2))) == 0.0
    assert bures_wasserstein([[4e200]], [[1e200]]) == pytest.approx(1e100)
    assert aligned_distance([[1e-200]], [[3e-200]]) == pytest.approx(2e-200)
    assert math.isnan(relative_gram_error(np.eye(2), np.zeros((2, 2))))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="G is not positive semidefinite"):
        bures_wasserstein(-np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="differ in size"):
        bures_wasserstein(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="differ in size"):
        relative_gram_error(np.eye(1), np.eye(2))
    with pytest.raises(ValueError, match="W has 1 rows and expected has 2"):
        aligned_distance(np.ones((1, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="not finite"):
        aligned_distance([[math.nan]], [[1.0]])
