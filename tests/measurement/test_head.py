"""The row space of the weights: all directions that are there, and none that is rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.arrays import exact_rotation, mixed_rows
from support.double_double import Pairs
from support.eigenpairs import row_space
from support.features import spread_features, stored_as

import nrc_fast as nrc
from nrc_fast.testing import reference_rows

pytestmark = pytest.mark.usefixtures("on_every_device")
EPSILON = 2.0**-52
DTYPES = ["float64", "float32", "float16", "bfloat16"]


def test_rank_deficient_weights(peer_b: Any) -> None:
    W = peer_b.weights.copy()
    W[2] = W[0] + W[1]
    assert nrc.nrc2(peer_b.features, W) == pytest.approx(0.67730, abs=5e-6)
    assert nrc.nrc2(peer_b.features, W) == pytest.approx(nrc.nrc2(peer_b.features, W[:2]), rel=1e-12)


def features_near(W: np.ndarray, rows: int) -> np.ndarray:
    """Rows in the row space of W but for 1e-3."""
    rng = np.random.default_rng(len(W))
    return rng.standard_normal((rows, len(W))) @ W + 1e-3 * rng.standard_normal((rows, W.shape[1]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("d", [63, 128, 257])
def test_all_directions_of_a_head_count_in_every_dtype(dtype: str, n: int, d: int) -> None:
    """Well-conditioned heads of 16 bits, whose rounding times their width is larger than their singular values."""
    rng = np.random.default_rng(d + n)
    W = rng.standard_normal((n, d)) * np.geomspace(1.0, 0.2, n)[:, None]
    stored = stored_as(W / d, dtype)
    H = features_near(W, 60)
    directions = np.linalg.qr(reference_rows(stored).T)[0]
    units = H / np.linalg.norm(H, axis=1, keepdims=True)
    expected = float(np.mean(np.sum((units - units @ directions @ directions.T) ** 2, axis=1)))
    report = nrc.measure(H, W=stored)
    # The directions of both are off by some roundings, times a condition of at most 6.
    assert abs(report.nrc2 - expected) <= report.bounds["nrc2"] + 16 * d * EPSILON * expected**0.5
    assert report.bounds["nrc2"] < 1e-6 * expected
    assert nrc.nrc2(H, stored) == report.nrc2
    assert not any("singular value" in note for note in report.notes)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_directions_that_may_be_the_rounding_of_a_head_are_noted(dtype: str, peer_b: Any) -> None:
    W = peer_b.weights.copy()
    W[2] = W[0] + W[1]
    report = nrc.measure(peer_b.features, W=stored_as(W, dtype))
    (note,) = [note for note in report.notes if "singular value" in note]
    assert "1 of the 3" in note
    # The third direction is a rounding, known to float64's eps over it only: the reference has twice the digits.
    rows, space = Pairs(peer_b.features), row_space(Pairs(reference_rows(stored_as(W, dtype))))
    outside = rows - (rows @ space.T) @ space
    shares = (outside * outside).sum(1) / (rows * rows).sum(1)
    expected = shares.high.mean()
    assert abs(report.nrc2 - expected) <= report.bounds["nrc2"] + EPSILON * expected
    assert not any("singular value" in note for note in nrc.measure(peer_b.features, W=W).notes)
    assert not any("singular value" in note for note in nrc.measure(peer_b.features, W=stored_as(W[:2], dtype)).notes)


def test_a_head_of_zeros_is_noted() -> None:
    report = nrc.measure(spread_features(np.random.default_rng(0), 50, 4), W=np.zeros((2, 4)))
    assert math.isnan(report.nrc2)
    assert any("W is zero" in note for note in report.notes)


@pytest.mark.parametrize("digits", [4, 10, 20, 28])
@pytest.mark.parametrize("again", [True, False])
def test_the_bound_of_nrc2_knows_the_condition_of_the_head(digits: int, again: bool) -> None:
    """Whole numbers turned by a matrix of quarters: features, head and its row space are exact."""
    rotation = exact_rotation(16)
    rng = np.random.default_rng(digits)
    plain = rng.integers(-(2**20), 2**20, (100, 16)).astype(np.float64)
    plain[:, 3:] = rng.integers(-3, 4, (100, 13))
    W = mixed_rows(digits) @ rotation[:3]
    H = plain @ rotation
    expected = float(np.mean(np.sum(plain[:, 3:] ** 2, axis=1) / np.sum(plain**2, axis=1)))
    report = nrc.measure(H if again else iter([H]), W=W)
    assert abs(report.nrc2 - expected) <= report.bounds["nrc2"]
    if digits <= 10 and again:  # and is worth reading
        assert report.bounds["nrc2"] < 0.01 * expected
