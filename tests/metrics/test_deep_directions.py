"""Products and directions of very many factors, against 50 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.metrics.deep_directions import (
    factor_singular_values,
    gram_eigenvalues,
    root_of_product,
    solve_directions,
    threshold,
)
from nrc_fast.ufm import deep, predict

EPS = 2.0**-52
VALUES = np.array([4.0, 2.0, 1.0])


def relative(found: Any, wanted: list[Any]) -> float:
    return float(max(abs(float((number / exact) - 1)) for number, exact in zip(np.ravel(found), wanted, strict=True)))


@pytest.mark.parametrize("degree", [2, 999, 1025, 2000, 5000, 10_001])
def test_roots_of_any_degree(degree: int) -> None:
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(degree)
    with mp.workdps(50):
        for size in (1.0, 1e-200, 1e150):
            factors = [np.asarray(size * x) for x in rng.uniform(0.5, 2.0, degree)]
            exact = mp.fprod([mp.mpf(float(x)) for x in factors]) ** (mp.mpf(1) / degree)
            assert relative(root_of_product(factors, [1] * degree, degree), [exact]) < 4 * EPS
        # One factor alone, whose exponent leaves any rest.
        for k in rng.integers(-1000, 1000, 20).tolist():
            exact = mp.mpf(2) ** (mp.mpf(k) / degree)
            assert relative(root_of_product([np.asarray(2.0**k)], [1], degree), [exact]) < 4 * EPS


@pytest.mark.parametrize("m", [1, 3, 1024, 1999, 4999, 9999])
def test_directions_of_very_many_layers(m: int) -> None:
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(m)
    penalties = 1e-3 / (m + 1) * rng.uniform(0.5, 2.0, m + 1)
    found = solve_directions(VALUES, penalties)
    with mp.workdps(50):
        product = mp.fprod([mp.mpf(float(x)) for x in penalties])
        shares, grams, firsts, tops = [], [], [], []
        for value in VALUES.tolist():
            ratio = (product / mp.mpf(value) ** m) ** (mp.mpf(1) / (m + 1))
            power = mp.mpf(m - 1) / (m + 1)
            share = ratio
            for _ in range(400):
                share = ratio / (1 - share) ** power
            shares.append(share)
            energy = (product * value) ** (mp.mpf(1) / (m + 1)) * (1 - share) ** (mp.mpf(2) / (m + 1))
            assert abs(energy - value * share * (1 - share)) < mp.mpf(10) ** -40
            firsts.append(mp.sqrt(energy / mp.mpf(float(penalties[0]))))
            grams.append(energy**m / (product / mp.mpf(float(penalties[-1]))))
            tops.append(
                mp.mpf(value) * (mp.mpf(m - 1) ** (m - 1) / mp.mpf(m) ** (2 * m) / value) ** (mp.mpf(1) / (m + 1))
            )
        assert relative(found.share, shares) < 16 * EPS
        factors = factor_singular_values(VALUES, penalties, found.share)
        assert factors.shape == (m + 1, 3)
        assert relative(factors[0], firsts) < 16 * EPS
        assert relative(gram_eigenvalues(VALUES, penalties, found.share), grams) < 16 * EPS
        if m > 1:
            assert relative(threshold(VALUES, m, degree=m + 1), tops) < 16 * EPS


@pytest.mark.parametrize("layers", [1024, 2000, 5000])
def test_forecasts_and_minima_of_very_many_layers(layers: int) -> None:
    floor = predict(covariance=np.diag(VALUES), weight_decay=1e-4, layers=layers, loss="paper")
    assert floor.rank == 3
    # To first order every direction loses t = penalty/lambda^(1 - 1/L), and the decay itself of the last.
    np.testing.assert_allclose(floor.mse_floor, 1e-8 * np.sum(1.0 / VALUES), rtol=3e-3)
    # t = 1/(L - 1) at the threshold, where t (1 - t)^((L - 2)/L) is r.
    assert floor.critical_weight_decays[2] == pytest.approx(
        (1 / (layers - 1)) * (1 - 1 / (layers - 1)) ** ((layers - 2) / layers), rel=1e-12
    )
    found = deep(covariance=np.diag(VALUES), lambda_W=np.full(layers - 1, 1e-4), lambda_H=1e-4)
    assert found.rank == 3
    assert found.mse == pytest.approx(floor.mse_floor, rel=16 * EPS)
    assert found.layer_singular_values.shape == (layers - 1, 3)
