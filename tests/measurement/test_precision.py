"""The bounds of functions for one metric, and the warning where no digit of a value is known."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1, reference_nrc2

RNG = np.random.default_rng(3)
Z, A = RNG.standard_normal((400, 2)), RNG.standard_normal((2, 9))
W, Y = RNG.standard_normal((2, 9)), Z @ RNG.standard_normal((2, 2))


# Of the references, which add up numbers of that size in float64.
ROUNDING = np.finfo(np.float64).eps * (400 * 9) ** 0.5


def collapsed(noise: float, dtype: str = "float64") -> Any:
    return (Z @ A + noise * np.random.default_rng(4).standard_normal((400, 9)) + 1.0).astype(dtype)


@pytest.mark.parametrize("convention", list(nrc.CONVENTIONS))
def test_bounds_are_those_of_the_report(convention: str) -> None:
    H = collapsed(1e-2)
    report = nrc.measure(H, W=W, convention=convention)
    value, bound = nrc.nrc1(H, 2, convention=convention, return_bound=True)
    assert value == nrc.nrc1(H, 2, convention=convention) == pytest.approx(report.nrc1, rel=1e-9)
    assert abs(value - reference_nrc1(H, 2, convention)) - ROUNDING * value <= bound <= 1e-9 * value
    assert bound == pytest.approx(report.bounds["nrc1"], rel=0.5)
    value, bound = nrc.nrc2(H, W, convention=convention, return_bound=True)
    assert value == nrc.nrc2(H, W, convention=convention) == pytest.approx(report.nrc2, rel=1e-9)
    assert abs(value - reference_nrc2(H, W, convention)) - ROUNDING * value <= bound <= 1e-9 * value
    several, bounds = nrc.nrc1(H, [1, 3], convention=convention, return_bound=True)
    assert several.shape == bounds.shape == (2,)
    by_k, bounds_by_k = nrc.nrc1(H, None, convention=convention, return_bound=True)
    assert np.all(np.abs(by_k - reference_nrc1(H, None, convention)) <= bounds_by_k + 1e-15)


@pytest.mark.usefixtures("many_rows")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_covariances_of_features_with_two_values_are_within_their_error(dtype: str) -> None:
    """Their squares are equal, so that in every block and entry of the Gram all additions round the same way."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(40):
        H = np.where(np.arange(1024)[:, np.newaxis] % 2, *rng.uniform(0.3, 1.0, 2)) * np.ones((1, 4))
        statistics = nrc.FeatureStatistics(4).update(H.astype(dtype))
        rows = Pairs(H.astype(dtype))
        rows = rows - rows.mean(axis=0)
        exact = (rows.T @ rows / len(rows)).astype(np.float64)
        worst = max(worst, float(np.linalg.norm(statistics.covariance - exact)) / statistics.covariance_error)
    assert 0.1 < worst <= 1.0


def test_bounds_of_nrc3_are_those_of_the_report() -> None:
    report = nrc.measure(collapsed(1e-2), Y, W, np.zeros(2))
    assert nrc.nrc3(W, Y, return_bound=True) == pytest.approx((report.nrc3, report.bounds["nrc3"]), rel=1e-9)
    gamma, bound = nrc.nrc3_gamma(W, Y, return_bound=True)
    assert (gamma, bound) == pytest.approx((report.gamma, report.bounds["gamma"]), rel=1e-9)
    value, bound = nrc.nrc3(W, Y, gamma=0.5 * gamma, return_bound=True)
    assert value == nrc.nrc3(W, Y, gamma=0.5 * gamma)
    assert 0.0 < bound < 1e-12
    sigma = np.cov(Y.T, bias=True)
    assert nrc.nrc3(W, covariance=sigma, return_bound=True)[1] < 1e-12


def test_nothing_has_no_bound() -> None:
    assert np.isnan(nrc.nrc1(np.zeros((5, 3)), 1, return_bound=True)).all()
    assert np.isnan(nrc.nrc2(collapsed(1.0), 0.0 * W, return_bound=True)).all()
    assert np.isnan(nrc.nrc3(0.0 * W, Y, return_bound=True)).all()
    assert nrc.nrc1(collapsed(1.0), 9, return_bound=True) == (0.0, 0.0)


@pytest.mark.usefixtures("many_rows", "no_kept_rows")
def test_a_value_below_its_bound_is_warned_of() -> None:
    H = collapsed(5e-4, "float32")
    with pytest.warns(nrc.PrecisionWarning, match="NRC1 is .* and its bound"):
        value = nrc.nrc1(iter([H]), 2, convention="variance")
    assert value == nrc.nrc1(iter([H]), 2, convention="variance", return_bound=True)[0]
    with pytest.warns(nrc.PrecisionWarning, match="NRC2"):
        nrc.nrc2(iter([H]), A, convention="variance")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nrc.nrc1(H, 2, convention="variance")  # read again, it is known


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_features_that_have_collapsed_exactly_are_not_warned_of(dtype: str) -> None:
    whole = np.round(8.0 * Z) @ np.round(8.0 * A)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for convention in nrc.CONVENTIONS:
            assert nrc.nrc1(whole.astype(dtype), 2, convention=convention) < 1e-24


def test_the_rounding_of_the_intrinsic_dimension() -> None:
    pytest.importorskip("sklearn")
    H = np.tanh(Z @ A)
    found, bound = nrc.intrinsic_dimension(H, repeats=2, return_bound=True)
    assert found == nrc.intrinsic_dimension(H, repeats=2)
    assert 0.0 < bound < 1e-6
    far, larger = nrc.intrinsic_dimension(H + 1e6, repeats=2, return_bound=True)
    # The stored rows are others: by 1e-10, beside neighbours some 1e-2 apart.
    assert far.value == pytest.approx(found.value, abs=1e-5)
    assert larger > 0.0
