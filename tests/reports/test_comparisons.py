"""Runs side by side: the table, the frame, the figure and the notebook hold the numbers of the runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support import results
from support.drawings import Tags, cells, tree, with_class

import nrc_fast as nrc
from nrc_fast.base.printable import printable
from nrc_fast.reports import History, Record
from nrc_fast.reports.records import format_digits

HOSTILE = "<script>alert(1)</script>$\\frac$\x1b[2J"


def test_a_table_has_a_line_for_each_run() -> None:
    runs = {"first": results.history(), "second": results.history(seed=3), "last": results.report()}
    comparison = nrc.compare(runs)
    head, *lines, _, _, note = str(comparison).splitlines()
    assert head.split() == ["run", "step", "MSE", "R2", "NRC1", "NRC2", "NRC3", "gamma", "heads", "lambda_W"]
    assert str(comparison).splitlines()[-3:-1] == [
        "note: heads: share of random heads with a smaller NRC3",
        "note: lambda_W: the weight decay that the balance of the head implies",
    ]
    assert note == "note: of a training the last step is shown, with NRC3 for its own gamma"
    for line, (name, run) in zip(lines, runs.items(), strict=True):
        is_history = isinstance(run, History)
        record = run.records()[-1] if isinstance(run, History) else Record.of(0, run)
        fields = ("mse", "r2", "nrc1", "nrc2", "nrc3", "gamma", "nrc3_quantile", "balance_decay")
        wanted = [format_digits(getattr(record, field), record.bounds.get(field), 3) for field in fields]
        assert line.replace("<= ", "<=").split() == [
            name,
            str(record.step) if is_history else "-",
            *(text.replace("<= ", "<=") for text in wanted),
        ]
    assert len({len(line) for line in (head, *lines)}) == 1


@pytest.mark.usefixtures("no_kept_rows")
def test_values_below_their_bounds_are_no_numbers() -> None:
    rng = np.random.default_rng(0)
    Y, W = rng.standard_normal((50, 2)), rng.standard_normal((2, 5))
    once = nrc.FeatureStatistics(5, n_targets=2).update(Y @ W, Y)
    text = str(nrc.compare({"exact": once.report(W)}))
    head, line, _ = text.splitlines()
    assert "MSE" not in head  # without b it is not known
    assert line.split("exact")[1].strip().startswith("<= ")


def test_one_gamma_for_all_histories() -> None:
    history = results.history()
    rows = nrc.compare({"a": history}, gamma=0.3).rows
    assert rows[0].values["nrc3"] == history.records(0.3)[-1].nrc3 != history.records()[-1].nrc3
    assert "nrc3" not in rows[0].bounds
    assert "NRC3 for gamma = 0.3" in nrc.compare({"a": history}, gamma=0.3).notes[0]
    with pytest.raises(ValueError, match="gamma is 'first'; 'last', 'each' or a number"):
        nrc.compare({"a": history}, gamma="first")


def test_monitors_stand_for_their_histories() -> None:
    history = results.history()
    monitor = SimpleNamespace(history=history)
    assert str(nrc.compare({"a": monitor})) == str(nrc.compare({"a": history}))  # type: ignore[dict-item]


def test_a_frame_holds_all_columns() -> None:
    pytest.importorskip("pandas")
    history, report = results.history(), results.report()
    frame = nrc.compare({"run": history, "last": report}).to_dataframe("pandas")
    assert frame["run"].tolist() == ["run", "last"]
    assert frame["step"].tolist()[0] == 30
    assert math.isnan(frame["step"][1])
    assert frame["nrc1"].tolist() == [history.records()[-1].nrc1, report.nrc1]
    assert frame["nrc2_variance"][1] == report.alternatives["variance"]["nrc2"]
    assert frame["linear_mse"][1] == report.linear_mse
    assert frame["n"].tolist() == [2, 2]
    steps = history.to_dataframe("each", library="pandas")
    assert steps["step"].tolist() == [0, 10, 20, 30]
    assert steps["nrc3"].tolist() == [record.nrc3 for record in history.records("each")]
    assert set(steps.columns) == {"step", *history.records()[0].scalars()}
    assert len(History().to_dataframe(library="pandas")) == 0


def test_classes_and_layers_are_compared_among_themselves() -> None:
    classes = {"a": results.classes(), "b": results.classes(1)}
    head, line, _ = str(nrc.compare(classes)).splitlines()
    assert head.split() == ["run", "nc1", "cdnv", "nc2_equinorm", "nc2_equiangular"]
    assert line.split() == ["a", *(f"{getattr(classes['a'], name):.3g}" for name in head.split()[1:])]
    layers = nrc.compare({"a": results.layers(0.5, 0.01), "b": results.layers(0.5, 0.2, 0.3)})
    rows = [row.values for row in layers.rows]
    assert [row["first_collapsed"] for row in rows] == ["fc1", None]
    assert [row["layers"] for row in rows] == [2, 3]
    assert [row["noise_fraction"] for row in rows] == [0.01, 0.3]
    assert layers.rows[0].bounds["noise_fraction"] == 1e-3
    with pytest.raises(TypeError, match=r"a is a ClassReport, b is a History; what is compared has to have numbers"):
        nrc.compare({"a": results.classes(), "b": results.history()})


def test_runs_that_cannot_be_compared_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    H, Y = rng.standard_normal((60, 5)), rng.standard_normal((60, 3))
    runs = {"a": results.report(), "b": nrc.measure(H, Y, convention="id25")}
    assert nrc.compare(runs).notes == (
        "NRC1 and NRC2 are defined differently, convention is nrc24 (a), id25 (b): these numbers cannot be compared",
        "the targets differ, n is 2 (a), 3 (b): these numbers cannot be compared",
    )
    assert nrc.compare({"a": results.report()}).notes == ()


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(TypeError, match="runs is a list; a mapping is expected"):
        nrc.compare([results.history()])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="runs is empty"):
        nrc.compare({})
    with pytest.raises(TypeError, match="run a is a dict; a History, Monitor, Report, ClassReport or DeepReport"):
        nrc.compare({"a": {}})  # type: ignore[dict-item]
    empty = nrc.compare({"a": History("a"), "b": results.history()})
    assert str(empty).splitlines()[1].split() == ["a", *"---------"]


def test_the_dictionary_is_plain() -> None:
    comparison = nrc.compare({"a": results.report()})
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert found["runs"]["a"]["nrc1"] == comparison.rows[0].values["nrc1"]
    assert found["notes"] == []


def test_a_notebook_shows_table_and_charts() -> None:
    comparison = nrc.compare({HOSTILE: results.history(), "b": results.history(seed=1)})
    text = comparison._repr_html_()
    table = cells(text)
    assert [row[0] for row in table] == ["run", printable(HOSTILE), "b"]
    column = table[0].index("NRC2, variance")
    values = [run.records()[-1] for run in comparison.runs.values() if isinstance(run, History)]
    wanted = [format_digits(record.nrc2_variance, record.bounds["nrc2_variance"], 3) for record in values]
    assert [row[column].replace("\u2264 ", "<= ") for row in table[1:]] == wanted
    assert len(with_class(tree(text), "chart")) == 6
    found = Tags(text)
    assert not {"script", "link", "img", "a"} & set(found.tags)
    assert HOSTILE not in repr(comparison)
    assert "\x1b" not in str(comparison)


def test_the_figure_shows_every_run() -> None:
    pytest.importorskip("matplotlib")
    comparison = nrc.compare({"a": results.history(), "b": results.report()})
    figure = comparison.plot(predicted={"a": 0.1})
    assert len(figure.axes) == 6
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "b", "MSE predicted for a"]
    for chart, panel in zip(comparison.charts({"a": 0.1}), figure.axes, strict=True):
        for curve, line in zip([*chart.curves, *chart.beside], panel.get_lines(), strict=True):
            drawn = np.asarray(line.get_ydata(), dtype=np.float64)
            np.testing.assert_array_equal(drawn, curve.y * (len(drawn) // len(curve.y)))


def test_no_line_is_wider_than_100_columns() -> None:
    """What is least missed goes first, and the frame has it all the same."""
    names = ("mse", "r2", "nrc1", "nrc2", "nrc3", "gamma", "nrc3_quantile", "balance_decay")
    report = replace(results.report(), **dict.fromkeys(names, -1.23e-10), bounds={})
    head, *lines = str(nrc.compare({"a": report, "b": report})).splitlines()[:3]
    assert head.split() == ["run", "MSE", "R2", "NRC1", "NRC2", "NRC3", "gamma", "heads", "lambda_W"]
    wide = {f"{'x' * 40} {name}": report for name in "ab"}
    head, *lines = str(nrc.compare(wide)).splitlines()[:3]
    assert head.split() == ["run", "MSE", "NRC1", "NRC2", "NRC3", "heads", "lambda_W"]
    assert {len(line) for line in (head, *lines)} == {len(head)}
    assert len(head) <= 100
    assert lines[0].split() == ["x" * 21 + "...", *["-1.23e-10"] * 6]
    assert {"gamma", "r2"} < set(nrc.compare(wide).rows[0].values)


def test_short_names_are_explained_where_they_stand() -> None:
    layers = results.layers()
    known = replace(layers, layers=(layers.layers[0], replace(layers.layers[1], balance=0.25)))
    head, line, _, note = str(nrc.compare({"a": known, "b": layers})).splitlines()
    assert line[head.index("balance") : head.index("balance") + 7].strip() == "0.25"
    assert note == "note: balance: imbalance of the last layer and the one below it"
    assert "balance" not in str(nrc.compare({"a": layers, "b": layers}))
