"""The exponent of W W^T in Sigma: exact powers, 50 digits, ties, and directions that say nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ufm_reference import covariance_with

from nrc_fast.metrics.power_laws import PowerLaw

mp = pytest.importorskip("mpmath")

from support.exact_heads import exact_power_law  # noqa: E402 - mpmath may be missing


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with mp.workdps(50):
        yield


def powered(covariance: Any, exponent: float, d: int, seed: int) -> Any:
    """W with ``W W^T = Sigma^p``."""
    values, vectors = np.linalg.eigh(covariance)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, len(values))))[0]
    return vectors * values ** (exponent / 2) @ rotation.T


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(-2.0, 3.0), st.floats(0.1, 5.0))
def test_exact_powers(seed: int, n: int, exponent: float, condition: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.geomspace(1.0, 10.0**-condition, n) * 10.0 ** rng.uniform(-20, 20)
    covariance = covariance_with(values, seed)
    W = powered(covariance, exponent, 9, seed) * 10.0 ** rng.uniform(-60, 60)
    law = PowerLaw(W, covariance, 0.0)
    assert law.reason == ""
    if law.fitted == n:
        assert abs(law.exponent - exponent) <= law.bound + 1e-9
        assert law.residual_share <= law.share_bounds[0] + 1e-15
        # W and Sigma are rounded, and turned against one another by it.
        assert abs(law.outside_share - exact_power_law(W, covariance)["outside_share"]) <= law.share_bounds[1]


@pytest.mark.parametrize("seed", range(16))
def test_numbers_within_their_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, condition = int(rng.integers(2, 6)), [1.0, 4.0, 9.0, 0.01][seed % 4]
    covariance = covariance_with(10.0 ** (-condition * np.sort(rng.uniform(0, 1, n))) * 1e7, seed)
    W = powered(covariance, rng.uniform(0.1, 1.0), 6, seed)
    W = W + 10.0 ** rng.uniform(-9, 0) * np.abs(W).max() * rng.standard_normal((n, 6))
    if seed % 3 == 0:
        W, covariance = (part.astype(np.float32).astype(np.float64) for part in (W, covariance))
        covariance = 0.5 * (covariance + covariance.T)
    law, exact = PowerLaw(W, covariance, 0.0), exact_power_law(W, covariance)
    assert law.fitted == n
    assert law.share_bounds[1] <= 1e-10 * law.outside_share + 1e-40
    assert abs(law.exponent - exact["exponent"]) <= law.bound
    for name, bound in zip(("residual_share", "outside_share"), law.share_bounds, strict=True):
        assert abs(getattr(law, name) - exact[name]) <= bound
    assert law.bound < 1e-3 * max(condition, 1.0)


@pytest.mark.parametrize("part", [1.0, 1e-3])
@pytest.mark.parametrize("error", [1e-12, 1e-5])
def test_every_covariance_within_the_error_is_in_the_bounds(error: float, part: float) -> None:
    """Also where little of W lies along one direction, which others that turn into it change by much."""
    rng = np.random.default_rng(4)
    covariance = covariance_with([2.0, 1.0, 0.5, 0.1], seed=2)
    vectors = np.linalg.eigh(covariance)[1]
    W = vectors * [1.0, 1.0, part, 1.0] @ vectors.T @ rng.standard_normal((4, 7))
    law = PowerLaw(W, covariance, error)
    for _ in range(50):
        change = rng.standard_normal((4, 4))
        change = error * (change + change.T) / np.linalg.norm(change + change.T)
        other = PowerLaw(W, covariance + change, 0.0)
        assert abs(other.exponent - law.exponent) <= law.bound < 1e4 / part * error
        assert abs(other.residual_share - law.residual_share) <= law.share_bounds[0]
        assert abs(other.outside_share - law.outside_share) <= law.share_bounds[1]


def test_equal_variances_count_by_their_mean() -> None:
    """Eigenvectors of an eigenvalue that is there twice are any: the exponent does not depend on which LAPACK takes."""
    strengths = np.diag([8.0, 1.0, 3.0])  # of the eigenvalues 4, 1, 1
    expected = (math.log(8.0) - math.log(2.0)) / math.log(4.0)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 2)))[0]
    for turn in (np.eye(2), rotation):
        basis = np.eye(3)
        basis[1:, 1:] = turn
        law = PowerLaw(basis @ np.sqrt(strengths), np.diag([4.0, 1.0, 1.0]), 0.0)
        assert law.exponent == pytest.approx(expected, rel=1e-14)
        assert law.outside_share < 1e-30


def test_directions_that_say_nothing_are_left_out() -> None:
    dropped = PowerLaw(np.diag([2.0, 1.0, 0.0]), np.diag([16.0, 4.0, 1.0]), 0.0)
    assert (dropped.fitted, dropped.reason) == (2, "")
    assert dropped.exponent == pytest.approx(1.0, rel=1e-14)
    power = np.array([16.0, 4.0, 1.0])  # what it leaves counts all directions
    gram = np.array([4.0, 1.0, 0.0])
    cosine = gram @ power / np.linalg.norm(gram) / np.linalg.norm(power)
    assert dropped.residual_share == pytest.approx(1.0 - cosine**2, rel=1e-12)
    singular = PowerLaw(np.diag([2.0, 1.0, 1.0]), np.diag([16.0, 4.0, 0.0]), 0.0)
    assert singular.fitted == 2
    assert singular.bound < 1e-13


@pytest.mark.parametrize(
    ("weights", "covariance", "reason"),
    [
        (np.ones((1, 3)), np.eye(1), "one output"),
        (np.zeros((2, 3)), np.diag([2.0, 1.0]), "W is 0"),
        (np.ones((2, 3)), np.zeros((2, 2)), "no variance"),
        (np.eye(3), 0.3 * np.eye(3), "same variance"),
        (np.diag([1.0, 0.0]), np.diag([2.0, 1.0]), "fewer than two"),
        (np.eye(2), np.diag([1.0, 1.0 + 1e-15]), "same variance"),
    ],
)
def test_where_there_is_none(weights: Any, covariance: Any, reason: str) -> None:
    law = PowerLaw(weights, covariance, 0.0)
    assert reason in law.reason
    for number in (law.exponent, law.bound, law.residual_share, law.outside_share, *law.share_bounds):
        assert math.isnan(number)
