"""The share of W W^T outside the eigenbasis of Sigma, against 50 digits, and its interval where the basis is open."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nrc_fast.base.linalg import orthonormalize
from nrc_fast.metrics.alignment import HeadAlignment, head_gram
from nrc_fast.metrics.eigenbasis import share_outside

mp = pytest.importorskip("mpmath")


def turned(eigenvalues: Any, seed: int) -> Any:
    """A covariance with about these eigenvalues."""
    basis = orthonormalize(np.random.default_rng(seed).standard_normal((len(eigenvalues), len(eigenvalues))))
    return (basis * np.asarray(eigenvalues, dtype=float)) @ basis.T


def exact_share(W: Any, sigma: Any) -> float:
    """In the basis that 50 digits give for the lower triangle."""
    with mp.workdps(50):
        lower = np.tril(sigma)
        _, vectors = mp.eigsy(mp.matrix((lower + np.tril(lower, -1).T).tolist()))
        rotated = vectors.T * mp.matrix(W.tolist()) * mp.matrix(W.T.tolist()) * vectors
        total = mp.fsum(rotated[i, j] ** 2 for i in range(len(W)) for j in range(len(W)))
        outside = mp.fsum(rotated[i, j] ** 2 for i in range(len(W)) for j in range(len(W)) if i != j)
        return float(outside / total)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    "eigenvalues",
    [
        [4.0, 1.0],
        [1.0, 0.5, 1e-9],
        [1.0, 1.0 - 1e-3, 0.2],
        [1.0, 1.0 - 1e-8, 0.2],
        [1.0, 1.0 - 1e-13, 0.2],
        [1.0, 1.0, 1.0, 0.5],
        [1.0, 1.0 - 1e-5, 1.0 - 1e-10, 1e-4, 1e-4 - 1e-12],
        [1e-300, 1e-301],
    ],
)
def test_the_share_of_50_digits_is_in_the_interval(eigenvalues: list[float], single: bool) -> None:
    for seed in range(5):
        sigma = turned(eigenvalues, seed)
        W = np.random.default_rng([seed, 1]).standard_normal((len(sigma), 7))
        if single:
            W = W.astype(np.float32).astype(np.float64)
        value, bound = share_outside(HeadAlignment(head_gram(W), sigma), 0.0)
        assert abs(value - exact_share(W, sigma)) <= bound
        gaps = -np.diff(eigenvalues) / eigenvalues[0]
        # Well separated eigenvalues leave nothing open, and what an error may turn is in proportion to 1 over the gap.
        assert bound < 1e-13 / max(gaps.min(), 1e-14)


def test_a_head_in_the_basis_is_known_to_be_there() -> None:
    sigma = turned([4.0, 2.0, 1.0], 3)
    vectors = np.linalg.eigh(sigma)[1]
    value, bound = share_outside(HeadAlignment((vectors * [3.0, 1.0, 0.5]) @ vectors.T, sigma), 0.0)
    assert value < 1e-28
    assert 0.0 < bound < 1e-27


def test_of_equal_eigenvalues_any_basis_may_be_meant() -> None:
    gram = np.array([[2.0, 1.0, 0.3], [1.0, 2.0, 0.0], [0.3, 0.0, 1.0]])
    size = np.sum(gram**2)
    value, bound = share_outside(HeadAlignment(gram, np.diag([2.0, 2.0, 1.0])), 0.0)
    assert value == pytest.approx(2 * 0.3**2 / size)  # the 1 between the first two is of one space
    assert bound == pytest.approx(2 * 1.0**2 / size)
    # A gap far above the error of Sigma makes the same 1 count; one within it leaves it open.
    counted, off = share_outside(HeadAlignment(gram, np.diag([2.0, 1.9, 1.0])), 1e-9)
    assert counted == pytest.approx((2 * 0.3**2 + 2 * 1.0**2) / size)
    assert off < 1e-6
    left_open, off = share_outside(HeadAlignment(gram, np.diag([2.0, 1.9, 1.0])), 0.2)
    assert left_open == pytest.approx(2 * 0.3**2 / size)
    assert off > counted - left_open
    value, bound = share_outside(HeadAlignment(gram, np.eye(3)), 0.0)
    assert value == 0.0
    assert bound == pytest.approx((size - 25 / 3) / size, rel=1e-6)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 5), error=st.sampled_from([1e-12, 1e-6, 1e-3, 0.1, 1.0]))
def test_changes_of_sigma_within_its_error_stay_in_the_interval(seed: int, n: int, error: float) -> None:
    rng = np.random.default_rng(seed)
    sigma = turned(np.sort(10.0 ** rng.uniform(-3.0, 0.0, n))[::-1], seed)
    gram = head_gram(rng.standard_normal((n, n + 2)))
    value, bound = share_outside(HeadAlignment(gram, sigma), error)
    assert 0.0 <= value <= 1.0 - 1.0 / n
    for _ in range(5):
        change = rng.standard_normal((n, n))
        change = error * (change + change.T) / np.linalg.norm(change + change.T)
        vectors = np.linalg.eigh(sigma + change)[1]
        rotated = vectors.T @ gram @ vectors / np.linalg.norm(gram)
        outside = float(np.sum(np.square(rotated - np.diag(np.diag(rotated)))))
        assert abs(outside - value) <= bound + 1e-14


def test_without_a_shape_there_is_no_share() -> None:
    for gram, sigma in (
        (np.ones((1, 1)), np.ones((1, 1))),
        (np.zeros((2, 2)), np.eye(2)),
        (np.eye(2), np.zeros((2, 2))),
    ):
        assert all(map(math.isnan, share_outside(HeadAlignment(gram, sigma), 0.0)))
