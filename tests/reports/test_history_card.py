"""What a notebook shows of reports and trainings: the verdict first, and each number with its curve."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import results
from support.drawings import Tags, cells, points, tree, with_class

from nrc_fast.base.svg import MARGIN, SPARK
from nrc_fast.reports import History
from nrc_fast.reports.history_card import SHOWN, history_card
from nrc_fast.reports.records import format_value
from nrc_fast.reports.report_rows import LABELS

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
HEIGHT = SPARK[1]


def rows_of(result: Any) -> dict[str, list[str]]:
    return {
        row[0]: [cell.replace("\u2264 ", "<= ").replace(" \u00b1 ", "  +- ") for cell in row[1:]]
        for row in cells(result._repr_html_())
    }


def curves(markup: str) -> list[list[tuple[float, float]]]:
    """The sparklines of a card, in the order of its table."""
    return [
        [point for line in points(str(path.get("d"))) for point in line]
        for table in tree(markup).iter("table")
        for path in table.iter("path")
    ]


@pytest.mark.parametrize(
    "result",
    [results.report(), results.history("run"), results.layers(), results.classes()],
    ids=lambda r: type(r).__name__,
)
def test_the_verdict_comes_first_and_there_is_a_curve(result: Any) -> None:
    text = result._repr_html_()
    root = tree(text)[0]
    first, second = list(root)[:2]
    assert not list(first)
    assert "".join(second.itertext()) == " ".join(result.verdict)
    assert second.findtext("b") == result.verdict[0]
    drawings = list(root.iter("svg"))
    assert drawings
    assert all(drawing.findtext("title") for drawing in drawings)
    assert set(Tags(text).tags) <= {
        *("div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"),
        *("svg", "title", "path", "circle", "rect"),
    }


def test_a_report_has_its_numbers_and_notes() -> None:
    report = replace(results.report(), notes=("a < note",))
    rows = rows_of(report)
    assert rows[LABELS["nrc1"]] == [format_value(report.nrc1, report.bounds["nrc1"], digits=4)]
    assert rows[LABELS["mse"]] == [format_value(report.mse, report.bounds["mse"], digits=4)]
    (line,) = curves(report._repr_html_())
    by_k = report.nrc1_by_k[report.nrc1_by_k > 0.0]
    heights = np.array([HEIGHT - MARGIN - y for _, y in line])
    lowest = by_k.min() / (3.0 if len(by_k) < len(report.nrc1_by_k) else 1.25)
    shares = np.log(by_k / lowest) / np.log(1.1 * by_k.max() / lowest)
    np.testing.assert_allclose(heights[: len(by_k)], shares * (HEIGHT - 2 * MARGIN), atol=6e-3)
    bars = list(tree(report._repr_html_()).iter("rect"))
    sizes = np.array([float(str(bar.get("height"))) for bar in bars])
    shares = report.explained_variance_ratio / report.explained_variance_ratio[0]
    np.testing.assert_allclose(sizes, shares * (HEIGHT - 2 * MARGIN), atol=6e-3)
    assert "".join(list(tree(report._repr_html_())[0])[-1].itertext()) == "a < note"


def test_a_history_has_the_last_record_and_every_curve() -> None:
    history = results.history("run")
    records = history.records()
    rows = rows_of(history)
    assert list(rows) == ["", *(label for label, _ in SHOWN.values())]
    assert rows["R2"][0] == f"{records[-1].r2:.4g}"
    assert rows["NRC3"][0] == f"{records[-1].nrc3:.4g}"
    drawn = dict(zip(SHOWN, curves(history._repr_html_()), strict=True))
    values = np.array([record.explained_variance for record in records])
    share = (values - values.min()) / (values.max() - values.min())
    heights = [HEIGHT - MARGIN - y for _, y in drawn["explained_variance"]]
    np.testing.assert_allclose(heights, share * (HEIGHT - 2 * MARGIN), atol=6e-3)
    each = history_card(history, "each", "run")
    assert f"{history.records('each')[-1].nrc3:.4g}" in [cell for row in cells(each) for cell in row]
    assert len(with_class(tree(history_card(history, "last", "run", with_charts=True)), "chart")) == 6


def test_a_history_without_records_says_so() -> None:
    assert "".join(tree(History("a")._repr_html_()).itertext()) == "a; nothing was measured yet"


def test_numbers_that_are_not_known_have_no_row() -> None:
    history = History("a")
    rng = np.random.default_rng(0)
    for step in range(2):
        history.add_weights(step, rng.standard_normal((2, 6)), np.diag([2.0, 1.0]))
    assert list(rows_of(history)) == ["", "NRC3", "gamma"]


def test_layers_and_classes_have_their_numbers() -> None:
    layers = results.layers(0.5, 0.01)
    rows = rows_of(layers)
    assert rows["fc0"][:3] == ["8", "0.5", "0.9"]
    assert rows["fc1"][1] == "0.0100"
    (line,) = curves(layers._repr_html_())
    assert len(line) == 2
    assert line[0][1] < line[1][1]
    classes = results.classes()
    assert rows_of(classes)["nc1"] == [format_value(classes.nc1, classes.bounds["nc1"], digits=4), "tr(S_W S_B^+)/K"]
    assert "nc4" not in rows_of(classes)
    assert math.isnan(classes.nc4)


def test_names_and_notes_of_users_are_escaped() -> None:
    history = results.history(HOSTILE)
    layers = replace(results.layers(), notes=(HOSTILE,))
    layers = replace(layers, layers=(replace(layers.layers[0], name=HOSTILE), layers.layers[1]))
    report = replace(results.report(), notes=(HOSTILE,), convention=HOSTILE)
    for result in (history, layers, report):
        text = result._repr_html_()  # type: ignore[attr-defined]
        assert not {"script", "img"} & set(Tags(text).tags)
        assert HOSTILE in "".join(tree(text).itertext())
