"""What a report tells of many features: the leading part by default, and all of it on request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.measurement.extent import Extent, extent_of
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.reports.features import Report
from nrc_fast.testing import reference_nrc1, reference_nrc2

D = 1100  # more than have their whole spectrum by default


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(0)
    H = rng.standard_normal((1500, D)) * np.arange(1.0, D + 1.0) ** -0.75 + 0.1 * rng.standard_normal(D)
    W, b = rng.standard_normal((3, D)), rng.standard_normal(3)
    Y = H[:, :40] @ rng.standard_normal((40, 3)) + 0.1 * rng.standard_normal((1500, 3))
    return H, Y, W, b


@pytest.fixture(scope="module")
def report(rows: tuple[Any, Any, Any, Any]) -> Report:
    return nrc.measure(*rows)


@pytest.fixture(scope="module")
def spectrum(rows: tuple[Any, Any, Any, Any]) -> Any:
    return np.linalg.eigvalsh(np.cov(rows[0].T, bias=True))[::-1]


def readout_error(H: Any, Y: Any) -> float:
    with_intercept = np.column_stack([H, np.ones(len(H))])
    left = with_intercept @ np.linalg.lstsq(with_intercept, Y, rcond=None)[0] - Y
    return float(np.mean(np.sum(left**2, axis=1)))


def test_what_is_there_without_a_spectrum(rows: Any, report: Report, spectrum: Any) -> None:
    H, Y, W, b = rows
    assert report.nrc1_by_k == pytest.approx(reference_nrc1(H, range(1, 17)), rel=1e-9)
    assert report.nrc1 == report.nrc1_by_k[2]
    assert report.nrc2 == pytest.approx(reference_nrc2(H, W), rel=1e-12)
    assert report.explained_variance_ratio == pytest.approx(spectrum[:16] / spectrum.sum(), rel=1e-9)
    assert report.stable_rank == pytest.approx(np.sum(spectrum**2) / spectrum[0] ** 2, rel=1e-12)
    centered, deviations = H - H.mean(axis=0), Y - Y.mean(axis=0)
    cross, own = np.linalg.norm(centered.T @ deviations), np.linalg.norm(deviations.T @ deviations)
    assert report.cka == pytest.approx(cross**2 / own / np.linalg.norm(centered.T @ centered), rel=1e-12)
    assert report.mse == pytest.approx(np.mean(np.sum((H @ W.T + b - Y) ** 2, axis=1)), rel=1e-12)
    assert report.linear_mse == pytest.approx(readout_error(H, Y), rel=1e-9)
    assert np.isnan(report.effective_rank)
    assert any("spectrum='full'" in note for note in report.notes)


def test_bounds_hold_without_a_spectrum(rows: Any, report: Report, spectrum: Any) -> None:
    exact = {
        "nrc1_by_k": reference_nrc1(rows[0], range(1, 17)),
        "explained_variance_ratio": spectrum[:16] / spectrum.sum(),
        "stable_rank": np.sum(spectrum**2) / spectrum[0] ** 2,
        "linear_mse": readout_error(*rows[:2]),
    }
    single = nrc.measure(rows[0].astype(np.float32), rows[1])
    for found in (report, single):
        own = 2.0**-24 if found is single else 0.0  # the rounding of the rows themselves
        for name, values in exact.items():
            off = np.abs(getattr(found, name) - values)
            assert np.all(off <= np.asarray(found.bounds[name]) + 64 * own * np.abs(values) + 1e-12 * np.abs(values))


def test_all_of_it_on_request(rows: Any, report: Report, spectrum: Any) -> None:
    H, Y, W, b = rows
    full = nrc.measure(H, Y, W, b, by_k="all", spectrum="full")
    assert full.nrc1_by_k == pytest.approx(reference_nrc1(H, None), rel=1e-9, abs=1e-12)
    assert full.explained_variance_ratio == pytest.approx(spectrum / spectrum.sum(), abs=1e-14)
    shares = spectrum / spectrum.sum()
    assert full.effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-12)
    for name in ("nrc1", "nrc2", "nrc3", "gamma", "cka", "mse", "linear_mse", "stable_rank"):
        assert getattr(full, name) == pytest.approx(getattr(report, name), rel=1e-9)
    assert not any("spectrum=" in note for note in full.notes)


def test_statistics_report_the_same(rows: Any, report: Report) -> None:
    H, Y, W, b = rows
    statistics = nrc.FeatureStatistics(D, n_targets=3).update(H, Y)
    found = statistics.report(W, b)
    for name in ("nrc1", "nrc2", "cka", "linear_mse", "stable_rank"):
        assert getattr(found, name) == pytest.approx(getattr(report, name), rel=1e-9)
    assert found.nrc1_by_k == pytest.approx(report.nrc1_by_k, rel=1e-9)
    assert len(statistics.report(W, b, by_k="all").nrc1_by_k) == D


def test_conditions_of_a_wide_layer(rows: Any, report: Report, spectrum: Any) -> None:
    H, Y, W, _ = rows
    layer = layer_collapse(nrc.FeatureStatistics(D, n_targets=3, unit_rows=False).update(H, Y), W)
    assert layer.noise_fraction == pytest.approx(spectrum[3:].sum() / spectrum.sum(), rel=1e-12)
    assert layer.feature_stable_rank == pytest.approx(report.stable_rank, rel=1e-12)
    assert layer.linear_mse == pytest.approx(report.linear_mse, rel=1e-12)
    components = np.linalg.svd(H - H.mean(axis=0), full_matrices=False)[2][:3]
    projected, deviations = (H - H.mean(axis=0)) @ components.T, Y - Y.mean(axis=0)
    norms = [
        np.linalg.norm(left.T @ right)
        for left, right in ((projected, deviations), (projected, projected), (deviations, deviations))
    ]
    assert layer.signal_alignment == pytest.approx(norms[0] ** 2 / norms[1] / norms[2], rel=1e-9)
    assert layer.bounds["noise_fraction"] < 1e-12


def test_options() -> None:
    assert extent_of("leading", "auto") == Extent()
    assert extent_of("all", "full") == Extent(all_k=True, whole_spectrum=True)
    assert [Extent().components(n, d) for n, d in ((1, 5), (3, 100), (20, 100), (60, 100))] == [5, 16, 42, 100]
    H = np.eye(4)
    with pytest.raises(ValueError, match="by_k is 'every'; 'leading' or 'all' is expected"):
        nrc.measure(H, n=1, by_k="every")
    with pytest.raises(ValueError, match="spectrum is 'whole'; 'auto' or 'full' is expected"):
        nrc.measure(H, n=1, spectrum="whole")


def test_what_was_asked_before_changes_no_bit(rows: Any) -> None:
    H, Y, W, b = rows
    asked, fresh = (nrc.FeatureStatistics(D, n_targets=3).update(H, Y) for _ in range(2))
    for k in (3, 20):
        asked.moments.leading(k)
    assert len(asked.moments.leading(4).values) == 5
    asked.spectrum()
    assert asked.report(W, b).to_json() == fresh.report(W, b).to_json()
    found, wanted = layer_collapse(asked, W, n=4), layer_collapse(fresh, W, n=4)
    assert found.to_json() == wanted.to_json()
    assert found.bounds["signal_alignment"] < 1e-9


def test_the_bound_of_a_readout_is_worth_reading_where_all_directions_are_known(rows: Any, report: Report) -> None:
    assert report.bounds["linear_mse"] < 1e-6 * report.linear_mse
    low = rows[0].copy()
    low[:, 500:] = low[:, :600]  # of rank 500, so that what half of the directions could explain is not known
    assert nrc.measure(low, rows[1]).bounds["linear_mse"] >= nrc.measure(low, rows[1]).linear_mse
