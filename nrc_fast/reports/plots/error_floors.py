"""The figure of an error floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.reports.plots.drawn import DrawnErrorFloor
from nrc_fast.reports.plots.panels import BLUE, GREY, GivenAxes, line_style, panels_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_error_floor"]


def plot_error_floor(floor: DrawnErrorFloor, ax: GivenAxes | None = None) -> Figure:
    """Draw what the UFM predicts from targets alone against c = lambda_W lambda_H, or against the decay of all layers.

    Left: the rank of features and head, which falls by one wherever a direction of the targets goes. Right: the floor
    of the training MSE of one model for all outputs, of one for each, and of standardised and whitened targets mapped
    back. Dashed: the c or decay of the floor.

    Parameters
    ----------
    floor : nrc_fast.ufm.ErrorFloor or nrc_fast.ufm.DeepErrorFloor
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
    """
    figure, pair = panels_for(ax, ("the rank", "the MSE"), (9.0, 3.8))
    positive = floor.steps[floor.steps > 0.0]
    marks = np.append(positive, [floor.position] if floor.position > 0.0 else [])
    marks = marks if marks.size else np.ones(1)
    strengths = np.geomspace(marks.min() / 30.0, marks.max() * 10.0, 400)
    steps = np.sort(np.concatenate([strengths, positive]))  # the rank falls exactly there
    pair[0].step(steps, floor.rank_at(steps), where="post", color=BLUE)
    pair[0].set_ylabel("rank of features and head")
    pair[0].yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg] # a MaxNLocator
    curves = {
        "one model for all outputs": floor.mse_floor_at,
        "one model for each output": floor.single_task_floor_at,
        "standardised targets, mapped back": floor.standardized_floor_at,
        "whitened targets, mapped back": floor.whitened_floor_at,
    }
    for k, (label, curve) in enumerate(curves.items()):
        pair[1].plot(strengths, curve(strengths), label=label, **line_style(k))
    pair[1].set_ylabel("floor of the training MSE, summed over outputs")
    if floor.variance > 0.0:
        pair[1].set_yscale("log")
    pair[1].legend(fontsize="small")
    for panel in pair:
        panel.set_xscale("log")
        panel.set_xlabel(floor.axis)
        if floor.position > 0.0:
            panel.axvline(floor.position, color=GREY, linestyle="--", linewidth=1)
    return figure
