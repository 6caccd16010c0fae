"""NRC3 of random heads, against heads that are drawn as matrices and against the closed form of two targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nrc_fast.base.linalg import orthonormalize
from nrc_fast.metrics import random_heads as module
from nrc_fast.metrics.alignment import HeadAlignment, head_gram
from nrc_fast.metrics.random_heads import DRAWS, RandomHeads, random_heads, typical_nrc3
from nrc_fast.testing import reference_nrc3

# Of the distance of two samples of one law, what 1 of 100,000 exceeds, in units of the root of 1/m + 1/n.
FAR = 2.47


def distance(first: Any, second: Any) -> float:
    """Kolmogorov and Smirnov's, between two samples."""
    first, second = np.sort(first), np.sort(second)
    places = np.concatenate([first, second])
    shares = [np.searchsorted(values, places, "right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def own_nrc3(W: Any, sigma: Any) -> float:
    alignment = HeadAlignment(head_gram(W), sigma)
    return alignment.nrc3(alignment.best_gamma())


@pytest.mark.parametrize(
    ("eigenvalues", "d"),
    [
        ([4.0, 1.0], 64),
        ([4.0, 1.0], 3),
        ([1.0, 1.0], 5),
        ([3.0, 2.9, 0.1], 16),
        ([2.0, 1.0, 0.5, 0.2, 0.0], 8),
        ([5.0, 4.0, 3.0, 2.0, 1.0], 2),
        ([3.0, 2.0, 1.0], 1),
        (list(np.geomspace(1.0, 1e-4, 8)), 12),
    ],
)
def test_the_law_is_that_of_explicit_heads(eigenvalues: list[float], d: int) -> None:
    n, count = len(eigenvalues), 2000
    rng = np.random.default_rng([n, d])
    basis = orthonormalize(rng.standard_normal((n, n)))
    sigma = (basis * np.array(eigenvalues)) @ basis.T  # the law does not see the basis
    explicit = [own_nrc3(W, sigma) for W in rng.standard_normal((count, n, d))]
    drawn = random_heads(np.array(eigenvalues), d).nrc3
    assert distance(explicit, drawn) < FAR * math.sqrt(1 / count + 1 / len(drawn))


def test_the_law_is_that_of_the_references() -> None:
    rng = np.random.default_rng(3)
    Y = rng.standard_normal((40, 3)) @ np.diag([2.0, 1.0, 0.7])
    eigenvalues = np.linalg.eigvalsh(np.cov(Y, rowvar=False, bias=True))[::-1]
    explicit = [reference_nrc3(W, Y) for W in rng.standard_normal((60, 3, 7))]
    assert distance(explicit, random_heads(eigenvalues, 7).nrc3) < FAR * math.sqrt(1 / 60 + 1 / DRAWS)


def closed_form(nrc3: Any, eigenvalues: tuple[float, float], d: int) -> Any:
    """The share of random heads of two rows below some values of NRC3, by quadrature over a square.

    With eigenvalues l of W W^T and ``r = (l1 - l2)/(l1 + l2)``, ``(1 - r^2)^((d - 1)/2)`` is uniform (Mauchly), and so
    is the angle of the first eigenvector. In the plane of the identity and the traceless part of Sigma^(1/2), W W^T has
    the length ``sqrt((1 + r^2 cos^2)/(1 + r^2))`` and the slope ``r cos``, and the slopes of A go from that of
    Sigma^(1/2) to 1.
    """
    points = (np.arange(1500) + 0.5) / 1500
    r = np.sqrt(1.0 - points[:, np.newaxis] ** (2.0 / (d - 1)))
    slope = r * np.cos(np.pi * points)
    length = np.sqrt((1.0 + slope**2) / (1.0 + r**2))
    roots = np.sqrt(eigenvalues)
    least = math.atan((roots[0] - roots[1]) / (roots[0] + roots[1]))
    angle = np.arctan(slope)
    values = np.sort((2.0 - 2.0 * length * np.cos(angle - np.clip(angle, least, math.pi / 4))).ravel())
    return np.searchsorted(values, nrc3) / values.size


@pytest.mark.parametrize(("eigenvalues", "d"), [((4.0, 1.0), 64), ((1.1, 1.0), 8), ((1.0, 1e-3), 2), ((2.0, 1.0), 300)])
def test_two_targets_have_a_closed_form(eigenvalues: tuple[float, float], d: int) -> None:
    drawn = random_heads(np.array(eigenvalues), d, draws=100_000).nrc3
    shares = (np.arange(len(drawn)) + 0.5) / len(drawn)
    off = np.abs(closed_form(drawn, eigenvalues, d) - shares).max()
    assert off < FAR / math.sqrt(len(drawn)) + 1e-3  # and the rule of the midpoints


@pytest.mark.parametrize("d", [2, 9, 400])
def test_the_median_for_equal_targets(d: int) -> None:
    ratio = 1.0 - 0.5 ** (2.0 / (d - 1))
    expected = 2.0 - 2.0 / math.sqrt(1.0 + ratio)
    value, bound = typical_nrc3(np.ones(2), d)
    assert abs(value - expected) < bound < 0.06 * expected


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 6), log_condition=st.floats(0.01, 8.0))
def test_a_diagonal_gives_what_the_matrix_does(seed: int, n: int, log_condition: float) -> None:
    rng = np.random.default_rng(seed)
    eigenvalues = np.sort(10.0 ** rng.uniform(-log_condition, 0.0, n))[::-1]
    eigenvalues[-1] *= rng.integers(0, 2)  # singular ones too
    d = int(rng.integers(1, n + 2))  # with fewer features than targets, gamma is often lambda_min
    grams = np.array([head_gram(W) for W in rng.standard_normal((5, n, d))])
    norms = np.linalg.norm(grams, axis=(1, 2))
    found = module._at_best_gamma(np.einsum("kii->ki", grams) / norms[:, np.newaxis], eigenvalues)
    # Near a multiple of the identity, the roundings of the roots are seen beside their differences.
    off = 1e-13 + 1e-14 / (1.0 - eigenvalues[1 if eigenvalues[-1] == 0.0 else -1] / eigenvalues[0])
    for gram, value in zip(grams, found, strict=True):
        alignment = HeadAlignment(gram, np.diag(eigenvalues))
        assert value == pytest.approx(alignment.nrc3(alignment.best_gamma()), abs=off)


def test_no_gamma_is_beyond_the_smallest_eigenvalue() -> None:
    eigenvalues, gram = np.array([16.0, 4.0, 1.0]), np.diag([2.5, 0.5, 0.0])  # their stationary point is beyond it
    alignment = HeadAlignment(gram, np.diag(eigenvalues))
    assert alignment.best_gamma() == 1.0
    diagonal = np.diag(gram)[np.newaxis] / np.linalg.norm(gram)
    assert module._at_best_gamma(diagonal, eigenvalues)[0] == pytest.approx(alignment.nrc3(1.0), abs=1e-14)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 4), exponent=st.integers(-200, 200))
def test_the_law_does_not_see_the_units_of_the_targets(seed: int, n: int, exponent: int) -> None:
    eigenvalues = np.sort(np.random.default_rng(seed).uniform(0.1, 1.0, n))[::-1]
    plain = random_heads(eigenvalues, 6, draws=50).nrc3
    assert np.array_equal(plain, random_heads(np.ldexp(eigenvalues, exponent), 6, draws=50).nrc3)


def test_draws_are_seeded_and_bounded() -> None:
    eigenvalues = np.array([2.0, 1.0, 0.5])
    first = random_heads(eigenvalues, 5).nrc3
    module._diagonals.cache_clear()
    module._sorted_values.cache_clear()
    again = random_heads(eigenvalues, 5).nrc3
    assert again is not first
    assert np.array_equal(again, first)
    assert random_heads(eigenvalues, 5).nrc3 is again
    assert not np.array_equal(random_heads(eigenvalues, 5, seed=1).nrc3, first)
    assert np.all(np.diff(first) >= 0.0)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0
    counts = {n: len(random_heads(np.linspace(2.0, 1.0, n), 4000).nrc3) for n in (2, 23, 40, 300, 1000)}
    assert counts == {2: 10_000, 23: 10_000, 40: 3004, 300: 20, 1000: 0}
    assert len(random_heads(eigenvalues, 5, draws=10**9).nrc3) == 2**20 // 3


@pytest.mark.parametrize(
    ("eigenvalues", "d"), [([1.0], 4), ([0.0, 0.0], 4), ([1.0, 0.5], 0), ([math.nan, math.nan], 4), ([], 4)]
)
def test_without_a_law_there_are_no_heads(eigenvalues: list[float], d: int) -> None:
    heads = random_heads(np.array(eigenvalues), d)
    assert not heads.nrc3.size
    assert all(map(math.isnan, (heads.point(0.5), heads.point_bound(0.5), *heads.quantile(0.1, 0.0))))


def test_of_an_unknown_width_the_limit_is_told() -> None:
    eigenvalues = np.array([4.0, 1.0, 0.5])
    alignment = HeadAlignment(np.eye(3), np.diag(eigenvalues))
    assert typical_nrc3(eigenvalues, 0)[0] == pytest.approx(alignment.nrc3(alignment.best_gamma()), abs=1e-14)
    assert all(math.isnan(value) for value in typical_nrc3(np.ones(1), 0) + typical_nrc3(np.zeros(2), 0))


def test_points_are_those_of_numpy() -> None:
    heads = RandomHeads(np.sort(np.random.default_rng(0).random(37)))
    for share in (0.0, 0.05, 0.5, 0.731, 1.0):
        assert heads.point(share) == pytest.approx(np.quantile(heads.nrc3, share), rel=1e-14)


def test_the_interval_of_a_quantile_is_wilsons() -> None:
    heads = RandomHeads(np.arange(1, 101) / 100.0)
    z = 2.0
    for nrc3, share in ((0.305, 0.3), (0.0, 0.0), (2.0, 1.0)):
        value, bound = heads.quantile(nrc3, 0.0)
        half = z * math.sqrt(share * (1 - share) / 100 + z**2 / 400 / 100) / (1 + z**2 / 100)
        middle = (share + z**2 / 200) / (1 + z**2 / 100)
        assert value == share
        assert bound == pytest.approx(max(middle + half - share, share - middle + half), rel=1e-12)
    assert heads.quantile(0.3, 0.0)[0] == pytest.approx(0.295)  # a tie counts by half
    # The error of NRC3 is that of the draws too: all from .1 to .5 may be smaller, or not.
    value, bound = heads.quantile(0.3, 0.1)
    assert value == pytest.approx(0.295)
    assert bound > 0.205
    assert math.isnan(heads.quantile(math.nan, 0.0)[0])


def test_the_error_of_sigma_moves_random_heads_as_far_as_this_head() -> None:
    """As a distance, the root of NRC3: near 0 a bound of 1e-4 is one of 0.01, and 0.02 away is 4e-4."""
    heads = RandomHeads(np.array([3.9e-4, 4.1e-4, 0.1, 0.2]))
    value, bound = heads.quantile(0.0, 1e-4)
    assert value == 0.0
    assert bound == pytest.approx(RandomHeads(heads.nrc3).quantile(4e-4, 0.0)[1] + 0.25, rel=1e-12)
    # At 1 a bound of 0.01 is one of 0.005: from 0.98015 to 1.02005 heads may be on either side.
    near = RandomHeads(np.array([0.9801, 0.9802, 1.02, 1.0201]))
    value, bound = near.quantile(1.0, 0.01)
    assert value == 0.5
    assert bound == pytest.approx(module._wilson(0.75, 4, 1.0) - 0.5, rel=1e-12)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("draws", [1, 20, 60, 400])
def test_the_bound_of_a_point_holds_it(share: float, draws: int) -> None:
    """Of 100 sets of draws; a single one bounds nothing but by the range of NRC3."""
    eigenvalues = np.array([4.0, 1.0])
    truth = random_heads(eigenvalues, 64, draws=100_000).point(share)
    sets = [random_heads(eigenvalues, 64, draws=draws, seed=seed) for seed in range(1, 101)]
    found = [(heads.point(share), heads.point_bound(share)) for heads in sets]
    assert sum(abs(value - truth) <= bound for value, bound in found) >= 90
    if draws == 1:
        assert all(bound == max(value, 2.0 - value) for value, bound in found)
    if draws >= 60:
        assert max(bound for value, bound in found) < 1.0


def test_the_interval_of_a_quantile_holds_it() -> None:
    """Of 200 sets of draws the true share, by 100,000 draws, is in about 95 of 100 intervals."""
    eigenvalues, nrc3 = np.array([4.0, 1.0]), 0.05
    truth = random_heads(eigenvalues, 64, draws=100_000).quantile(nrc3, 0.0)[0]
    found = [random_heads(eigenvalues, 64, draws=400, seed=seed).quantile(nrc3, 0.0) for seed in range(1, 201)]
    inside = sum(abs(value - truth) <= bound for value, bound in found)
    assert 180 <= inside <= 200
