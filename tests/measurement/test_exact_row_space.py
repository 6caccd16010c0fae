"""NRC2 of few rows from a row space in twice the digits, beside references of 30 digits."""

from __future__ import annotations

import numpy as np
import pytest
from support.exact_numbers import ExactNumbers

import nrc_fast as nrc
from nrc_fast.base.exact_products import Slices
from nrc_fast.base.linalg import row_space
from nrc_fast.measurement import explicit_metrics
from nrc_fast.measurement.exact_images import scaled_rows
from nrc_fast.measurement.exact_row_space import LEAST_SINGULAR_VALUE, exact_row_space

ROUNDOFF = 2.0**-53


def draw(noise: float, offset: float, *, condition: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    W = rng.standard_normal((3, 8)) * np.array([[1.0], [1.0], [1.0 / condition]])
    H = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 3)) @ np.linalg.qr(W.T)[0].T
    return H + noise * rng.standard_normal((50, 8)) + offset, W


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("condition", [1.0, 1e3])
@pytest.mark.parametrize(("noise", "offset"), [(1.0, 0.0), (0.3, 100.0), (1e-7, 0.0)])
def test_nrc2_to_some_roundings(noise: float, offset: float, condition: float, slices: Slices) -> None:
    H, W = draw(noise, offset, condition=condition)
    exact = ExactNumbers(H, np.arange(50.0)[:, np.newaxis] * [1.0, 2.0, 3.0], W, np.zeros(3), components=3)
    found = exact_row_space(scaled_rows(H, centered=True), W, row_space(W), slices=slices)
    assert found is not None
    for name, convention in nrc.CONVENTIONS.items():
        value, bound = found.nrc2(convention)
        assert exact.alternatives[name]["nrc2"].distance(value) <= bound
        if slices == 2 or noise > 1e-7:
            assert bound <= 20.0 * ROUNDOFF * value


def test_row_spaces_that_are_not_found() -> None:
    H, W = draw(1.0, 0.0)
    given = scaled_rows(H, centered=True)
    for weights in (np.vstack([W, W[:1]]), np.eye(8), draw(1.0, 0.0, condition=4.0 / LEAST_SINGULAR_VALUE)[1]):
        assert exact_row_space(given, weights, row_space(weights)) is None


@pytest.mark.parametrize("name", list(nrc.CONVENTIONS))
def test_few_rows_have_narrower_bounds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    H, W = draw(0.5, 2.0)
    value, bound = nrc.nrc2(H, W, convention=name, return_bound=True)
    monkeypatch.setattr(explicit_metrics, "MOST_PROJECTED", 0)
    before, wide = nrc.nrc2(H, W, convention=name, return_bound=True)
    assert abs(value - before) <= bound + wide
    assert bound < wide / 2.0
