"""Correlations of outputs, and the variance along their directions, against 60 digits."""

from __future__ import annotations

import numpy as np
import pytest
from support.ufm_reference import covariance_with, targets_with

from nrc_fast import ufm
from nrc_fast.ufm.correlations import correlations_of
from nrc_fast.ufm.targets import TargetMoments, target_moments

mp = pytest.importorskip("mpmath")

from support.exact_ufm import exactly  # noqa: E402 - mpmath may be missing

EPSILON = 2.0**-52


@pytest.mark.parametrize("scale", [1e-130, 1.0, 1e130])
def test_loads_and_eigenvalues_are_rounded_once_or_twice(scale: float) -> None:
    rng = np.random.default_rng(5)
    targets = targets_with(covariance_with([3.0, 1.0, 1e-3, 1e-6], 1), 20, [5.0, -2.0, 0.0, 1.0], 2)
    targets = scale * targets * 10.0 ** rng.uniform(-1, 1, 4)
    found = correlations_of(target_moments(targets))
    assert found is not None
    with mp.workdps(60):
        matrix = exactly(targets)
        for j in range(4):
            mean = mp.fsum(matrix[:, j]) / len(targets)
            for i in range(len(targets)):
                matrix[i, j] -= mean
        covariance = matrix.T * matrix / len(targets)
        roots = [mp.sqrt(covariance[i, i]) for i in range(4)]
        shape = mp.matrix([[covariance[i, j] / roots[i] / roots[j] for j in range(4)] for i in range(4)])
        values, vectors = mp.eigsy(shape)
        order = sorted(range(4), key=lambda j: -values[j])
        for place, j in enumerate(order):
            assert abs(exactly(found.spectrum.values[place]) - values[j]) <= exactly(found.spectrum.errors[place])
            assert found.spectrum.errors[place] <= EPSILON * found.spectrum.values[place]
            load = sum(vectors[i, j] ** 2 * covariance[i, i] for i in range(4))
            assert abs(exactly(found.loads[place]) - load) <= exactly(found.loads_error[place])
            assert found.loads_error[place] <= 4.0 * EPSILON * found.loads[place]


def test_outputs_without_variance_have_none() -> None:
    assert correlations_of(TargetMoments(np.zeros((2, 2)), np.zeros(2))) is None
    found = correlations_of(TargetMoments(np.diag([4.0, 0.0, 1.0]), np.zeros(3)))
    assert found is not None
    assert found.variances.tolist() == [4.0, 1.0]
    assert ufm.predict(covariance=np.diag([4.0, 0.0, 1.0]), c=0.25).standardized_floor == pytest.approx(1.25)
