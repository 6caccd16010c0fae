"""What a chart of SVG shows is what its curves hold: lines, points, what they say, scales and colours."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from support.drawings import Tags, points, texts, tree, with_class

from nrc_fast.base.svg import PALETTE
from nrc_fast.reports.charts import Chart, Curve
from nrc_fast.reports.svg_charts import BOTTOM, HEIGHT, LEFT, MOST_DOTS, RIGHT, TOP, WIDTH, key_of, svg_charts

HOSTILE = "<script>alert(1)</script>\" onload='x'"


def drawn(*charts: Chart) -> list[ElementTree.Element]:
    return [tree(markup)[0] for markup in svg_charts(charts)]


def line_of(root: ElementTree.Element, k: int) -> list[list[tuple[float, float]]]:
    (group,) = with_class(root, f"run-{k}")
    path = group.find("path")
    assert path is not None
    return points(str(path.get("d")))


def said(root: ElementTree.Element) -> list[str]:
    return [str(dot.findtext("title")) for dot in with_class(root, "dot")]


def test_lines_are_where_the_values_are() -> None:
    chart = Chart("t", "step", (Curve("a", (0, 50, 100, 150), (1.0, 0.1, math.nan, 0.01)),), is_log=True)
    (root,) = drawn(chart)
    first, last = line_of(root, 0)
    left, right, bottom = LEFT + 4.0, WIDTH - RIGHT - 4.0, HEIGHT - BOTTOM
    x = left + (right - left) * np.array([0.0, 1.0, 3.0]) / 3.0
    low, high = 0.01 / 1.25, 1.1
    y = bottom - (bottom - TOP) * np.log(np.array([1.0, 0.1, 0.01]) / low) / np.log(high / low)
    np.testing.assert_allclose([*first, *last], np.column_stack([x, y]), atol=6e-3)
    circles = [dot.find("circle") for dot in with_class(root, "dot")]
    centres = [(float(str(c.get("cx"))), float(str(c.get("cy")))) for c in circles if c is not None]
    np.testing.assert_allclose(centres, np.column_stack([x, y]), atol=6e-2)


def test_points_say_what_they_are() -> None:
    curves = (Curve("a", (0, 1000), (0.5, 0.25), (1e-3, math.inf)), Curve("b", (), (2.0,), name="level", is_level=True))
    (root,) = drawn(Chart("NRC1", "step", curves))
    assert said(root) == ["a, step 0: 0.5 \u00b1 1.0e-03", "a, step 1,000: 0.25", "level: 2"]
    assert [tip.text for tip in with_class(root, "tip")] == said(root)
    assert all(tip.get("visibility") == "hidden" for tip in with_class(root, "tip"))
    (svg,) = root.iter("svg")
    assert svg.get("aria-label") == "NRC1: a 0.25; level 2"
    places = Chart("NRC1", "run", (Curve("a", (0,), (0.5,)), Curve("b", (1,), (0.1,))), places=("a", "b"))
    layers = Chart("noise", "layer", (Curve("a", (0, 1), (0.5, 0.1)),), places=("fc1", "fc2"))
    by_place, by_layer = drawn(places, layers)
    assert said(by_place) == ["a, NRC1: 0.5", "b, NRC1: 0.1"]
    assert said(by_layer) == ["a, fc1: 0.5", "a, fc2: 0.1"]
    assert {"a", "b", "run"} <= set(texts(by_place))


def test_of_a_long_name_the_end_is_shown() -> None:
    (root,) = drawn(Chart("t", "step", (Curve("name " * 20, (0,), (0.5,)),)))
    (tip,) = with_class(root, "tip")
    assert tip.text == f"...{said(root)[0][-47:]}"
    assert str(tip.text).endswith("step 0: 0.5")


def test_long_names_give_way_to_numbers() -> None:
    names = tuple(f"weight decay {k}" for k in range(5))
    (root,) = drawn(Chart("t", "run", tuple(Curve(name, (k,), (1.0,)) for k, name in enumerate(names)), places=names))
    shown = [part.text for part in root.iter("text") if part.get("class") != "tip"]
    assert {"1", "2", "3", "4", "5", "run, in the order of the table"} <= set(shown)
    assert not set(names) & set(shown)


def test_a_run_has_one_colour_and_charts_of_one_scale_one_range() -> None:
    a, b = Curve("a", (0, 1), (1.0, 0.1)), Curve("b", (0, 1), (1e-6, 1e-6))
    charts = (
        Chart("one", "step", (a,), is_log=True, scale="s"),
        Chart("two", "step", (b, a), is_log=True, scale="s"),
        Chart("three", "step", (a,), is_log=True),
    )
    one, two, three = drawn(*charts)
    assert [y for _, y in line_of(one, 0)[0]] == [y for _, y in line_of(two, 0)[0]]
    assert [y for _, y in line_of(one, 0)[0]] != [y for _, y in line_of(three, 0)[0]]
    for root in (two,):
        strokes = {k: with_class(root, f"run-{k}")[0].find("path").get("stroke") for k in (0, 1)}  # type: ignore[union-attr]
        assert strokes == {0: PALETTE[0], 1: PALETTE[1]}
    assert [(name, k) for name, k, _ in key_of(charts)] == [("a", 0), ("b", 1)]
    assert [tree(line)[0].find("path").get("stroke") for *_, line in key_of(charts)] == list(PALETTE[:2])  # type: ignore[union-attr]


def test_of_many_points_some_can_be_pointed_at_and_all_are_drawn() -> None:
    values = tuple(float(k + 1) for k in range(1000))
    (root,) = drawn(Chart("t", "step", (Curve("a", tuple(range(1000)), values),)))
    assert len(line_of(root, 0)[0]) == 1000
    dots = said(root)
    assert len(dots) == len(set(dots)) == MOST_DOTS
    assert dots[0] == "a, step 0: 1"
    assert dots[-1] == "a, step 999: 1000"
    curves = tuple(Curve(str(k), tuple(range(1000)), values) for k in range(3))
    (markup,) = svg_charts([Chart("t", "step", curves)], most_dots=90)
    assert len(with_class(tree(markup), "dot")) == 90


@pytest.mark.parametrize("y", [(), (math.nan,), (0.0,), (math.inf,), (1e308,), (-1.0,)])
@pytest.mark.parametrize("is_log", [False, True])
def test_odd_values_can_be_drawn(y: tuple[float, ...], is_log: bool) -> None:
    level = Curve("b", (), (math.nan,), is_level=True)
    (markup,) = svg_charts([Chart("t", "step", (Curve("a", tuple(range(len(y))), y), level), is_log)])
    numbers = re.findall(r'(?:cx|cy|x|y|d)="([^"]*)"', markup)
    assert not any("nan" in text or "inf" in text for text in numbers)


def test_names_are_escaped_and_nothing_is_fetched() -> None:
    charts = [Chart(HOSTILE, HOSTILE, (Curve(HOSTILE, (0,), (1.0,)),), places=(HOSTILE,))]
    found = Tags("".join(svg_charts(charts)))
    assert set(found.tags) == {"div", "svg", "line", "text", "g", "path", "title", "circle"}
    assert not {name for name in found.names if name.startswith("on")} | ({"href", "src", "style"} & found.names)
