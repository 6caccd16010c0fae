"""The figure of trainings: what was measured at each step, of one or several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.plots.drawn import DrawnHistory, DrawnRecord
from nrc_fast.reports.plots.panels import (
    BLUE,
    COLOURS,
    GREY,
    draw_line,
    finish_panel,
    line_style,
    literal,
    new_figure,
    use_log_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_history", "plot_runs"]

# Conventions whose rows differ, where both are drawn.
ROWS = {"nrc24": "nrc24 (rows as they are)", "id25": "id25 (rows minus their mean)"}


def plot_runs(
    histories: Mapping[str, DrawnHistory], gamma: GammaChoice = "last", predicted: Mapping[str, float] | None = None
) -> Figure:
    """Draw the histories of several trainings, a line for each, against the step.

    NRC1 under their own convention and under id25, NRC2, NRC3 and the training MSE on logarithmic axes, where a 0 lies
    on the lower edge, and the variance in the first n components. Dotted in a training's colour: the MSE that is
    predicted for it.

    Parameters
    ----------
    histories : mapping of str to nrc_fast.reports.history.History
        The histories, by the names of the trainings.
    gamma : {"last", "each"} or float
        For which gamma NRC3 is shown; see `History.records`.
    predicted : mapping of str to float, optional
        The MSE that the UFM predicts, for trainings whose penalties are known.

    Returns
    -------
    figure
        The figure, not known to pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    figure = new_figure((12.0, 7.4))
    panels = figure.subplots(2, 3, sharex=True)
    for panel in panels[0, 1:]:
        panel.sharey(panels[0, 0])
    runs = {name: history.records(gamma) for name, history in histories.items()}
    convention = ", ".join(dict.fromkeys(history.convention for history in histories.values()))
    n = " or ".join(dict.fromkeys(str(history.n) for history in histories.values()))
    _draw_curves(panels[0, 0], runs, "nrc1", f"NRC1, convention {literal(ROWS.get(convention, convention))}")
    _draw_curves(panels[0, 1], runs, "nrc1_id25", f"NRC1, convention {ROWS['id25']}")
    _draw_curves(panels[0, 2], runs, "nrc2", "NRC2")
    _draw_curves(panels[1, 0], runs, "nrc3", f"NRC3, {_gamma_name(gamma)}")
    _draw_curves(panels[1, 1], runs, "mse", "training MSE, summed over outputs")
    _draw_curves(panels[1, 2], runs, "explained_variance", f"variance in the first {n} components")
    use_log_axis(*panels[0])
    use_log_axis(panels[1, 0])
    use_log_axis(panels[1, 1])
    handles = dict(zip(runs, panels[0, 0].get_lines(), strict=True))
    for name, mse in (predicted or {}).items():
        style = {"color": handles[name].get_color(), "linestyle": ":", "linewidth": 1.2}
        handles[f"MSE predicted for {name}"] = panels[1, 1].axhline(mse, **style)
    for panel in panels[1]:
        panel.set_xlabel("step")
    figure.legend(handles.values(), list(map(literal, handles)), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _gamma_name(gamma: GammaChoice) -> str:
    chosen = {"last": "gamma of the last step", "each": "the best gamma of each step"}
    return chosen.get(str(gamma), f"gamma = {gamma}")


def plot_history(history: DrawnHistory, gamma: GammaChoice = "last") -> Figure:
    """Draw a history as the paper does: NRC1 and NRC2, NRC3, MSE and R2, explained variance, NRC3 against gamma.

    The sixth panel holds NRC1 under the conventions id25 and variance, which tell a collapse to a plane away from the
    origin. Metrics of collapse and the MSE are on logarithmic axes, where a 0 lies on the lower edge.

    Parameters
    ----------
    history : nrc_fast.reports.history.History
        The history, with at least one record.
    gamma : {"last", "each"} or float
        For which gamma NRC3 is shown; see `History.records`.

    Returns
    -------
    figure
        The figure, not known to pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), figures 2 to 4.
    """
    figure = new_figure((12.0, 7.0))
    panels = figure.subplots(2, 3)
    records = history.records(gamma)
    steps = [record.step for record in records]

    def draw(panel: Axes, *curves: tuple[str, str]) -> None:
        for k, (field, label) in enumerate(curves):
            draw_line(panel, k, steps, [getattr(record, field) for record in records], label)
        finish_panel(panel, "step", log=True)

    draw(panels[0, 0], ("nrc1", "NRC1"), ("nrc2", "NRC2"))
    panels[0, 0].set_title(f"NRC1 and NRC2, convention {literal(history.convention)}", fontsize="medium")
    draw(panels[0, 1], ("nrc3", "NRC3"))
    panels[0, 1].set_title(f"NRC3, {_gamma_name(gamma)}", fontsize="medium")
    draw(panels[0, 2], ("mse", "MSE, summed over outputs"))
    _draw_r2(panels[0, 2], steps, [record.r2 for record in records])
    _draw_shares(panels[1, 0], steps, records, history.n)
    _draw_nrc3_against_gamma(panels[1, 1], history)
    draw(panels[1, 2], ("nrc1_id25", "NRC1, id25"), ("nrc1_variance", "NRC1, variance"))
    panels[1, 2].set_title("NRC1 around the mean", fontsize="medium")
    if history.name:
        figure.suptitle(literal(history.name))
    return figure


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


def _draw_curves(axes: Axes, runs: Mapping[str, Sequence[DrawnRecord]], field: str, title: str) -> None:
    for k, (name, records) in enumerate(runs.items()):
        values = [getattr(record, field) for record in records]
        steps = [record.step for record in records]
        axes.plot(steps, values, label=literal(name), **line_style(k))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)
