"""Charts of the clock and of the balance of the head, which pages have where these are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support import results
from support.drawings import points, tree, with_class

import nrc_fast as nrc
from nrc_fast.metrics.decay_slopes import UNKNOWN_SLOPE, Slope
from nrc_fast.reports import History
from nrc_fast.reports.pages import page
from nrc_fast.reports.svg_charts import svg_charts
from nrc_fast.reports.training_charts import charts_of_trainings

BALANCE = ["distance from the balance of the head", "lambda_W that the balance implies"]


def training(n: int = 2, clock: Slope = UNKNOWN_SLOPE, *, bias: bool = True) -> History:
    """What lies outside the row space of W shrinks by 0.02 a step in log."""
    rng, history, W = np.random.default_rng(1), History("run"), np.eye(n, 6)
    rows = np.sqrt(60.0) * np.linalg.qr(rng.standard_normal((60, 6)))[0]
    Y, beside = rows[:, :n], rows[:, n:]
    for step in range(0, 60, 10):
        H = np.concatenate([Y, 0.1 * math.exp(-0.01 * step) * beside], axis=1)
        report = nrc.measure(H, Y, 0.9 * W, np.zeros(n) if bias else None)
        history.add(step, report, W, np.cov(Y.T, bias=True).reshape(n, n), clock=clock)
    return history


def test_a_chart_stands_where_something_is_known() -> None:
    clock = Slope(-0.02, 1e-17)
    for history, titles in (
        (training(clock=clock), ["NRC1, convention variance", *BALANCE]),
        (training(), BALANCE),
        (training(n=1), BALANCE[1:]),
        (training(bias=False), []),
        (training(clock=clock, bias=False), ["NRC1, convention variance"]),
    ):
        assert [chart.title for chart in charts_of_trainings({"run": history, "report": results.report()})] == titles
    assert charts_of_trainings({"report": results.report()}) == ()


def test_the_charts_hold_the_records() -> None:
    history = training(clock=Slope(-0.02, 1e-17))
    nrc1, distance, decay = charts_of_trainings({"run": history, "other": training()})
    fields = ("nrc1_variance", "balance_distance", "balance_decay")
    for chart, field in zip((nrc1, distance, decay), fields, strict=True):
        assert [curve.run for curve in chart.curves] == ["run", "other"]
        assert chart.is_log
        for curve in chart.curves:
            assert curve.y == tuple(getattr(record, field) for record in history.records())
            assert curve.bounds == tuple(record.bounds[field] for record in history.records())
    (line,) = nrc1.dashed
    assert (line.run, line.label, line.x) == ("run", "run, by weight decay alone", (30, 40, 50))
    assert nrc1.words == "dashed: by weight decay alone"
    last = history.records()[-1].nrc1_variance
    np.testing.assert_allclose(line.y, last * np.exp(-0.02 * (np.array(line.x) - 50.0)), rtol=1e-12)


def test_the_dashed_line_ends_at_the_last_point_and_goes_with_its_run() -> None:
    charts = charts_of_trainings({"run": training(clock=Slope(-0.05, 1e-17))})
    root = tree(svg_charts(charts)[0])[0]
    curve, dashed = with_class(root, "run-0")
    line: Any = dashed.find("path")
    assert line.get("stroke") == "currentColor"
    assert line.get("stroke-dasharray") == "6 4"
    assert line.findtext("title") == "run, by weight decay alone"
    drawn: Any = curve.find("path")
    (measured,), (predicted,) = points(drawn.get("d")), points(line.get("d"))
    assert predicted[-1] == measured[-1]
    assert len(predicted) == 3
    assert predicted[0][1] < measured[3][1]  # it was higher before: up is less


def test_a_page_tells_slopes_where_there_is_a_clock() -> None:
    history = training(clock=Slope(-0.02, 1e-17))
    clock = history.clock
    assert clock is not None
    text = page([("run", history)])
    said = f"Steps 30 to 50: log NRC1 (variance) changes by {clock.measured:.4g} a step, and by -0.02 under weight"
    assert said in text
    assert "<dt>by weight decay alone</dt>" in text
    assert "log NRC1 (variance) changes by" not in page([("run", training())])
    row = nrc.compare({"run": history}).rows[0]
    assert row.values["measured_slope"] == clock.measured
    assert row.bounds["predicted_slope"] == clock.bounds["predicted"]
    assert nrc.compare({"run": training()}).rows[0].values.get("measured_slope") is None


@pytest.mark.parametrize("n", [1, 2])
def test_a_verdict_tells_the_balance_where_it_is_certain(n: int) -> None:
    history = training(n)
    # Residuals are 0.1 y, predictions 0.9 y, and the mean of y y^T is I: the balance is 0.09 I, and W W^T 0.81 I.
    decay = history.records()[-1].balance_decay
    assert decay == pytest.approx(0.1 / 0.9, rel=1e-12)
    (sentence,) = [said for said in history.verdict if "lambda_W" in said]
    start = "One output: the weight decay lambda_W that would hold W is 0.11" if n == 1 else "In balance"
    assert sentence.startswith(start)


def test_of_one_target_no_distance_is_shown() -> None:
    """It is the sign of the decay and nothing else, as is NRC3, which is not defined."""
    single, pair = training(1), training(2)
    heads = [next(line for line in str(history).splitlines() if "step  " in line) for history in (single, pair)]
    assert heads[0].split() == ["step", "MSE", "R2", "NRC1", "NRC1", "id25", "NRC2", "lambda_W"]
    assert heads[1].split() == ["step", "MSE", "R2", "NRC1", "NRC1", "id25", "NRC2", "NRC3", "balance", "lambda_W"]
    for history, is_shown in ((single, False), (pair, True)):
        assert ("distance from the balance of the head" in history._repr_html_()) == is_shown
        assert ("balance, distance" in page([("run", history)])) == is_shown
