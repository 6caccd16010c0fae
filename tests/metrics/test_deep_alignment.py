"""NRC3 of depth m: the minima of deep heads, its formula to 50 digits, and a search that misses no minimum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ufm_reference import covariance_with

from nrc_fast.metrics.alignment import head_gram
from nrc_fast.metrics.deep_alignment import DeepAlignment
from nrc_fast.ufm import deep

mp = pytest.importorskip("mpmath")

from support.exact_heads import (  # noqa: E402 - mpmath may be missing
    exact_best,
    exact_deep_nrc3,
    largest_gamma,
    rotated,
)

EPSILON = 2.0**-52


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with mp.workdps(45):
        yield


def threshold(value: float, m: int) -> float:
    return float(value**m * (m - 1) ** (m - 1) / m ** (2 * m))


@pytest.mark.parametrize("m", [2, 3, 4, 7])
@pytest.mark.parametrize("share", [1e-9, 0.1, 0.7, 0.999])
def test_it_vanishes_at_deep_minima_at_their_product_of_penalties(m: int, share: float) -> None:
    covariance = covariance_with([3.0, 1.0, 0.4], seed=m)
    product = share * threshold(0.4, m)
    penalties = product ** (1 / (m + 1)) * 4.0 ** np.linspace(-1.0, 1.0, m + 1)  # not the same for all layers
    found = deep(covariance=covariance, lambda_W=list(penalties[:-1]), lambda_H=penalties[-1])
    assert found.rank == 3
    alignment = DeepAlignment(head_gram(found.weights(5)[-1]), covariance, layers=m)
    gamma, value = alignment.best_gamma(), alignment.smallest_nrc3()
    bounds = alignment.bounds(gamma, 0.0)
    assert abs(gamma - found.penalty_product) <= bounds[0] <= 1e-3 * found.penalty_product
    assert value <= bounds[1] < 1e-27
    assert alignment.nrc3(found.penalty_product) < 1e-27
    other = DeepAlignment(head_gram(found.weights(5)[-1]), covariance, layers=m + 1)
    assert other.smallest_nrc3() > 1e-5  # depths are told apart
    # Other layers are rotated: these have the same eigenvalues up to their penalty, in another basis.
    first = np.linalg.svd(found.weights(5)[0], compute_uv=False)[:3] ** 2
    last = np.linalg.eigvalsh(head_gram(found.weights(5)[-1]))[::-1]
    np.testing.assert_allclose(first * penalties[0], last * penalties[-2], rtol=1e-12)


def problem(seed: int) -> tuple[Any, Any, int]:
    """A head and a covariance: random, ill conditioned, nearly equal, stored in float32, and close to a minimum."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    spread = [1.0, 3.0, 8.0, 1e-6, 1e-12][seed % 5]
    values = 10.0 ** (-spread * np.sort(rng.uniform(0, 1, n))) * 10.0 ** rng.uniform(-9, 9)
    covariance = covariance_with(values, seed)
    if seed % 3 == 0:
        covariance = covariance.astype(np.float32).astype(np.float64)
        covariance += 1e-6 * np.eye(n) * np.abs(covariance).max()
    W = rng.standard_normal((n, 7))
    if seed % 2 == 0:
        penalty = (rng.uniform(0.0, 1.0) * threshold(np.linalg.eigvalsh(covariance)[0], m)) ** (1 / (m + 1))
        exact = deep(covariance=covariance, lambda_W=[penalty] * m, lambda_H=penalty).weights(7)[-1]
        W = exact + 10.0 ** rng.uniform(-12, -2) * np.abs(exact).max() * W
    return (W.astype(np.float32).astype(np.float64) if seed % 3 == 1 else W), covariance, m


@pytest.mark.parametrize("first", [0, 8])
def test_values_and_their_minimum_within_their_bounds(first: int) -> None:
    ratios = []
    for seed in range(first, first + 8):
        W, covariance, m = problem(seed)
        alignment = DeepAlignment(head_gram(W), covariance, layers=m)
        values, gram = rotated(W, covariance)
        most = largest_gamma(values[-1], m)
        for share in (1e-6, 0.3, 0.9):
            gamma = share * float(most)
            exact = exact_deep_nrc3(values, gram, mp.mpf(gamma), m)
            bound = alignment.nrc3_bound(gamma, 0.0)
            assert abs(alignment.nrc3(gamma) - exact) <= bound, (seed, share)
            ratios.append(float(bound / abs(alignment.nrc3(gamma) - exact)))
        value, gamma = exact_best(values, gram, m)
        gamma_bound, bound = alignment.bounds(alignment.best_gamma(), 0.0)
        assert abs(alignment.smallest_nrc3() - value) <= bound, seed
        # The search in many digits stops at an interval of 1e-13 of the largest gamma.
        assert abs(alignment.best_gamma() - gamma) <= gamma_bound + 1e-12 * float(most), seed
    assert np.median(ratios) < 3000.0  # a bound that says something


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(2, 8), st.floats(0.0, 6.0))
def test_no_minimum_is_missed(seed: int, n: int, m: int, condition: float) -> None:
    rng = np.random.default_rng(seed)
    covariance = covariance_with(10.0 ** (-condition * rng.uniform(0, 1, n)), seed)
    weights = np.linalg.eigh(covariance)[1] * np.exp(2.0 * rng.standard_normal(n)) @ rng.standard_normal((n, n))
    alignment = DeepAlignment(head_gram(weights), covariance, layers=m)
    gammas = np.linspace(0.0, 1.0, 2001) ** (m + 1) * alignment.most_gamma()
    curve = alignment.nrc3_curve(gammas)
    assert not np.isnan(curve).any()
    value = alignment.smallest_nrc3()
    assert value <= curve.min() + 4 * EPSILON
    nearest = int(np.argmin(curve))
    around = curve[max(nearest - 1, 0) : nearest + 2]
    assert value >= curve.min() - 2.0 * float(np.ptp(around)) - 4 * EPSILON  # and it is on the curve
    assert alignment._best.missed < 1e-12


@pytest.mark.parametrize(("values", "place"), [([0.894, 0.429, 0.132], 0.0), ([0.934, 0.502, 0.197], 1.0)])
def test_of_two_minima_the_lower_one_is_found(values: list[float], place: float) -> None:
    """W W^T of the middle direction alone is far from all minima of the model: NRC3 rises between two of its own."""
    alignment = DeepAlignment(np.diag([0.0, 1.0, 0.0]), np.diag(values), layers=2)
    curve = alignment.nrc3_curve(np.linspace(0.0, 1.0, 401) ** 3 * alignment.most_gamma())
    assert curve.max() > max(curve[0], curve[-1]) + 1e-3
    assert alignment.smallest_nrc3() == pytest.approx(curve.min(), rel=1e-14)
    assert alignment.best_gamma() == pytest.approx(place * alignment.most_gamma(), rel=1e-14)


@pytest.mark.parametrize("error", [0.0, 1e-13, 1e-6, 1e-2])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_minima_of_every_covariance_within_the_error_are_in_the_bounds(error: float, share: float) -> None:
    rng = np.random.default_rng(int(share * 10))
    covariance, m = covariance_with([3.0, 1.0, 0.3], seed=1), 2
    penalty = (share * threshold(0.3, m)) ** (1 / (m + 1)) or 1e-9
    exact = deep(covariance=covariance, lambda_W=[penalty] * m, lambda_H=penalty).weights(8)[-1]
    for noise in (0.0, 0.1):
        gram = head_gram(exact + noise * rng.standard_normal(exact.shape))
        alignment = DeepAlignment(gram, covariance, layers=m)
        gamma, value = alignment.best_gamma(), alignment.smallest_nrc3()
        gamma_bound, bound = alignment.bounds(gamma, error)
        at_half = 0.5 * alignment.most_gamma()
        for _ in range(8):
            change = rng.standard_normal((3, 3))
            change = error * (change + change.T) / np.linalg.norm(change + change.T)
            other = DeepAlignment(gram, covariance + change, layers=m)
            assert abs(other.best_gamma() - gamma) <= gamma_bound
            assert abs(other.smallest_nrc3() - value) <= bound
            moved = abs(other.nrc3(at_half) - alignment.nrc3(at_half))
            assert moved <= alignment.nrc3_bound(at_half, error)


def test_where_it_is_not_defined() -> None:
    gram, covariance, zero = np.diag([2.0, 1.0]), np.diag([3.0, 1.0]), np.zeros((2, 2))
    one = np.ones((1, 1))
    for first, second in ((one, one), (zero, covariance), (gram, zero)):
        alignment = DeepAlignment(first, second, layers=3)
        for number in (alignment.nrc3(0.0), alignment.best_gamma(), alignment.smallest_nrc3()):
            assert math.isnan(number)
        assert all(math.isnan(bound) for bound in alignment.bounds(0.0, 0.0))
        assert math.isnan(alignment.nrc3_bound(0.0, 0.0))
    beyond = DeepAlignment(gram, covariance, layers=2).nrc3_curve(np.array([-1.0, 0.0, 0.0625, 0.063]))
    assert np.isnan(beyond).tolist() == [True, False, False, True]  # lambda_min^2/16 is the largest


def test_singular_and_isotropic_covariances_leave_gamma_zero() -> None:
    one_hot = np.eye(4) / 4 - np.full((4, 4), 1 / 16)
    for m in (2, 5):
        collapsed = DeepAlignment(one_hot, one_hot, layers=m)
        assert (collapsed.best_gamma(), collapsed.most_gamma()) == (0.0, 0.0)
        assert collapsed.smallest_nrc3() < 1e-28
        gram = head_gram(np.random.default_rng(m).standard_normal((3, 5)))
        flat = DeepAlignment(gram, 0.3 * np.eye(3), layers=m)
        assert flat.best_gamma() == 0.0
        expected = 2 - 2 * np.trace(gram) / (math.sqrt(3) * np.linalg.norm(gram))
        np.testing.assert_allclose(flat.nrc3_curve(np.linspace(0, 1, 5) * flat.most_gamma()), expected, rtol=1e-13)


def test_very_many_layers() -> None:
    """Powers of thousands, whose mantissas alone leave the range of float64."""
    W, covariance, m = np.random.default_rng(3).standard_normal((3, 6)), np.diag([3.0, 1.0, 1.0 - 1e-3]), 3000
    alignment = DeepAlignment(head_gram(W), 1e6 * covariance, layers=m)
    values, gram = rotated(W, covariance)
    value, _ = exact_best(values, gram, m, points=8)
    assert abs(alignment.smallest_nrc3() - value) <= alignment.smallest_nrc3_bound(0.0) < 1e-12
    assert alignment.best_gamma() in (0.0, math.inf)


@pytest.mark.parametrize("m", [2, 6, 10])
@pytest.mark.parametrize("scale", [1e-250, 1e-40, 1e40, 1e250])
def test_targets_of_any_scale(m: int, scale: float) -> None:
    """NRC3 stays where products of penalties are beyond float64."""
    covariance = covariance_with([2.0, 1.0, 0.5], seed=3)
    W = np.random.default_rng(m).standard_normal((3, 6))
    one, other = (DeepAlignment(head_gram(W), part, layers=m) for part in (covariance, scale * covariance))
    assert other.smallest_nrc3() == pytest.approx(one.smallest_nrc3(), rel=1e-12)
    exact = mp.mpf(one.best_gamma()) * mp.mpf(scale) ** m
    if exact < mp.mpf(10) ** -330:
        assert other.best_gamma() == 0.0
    elif exact > mp.mpf(10) ** 309:
        assert other.best_gamma() == math.inf
    else:
        bound = other.bounds(other.best_gamma(), 0.0)[0]
        assert abs(other.best_gamma() - exact) <= 2.0 * bound + 1e-6 * float(exact)
