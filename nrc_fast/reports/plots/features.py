"""The figure of one report: NRC1 of every k and the explained variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.reports.plots.drawn import DrawnReport
from nrc_fast.reports.plots.panels import BLUE, GREY, GivenAxes, literal, lower_edge, panels_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_report"]

MOST_BARS = 12
WIDEST_LINEAR = 20  # more components than this go on a logarithmic axis


def plot_report(report: DrawnReport, ax: GivenAxes | None = None) -> Figure:
    """Draw NRC1 and the explained variance of a report against the number of components.

    Left: NRC1 for every number of components that the report has, shaded by its bound, pale where it is no larger than
    that; a value that is 0 stands on the lower edge as a triangle. Right: the share of the variance in each of the
    leading components. Dashed: n, the target dimension.

    Parameters
    ----------
    report : nrc_fast.Report
    ax : pair of matplotlib axes, optional
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
        `ax` is no pair.

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast import measure
    >>> report = measure(np.random.default_rng(0).standard_normal((100, 8)), n=2)
    >>> plot_report(report).axes[1].get_title()
    'first 2 components: 36.2% of the variance'
    """
    figure, pair = panels_for(ax, ("NRC1", "the explained variance"), (9.0, 3.8))
    _draw_nrc1_by_k(pair[0], report)
    _draw_explained_variance(pair[1], report)
    return figure


def _draw_nrc1_by_k(axes: Axes, report: DrawnReport) -> None:
    values = np.asarray(report.nrc1_by_k)
    components = np.arange(1, len(values) + 1)
    bounds = np.asarray(report.bounds.get("nrc1_by_k", np.zeros(len(values))))
    known = values > bounds
    # NRC1 falls with the number of components: what bounds one from above bounds all larger ones, and so from below.
    highest = np.minimum.accumulate(np.where(np.isnan(values + bounds), np.inf, values + bounds))
    highest[np.isinf(highest)] = np.nan
    vague = np.fmin(values, highest)
    edge = lower_edge(vague)
    if np.any(bounds > 0.0):
        lowest = np.maximum.accumulate(np.nan_to_num(values - bounds, nan=0.0)[::-1])[::-1].clip(min=edge)
        axes.fill_between(components, lowest, highest, color=BLUE, alpha=0.2, linewidth=0, label="bound of the error")
    axes.plot(components, np.where(vague > 0.0, vague, np.nan), color=BLUE, alpha=0.4, linewidth=1)
    axes.plot(components, np.where(known, values, np.nan), "o-", color=BLUE, markersize=3, label="NRC1")
    zero = highest == 0.0
    if zero.any():
        axes.plot(components[zero], np.full(zero.sum(), edge), "v", color=BLUE, clip_on=False, label="NRC1 = 0")
    axes.set_yscale("log")
    axes.set_ylim(bottom=edge)
    if len(values) > WIDEST_LINEAR:
        axes.set_xscale("log")
    axes.axvline(_shown(report), color=GREY, linestyle="--", linewidth=1, label=f"n = {report.n}")
    axes.set_xlabel("number of components")
    axes.set_ylabel(f"NRC1 ({literal(report.convention)})")
    axes.legend(fontsize="small")


def _draw_explained_variance(axes: Axes, report: DrawnReport) -> None:
    shown = _shown(report)
    count = min(len(report.explained_variance_ratio), max(MOST_BARS, shown + 2))
    components = np.arange(1, count + 1)
    colours = [BLUE if k <= shown else GREY for k in components]
    axes.bar(components, report.explained_variance_ratio[:count], color=colours)
    axes.axvline(shown + 0.5, color=GREY, linestyle="--", linewidth=1)
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg] # a MaxNLocator
    axes.set_xlabel("component")
    axes.set_ylabel("share of the variance")
    total = float(np.sum(report.explained_variance_ratio[:shown]))
    plural = "s" if shown > 1 else ""
    axes.set_title(f"first {shown} component{plural}: {_percent(total)} of the variance", fontsize="medium")


def _shown(report: DrawnReport) -> int:
    """Components that NRC1 is of: n, or all where there are fewer features."""
    return min(report.n, report.d)


def _percent(share: float) -> str:
    """A share in percent, never rounded up to 100."""
    if np.isnan(share):
        return "none"
    return "over 99.9%" if 0.999 < share < 1.0 else f"{100.0 * share:.1f}%"
