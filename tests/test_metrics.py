from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nrc_fast import linalg, metrics
from nrc_fast.testing import reference_nrc3, reference_nrc3_gamma, ufm_optimum

EPS = float(np.finfo(np.float64).eps)
PENALTIES = [(0.5, 0.002), (0.002, 0.5), (0.01, 0.01), (3.0, 0.0001), (0.07, 0.3)]


def moments(features: Any, targets: Any) -> tuple[Any, Any, Any]:
    centered, deviations = features - features.mean(axis=0), targets - targets.mean(axis=0)
    rows = len(features)
    return centered.T @ centered / rows, deviations.T @ deviations / rows, centered.T @ deviations / rows


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
    gram = metrics.head_gram(peer_a.weights)
    for i in range(3):
        for j in range(3):
            assert gram[i, j] == pytest.approx(sum(peer_a.weights[i] * peer_a.weights[j]), rel=1e-14)


def test_numbers_of_other_packages(peer: Any) -> None:
    features, targets, cross = moments(peer.features, peer.targets)
    gram = metrics.head_gram(peer.weights)
    values, _ = linalg.eigh_descending(targets)
    np.testing.assert_allclose(values[::-1], peer.target_eigenvalues, rtol=1e-12)
    assert metrics.optimal_gamma(gram, targets) == 0.0
    for gamma, key in [(0.0, "nrc3"), (0.01, "nrc3_at_0.01"), (0.1, "nrc3_at_0.1")]:
        assert metrics.nrc3_value(gram, targets, gamma) == pytest.approx(peer.numbers[key], rel=1e-12)
    at_smallest = metrics.nrc3_value(gram, targets, values[-1])
    assert at_smallest == pytest.approx(peer.numbers["nrc3_at_lambda_min"], rel=1e-12)
    spectrum, _ = linalg.eigh_descending(features)
    shares = metrics.explained_variance_ratio(spectrum)
    np.testing.assert_allclose(shares[:3], peer.explained_variance_ratio, rtol=1e-12)
    assert 1 - shares[:3].sum() == pytest.approx(peer.numbers["nrc1_variance"], rel=1e-12)
    assert metrics.stable_rank(spectrum) == pytest.approx(peer.numbers["stable_rank"], rel=1e-12)
    assert metrics.linear_cka(features, targets, cross) == pytest.approx(peer.numbers["cka"], rel=1e-12)


def test_a_stationary_point_can_be_a_maximum(peer_a: Any) -> None:
    _, covariance, _ = moments(peer_a.features, peer_a.targets)
    gram = metrics.head_gram(peer_a.weights)
    root = peer_a.numbers["stationary_root"]
    below, there, above = metrics.nrc3_curve_values(gram, covariance, np.array([root - 1e-4, root, root + 1e-4]) ** 2)
    assert there == pytest.approx(3.9227, abs=5e-5)  # four decimals are known
    assert there > max(below, above)
    assert metrics.optimal_gamma(gram, covariance) == 0.0
    assert metrics.nrc3_value(gram, covariance, 0.0) == pytest.approx(peer_a.numbers["nrc3"], rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(("lambda_W", "lambda_H"), PENALTIES)
def test_gamma_is_c_at_the_ufm_optimum(n: int, lambda_W: float, lambda_H: float) -> None:
    c = lambda_W * lambda_H
    wanted = 0.2 * n * random_covariance(n, condition=3.0, seed=n)
    _, weights, _, targets = ufm_optimum(wanted, 4 * n, lambda_W, lambda_H, seed=n)
    gram, covariance = metrics.head_gram(weights), moments(targets, targets)[0]
    assert c < np.linalg.eigvalsh(covariance)[0]
    gamma = metrics.optimal_gamma(gram, covariance)
    assert gamma == pytest.approx(c, rel=0, abs=gamma_tolerance(covariance, c))
    for value in (gamma, c):
        assert metrics.nrc3_value(gram, covariance, value) < min(value_tolerance(covariance, c) ** 2, 1e-24)


def test_gamma_is_lambda_min_where_the_stationary_point_lies_above() -> None:
    # The UFM optimum for S = diag(4, 2, 1) and the root of c 1.5 has lost the third direction. The stationary
    # point tau/n - t q / (n p) = 7/3 - 3 (42/9) / (3 * 4) = 7/6 is beyond the smallest root, 1.
    covariance, gram = np.diag([16.0, 4.0, 1.0]), np.diag([2.5, 0.5, 0.0])
    assert metrics.optimal_gamma(gram, covariance) == 1.0
    stationary = metrics.nrc3_curve_values(gram, covariance, (7 / 6 + np.array([-1e-3, 0.0, 1e-3])) ** 2)
    assert stationary[1] == min(stationary)


@settings(deadline=None)  # the search is slow
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
    gram = metrics.head_gram(weights)
    roots = np.sqrt(values)
    p = np.diagonal(vectors.T @ gram @ vectors) @ (roots - roots.mean())
    assume((p < 0) == reverse)
    # These 2 n targets have mean zero and the covariance V diag(values) V^T.
    half = np.sqrt(n * values)[:, np.newaxis] * vectors.T
    targets = np.concatenate([half, -half])

    gamma = metrics.optimal_gamma(gram, covariance)
    assert 0.0 <= gamma <= values[-1]
    found = metrics.nrc3_value(gram, covariance, gamma)
    searched = reference_nrc3_gamma(weights, targets)
    tolerance = value_tolerance(covariance, max(gamma, searched))
    assert found == pytest.approx(reference_nrc3(weights, targets), rel=0, abs=tolerance)
    assert found == pytest.approx(reference_nrc3(weights, targets, gamma=gamma), rel=0, abs=tolerance)
    if reverse:
        assert gamma == 0.0


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e300])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_nothing_depends_on_gamma_for_a_multiple_of_the_identity(n: int, scale: float) -> None:
    gram = metrics.head_gram(np.random.default_rng(n).standard_normal((n, n + 2)))
    # NRC3 = 2 - 2 tr G / (sqrt(n) |G|) for every gamma below lambda_min.
    expected = 2 - 2 * np.trace(gram) / (math.sqrt(n) * np.linalg.norm(gram))
    basis = linalg.orthonormalize(np.random.default_rng(n + 1).standard_normal((n, n)))
    for covariance in (scale * np.eye(n), (basis * scale) @ basis.T):
        assert metrics.optimal_gamma(gram, covariance) == 0.0
        curve = metrics.nrc3_curve_values(gram, covariance, scale * np.array([0.0, 0.3, 0.81]))
        # Rounding of the roots, 4 n eps, counts ten times where nine tenths of the root are taken away.
        np.testing.assert_allclose(curve, expected, rtol=0, atol=10 * 4 * n * EPS * 4)
        assert math.isnan(metrics.nrc3_value(gram, covariance, scale))


def test_a_singular_covariance_leaves_gamma_zero() -> None:
    one_hot = np.eye(4) / 4 - np.full((4, 4), 1 / 16)
    for seed in range(10):
        gram = metrics.head_gram(np.random.default_rng(seed).standard_normal((4, 6)))
        assert metrics.optimal_gamma(gram, one_hot) == 0.0
    # Collapse on one-hot targets is exact: the eigenvalue that is 0 does not come back as the root of 1e-17.
    assert metrics.nrc3_value(one_hot, one_hot, 0.0) < 1e-28


@pytest.mark.parametrize("power", [-330, -40, 40, 330])
def test_nrc3_does_not_see_the_scale_of_the_weights(peer: Any, power: int) -> None:
    covariance = moments(peer.targets, peer.targets)[0]
    gammas = np.array([0.0, 0.01, 0.1])
    plain = metrics.nrc3_curve_values(metrics.head_gram(peer.weights), covariance, gammas)
    scaled = metrics.nrc3_curve_values(
        metrics.head_gram(np.ldexp(peer.weights, power)), covariance, gammas
    )  # 2^-330 is 1e-100: the squares of the Gram's entries are out of range
    assert np.array_equal(plain, scaled)


@pytest.mark.parametrize("scale", [1e-100, 1e-3, 7.0, 1e100])
def test_gamma_does_not_see_the_scale_of_the_weights(scale: float) -> None:
    _, weights, _, targets = ufm_optimum(random_covariance(3, 5.0, seed=2), 8, 0.5, 0.002, seed=3)
    covariance = moments(targets, targets)[0]
    gram = metrics.head_gram(scale * weights)
    tolerance = gamma_tolerance(covariance, 0.001)
    assert metrics.optimal_gamma(gram, covariance) == pytest.approx(0.001, rel=0, abs=tolerance)
    assert metrics.nrc3_value(gram, covariance, 0.001) < 1e-24


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_gamma_has_the_units_of_the_covariance(scale: float) -> None:
    covariance = random_covariance(3, 5.0, seed=2)
    gram = linalg.positive_sqrt(covariance) - 0.2 * np.eye(3)
    gamma = metrics.optimal_gamma(gram, scale * covariance)
    assert gamma == pytest.approx(0.04 * scale, rel=gamma_tolerance(covariance, 0.04) / 0.04)
    assert metrics.nrc3_value(gram, scale * covariance, gamma) < 1e-24


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(0, 20))
def test_a_curve_is_its_values(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    gram, covariance = random_covariance(n, 4.0, seed), random_covariance(n, 30.0, seed + 1)
    gammas = rng.uniform(0.0, 2.0, count)
    curve = metrics.nrc3_curve_values(gram, covariance, gammas)
    assert curve.tolist() == [metrics.nrc3_value(gram, covariance, gamma) for gamma in gammas]
    assert np.all((curve >= 0) & (curve <= 4))


def test_nrc3_is_nan_where_it_is_not_defined() -> None:
    gram, covariance, zero = np.diag([2.0, 1.0]), np.diag([3.0, 1.0]), np.zeros((2, 2))
    one = np.ones((1, 1))
    assert math.isnan(metrics.nrc3_value(one, one, 0.1))
    assert math.isnan(metrics.optimal_gamma(one, one))
    assert math.isnan(metrics.nrc3_value(zero, covariance, 0.1))
    assert math.isnan(metrics.optimal_gamma(zero, covariance))
    assert math.isnan(metrics.nrc3_value(gram, zero, 0.0))
    assert math.isnan(metrics.optimal_gamma(gram, zero))
    negative, positive = metrics.nrc3_curve_values(gram, covariance, np.array([-1.0, 0.5]))
    assert math.isnan(negative)
    assert 0.0 < positive < 4.0


def test_ranks_of_known_spectra() -> None:
    spectrum = np.array([0.5, 0.25, 0.25, 0.0])
    for scale in (1e-300, 1.0, 1e300):
        assert metrics.explained_variance_ratio(scale * spectrum).tolist() == pytest.approx(spectrum.tolist())
        assert metrics.effective_rank(scale * spectrum) == pytest.approx(2**1.5, rel=8 * EPS)
        assert metrics.stable_rank(scale * spectrum) == pytest.approx(1.5, rel=8 * EPS)
    clipped = metrics.explained_variance_ratio(np.array([1.0, -1e-17]))
    assert clipped.tolist() == [1.0, 0.0]
    assert metrics.effective_rank(np.array([3.0, 0.0])) == 1.0


def test_ranks_are_nan_without_variance() -> None:
    zeros = np.zeros(3)
    assert np.isnan(metrics.explained_variance_ratio(zeros)).tolist() == [True] * 3
    assert math.isnan(metrics.effective_rank(zeros))
    assert math.isnan(metrics.stable_rank(zeros))


def test_cka_is_that_of_the_kernels(peer: Any) -> None:
    rows = len(peer.features)
    centering = np.eye(rows) - np.full((rows, rows), 1 / rows)
    kernel = centering @ peer.features @ peer.features.T @ centering
    other = centering @ peer.targets @ peer.targets.T @ centering
    expected = np.sum(kernel * other) / (np.linalg.norm(kernel) * np.linalg.norm(other))
    # Sums over 200 rows on both sides: 200 eps each way, relative to a CKA of 0.02 and more.
    assert metrics.linear_cka(*moments(peer.features, peer.targets)) == pytest.approx(
        expected, rel=400 * EPS / expected
    )


@pytest.mark.parametrize(("h", "y"), [(-500, -500), (-500, 400), (500, 400)])
def test_cka_does_not_see_units(peer: Any, h: int, y: int) -> None:
    features, targets, cross = moments(peer.features, peer.targets)
    scaled = np.ldexp(features, 2 * h), np.ldexp(targets, 2 * y), np.ldexp(cross, h + y)
    assert metrics.linear_cka(*scaled) == metrics.linear_cka(features, targets, cross)


def test_cka_is_nan_without_variance_and_one_for_a_rotation() -> None:
    covariance = random_covariance(3, 9.0, seed=5)
    zero = np.zeros((3, 3))
    assert math.isnan(metrics.linear_cka(zero, covariance, zero))
    assert math.isnan(metrics.linear_cka(covariance, zero, zero))
    turned = linalg.orthonormalize(np.random.default_rng(6).standard_normal((3, 3))) @ covariance
    rotated = metrics.linear_cka(covariance, covariance, turned)
    assert rotated == pytest.approx(1.0, rel=20 * EPS)
    assert rotated <= 1.0


@pytest.mark.parametrize("rank", [16, 5])
def test_readout_error_is_that_of_least_squares(peer: Any, rank: int) -> None:
    rng = np.random.default_rng(4)
    features = peer.features if rank == 16 else peer.features[:, :rank] @ rng.standard_normal((rank, 16))
    with_intercept = np.column_stack([features, np.ones(len(features))])
    solution = np.linalg.lstsq(with_intercept, peer.targets, rcond=None)[0]
    expected = np.mean(np.sum((with_intercept @ solution - peer.targets) ** 2, axis=1))
    covariance, targets, cross = moments(features, peer.targets)
    error = metrics.linear_readout_error(*linalg.eigh_descending(covariance), targets, cross)
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
        error = metrics.linear_readout_error(*linalg.eigh_descending(covariance), target_covariance, cross)
        assert 0.0 <= error < 50 * EPS * np.trace(target_covariance)


def test_readout_takes_nothing_from_directions_of_rounding() -> None:
    # 1e-17 cannot be told from 0 beside 1; divided by it, (1e-10)^2 would explain 0.001 of the variance.
    cross = np.array([[0.5], [1e-10]])
    assert metrics.linear_readout_error(np.array([1.0, 1e-17]), np.eye(2), np.eye(1), cross) == 0.75
    kept = metrics.linear_readout_error(np.array([1.0, 8 * EPS]), np.eye(2), np.eye(1), cross)
    assert 0.75 - kept == pytest.approx(1e-20 / (8 * EPS), abs=EPS)


def test_readout_of_features_without_variance_is_the_mean() -> None:
    targets = np.diag([1.0, 2.0])
    assert metrics.linear_readout_error(np.zeros(4), np.eye(4), targets, np.zeros((4, 2))) == 3.0


def test_prediction_error_is_that_of_the_rows(peer: Any) -> None:
    bias = np.array([0.3, -0.2, 0.1])
    explicit = np.mean(np.sum((peer.features @ peer.weights.T + bias - peer.targets) ** 2, axis=1))
    error = metrics.prediction_error_from_moments(
        peer.weights,
        bias,
        peer.features.mean(axis=0),
        peer.targets.mean(axis=0),
        *moments(peer.features, peer.targets),
    )
    assert error == pytest.approx(explicit, rel=200 * EPS)  # sums over 200 rows; nothing cancels here


def test_prediction_error_of_a_perfect_head_is_rounding_and_not_negative() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        features, weights, bias = rng.standard_normal((50, 6)), rng.standard_normal((3, 6)), np.ones(3)
        targets = features @ weights.T + bias
        error = metrics.prediction_error_from_moments(
            weights, bias, features.mean(axis=0), targets.mean(axis=0), *moments(features, targets)
        )
        assert 0.0 <= error < 50 * EPS * 2 * np.trace(moments(targets, targets)[0])


def test_r_squared() -> None:
    covariance = np.array([[3.0, 9.0], [9.0, 1.0]])  # only the diagonal counts
    assert metrics.r_squared(0.0, covariance) == 1.0
    assert metrics.r_squared(1.0, covariance) == 0.75
    assert metrics.r_squared(8.0, covariance) == -1.0
    assert math.isnan(metrics.r_squared(0.0, np.zeros((2, 2))))
