"""Charts of runs as SVG inside HTML: axes, a line for each run, and for each point what it says when it is pointed at.

Lines and text have attributes of their own, so that a notebook shows them as they are. A page may add a style for
classes: ``run-0`` and so on are all that belongs to a run, ``dot`` is a point with its ``tip``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nrc_fast.base.markup import Markup, element, joined
from nrc_fast.base.svg import PALETTE, Scale, line_paint, path_of, scale_of
from nrc_fast.reports.plots.drawn import DrawnChart, DrawnCurve

__all__ = ["key_of", "svg_charts"]

# Of the drawing, in its own units, which are pixels where there is room for 340 of them.
WIDTH, HEIGHT = 340.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 20.0, 18.0, 34.0
# Points of a chart that can be pointed at, and of each of its curves at the least.
MOST_DOTS, LEAST_DOTS = 360, 20
# Letters of the names below a chart, together: with more, places have numbers.
MOST_LETTERS = 44
# Letters for which there is room above a chart; of more the end is shown, where the value stands.
MOST_SHOWN = 50
TEXT = {"fill": "currentColor", "font_size": "11", "font_family": "system-ui, sans-serif"}


def svg_charts(charts: Sequence[DrawnChart], most_dots: int = MOST_DOTS) -> list[Markup]:
    """A drawing with its title for each chart, as HTML.

    A run has the same colour in all of them, and charts of one scale have the same range of values.

    Parameters
    ----------
    charts : sequence of nrc_fast.reports.charts.Chart
    most_dots : int
        Points of a chart that can be pointed at, shared out over its curves; of more, as many that lie evenly.

    Examples
    --------
    >>> from nrc_fast.reports.charts import Chart, Curve
    >>> (drawing,) = svg_charts([Chart("NRC1", "step", (Curve("a", (0.0, 10.0), (0.5, 0.1)),), is_log=True)])
    >>> "<title>a, step 10: 0.1</title>" in drawing
    True
    """
    order = _order(charts)
    return [_drawing(chart, order, _scale(chart, charts), most_dots) for chart in charts]


def _order(charts: Iterable[DrawnChart]) -> dict[str, int]:
    names = dict.fromkeys(curve.run for chart in charts for curve in chart.curves)
    return {name: k for k, name in enumerate(names)}


def key_of(charts: Sequence[DrawnChart]) -> list[tuple[str, int, Markup]]:
    """The runs of charts: their names, their numbers in the classes, and how the line of each looks."""
    return [
        (
            name,
            k,
            element(
                "svg",
                element("path", d="M1 6L27 6", **line_paint(k)),
                viewBox="0 0 28 12",
                width="28",
                height="12",
                aria_hidden="true",
            ),
        )
        for name, k in _order(charts).items()
    ]


def _scale(chart: DrawnChart, charts: Sequence[DrawnChart]) -> Scale:
    together = [other for other in charts if chart.scale and other.scale == chart.scale] or [chart]
    values = [
        value for other in together for curve in (*other.curves, *other.beside, *other.dashed) for value in curve.y
    ]
    values += [value for other in together for value in other.band or ()]
    scale = scale_of(values, HEIGHT - BOTTOM, TOP, is_log=chart.is_log)
    room = 0.0 if chart.is_log else 0.04 * (scale.highest - scale.lowest)
    return replace(scale, lowest=scale.lowest - room, highest=scale.highest + room)


def _drawing(chart: DrawnChart, order: Mapping[str, int], up: Scale, most_dots: int) -> Markup:
    places = [x for curve in chart.curves for x in curve.x]
    if chart.places:
        across = Scale(-0.5, len(chart.places) - 0.5, LEFT, WIDTH - RIGHT)
    else:
        across = scale_of(places, LEFT + 4.0, WIDTH - RIGHT - 4.0)
    parts = [*_value_axis(up), *_axis_of_places(chart, across)]
    if chart.band is not None:
        parts.append(_band(chart.band, up))
    parts += [_thin_line(curve, order[curve.run], across, up) for curve in chart.beside]
    dots = max(most_dots // max(len(chart.curves), 1), LEAST_DOTS)
    for curve in chart.curves:
        k = order[curve.run]
        parts.append(_level(curve, k, up) if curve.is_level else _line(chart, curve, k, (across, up), dots))
    parts += [_dashed_line(curve, order[curve.run], across, up) for curve in chart.dashed]
    drawing = element(
        "svg",
        joined(*parts, between=""),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        width="100%",
        role="img",
        aria_label=f"{chart.title}: {_said(chart)}",
    )
    words = [element("div", element("small", chart.words))] if chart.words else []
    return element("div", element("div", chart.title, *words, class_="title"), drawing, class_="chart")


def _said(chart: DrawnChart) -> str:
    """The last value of every curve, for who does not see the chart."""
    return "; ".join(f"{curve.label} {curve.y[-1]:.3g}" for curve in chart.curves if curve.y)


def _value_axis(up: Scale) -> list[Markup]:
    parts = []
    for value in up.ticks():
        y = f"{up.at(value):.1f}"
        line = {"x1": f"{LEFT:.0f}", "x2": f"{WIDTH - RIGHT:.0f}", "y1": y, "y2": y}
        parts.append(element("line", **line, stroke="currentColor", stroke_opacity="0.15"))
        parts.append(_text(f"{value:.3g}", LEFT - 5.0, up.at(value) + 4.0, "end"))
    return parts


def _axis_of_places(chart: DrawnChart, across: Scale) -> list[Markup]:
    bottom = HEIGHT - BOTTOM
    ends = {"x1": f"{LEFT:.0f}", "x2": f"{WIDTH - RIGHT:.0f}", "y1": f"{bottom:.0f}", "y2": f"{bottom:.0f}"}
    parts = [element("line", **ends, stroke="currentColor", stroke_opacity="0.6")]
    has_names = chart.places and sum(map(len, chart.places)) <= MOST_LETTERS
    ticks = range(len(chart.places)) if chart.places else [value for value in across.ticks() if value == round(value)]
    for value in ticks:
        text = chart.places[int(value)] if has_names else f"{value + bool(chart.places):,.0f}"
        parts.append(_text(text, across.at(value), bottom + 14.0, "middle"))
    label = chart.x_label if has_names or not chart.places else f"{chart.x_label}, in the order of the table"
    return [*parts, _text(label, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 5.0, "middle")]


def _text(text: str, x: float, y: float, anchor: str, **more: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **TEXT, **more)


def _level(curve: DrawnCurve, k: int, up: Scale) -> Markup:
    y = up.at(curve.y[0])
    if math.isnan(y):
        return element("g")
    paint = line_paint(k) | {"stroke_dasharray": "2 3", "stroke_width": "1.4"}
    line = element("path", d=path_of([(LEFT, y), (WIDTH - RIGHT, y)]), **paint)
    dot = _dot(f"{curve.label}: {_value(curve, 0)}", (WIDTH - RIGHT - 3.0, y), k)
    return element("g", line, dot, class_=f"run-{k}")


def _band(edges: tuple[float, float], up: Scale) -> Markup:
    top, bottom = up.at(edges[1]), up.at(edges[0])
    place = {
        "x": f"{LEFT:.0f}",
        "y": f"{top:.1f}",
        "width": f"{WIDTH - RIGHT - LEFT:.0f}",
        "height": f"{bottom - top:.1f}",
    }
    words = element("title", f"between {edges[0]:.3g} and {edges[1]:.3g}")
    return element("rect", words, **place, fill="currentColor", fill_opacity="0.1", class_="band")


def _thin_line(curve: DrawnCurve, k: int, across: Scale, up: Scale) -> Markup:
    points = [(across.at(x), up.at(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    paint = line_paint(k) | {"stroke_width": "0.9", "stroke_dasharray": "1 2"}
    return element("g", element("path", d=path_of(points), **paint), class_=f"run-{k}")


def _dashed_line(curve: DrawnCurve, k: int, across: Scale, up: Scale) -> Markup:
    """In the colour of the text, which is seen on a curve that it lies on."""
    points = [(across.at(x), up.at(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    paint = {"fill": "none", "stroke": "currentColor", "stroke_width": "1.3", "stroke_dasharray": "6 4"}
    return element("g", element("path", element("title", curve.label), d=path_of(points), **paint), class_=f"run-{k}")


def _line(chart: DrawnChart, curve: DrawnCurve, k: int, scales: tuple[Scale, Scale], most_dots: int) -> Markup:
    across, up = scales
    points = [(across.at(x), up.at(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    chosen = _chosen(points, most_dots)
    radius = "2.4" if len(points) > 1 else "4"
    texts = [f"{curve.label}, {_place(chart, curve.x[j])}: {_value(curve, j)}" for j in chosen]
    dots = [_dot(text, points[j], k, radius) for text, j in zip(texts, chosen, strict=True)]
    return element("g", element("path", d=path_of(points), **line_paint(k)), *dots, class_=f"run-{k}")


def _chosen(points: Sequence[tuple[float, float]], most: int) -> list[int]:
    known = [j for j, (_, y) in enumerate(points) if not math.isnan(y)]
    if len(known) <= most:
        return known
    return [known[round(j * (len(known) - 1) / (most - 1))] for j in range(most)]


def _place(chart: DrawnChart, x: float) -> str:
    if chart.places:
        return chart.places[int(x)] if chart.x_label != "run" else chart.title
    return f"{chart.x_label} {x:,.0f}"


def _value(curve: DrawnCurve, j: int) -> str:
    value, bound = curve.y[j], curve.bounds[j] if j < len(curve.bounds) else 0.0
    return f"{value:.4g} \u00b1 {bound:.1e}" if math.isfinite(bound) and bound > 0.0 else f"{value:.4g}"


def _dot(text: str, place: tuple[float, float], k: int, radius: str = "2.4") -> Markup:
    """A point: a circle that is seen, a larger one that is easy to hit, and what both say."""
    x, y = (f"{value:.1f}" for value in place)
    circles = (
        element("circle", cx=x, cy=y, r=radius, fill=PALETTE[k % len(PALETTE)]),
        element("circle", cx=x, cy=y, r="8", fill="transparent"),
    )
    shown = text if len(text) <= MOST_SHOWN else f"...{text[3 - MOST_SHOWN :]}"
    tip = _text(shown, LEFT, TOP - 7.0, "start", class_="tip", visibility="hidden")
    return element("g", element("title", text), *circles, tip, class_="dot")
