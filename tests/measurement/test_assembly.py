"""Numbers of a report that float32 blocks would leave without a digit are read again in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1


def faint_signal() -> tuple[Any, Any, float]:
    """Features whose faintest directions tell the targets, and the error of the best readout of them."""
    rng = np.random.default_rng(0)
    scales = 10.0 ** np.linspace(0.0, -4.0, 64)
    turn = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    H = ((rng.standard_normal((4000, 64)) * scales) @ turn).astype(np.float32)
    Y = (H @ turn.T)[:, -2:] / scales[-2:] + 0.2 * rng.standard_normal((4000, 2))
    X, T = H - H.mean(axis=0, dtype=np.float64), Y - Y.mean(axis=0)
    left = T - X @ np.linalg.lstsq(X, T, rcond=None)[0]
    return H, Y, float(np.sum(left**2)) / len(Y)


def test_few_rows_are_summed_in_float64(passes: list[str]) -> None:
    H, Y, exact = faint_signal()
    report = nrc.measure(H, Y)
    assert abs(report.linear_mse - exact) <= report.bounds["linear_mse"] < 1e-3 * exact
    assert passes == ["statistics", "residuals"]
    again = nrc.measure(H, Y, precision="highest")
    assert (report.linear_mse, report.nrc1) == (again.linear_mse, again.nrc1)
    fast = nrc.measure(H, Y, precision="fast")
    assert fast.bounds["linear_mse"] > 0.5 * fast.linear_mse


@pytest.mark.usefixtures("many_rows")
def test_a_number_without_a_digit_is_read_again_in_float64(passes: list[str]) -> None:
    H, Y, exact = faint_signal()
    report = nrc.measure(H, Y)
    assert passes == ["statistics", "residuals", "statistics"]
    assert abs(report.linear_mse - exact) <= report.bounds["linear_mse"] < 1e-3 * exact
    assert "<= " not in next(line for line in str(report).splitlines() if line.startswith("  MSE of the best"))
    passes.clear()
    coarse = nrc.measure(H, Y, precision="fast")
    assert passes == ["statistics", "residuals"]
    assert coarse.bounds["linear_mse"] > 0.5 * coarse.linear_mse


@pytest.mark.usefixtures("many_rows")
def test_numbers_with_digits_are_not_read_again(passes: list[str]) -> None:
    rng = np.random.default_rng(1)
    H, Y = rng.standard_normal((500, 8)).astype(np.float32), rng.standard_normal((500, 2))
    report = nrc.measure(H, Y)
    assert passes == ["statistics", "residuals"]
    assert 0.0 < report.bounds["linear_mse"] < 0.1 * report.linear_mse
    passes.clear()
    assert nrc.measure(H[:, :2], n=2).nrc1 == pytest.approx(0.0, abs=1e-14)
    assert passes == ["statistics", "residuals"]


# Where the images of the components tell them apart well enough, they need no moments in float64.
@pytest.mark.usefixtures("many_rows")
@pytest.mark.parametrize(("gap", "reads"), [(2e-6, 2), (1e-7, 4)])
def test_components_that_float32_cannot_separate_are_read_again(gap: float, reads: int, passes: list[str]) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((2000, 2))
    rows = np.linalg.qr(rows - rows.mean(axis=0))[0] * np.sqrt(2000.0) * np.array([1.0 + gap, 1.0])
    H = (rows @ np.linalg.qr(rng.standard_normal((8, 2)))[0].T).astype(np.float32)
    report = nrc.measure(H, n=1)
    assert passes == ["statistics", "residuals", "statistics", "residuals"][:reads]
    error = abs(report.nrc1 - reference_nrc1(H, 1))  # whose components are no better than 1e-12 times the gaps' ratio
    assert error <= report.bounds["nrc1"] + 1e-17 / gap
    assert report.bounds["nrc1"] < (0.1 if reads == 2 else 1e-3) * report.nrc1
    fast = nrc.measure(H, n=1, precision="fast")
    assert len(passes) == reads + 2
    assert fast.bounds["nrc1"] > report.bounds["nrc1"] or reads == 2


@pytest.mark.usefixtures("many_rows")
def test_kept_sums_are_of_the_precision_that_was_asked_for(tmp_path: Path, passes: list[str]) -> None:
    H, Y, exact = faint_signal()
    report = nrc.measure(H, Y, save_statistics=tmp_path / "kept.npz")
    assert passes == ["statistics", "residuals", "statistics"]
    assert abs(report.linear_mse - exact) <= report.bounds["linear_mse"] < 1e-3 * exact
    kept = nrc.FeatureStatistics.load(tmp_path / "kept.npz")
    summed = nrc.FeatureStatistics(64, n_targets=2).update(H, Y)
    np.testing.assert_array_equal(kept.covariance, summed.covariance)
    assert kept.precision == "high"


def test_the_plan_says_which_precision(passes: list[str]) -> None:
    H, Y, _ = faint_signal()
    few, many = nrc.plan(H, Y), nrc.plan(np.lib.stride_tricks.as_strided(H, (10**6, 64), (0, 4)), n=2)
    assert few.passes[0] == ("statistics", "always, in float64, as the rows are few")
    assert [title for title, _ in few.passes] == ["statistics", "residuals"]
    assert many.passes[0] == ("statistics", "always")
    when = "in float64, if a component cannot be told from rounding, or a bound reaches a tenth of its number"
    assert ("statistics", when) in many.passes
    fast = nrc.plan(H, Y, precision="fast").passes
    assert ("statistics", "in float64, if a component cannot be told from rounding") in fast
    assert passes == []
