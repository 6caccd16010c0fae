"""NC1 to NC4 of classes that are collapsed up to known amounts, and bounds against moments that are off by as much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nrc_fast.metrics.classes import (
    bias_offset_bound,
    cdnv,
    cdnv_bound,
    duality,
    duality_bounds,
    simplex,
    simplex_bounds,
    variability,
    variability_bounds,
)

EPS = float(np.finfo(np.float64).eps)
NC2 = ["nc2_equinorm", "nc2_equiangular", "nc2_log_norms", "nc2_cosines", "nc2_etf"]


def frame(classes: int, d: int, size: float) -> np.ndarray:
    """Rows of a turned simplex: all of one norm, all cosines -1/(K - 1)."""
    rotation = np.linalg.qr(np.random.default_rng(classes).standard_normal((d, d)))[0]
    simplex_rows = (np.eye(classes) - 1.0 / classes) / math.sqrt(1.0 - 1.0 / classes)
    return np.asarray(size * simplex_rows @ rotation[:classes])


def near(value: float) -> float:
    return pytest.approx(value, rel=1e-12, abs=64 * EPS)  # type: ignore[return-value]


@pytest.mark.parametrize(("classes", "d"), [(2, 3), (3, 3), (5, 8)])
@pytest.mark.parametrize(("size", "noise"), [(2.0, 0.1), (1e-3, 1e-5), (1e4, 3.0)])
def test_variability_of_equal_noise_about_a_simplex(classes: int, d: int, size: float, noise: float) -> None:
    """S_W = s^2 I; S_B = (r^2/(K - 1)) P, with P the projection on the K - 1 directions of the simplex."""
    K, count = classes, 7.0
    found = variability(noise**2 * np.eye(d), frame(K, d, size), np.full(K, count))
    between = size**2 / (K - 1)
    assert found["nc1_sum"] == near((K - 1) * noise**2 / between)
    assert found["nc1"] == near(found["nc1_sum"] / K)
    assert found["nc1_ratio"] == near(d * noise**2 / size**2)
    assert found["nc1_share"] == near(d * noise**2 / (d * noise**2 + size**2))
    total = (K - 1) * noise**2 / (noise**2 + between) + (d - K + 1)
    # S_T is inverted, whose condition takes its digits.
    condition = 1.0 + between / noise**2
    assert found["nc1_total"] == pytest.approx(total / (K * count), rel=8 * EPS * condition)


def test_distances_of_a_triangle() -> None:
    """Sides of 3, 4 and 5."""
    means, variances = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), np.array([1.0, 2.0, 4.0])
    assert cdnv(means, variances) == near(((1 + 2) / 18 + (1 + 4) / 32 + (2 + 4) / 50) / 3)
    assert cdnv(np.zeros((2, 2)), np.ones(2)) == math.inf


@pytest.mark.parametrize(("classes", "d"), [(2, 2), (3, 5), (10, 12)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_simplex_is_collapsed(classes: int, d: int, size: float) -> None:
    found = simplex(frame(classes, d, size))
    for name in NC2:
        assert abs(found[name]) <= 64 * EPS, name


def test_norms_and_angles_of_two_opposite_means() -> None:
    """Lengths 1 and 3: mean 2, deviation 1; the Gram of the mean-centred simplex of two is [[1, -1], [-1, 1]]/2."""
    found = simplex(np.array([[1.0, 0.0], [-3.0, 0.0]]))
    assert found["nc2_equinorm"] == near(0.5)
    assert found["nc2_equiangular"] == near(0.0)
    assert found["nc2_log_norms"] == near(-math.log(3.0))
    gram = np.array([[1.0, -3.0], [-3.0, 9.0]]) / 10.0
    assert found["nc2_etf"] == near(float(np.linalg.norm(gram - np.array([[0.5, -0.5], [-0.5, 0.5]]))))
    right = simplex(np.eye(2))
    assert (right["nc2_equiangular"], right["nc2_cosines"]) == (near(1.0), near(1.0))  # cosine 0 instead of -1


def test_weights_along_against_and_across_the_means() -> None:
    means, mean = frame(3, 6, 2.0), np.arange(6.0)
    across = np.linalg.svd(means)[2][3:]
    for weights, distance in ((7.0 * means, 0.0), (-means, 2.0), (across, math.sqrt(2.0))):
        found = duality(weights, np.array([1.0, 0.0, -1.0]), means, mean)
        assert found["nc3"] == near(distance)
        assert found["nc3_squared"] == near(distance**2)
        assert found["bias_offset"] == near(float(np.linalg.norm(weights @ mean + [1.0, 0.0, -1.0])))
    along = duality(7.0 * means, np.zeros(3), means, mean)
    assert (along["nc2_etf_weights"], along["nc3_etf"]) == (near(0.0), near(0.0))
    against = duality(-means, np.zeros(3), means, mean)
    assert (against["nc2_etf_weights"], against["nc3_etf"]) == (near(0.0), near(2.0))
    nothing = duality(np.zeros((3, 6)), np.zeros(3), means, mean)
    assert math.isnan(nothing["nc3"])
    assert nothing["bias_offset"] == 0.0


@pytest.mark.parametrize("size", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("collapsed", [True, False])
def test_bounds_cover_moments_that_are_off_by_as_much(size: float, collapsed: bool) -> None:
    """Every mean is off by `size`, in any direction or its own, and the covariance within the classes too."""
    rng = np.random.default_rng(0)
    K, d, counts = 4, 6, np.array([10.0, 20.0, 30.0, 40.0])
    for turn in range(20):
        means = frame(K, d, 1.0) if collapsed else rng.standard_normal((K, d))
        means = means - means.mean(axis=0)
        root = rng.standard_normal((d, d))
        within = 0.1 * (root @ root.T / d + np.eye(d))
        weights, bias, mean = means + 0.1 * rng.standard_normal((K, d)), rng.standard_normal(K), rng.standard_normal(d)
        error = rng.standard_normal((K, d)) if turn % 2 else means.copy()
        error *= size / np.linalg.norm(error, axis=1, keepdims=True)
        turned = rng.standard_normal((d, d))
        turned = size * (turned + turned.T) / np.linalg.norm(turned + turned.T)
        turned -= np.eye(d) * np.trace(turned) / d
        # Centred again: a mean is off by half its own error and half that of all, which is no more than `size`.
        off, disturbed, mean_off = means + (error - error.mean(axis=0)) / 2.0, within + turned, mean + error[0]
        exact = variability(within, means, counts) | simplex(means) | duality(weights, bias, means, mean)
        noise, angles, head = variability(disturbed, off, counts), simplex(off), duality(weights, bias, off, mean_off)
        bounds = variability_bounds(noise, disturbed, off, counts, (size, size))
        bounds |= simplex_bounds(angles, off, size) | duality_bounds(head, weights, off, size)
        bounds["bias_offset"] = bias_offset_bound(weights, bias, mean_off, size)
        assert set(bounds) == set(exact)
        for name, value in (noise | angles | head).items():
            assert abs(value - exact[name]) <= bounds[name] + 64 * EPS, name
        variances = np.array([1.0, 2.0, 3.0, 4.0])
        moved, wider = means + error, variances + size
        bound = cdnv_bound(moved, wider, np.full(K, size), size)
        assert abs(cdnv(moved, wider) - cdnv(means, variances)) <= bound
        if size <= 1e-5 and collapsed:
            assert bound <= 100.0 * size  # and is worth reading


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("exponent", [-900, -520, 0, 520, 900])
def test_the_offset_of_a_bias_of_any_scale(exponent: int, shift: bool) -> None:
    """Powers of two change no digit of it, up to where float64 ends."""
    rng = np.random.default_rng(4)
    weights, mean = rng.standard_normal((3, 5)), 1e6 * rng.standard_normal(5)
    bias = rng.standard_normal(3) if shift else np.zeros(3)
    centred = rng.standard_normal((3, 5))
    given = np.ldexp(weights, exponent), np.ldexp(bias, exponent)
    found, one = duality(*given, centred, mean), duality(weights, bias, centred, mean)
    assert found == one | {"bias_offset": math.ldexp(one["bias_offset"], exponent)}
    bound, unit = (bias_offset_bound(*head, mean, 1e-9) for head in (given, (weights, bias)))
    assert bound == pytest.approx(math.ldexp(unit, exponent), rel=1e-12, abs=0)
    assert bias_offset_bound(*given, np.full(5, 1e300), 0.0) == math.inf or exponent < 20


def test_a_share_of_nothing_is_open() -> None:
    """Where neither variance is more than its error it may be any share; first order would say that it is known."""
    within, centred, counts = np.diag([1e-30, 0.0]), np.zeros((2, 2)), np.array([5.0, 5.0])
    values = variability(within, centred, counts)
    assert values["nc1_share"] == 1.0
    assert variability_bounds(values, within, centred, counts, (2e-30, 1e-20))["nc1_share"] == 1.0
    assert variability_bounds(values, within, centred, counts, (1e-32, 1e-20))["nc1_share"] < 0.01


def test_a_total_stays_where_it_must_be() -> None:
    """``tr(S_W S_T^+)`` is at most d; of a covariance that is off the pseudo-inverse may make more, or less than 0."""
    counts, centred = np.array([3.0, 3.0]), np.array([[1.0, 0.0], [-1.0, 0.0]])
    for off in (-1e-9, 1e-9):
        within = np.array([[1e-10, off], [off, 1e-12]])
        values = variability(within, centred, counts)
        assert 0.0 <= values["nc1_total"] <= 2.0 / 6.0
        assert variability_bounds(values, within, centred, counts, (2e-9, 1e-12))["nc1_total"] == near(2.0 / 6.0)
