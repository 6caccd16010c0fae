"""The least error of a readout of few rows beside its 60 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.measurement import exact_readout as module
from nrc_fast.measurement.exact_components import exact_components
from nrc_fast.measurement.exact_readout import exact_readout

mp = pytest.importorskip("mpmath")


def features_and_targets(count: int, d: int, *, noise: float, offset: float, misfit: float) -> tuple[Any, Any]:
    rng = np.random.default_rng([count, d])
    Z, A = rng.standard_normal((count, 2)), rng.standard_normal((2, d))
    H = Z @ A + noise * rng.standard_normal((count, d)) + offset * rng.uniform(0.5, 1.5, d)
    Y = Z @ rng.standard_normal((2, 2)) + misfit * rng.standard_normal((count, 2)) + offset
    return H, Y


def least_error(H: FloatArray, Y: FloatArray) -> Any:
    """Of the stored numbers, by Gram-Schmidt in 80 digits, for features of full rank."""
    with mp.workdps(80):
        basis = [[mp.mpf(1)] * len(H)]
        for column in H.T.tolist():
            basis.append(beside(beside([mp.mpf(entry) for entry in column], basis), basis))
        left = [beside([mp.mpf(entry) for entry in column], basis) for column in Y.T.tolist()]
        return sum(mp.fdot(column, column) for column in left) / len(H)


def beside(column: list[Any], basis: list[list[Any]]) -> list[Any]:
    """What some orthogonal columns leave of another one."""
    for other in basis:
        share = mp.fdot(column, other) / mp.fdot(other, other)
        column = [a - share * b for a, b in zip(column, other, strict=True)]
    return column


def found_of(H: FloatArray, Y: FloatArray) -> tuple[float, float]:
    vectors = np.linalg.svd(H - H.mean(axis=0), full_matrices=True)[2]
    components = exact_components(H, vectors, centered=True)
    assert components is not None
    found = exact_readout(components, Y)
    assert found is not None
    return found


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("noise", [1.0, 1e-3, 1e-7])
@pytest.mark.parametrize(("count", "d"), [(5, 2), (16, 3), (33, 7), (97, 17)])
@pytest.mark.parametrize("scale", [1.0, 1e-120, 1e120])
def test_few_rows_have_the_exact_readout(count: int, d: int, noise: float, offset: float, scale: float) -> None:
    H, Y = features_and_targets(count, d, noise=noise, offset=offset, misfit=1e-3)
    Y *= scale
    value, bound = found_of(H, Y)
    with mp.workdps(80):
        exact = least_error(H, Y)
        assert abs(mp.mpf(value) - exact) <= mp.mpf(bound)
        # Rounding of images counts where the stored rows hold faint components far from 0.
        faint = 64.0 if noise * EPSILON < 1e-22 and offset > 0.0 else 8.0
        assert bound <= faint * EPSILON * float(exact)


def test_targets_that_features_give_have_an_error_that_is_rounding() -> None:
    rng = np.random.default_rng(0)
    H = rng.integers(-8, 9, (40, 4)).astype(np.float64)
    Y = H @ rng.integers(-3, 4, (4, 2)) + 5.0
    value, bound = found_of(H, Y)
    assert 0.0 <= value <= bound < 1e-24 * float(np.var(Y))


def test_components_that_are_rounding_are_not_read_from() -> None:
    """What they could explain is not known."""
    rng = np.random.default_rng(1)
    H = np.hstack([rng.standard_normal((50, 3)), np.zeros((50, 2))])
    Y = rng.standard_normal((50, 2))
    value, bound = found_of(H, Y)
    narrow, known = found_of(H[:, :3], Y)
    assert abs(value - narrow) <= 2.0 * known
    assert bound == value


def test_reports_of_few_rows_have_it_and_those_of_many_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    H, Y = features_and_targets(300, 6, noise=1e-2, offset=3.0, misfit=1e-3)
    report = nrc.measure(H, Y)
    exact = least_error(H, Y)
    assert abs(report.linear_mse - exact) <= report.bounds["linear_mse"] <= 8.0 * EPSILON * float(exact)
    assert report.bound_kinds["linear_mse"] == "certified"
    monkeypatch.setattr(module, "SKEWED", 0.0)
    plain = nrc.measure(H, Y)
    assert plain.bound_kinds["linear_mse"] != "certified"
    assert abs(plain.linear_mse - exact) <= plain.bounds["linear_mse"]
    assert plain.bounds["linear_mse"] > 10.0 * report.bounds["linear_mse"]
