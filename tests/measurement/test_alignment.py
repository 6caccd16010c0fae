"""NRC3, its gamma and its curve as users call them, against the reference and by their laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc3, reference_nrc3_gamma

pytestmark = pytest.mark.usefixtures("on_every_device")

EPSILON = 2.0**-52


@pytest.mark.parametrize("n", [2, 3, 5, 7])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nrc3_of_weights_and_targets(n: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    W = rng.standard_normal((n, 2 * n)).astype(dtype)
    Y = (rng.standard_normal((60, n)) @ np.diag(0.7 ** np.arange(n)) + 3.0).astype(dtype)
    covariance = np.cov(Y.T.astype(np.float64), bias=True)
    gamma = nrc.nrc3_gamma(W, Y)
    assert nrc.nrc3(W, Y) == pytest.approx(reference_nrc3(W, Y, gamma), abs=256 * EPSILON)
    # Near its minimum NRC3 is flat: a gamma that is off by the root of the rounding changes it by the rounding.
    assert gamma == pytest.approx(reference_nrc3_gamma(W, Y), abs=1e-7 * float(np.trace(covariance)))
    assert nrc.nrc3(W, Y) <= nrc.nrc3_curve(W, Y, [0.0, 0.5 * gamma, gamma]).min() + 16 * EPSILON


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-30, 1e30))
@pytest.mark.host
def test_nrc3_does_not_depend_on_the_scale_of_the_weights(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    W, Y = rng.standard_normal((3, 8)), rng.standard_normal((50, 3))
    assert nrc.nrc3(scale * W, Y) == pytest.approx(nrc.nrc3(W, Y), rel=1e-9)


def test_nrc3_of_a_covariance_and_its_curve(peer: Any) -> None:
    covariance = np.cov(peer.targets.T, bias=True)
    gammas = np.linspace(0.0, np.linalg.eigvalsh(covariance)[0], 7)
    curve = nrc.nrc3_curve(peer.weights, peer.targets, gammas)
    assert curve == pytest.approx([nrc.nrc3(peer.weights, peer.targets, gamma=g) for g in gammas], rel=1e-12)
    assert nrc.nrc3(peer.weights, covariance=covariance) == pytest.approx(nrc.nrc3(peer.weights, peer.targets))
    assert nrc.nrc3(peer.weights, peer.targets) <= curve.min() + EPSILON
