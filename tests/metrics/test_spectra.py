"""Shares and ranks of known spectra, and their bounds against matrices that are off by as much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nrc_fast.metrics.spectra import (
    effective_rank,
    effective_rank_bound,
    explained_variance_ratio,
    share_bounds,
    stable_rank,
    stable_rank_bound,
    tail_bound,
)

EPS = float(np.finfo(np.float64).eps)


def test_ranks_of_known_spectra() -> None:
    spectrum = np.array([0.5, 0.25, 0.25, 0.0])
    for scale in (1e-300, 1.0, 1e300):
        assert explained_variance_ratio(scale * spectrum).tolist() == pytest.approx(spectrum.tolist())
        assert effective_rank(scale * spectrum) == pytest.approx(2**1.5, rel=8 * EPS)
        assert stable_rank(scale * spectrum) == pytest.approx(1.5, rel=8 * EPS)
    clipped = explained_variance_ratio(np.array([1.0, -1e-17]))
    assert clipped.tolist() == [1.0, 0.0]
    assert effective_rank(np.array([3.0, 0.0])) == 1.0


def test_ranks_are_nan_without_variance() -> None:
    zeros = np.zeros(3)
    assert np.isnan(explained_variance_ratio(zeros)).tolist() == [True] * 3
    assert math.isnan(effective_rank(zeros))
    assert math.isnan(stable_rank(zeros))


def error_of(kind: str, d: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """Symmetric, of norm `size`, and with a trace of no more."""
    if kind == "of one direction":
        vector = rng.standard_normal(d)
        return size * np.outer(vector, vector) / (vector @ vector)
    error = rng.standard_normal((d, d))
    error = error + error.T
    error -= np.eye(d) * np.trace(error) / d
    return size * error / np.linalg.norm(error, 2)


@pytest.mark.parametrize("kind", ["of one direction", "without trace"])
@pytest.mark.parametrize("size", [1e-9, 1e-4, 0.03])
@pytest.mark.parametrize("d", [2, 5, 12])
def test_bounds_cover_a_matrix_that_is_off_by_as_much(d: int, size: float, kind: str) -> None:
    rng = np.random.default_rng(d)
    for _ in range(20):
        rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
        exact = 0.6 ** np.arange(d) + 2.0 * size
        matrix = (rotation * exact) @ rotation.T
        computed = np.linalg.eigvalsh(matrix + error_of(kind, d, size, rng))[::-1]
        shares, found = exact / exact.sum(), explained_variance_ratio(computed)
        rounding = 16 * d * EPS
        assert np.all(np.abs(found - shares) <= share_bounds(computed, size) + rounding)
        for k in range(1, d + 1):
            assert abs(found[k:].sum() - shares[k:].sum()) <= tail_bound(computed, k, size) + rounding
        value, wanted = stable_rank(computed), float(np.sum((exact / exact[0]) ** 2))
        assert abs(value - wanted) <= stable_rank_bound(value, float(computed[0]), len(computed), size) + rounding
        value, wanted = effective_rank(computed), float(np.exp(-np.sum(shares * np.log(shares))))
        assert abs(value - wanted) <= effective_rank_bound(value, computed, size) + rounding


def test_bounds_of_shares_are_no_wider_than_twice_what_an_error_can_do() -> None:
    """Three units of variance, one of which an error takes from the second component and gives to the first."""
    exact, error = np.array([2.0, 1.0]), 1e-3
    off = np.abs(explained_variance_ratio(np.array([2.0 + error, 1.0 - error])) - exact / 3)
    assert off == pytest.approx([error / 3, error / 3], rel=1e-12)
    assert share_bounds(exact, error) == pytest.approx([5 / 3 * off[0], 4 / 3 * off[1]], rel=1e-12)


def test_bounds_without_variance_say_nothing() -> None:
    zeros = np.zeros(3)
    assert np.isnan(share_bounds(zeros, 0.1)).all()
    assert math.isnan(tail_bound(zeros, 1, 0.1))
    assert math.isnan(stable_rank_bound(1.0, 0.0, 3, 0.1))
    assert math.isnan(effective_rank_bound(1.0, zeros, 0.1))
    assert effective_rank_bound(2.0, np.ones(3), 1.0) == 3.0
