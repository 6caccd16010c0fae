"""Angles between spans of eigenvectors: bounds that hold for matrices that are off, and for one step of iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.features import largest_angle

from nrc_fast.metrics.angles import angle_bound, refined_angle_bounds

EPS = float(np.finfo(np.float64).eps)


def test_angle_of_two_directions_that_an_error_mixes() -> None:
    """Of diag(1, 0) + e (01 + 10) the eigenvectors are turned by half the angle whose tangent is 2 e."""
    for error in (1e-8, 1e-3, 0.2):
        turned = math.sin(math.atan(2.0 * error) / 2.0)
        bound = angle_bound(np.array([1.0, 0.0]), 1, error)
        assert turned * (1.0 - EPS) <= bound <= 1.5 * turned
        assert bound == pytest.approx(error / (1.0 - error), rel=4 * EPS)
    assert angle_bound(np.array([1.0, 0.9]), 1, 0.05) == 1.0  # the error is as large as what is left of the gap
    assert angle_bound(np.array([1.0, 0.9]), 2, 0.05) == 0.0  # all directions
    assert angle_bound(np.array([1.0, 1.0]), 1, 0.0) == 1.0


@pytest.mark.parametrize("size", [1e-10, 1e-6, 1e-3])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_angle_bounds_cover_a_matrix_that_is_off_by_as_much(size: float, k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(20):
        rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        eigenvalues = 0.3 ** np.arange(6)
        matrix = (rotation * eigenvalues) @ rotation.T
        error = rng.standard_normal((6, 6))
        error = size * (error + error.T) / np.linalg.norm(error + error.T, 2)
        values, vectors = np.linalg.eigh(matrix + error)
        basis, exact = vectors[:, ::-1].T[:k], rotation.T[:k]
        turned = largest_angle(basis, exact)
        assert turned <= angle_bound(values[::-1], k, size) + 16 * EPS / eigenvalues[k - 1]


@pytest.mark.parametrize("size", [0.0, 1e-13, 1e-10, 1e-6, 1e-3, 0.3])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("knows", ["trace", "next"])
def test_a_step_measures_the_angle_that_it_leaves(size: float, k: int, knows: str) -> None:
    rng = np.random.default_rng(k)
    for ratio in (0.3, 0.01):
        rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        eigenvalues = ratio ** np.arange(6.0)
        matrix = (rotation * eigenvalues) @ rotation.T
        basis = np.linalg.qr(rotation[:, :k] + size * rng.standard_normal((6, k)))[0].T
        beyond = np.append(eigenvalues, 0.0)[1 : k + 1] if knows == "next" else np.full(k, np.inf)
        image = basis @ matrix
        bounds = refined_angle_bounds(basis, image, trace=float(eigenvalues.sum()), beyond=beyond, error=16 * EPS)
        refined = np.linalg.qr(image.T)[0].T
        for j in range(1, k + 1):
            # Vectors of one another's span are no matter of the whole, only of the leading part.
            turned = largest_angle(refined[:j], rotation.T[:j])
            floor = 32 * EPS / eigenvalues[j - 1]
            assert turned <= bounds[j - 1] + floor
        if size <= 1e-6 and ratio < 0.1:  # the angle before, times the ratio of the eigenvalues at the gap
            before = largest_angle(basis, rotation.T[:k])
            assert bounds[-1] <= 1.1 * (before * eigenvalues[k] / eigenvalues[k - 1] + floor)
