"""Errors of models from moments, against fractions: a large mean is no part of what is rounded."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

import nrc_fast as nrc
from nrc_fast.measurement.moment_errors import error_of_moments, mean_residual
from nrc_fast.passes.balance_sums import LinearModel

FloatArray = NDArray[np.float64]
UNIT = 2.0**-53


def residuals(H: FloatArray, Y: FloatArray, model: LinearModel) -> list[list[Fraction]]:
    weights = [[Fraction(w) for w in row] for row in model.weights.tolist()]
    return [
        [
            sum(a * Fraction(b) for a, b in zip(w, h, strict=True)) + Fraction(bias) - Fraction(target)
            for w, bias, target in zip(weights, model.bias.tolist(), y, strict=True)
        ]
        for h, y in zip(H.tolist(), Y.tolist(), strict=True)
    ]


def drawn(offset: float, noise: float, scale: float = 1.0) -> tuple[FloatArray, FloatArray, LinearModel]:
    rng = np.random.default_rng(0)
    H, W = rng.standard_normal((300, 4)) + offset, rng.standard_normal((2, 4)) * scale
    bias = rng.standard_normal(2) * scale - W.sum(axis=1) * offset
    return H, H @ W.T + bias + scale * noise * rng.standard_normal((300, 2)), LinearModel(W, bias)


@pytest.mark.usefixtures("no_kept_rows")
@pytest.mark.parametrize("offset", [0.0, 30.0, 1e6])
@pytest.mark.parametrize("noise", [1.0, 1e-3])
@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e60])
def test_bounds_hold_and_know_no_offset(offset: float, noise: float, scale: float) -> None:
    H, Y, model = drawn(offset, noise, scale)
    statistics = nrc.FeatureStatistics(4, n_targets=2).update(H[:100], Y[:100]).update(H[100:], Y[100:])
    exact = residuals(H, Y, model)
    means = [sum(column) / len(H) for column in zip(*exact, strict=True)]
    found = mean_residual(statistics.moments, model)
    apart = sum((Fraction(a) - b) ** 2 for a, b in zip(found.values.tolist(), means, strict=True))
    assert apart <= Fraction(found.error) ** 2
    # Roundings of sums over the rows about their mean, whatever that is.
    spread = float(np.linalg.norm(model.weights)) * statistics.variance**0.5
    assert found.error <= 256.0 * UNIT * spread
    mse = sum(entry**2 for row in exact for entry in row) / len(H)
    value, bound, _ = error_of_moments(statistics.moments, model)
    assert abs(Fraction(value) - mse) <= Fraction(bound)
    assert bound <= 2048.0 * UNIT * spread**2
    report = statistics.report(model.weights, model.bias)
    assert (report.mse, report.bounds["mse"]) == (value, bound)


def test_rows_in_memory_have_the_surer_of_both() -> None:
    """Row by row an error is rounded in proportion to the mean of the features, and moments are not."""
    rng = np.random.default_rng(1)
    H, W = rng.standard_normal((20_000, 4)) + 1e6, rng.standard_normal((2, 4))
    Y, b = rng.standard_normal((20_000, 2)), -1e6 * W.sum(axis=1)
    report = nrc.measure(H, Y, W, b, rtol=1e-30)
    of_moments = nrc.FeatureStatistics(4, n_targets=2).update(H, Y).report(W, b)
    assert report.bounds["mse"] <= 1.01 * of_moments.bounds["mse"] <= 1e-11 * of_moments.mse
    assert abs(report.mse - of_moments.mse) <= report.bounds["mse"] + of_moments.bounds["mse"]
