"""The clock of a history: which part of it counts, and its slopes against curves that are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.drawings import cells

import nrc_fast as nrc
from nrc_fast.metrics.decay_slopes import Slope
from nrc_fast.reports.clocks import clock_of, predicted_curve

NAN = math.nan


def record(step: int, nrc1: float, clock: float = -0.01, bound: float = 0.0) -> nrc.Record:
    made = nrc.Record(step, *(NAN,) * 9)
    return replace(made, nrc1_variance=nrc1, clock=clock, bounds={"nrc1_variance": bound, "clock": 1e-18})


def test_slopes_of_a_curve_that_is_known() -> None:
    """Twice as slow at first: the last half is what counts."""
    steps = range(0, 1001, 100)
    records = [record(t, math.exp(-0.004 * t if t < 500 else -2.0 - 0.008 * (t - 500))) for t in steps]
    found = clock_of(records)
    assert found is not None
    assert (found.first_step, found.last_step, found.records) == (500, 1000, 6)
    assert found.measured == pytest.approx(-0.008, rel=1e-13)
    assert found.predicted == pytest.approx(-0.01, rel=1e-13)
    assert 0.0 < found.bounds["measured"] < 1e-16
    assert 0.0 < found.bounds["predicted"] < 1e-16
    assert str(found) == repr(found)
    assert str(found) == (
        "clock of steps 500 to 1,000 (6 records): log NRC1 (variance) changes by -0.008 a step; weight decay alone "
        "predicts -0.01"
    )
    assert nrc.Clock.from_dict(found.to_dict()).to_dict() == found.to_dict()
    assert "-0.01" in found._repr_html_()


def test_a_schedule_is_followed() -> None:
    """A learning rate that halves: the predicted line is fitted to the sum of the slopes, as the measured one is."""
    clocks = [-0.02, -0.02, -0.02, -0.01, -0.01, -0.005]
    steps = [0, 100, 200, 300, 400, 600]
    curve = predicted_curve([record(t, 1.0, clock) for t, clock in zip(steps, clocks, strict=True)])
    assert curve == pytest.approx([0.0, -2.0, -4.0, -5.5, -6.5, -8.0])
    records = [record(t, math.exp(value), clock) for t, value, clock in zip(steps, curve, clocks, strict=True)]
    found = clock_of(records)
    assert found is not None
    assert (found.first_step, found.records) == (300, 3)
    assert found.measured == pytest.approx(found.predicted, rel=1e-13)
    assert found.measured == pytest.approx(np.polyfit(steps[3:], curve[3:], 1)[0], rel=1e-12)


@pytest.mark.parametrize("drop", [1001, 1250, 1501, 1999])
def test_a_schedule_between_records_is_in_the_bound(drop: int) -> None:
    """Records every 500 steps do not tell when the learning rate has dropped."""
    rates = [-0.01 if step < drop else -0.0001 for step in range(2000)]
    curve = np.concatenate([[0.0], np.cumsum(rates)])
    steps = range(0, 2001, 500)
    found = clock_of([record(t, math.exp(curve[t]), -0.01 if t < drop else -0.0001) for t in steps])
    assert found is not None
    assert abs(found.predicted - found.measured) <= found.bounds["predicted"]
    assert found.bounds["predicted"] > 1e-3
    assert str(found).endswith("  +- 0.0025")


def test_records_that_say_nothing_are_left_out() -> None:
    known = [record(t, math.exp(-0.01 * t), bound=1e-12) for t in range(0, 500, 50)]
    # Below ten times its bound NRC1 is rounding; before the last unknown slope nothing was known of the layer.
    floor = [record(t, 3e-12, bound=1e-12) for t in (500, 550)]
    unknown = [record(t, 0.9, clock=NAN) for t in (-100, -50)]
    for records in (known, known + floor, unknown + known, unknown + known + floor):
        found = clock_of(records)
        assert found is not None
        assert (found.first_step, found.last_step) == (250, 450)
        assert found.measured == pytest.approx(-0.01, rel=1e-10)
    for none in ([], known[:2], floor, [*known, *unknown], [record(t, NAN) for t in range(5)]):
        assert clock_of(none) is None


def test_few_records_late() -> None:
    """Steps that are evenly spaced in their logarithm have few in the last half; three are taken at least."""
    found = clock_of([record(2**k, math.exp(-0.01 * 2**k)) for k in range(7)])
    assert found is not None
    assert (found.first_step, found.records) == (16, 3)


def history_of(clock: Slope) -> Any:
    rng = np.random.default_rng(0)
    history, basis = nrc.History("run"), np.linalg.qr(rng.standard_normal((50, 50)))[0]
    Y = rng.standard_normal((50, 2))
    W = np.eye(2, 6)
    for step in range(0, 60, 10):
        H = np.concatenate([Y, math.exp(-0.01 * step) * basis[:, :4]], axis=1)
        history.add(step, nrc.measure(H, Y, W), W, np.cov(Y.T, bias=True), clock=clock)
    return history


def test_histories_keep_it() -> None:
    history = history_of(Slope(-0.02, 1e-17))
    assert [kept.clock for kept in history.records()] == [-0.02] * 6
    assert history.records()[0].bounds["clock"] == 1e-17
    found = history.clock
    assert found.measured == pytest.approx(-0.02, rel=0.05)  # the share of what is left grows with what goes
    assert str(found) in str(history)
    rows = {row[0]: row[1].replace("\u2212", "-") for row in cells(history._repr_html_())}
    assert rows["slope of log NRC1 (variance) a step"] == f"{found.measured:.3g}"
    assert rows["the same by weight decay alone"] == "-0.02"
    again = nrc.History.from_dict(history.to_dict())
    assert again.records() == history.records()
    assert str(again.clock) == str(found)


def test_older_files_have_none() -> None:
    history = history_of(Slope(-0.02, 1e-17))
    stored = history.to_dict()
    for row in stored["records"]:
        del row["clock"]
    older = nrc.History.from_dict(stored)
    assert older.clock is None
    assert all(math.isnan(kept.clock) for kept in older.records())
    assert "clock" not in str(older)


def test_what_decay_predicts_is_drawn_through_the_last_record() -> None:
    pytest.importorskip("matplotlib").use("agg")
    history = history_of(Slope(-0.02, 1e-17))
    panel = history.plot().axes[5]
    (line,) = (line for line in panel.get_lines() if str(line.get_label()).startswith("decay alone: -0.02 a step"))
    steps, values = line.get_data()
    assert list(steps) == [30, 40, 50]
    last = history.records()[-1].nrc1_variance
    np.testing.assert_allclose(values, last * np.exp(-0.02 * (np.array(steps) - 50.0)), rtol=1e-12)
    unknown = history_of(Slope(NAN, NAN)).plot().axes[5]
    assert not any(str(line.get_label()).startswith("decay") for line in unknown.get_lines())
