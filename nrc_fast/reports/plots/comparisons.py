"""The figure of runs that are compared: every chart is a panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.reports.plots.drawn import DrawnChart, DrawnCurve
from nrc_fast.reports.plots.panels import (
    GivenAxes,
    draw_band,
    draw_thin_line,
    line_style,
    literal,
    panels_for,
    use_log_axis,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_charts"]

LARGEST = 1e280  # value above which a logarithmic axis leaves no room


def plot_charts(charts: Sequence[DrawnChart], ax: GivenAxes | None = None) -> Figure:
    """Draw charts of several runs, a panel for each, in two rows.

    A run has one colour in all panels. Values of 0 lie on the lower edge of a logarithmic axis. Levels are dotted; a
    bound of the error is a vertical line.

    Parameters
    ----------
    charts : sequence of nrc_fast.reports.charts.Chart
        An even number of them.
    ax : as many matplotlib axes, optional
        Where to draw; a new figure if not given.

    Returns
    -------
    figure
        That of the axes; a new one is not known to pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        `ax` holds another number of axes.
    """
    figure, panels = panels_for(ax, [literal(chart.title) for chart in charts], (12.0, 7.4), rows=2)
    order = list(dict.fromkeys(curve.run for chart in charts for curve in chart.curves))
    handles: dict[str, Artist] = {}
    for chart, panel in zip(charts, panels, strict=True):
        for curve in chart.curves:
            handles.setdefault(literal(curve.label), _draw_curve(panel, curve, order.index(curve.run)))
        for curve in chart.beside:
            draw_thin_line(panel, order.index(curve.run), curve.x, curve.y, "_thin")
        words = f"\n{chart.words}" if chart.words else ""
        panel.set_title(literal(chart.title) + words, fontsize="medium")
        panel.grid(alpha=0.25)
        if chart.places:
            panel.set_xticks(range(len(chart.places)), list(map(literal, chart.places)), rotation=30, ha="right")
    _scale(charts, panels)
    for chart, panel in zip(charts, panels, strict=True):
        if chart.band is not None:
            draw_band(panel, chart.band)
        _draw_bounds(panel, chart.curves, order)
    for chart, panel in list(zip(charts, panels, strict=True))[len(panels) // 2 :]:
        panel.set_xlabel(chart.x_label)
    if ax is None:
        for panel in panels[: len(panels) // 2]:
            panel.tick_params(labelbottom=False)
        figure.legend(handles.values(), list(handles), loc="outside lower center", ncols=3, frameon=False)
    else:
        panels[0].legend(handles.values(), list(handles), fontsize="small", frameon=False)
    return figure


def _draw_curve(panel: Axes, curve: DrawnCurve, k: int) -> Artist:
    style = line_style(k)
    if curve.is_level:
        color, name = style["color"], literal(curve.label)
        return panel.axhline(curve.y[0], color=color, linestyle=":", linewidth=1.2, label=name)
    if len(curve.x) == 1:
        style |= {"marker": "o", "linestyle": "none"}
    return panel.plot(curve.x, curve.y, label=literal(curve.label), **style)[0]


def _scale(charts: Sequence[DrawnChart], panels: Sequence[Axes]) -> None:
    """Logarithmic axes, with one range for the charts that share a scale."""
    groups: dict[str, list[Axes]] = {}
    for k, (chart, panel) in enumerate(zip(charts, panels, strict=True)):
        if chart.is_log:
            groups.setdefault(chart.scale or str(k), []).append(panel)
    for group in groups.values():
        values = np.concatenate(
            [np.asarray(line.get_ydata(), dtype=np.float64) for panel in group for line in panel.get_lines()]
        )
        use_log_axis(*group)
        top = float(np.max(values, where=np.isfinite(values), initial=0.0))
        bottom = group[0].get_ylim()[0]
        for panel in group:
            panel.set_ylim(top=top * max(1.4, (top / bottom) ** 0.05) if bottom < top < LARGEST else None)


def _draw_bounds(panel: Axes, curves: Sequence[DrawnCurve], order: Sequence[str]) -> None:
    bottom = panel.get_ylim()[0]
    for curve in curves:
        known = [
            (x, max(y - bound, bottom), y + bound)
            for x, y, bound in zip(curve.x, curve.y, curve.bounds, strict=False)
            if np.isfinite(y) and 0.0 < bound < np.inf
        ]
        if known:
            color = line_style(order.index(curve.run))["color"]
            panel.vlines(*zip(*known, strict=True), color=color, alpha=0.4, linewidth=4)
