"""Sums about a shift: one that is far from the mean costs no digits that the bounds do not know."""

from __future__ import annotations

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1, reference_nrc2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0, 1e4])
def test_first_rows_unlike_the_others_cost_no_digits(dtype: type, offset: float) -> None:
    """Sorted data: the shift is the mean of rows that are nothing like the rest."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((60_000, 8)) * 0.7 ** np.arange(8)
    H[:1024] += offset
    H = H.astype(dtype)
    W = rng.standard_normal((2, 8))
    report = nrc.measure(H, W=W)
    for name, reference in (
        ("nrc1", reference_nrc1(H, 2, "nrc24")),
        ("nrc2", reference_nrc2(H, W, "nrc24")),
    ):
        assert abs(getattr(report, name) - reference) <= report.bounds[name] + 1e-15
    if offset <= 100.0:
        assert report.bounds["nrc1"] < 0.1  # 1 says nothing
    streamed = nrc.FeatureStatistics(8).update(H[:1]).update(H[1:]).report(W, convention="variance")
    for k in range(1, 9):
        error = abs(streamed.nrc1_by_k[k - 1] - reference_nrc1(H, k, "variance"))
        assert error <= streamed.bounds["nrc1_by_k"][k - 1] + 1e-15
    assert abs(streamed.nrc2 - reference_nrc2(H, W, "variance")) <= streamed.bounds["nrc2"] + 1e-15


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_merging_forgets_no_rounding(dtype: type) -> None:
    rng = np.random.default_rng(1)
    good, bad = (rng.standard_normal((3000, 6)) * 0.6 ** np.arange(6) for _ in range(2))
    bad[0] = 1e5  # the shift of this part
    good, bad = good.astype(dtype), bad.astype(dtype)
    merged = nrc.FeatureStatistics(6).update(good)
    merged += nrc.FeatureStatistics(6).update(bad[:1]).update(bad[1:])
    report = merged.report(n=2, convention="variance")
    H = np.concatenate([good, bad])
    for k in range(1, 7):
        error = abs(report.nrc1_by_k[k - 1] - reference_nrc1(H, k, "variance"))
        assert error <= report.bounds["nrc1_by_k"][k - 1] + 1e-15
    eigenvalues = np.linalg.eigvalsh(np.cov(H.astype(np.float64).T, bias=True))[::-1]
    errors = np.abs(report.explained_variance_ratio - eigenvalues / eigenvalues.sum())
    assert np.all(errors <= report.bounds["explained_variance_ratio"])


def test_centered_unit_rows_next_to_their_mean_stay_within_their_bounds() -> None:
    H = 0.1 + 1e-9 * np.random.default_rng(2).standard_normal((4000, 6))
    report = nrc.measure(H, n=2, convention="id25")
    for k in range(1, 6):
        assert abs(report.nrc1_by_k[k - 1] - reference_nrc1(H, k, "id25")) <= report.bounds["nrc1_by_k"][k - 1]
