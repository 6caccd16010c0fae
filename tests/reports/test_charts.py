"""Charts hold what was measured, with its bounds, whoever draws them."""

from __future__ import annotations

import math

import numpy as np
from support import results

from nrc_fast.reports.charts import charts_of_classes, charts_of_layers, charts_of_report, charts_of_runs

FIELDS = ["nrc1", "nrc1_id25", "nrc2", "nrc3", "mse", "explained_variance"]


def test_trainings_are_curves_over_their_steps() -> None:
    runs = {"one": results.history("one"), "two": results.history("two", seed=1)}
    charts = charts_of_runs(runs)
    for chart, field in zip(charts, FIELDS, strict=True):
        assert [curve.run for curve in chart.curves] == ["one", "two"]
        assert chart.x_label == "step"
        assert chart.places == ()
        assert chart.is_log == (field != "explained_variance")
        for curve in chart.curves:
            records = runs[curve.run].records()
            assert curve.x == (0, 10, 20, 30)
            assert curve.y == tuple(getattr(record, field) for record in records)
            wanted = () if field == "nrc3" else tuple(record.bounds.get(field, 0.0) for record in records)
            assert curve.bounds == wanted
            assert not curve.is_level
    assert [chart.scale for chart in charts] == ["collapse"] * 3 + [""] * 3
    each = charts_of_runs(runs, "each")[3]
    assert each.title == "NRC3, the best gamma of each step"
    assert each.curves[0].y == tuple(record.nrc3 for record in runs["one"].records("each"))


def test_a_report_is_a_level_beside_trainings_and_a_point_among_reports() -> None:
    report = results.report()
    beside = charts_of_runs({"run": results.history(), "last": report}, predicted={"run": 0.25})
    level = beside[0].curves[1]
    assert (level.run, level.x, level.y, level.is_level) == ("last", (), (report.nrc1,), True)
    assert level.bounds == (report.bounds["nrc1"],)
    assert beside[1].curves[1].y == (report.alternatives["id25"]["nrc1"],)
    assert beside[1].curves[1].bounds == (report.alternative_bounds["id25"]["nrc1"],)
    predicted = beside[4].curves[2]
    assert (predicted.run, predicted.label, predicted.y) == ("run", "MSE predicted for run", (0.25,))
    assert predicted.is_level
    alone = charts_of_runs({"a": report, "b": results.report(1)})
    assert all(chart.places == ("a", "b") for chart in alone)
    assert [curve.x for curve in alone[0].curves] == [(0,), (1,)]
    assert alone[4].curves[0].y == (report.mse,)
    assert alone[3].title == "NRC3, each at its own gamma"


def test_charts_of_layers_follow_the_data() -> None:
    charts = charts_of_layers({"a": results.layers(0.5, 0.1), "b": results.layers(0.4, 0.3)})
    noise, _, weights, *_ = charts
    assert noise.places == ("fc0", "fc1")
    assert [curve.y for curve in noise.curves] == [(0.5, 0.1), (0.4, 0.3)]
    assert noise.curves[0].bounds == (1e-3, 1e-3)
    assert all(math.isnan(value) for value in weights.curves[0].y)
    other = charts_of_layers({"a": results.layers(0.5, 0.1), "b": results.layers(0.4, 0.3, 0.2)})
    assert other[0].places == ()


def test_charts_of_classes_and_of_one_report() -> None:
    runs = {"a": results.classes(), "b": results.classes(1)}
    charts = charts_of_classes(runs)
    assert [curve.y for curve in charts[0].curves] == [(run.nc1,) for run in runs.values()]
    assert charts[0].curves[1].bounds == (runs["b"].bounds["nc1"],)
    report = results.report()
    by_k, shares = charts_of_report(report)
    np.testing.assert_array_equal(by_k.curves[0].y, report.nrc1_by_k)
    assert by_k.curves[0].x == tuple(range(1, 7))
    np.testing.assert_array_equal(by_k.curves[0].bounds, report.bounds["nrc1_by_k"])
    np.testing.assert_array_equal(shares.curves[0].y, report.explained_variance_ratio)
