"""The figure of a training: what was measured at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.clocks import decay_line
from nrc_fast.reports.plots.drawn import DrawnHistory, DrawnRecord
from nrc_fast.reports.plots.panels import (
    BLUE,
    COLOURS,
    GREY,
    GivenAxes,
    draw_band,
    draw_line,
    draw_thin_line,
    finish_panel,
    literal,
    panels_for,
    use_log_axis,
)
from nrc_fast.reports.steps import name_of_gamma

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_history"]

# What the panels show.
OF_HISTORY = (
    "NRC1 and NRC2",
    "NRC3",
    "MSE and R2",
    "the explained variance",
    "NRC3 against gamma",
    "NRC1 around the mean",
)


def plot_history(history: DrawnHistory, gamma: GammaChoice = "last", ax: GivenAxes | None = None) -> Figure:
    """Draw a history as the paper does: NRC1 and NRC2, NRC3, MSE and R2, explained variance, NRC3 against gamma.

    The sixth panel holds NRC1 under the conventions id25 and variance, which tell a collapse to a plane away from the
    origin, and what weight decay alone makes of the latter where the history has a clock. Metrics of collapse and the
    MSE are on logarithmic axes, where a 0 lies on the lower edge. Behind NRC3 is a band with 90 of 100 random heads,
    and for one gamma, which most steps only have by hindsight, a thin line with what NRC3 is at the best gamma of each
    step.

    Parameters
    ----------
    history : nrc_fast.History
        The history, with at least one record.
    gamma : {"last", "each"} or float
        For which gamma NRC3 is shown; see `History.records`.
    ax : six matplotlib axes, optional
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

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), figures 2 to 4.
    """
    figure, drawn = panels_for(ax, OF_HISTORY, (12.0, 7.0), rows=2)
    panels = np.reshape(np.array(drawn, dtype=object), (2, 3))
    records = history.records(gamma)
    steps = [record.step for record in records]

    def draw(panel: Axes, *curves: tuple[str, str]) -> None:
        for k, (field, label) in enumerate(curves):
            draw_line(panel, k, steps, [getattr(record, field) for record in records], label)
        finish_panel(panel, "step", log=True)

    draw(panels[0, 0], ("nrc1", "NRC1"), ("nrc2", "NRC2"))
    panels[0, 0].set_title(f"NRC1 and NRC2, convention {literal(history.convention)}", fontsize="medium")
    _draw_nrc3(panels[0, 1], history, gamma)
    draw(panels[0, 2], ("mse", "MSE, summed over outputs"))
    _draw_r2(panels[0, 2], steps, [record.r2 for record in records])
    _draw_shares(panels[1, 0], steps, records, history.n)
    _draw_nrc3_against_gamma(panels[1, 1], history)
    draw(panels[1, 2], ("nrc1_id25", "NRC1, id25"), ("nrc1_variance", "NRC1, variance"))
    panels[1, 2].set_title("NRC1 around the mean", fontsize="medium")
    _draw_clock(panels[1, 2], history, records)
    if history.name and ax is None:
        figure.suptitle(literal(history.name))
    return figure


def _draw_nrc3(panel: Axes, history: DrawnHistory, gamma: GammaChoice) -> None:
    """NRC3 for one gamma, before what each step has at its own and what random heads have."""
    panel.set_title(f"NRC3, {name_of_gamma(gamma)}", fontsize="medium")
    records, each = history.records(gamma), history.records("each")
    steps = [record.step for record in records]
    draw_line(panel, 0, steps, [record.nrc3 for record in records], "NRC3")
    if gamma != "each":
        draw_thin_line(panel, 0, steps, [record.nrc3 for record in each], "at the best gamma of each step")
    use_log_axis(panel)
    low, _, high = history.nrc3_null()
    if not np.isnan(low):
        draw_band(panel, (low, high), "random heads, 5% to 95%")
    finish_panel(panel, "step", log=False)


def _draw_r2(panel: Axes, steps: Sequence[int], values: Sequence[float]) -> None:
    """R2 on an axis of its own at the right."""
    panel.set_title("MSE and R2", fontsize="medium")
    right = panel.twinx()
    draw_line(right, 1, steps, values, "R2 (right)")
    finite = [value for value in values if np.isfinite(value)]
    right.set_ylim(max(min([*finite, 0.0]), -1.0) - 0.05, 1.05)
    handles = [*panel.get_lines(), *right.get_lines()]
    panel.legend(
        handles, [str(line.get_label()) for line in handles], fontsize="small", frameon=False, loc="lower center"
    )


def _draw_shares(panel: Axes, steps: Sequence[int], records: Sequence[DrawnRecord], n: int) -> None:
    panel.set_title(f"variance in components; n = {n}", fontsize="medium")
    draw_line(panel, 0, steps, [record.explained_variance for record in records], f"first {n} together")
    count = min(len(record.explained_variance_ratio) for record in records)
    for k in range(min(count, len(COLOURS) - 1)):
        draw_line(panel, k + 1, steps, [record.explained_variance_ratio[k] for record in records], f"number {k + 1}")
    finish_panel(panel, "step", log=False)
    panel.set_ylim(-0.02, 1.5)  # the upper part holds the legend
    panel.set_yticks(np.linspace(0.0, 1.0, 6))
    panel.legend(fontsize="small", frameon=False, ncols=2, loc="upper center")


def _draw_clock(panel: Axes, history: DrawnHistory, records: Sequence[DrawnRecord]) -> None:
    """What weight decay alone makes of NRC1, through the last record of the part that its slope is fitted to."""
    clock = history.clock
    if clock is None:
        return
    label = f"decay alone: {clock.predicted:.3g} a step in log"
    panel.plot(
        *decay_line(records, clock.first_step, clock.last_step),
        color="black",
        linestyle=":",
        linewidth=1.8,
        label=label,
    )
    panel.legend(fontsize="small", frameon=False)


def _draw_nrc3_against_gamma(panel: Axes, history: DrawnHistory) -> None:
    panel.set_title("NRC3 of the last step against gamma", fontsize="medium")
    gammas, values = history.nrc3_curve()
    if np.isnan(values).all():
        panel.text(0.5, 0.5, "not defined for these targets", ha="center", transform=panel.transAxes)
        return
    panel.plot(gammas, values, color=BLUE, linewidth=1.8, label="NRC3")
    best = history.records("each")[-1].gamma
    panel.axvline(best, color=GREY, linestyle="--", linewidth=1, label=f"smallest at {best:.3g}")
    finish_panel(panel, "gamma, from 0 to the smallest eigenvalue of Sigma", log=False)
