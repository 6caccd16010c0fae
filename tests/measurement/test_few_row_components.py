from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.measurement import few_row_components as module
from nrc_fast.measurement.few_row_components import few_row_components, has_few_rows
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.reading import Reading
from nrc_fast.testing import reference_nrc1

EPS = 2.0**-52


def noise(rows: int, d: int, mean: float = 0.0) -> Any:
    rng = np.random.default_rng(rows + d)
    return rng.standard_normal((rows, d)) + mean * rng.standard_normal(d)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(("rows", "d"), [(1, 2), (2, 5), (3, 7), (16, 33), (31, 97), (200, 400)])
@pytest.mark.parametrize("exponent", [0, 450, -200])
def test_pairs_are_those_of_the_covariance(rows: int, d: int, exponent: int, centered: bool) -> None:
    H = np.ldexp(noise(rows, d, mean=3.0), exponent)
    found = few_row_components(begin_reading(H), 3, centered=centered)
    scaled = np.ldexp(H, -exponent)
    about = scaled - scaled.mean(axis=0) if centered else scaled
    values = np.linalg.svd(about, compute_uv=False)[:4] ** 2 / rows
    values = values[values > 1e-20]
    assert np.ldexp(found.pairs.values, -2 * exponent) == pytest.approx(values, rel=64 * EPS * d)
    assert np.ldexp(found.pairs.trace, -2 * exponent) == pytest.approx(np.sum(about**2) / rows, rel=64 * EPS)
    assert np.ldexp(found.mean, -exponent) == pytest.approx(scaled.mean(axis=0), abs=8 * EPS * np.abs(scaled).max())
    left = found.pairs.vectors @ about.T @ about / rows - values[:, np.newaxis] * found.pairs.vectors
    assert np.linalg.norm(left) <= 64 * EPS * d * max(values, default=0.0)


def test_noise_with_fewer_rows_than_features_needs_no_square_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    H, titles = noise(300, 1000), []
    run = Reading.run
    monkeypatch.setattr(Reading, "run", lambda self, title, sums: (titles.append(title), run(self, title, sums))[1])
    for convention in ("nrc24", "variance", "raw"):
        assert nrc.nrc1(H, 3, convention=convention) == pytest.approx(reference_nrc1(H, 3, convention), rel=1e-12)
    assert "statistics" not in titles
    assert titles.count("rows") == 3
    bad = H.copy()
    bad[7, 7] = np.nan
    kept = np.delete(H, 7, axis=0)
    assert nrc.nrc1(bad, 3, nonfinite="skip") == pytest.approx(reference_nrc1(kept, 3), rel=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    H = noise(300, 1000, mean=1e4)
    assert nrc.nrc1(H, 3, convention="variance") == pytest.approx(reference_nrc1(H, 3, "variance"), rel=1e-11)


def test_which_rows_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_few_rows(begin_reading(noise(50, 100)))
    assert not has_few_rows(begin_reading(noise(51, 100)))
    monkeypatch.setattr(module, "MOST_SQUARE_BYTES", 3 * 8 * 50 * 100 - 1)  # no room for them
    assert not has_few_rows(begin_reading(noise(50, 100)))
