"""NRC3 and its best gamma, against the references and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.ufm_reference import covariance_with

import nrc_fast as nrc
from nrc_fast.base import linalg
from nrc_fast.metrics.alignment import HeadAlignment, head_gram, long_head_shape
from nrc_fast.testing import reference_nrc3, reference_nrc3_gamma, ufm_optimum

EPS = float(np.finfo(np.float64).eps)
PENALTIES = [(0.5, 0.002), (0.002, 0.5), (0.01, 0.01), (3.0, 0.0001), (0.07, 0.3)]


def covariance_of(targets: Any) -> Any:
    deviations = targets - targets.mean(axis=0)
    return deviations.T @ deviations / len(targets)


def random_covariance(n: int, condition: float, seed: int) -> Any:
    basis = linalg.orthonormalize(np.random.default_rng(seed).standard_normal((n, n)))
    return (basis * np.geomspace(1.0, 1.0 / condition, n)) @ basis.T


def root_error(covariance: Any) -> float:
    """Bound the error of Sigma^(1/2): that of an eigenvalue, 4 n eps lambda_1, over twice the least root."""
    values = np.linalg.eigvalsh(covariance)
    return float(4 * len(values) * EPS * values[-1] / (2 * np.sqrt(values[0])))


def gamma_tolerance(covariance: Any, gamma: float) -> float:
    """Bound the error of gamma where the stationary point tau/n - t q / (n p) is the minimum and NRC3 = 0.

    The mean root is off by root_error, and q/p by relative 3 root_error / |S0| + n eps |S| / |S0|.
    """
    roots = np.sqrt(np.linalg.eigvalsh(covariance))
    spread = np.linalg.norm(roots - roots.mean())
    error = root_error(covariance)
    relative = 3 * error / spread + len(roots) * EPS * np.linalg.norm(roots) / spread
    return float(2 * math.sqrt(gamma) * (error + roots[-1] * relative))


def value_tolerance(covariance: Any, gamma: float) -> float:
    """Bound the error of NRC3: a matrix off by e moves it by 2 sqrt(NRC3) 2 e / norm <= 8 e / norm."""
    roots = np.sqrt(np.linalg.eigvalsh(covariance))
    norm = np.linalg.norm(roots - math.sqrt(gamma))
    return float(8 * root_error(covariance) / norm + 8 * len(roots) * EPS)


def test_head_gram_is_the_product(peer_a: Any) -> None:
    gram = head_gram(peer_a.weights)
    for i in range(3):
        for j in range(3):
            assert gram[i, j] == pytest.approx(sum(peer_a.weights[i] * peer_a.weights[j]), rel=1e-14)


def test_numbers_of_other_packages(peer: Any) -> None:
    targets = covariance_of(peer.targets)
    alignment = HeadAlignment(head_gram(peer.weights), targets)
    np.testing.assert_allclose(alignment.eigenvalues[::-1], peer.target_eigenvalues, rtol=1e-12)
    assert alignment.best_gamma() == 0.0
    for gamma, key in [(0.0, "nrc3"), (0.01, "nrc3_at_0.01"), (0.1, "nrc3_at_0.1")]:
        assert alignment.nrc3(gamma) == pytest.approx(peer.numbers[key], rel=1e-12)
    at_smallest = alignment.nrc3(alignment.eigenvalues[-1])
    assert at_smallest == pytest.approx(peer.numbers["nrc3_at_lambda_min"], rel=1e-12)


def test_a_stationary_point_can_be_a_maximum(peer_a: Any) -> None:
    covariance = covariance_of(peer_a.targets)
    gram = head_gram(peer_a.weights)
    root = peer_a.numbers["stationary_root"]
    below, there, above = HeadAlignment(gram, covariance).nrc3_curve(np.array([root - 1e-4, root, root + 1e-4]) ** 2)
    assert there == pytest.approx(3.9227, abs=5e-5)  # four decimals are known
    assert there > max(below, above)
    assert HeadAlignment(gram, covariance).best_gamma() == 0.0
    assert HeadAlignment(gram, covariance).nrc3(0.0) == pytest.approx(peer_a.numbers["nrc3"], rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(("lambda_W", "lambda_H"), PENALTIES)
def test_gamma_is_c_at_the_ufm_optimum(n: int, lambda_W: float, lambda_H: float) -> None:
    c = lambda_W * lambda_H
    wanted = 0.2 * n * random_covariance(n, condition=3.0, seed=n)
    _, weights, _, targets = ufm_optimum(wanted, 4 * n, lambda_W, lambda_H, seed=n)
    gram, covariance = head_gram(weights), covariance_of(targets)
    assert c < np.linalg.eigvalsh(covariance)[0]
    gamma = HeadAlignment(gram, covariance).best_gamma()
    assert gamma == pytest.approx(c, rel=0, abs=gamma_tolerance(covariance, c))
    for value in (gamma, c):
        assert HeadAlignment(gram, covariance).nrc3(value) < min(value_tolerance(covariance, c) ** 2, 1e-24)


def test_gamma_is_lambda_min_where_the_stationary_point_lies_above() -> None:
    # The UFM optimum for S = diag(4, 2, 1) and the root of c 1.5 has lost the third direction. The stationary
    # point tau/n - t q / (n p) = 7/3 - 3 (42/9) / (3 * 4) = 7/6 is beyond the smallest root, 1.
    covariance, gram = np.diag([16.0, 4.0, 1.0]), np.diag([2.5, 0.5, 0.0])
    assert HeadAlignment(gram, covariance).best_gamma() == 1.0
    stationary = HeadAlignment(gram, covariance).nrc3_curve((7 / 6 + np.array([-1e-3, 0.0, 1e-3])) ** 2)
    assert stationary[1] == min(stationary)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 5),
    log_condition=st.floats(0.1, 6.0),
    reverse=st.booleans(),
    log_scale=st.integers(-8, 8),
)
def test_optimal_gamma_against_a_search(seed: int, n: int, log_condition: float, reverse: bool, log_scale: int) -> None:
    rng = np.random.default_rng(seed)
    covariance = 10.0**log_scale * random_covariance(n, 10.0**log_condition, seed)
    values, vectors = linalg.eigh_descending(covariance)
    strengths = np.sort(rng.uniform(0.1, 1.0, n))[:: 1 if reverse else -1]
    weights = (vectors * strengths).T @ vectors.T + 0.05 * rng.standard_normal((n, n))
    gram = head_gram(weights)
    roots = np.sqrt(values)
    p = np.diagonal(vectors.T @ gram @ vectors) @ (roots - roots.mean())
    assume((p < 0) == reverse)
    # These 2 n targets have mean zero and the covariance V diag(values) V^T.
    half = np.sqrt(n * values)[:, np.newaxis] * vectors.T
    targets = np.concatenate([half, -half])

    alignment = HeadAlignment(gram, covariance)
    gamma = alignment.best_gamma()
    assert 0.0 <= gamma <= alignment.eigenvalues[-1]
    found = HeadAlignment(gram, covariance).nrc3(gamma)
    searched = reference_nrc3_gamma(weights, targets)
    tolerance = value_tolerance(covariance, max(gamma, searched))
    assert found == pytest.approx(reference_nrc3(weights, targets), rel=0, abs=tolerance)
    assert found == pytest.approx(reference_nrc3(weights, targets, gamma=gamma), rel=0, abs=tolerance)
    if reverse:
        assert gamma == 0.0


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e300])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_nothing_depends_on_gamma_for_a_multiple_of_the_identity(n: int, scale: float) -> None:
    gram = head_gram(np.random.default_rng(n).standard_normal((n, n + 2)))
    # NRC3 = 2 - 2 tr G / (sqrt(n) |G|) for every gamma below lambda_min.
    expected = 2 - 2 * np.trace(gram) / (math.sqrt(n) * np.linalg.norm(gram))
    basis = linalg.orthonormalize(np.random.default_rng(n + 1).standard_normal((n, n)))
    for covariance in (scale * np.eye(n), (basis * scale) @ basis.T):
        assert HeadAlignment(gram, covariance).best_gamma() == 0.0
        curve = HeadAlignment(gram, covariance).nrc3_curve(scale * np.array([0.0, 0.3, 0.81]))
        # Rounding of the roots, 4 n eps, counts ten times where nine tenths of the root are taken away.
        np.testing.assert_allclose(curve, expected, rtol=0, atol=10 * 4 * n * EPS * 4)
        assert math.isnan(HeadAlignment(gram, covariance).nrc3(scale))


def test_a_singular_covariance_leaves_gamma_zero() -> None:
    one_hot = np.eye(4) / 4 - np.full((4, 4), 1 / 16)
    for seed in range(10):
        gram = head_gram(np.random.default_rng(seed).standard_normal((4, 6)))
        assert HeadAlignment(gram, one_hot).best_gamma() == 0.0
    # Collapse on one-hot targets is exact: the eigenvalue that is 0 does not come back as the root of 1e-17.
    assert HeadAlignment(one_hot, one_hot).nrc3(0.0) < 1e-28


@pytest.mark.parametrize("power", [-330, -40, 40, 330])
def test_nrc3_does_not_see_the_scale_of_the_weights(peer: Any, power: int) -> None:
    covariance = covariance_of(peer.targets)
    gammas = np.array([0.0, 0.01, 0.1])
    plain = HeadAlignment(head_gram(peer.weights), covariance).nrc3_curve(gammas)
    # 2^-330 is 1e-100: the squares of the Gram's entries are out of range.
    scaled = HeadAlignment(head_gram(np.ldexp(peer.weights, power)), covariance).nrc3_curve(gammas)
    assert np.array_equal(plain, scaled)


@pytest.mark.parametrize("scale", [1e-100, 1e-3, 7.0, 1e100])
def test_gamma_does_not_see_the_scale_of_the_weights(scale: float) -> None:
    _, weights, _, targets = ufm_optimum(random_covariance(3, 5.0, seed=2), 8, 0.5, 0.002, seed=3)
    covariance = covariance_of(targets)
    gram = head_gram(scale * weights)
    tolerance = gamma_tolerance(covariance, 0.001)
    assert HeadAlignment(gram, covariance).best_gamma() == pytest.approx(0.001, rel=0, abs=tolerance)
    assert HeadAlignment(gram, covariance).nrc3(0.001) < 1e-24


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_gamma_has_the_units_of_the_covariance(scale: float) -> None:
    covariance = random_covariance(3, 5.0, seed=2)
    gram = linalg.positive_sqrt(covariance) - 0.2 * np.eye(3)
    gamma = HeadAlignment(gram, scale * covariance).best_gamma()
    assert gamma == pytest.approx(0.04 * scale, rel=gamma_tolerance(covariance, 0.04) / 0.04)
    assert HeadAlignment(gram, scale * covariance).nrc3(gamma) < 1e-24


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(0, 20))
def test_a_curve_is_its_values(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    gram, covariance = random_covariance(n, 4.0, seed), random_covariance(n, 30.0, seed + 1)
    gammas = rng.uniform(0.0, 2.0, count)
    alignment = HeadAlignment(gram, covariance)
    curve = alignment.nrc3_curve(gammas)
    # The one is rounded once, the other at every step: roots, differences, norms, quotients and n squares.
    values = np.array([alignment.nrc3(gamma) for gamma in gammas])
    assert np.all(np.abs(curve - values) <= (16 + 2 * n) * 2.0**-52 * np.sqrt(values))
    assert np.all((curve >= 0) & (curve <= 4))


def test_nrc3_is_nan_where_it_is_not_defined() -> None:
    gram, covariance, zero = np.diag([2.0, 1.0]), np.diag([3.0, 1.0]), np.zeros((2, 2))
    one = np.ones((1, 1))
    assert math.isnan(HeadAlignment(one, one).nrc3(0.1))
    assert math.isnan(HeadAlignment(one, one).best_gamma())
    assert math.isnan(HeadAlignment(zero, covariance).nrc3(0.1))
    assert math.isnan(HeadAlignment(zero, covariance).best_gamma())
    assert math.isnan(HeadAlignment(gram, zero).nrc3(0.0))
    assert math.isnan(HeadAlignment(gram, zero).best_gamma())
    negative, positive = HeadAlignment(gram, covariance).nrc3_curve(np.array([-1.0, 0.5]))
    assert math.isnan(negative)
    assert 0.0 < positive < 4.0


@pytest.mark.parametrize("spread", [0.0, 1e-15, 1e-12, 1e-6, 0.3])
def test_gamma_of_every_covariance_within_the_error_is_in_the_range(spread: float) -> None:
    """Changes of Sigma as large as its error move gamma and NRC3 no further than their bounds."""
    rng = np.random.default_rng(5)
    n, error = 3, 1e-13
    sigma, head = np.diag(1.0 + spread * np.arange(n)), rng.standard_normal((n, 8))
    alignment = HeadAlignment(head_gram(head), sigma)
    gamma = alignment.best_gamma()
    lowest, highest = alignment.gamma_range(error)
    bound, nrc3_bound = alignment.bounds(gamma, error)
    assert lowest <= gamma <= highest
    found = []
    for _ in range(50):
        change = rng.standard_normal((n, n))
        change = error * (change + change.T) / np.linalg.norm(change + change.T, 2)
        other = HeadAlignment(head_gram(head), sigma + change)
        found.append(other.best_gamma())
        assert abs(found[-1] - gamma) <= bound
        assert abs(other.nrc3(found[-1]) - alignment.nrc3(gamma)) <= nrc3_bound
    if spread <= 1e-15:
        assert max(found) - min(found) > 0.8  # nothing is known of gamma, and the bound says so
        assert (lowest, round(highest, 9)) == (0.0, 1.0)
    if spread >= 1e-6:
        assert bound < 1e-5


@pytest.mark.parametrize(("n", "d"), [(2, 64), (3, 700), (5, 7)])
def test_shapes_of_heads_have_twice_the_digits(n: int, d: int) -> None:
    """And the error of the shape is counted where nothing else is off."""
    W = np.random.default_rng(d).standard_normal((n, d)) * np.geomspace(1.0, 1e-3, d)
    rows = [[Fraction(entry) for entry in row] for row in W.tolist()]
    exact = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    found = long_head_shape(W)
    shape = found.matrix
    trace = sum(exact[i][i] for i in range(n))
    unit = Fraction(2) ** round(math.log2(float(np.trace(shape.high)) / float(trace)))
    off = [
        Fraction(float(shape.high[i, j])) + Fraction(float(shape.low[i, j])) - unit * exact[i][j]
        for i in range(n)
        for j in range(n)
    ]
    least = float(sum(entry**2 for entry in off)) ** 0.5
    assert least <= found.error
    assert (
        HeadAlignment(found, np.diag(np.arange(1.0, n + 1.0))).gram_error * float(np.linalg.norm(shape.high)) >= least
    )


@pytest.mark.parametrize("seed", range(6))
def test_heads_that_are_roots_to_a_rounding_are_within_their_bounds(seed: int) -> None:
    """NRC3 of 1e-30: what W W^T is off by before it is rounded counts."""
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(seed)
    n = 2 + seed % 3
    covariance = covariance_with(np.geomspace(1.0, 10.0 ** -rng.uniform(0.5, 3.0), n).tolist(), seed)
    values, vectors = np.linalg.eigh(covariance)
    W = vectors * values**0.25 @ np.linalg.qr(rng.standard_normal((9, n)))[0].T
    found, bound = nrc.nrc3(W, covariance=covariance, gamma=0.0, return_bound=True)
    with mp.workdps(70):
        weights = mp.matrix(W.tolist())
        squares, basis = mp.eigsy(mp.matrix(covariance.tolist()))
        pair = weights * weights.T, basis * mp.diag([mp.sqrt(square) for square in squares]) * basis.T
        one, other = (part / mp.mnorm(part, "f") for part in pair)
        assert abs(mp.mpf(found) - mp.mnorm(one - other, "f") ** 2) <= mp.mpf(bound)
    assert bound < 1e-5 * found
