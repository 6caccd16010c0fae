"""The figure of an error floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.reports.plots.drawn import DrawnErrorFloor
from nrc_fast.reports.plots.panels import BLUE, GREY, Panels, line_style, pair_of_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_error_floor"]


def plot_error_floor(
    floor: DrawnErrorFloor, axes: Sequence[Axes] | Panels | None = None
) -> tuple[Figure, Sequence[Axes] | Panels]:
    """Draw what the UFM predicts from targets alone against c = lambda_W lambda_H.

    Left: the rank of features and head, which falls by one at every eigenvalue of the target covariance. Right: the
    floor of the training MSE of one model for all outputs, of one for each, and of standardised and whitened targets
    mapped back. Dashed: the c of the floor.

    Parameters
    ----------
    floor : nrc_fast.ufm.ErrorFloor
    axes : pair of matplotlib axes, optional
        Where to draw; a new figure if not given.

    Returns
    -------
    figure, axes
        The figure and its pair of axes. Neither is known to pyplot unless `axes` was.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        `axes` is no pair.
    """
    figure, pair = pair_of_axes(axes, "for the rank and for the MSE")
    positive = floor.eigenvalues[floor.eigenvalues > 0.0]
    marks = np.append(positive, [floor.c] if floor.c > 0.0 else [])
    marks = marks if marks.size else np.ones(1)
    cs = np.geomspace(marks.min() / 30.0, marks.max() * 10.0, 400)
    steps = np.sort(np.concatenate([cs, positive]))  # the rank falls exactly at the eigenvalues
    pair[0].step(steps, floor.rank_at(steps), where="post", color=BLUE)
    pair[0].set_ylabel("rank of features and head")
    pair[0].yaxis.get_major_locator().set_params(integer=True)
    curves = {
        "one model for all outputs": floor.mse_floor_at,
        "one model for each output": floor.single_task_floor_at,
        "standardised targets, mapped back": floor.standardized_floor_at,
        "whitened targets, mapped back": floor.whitened_floor_at,
    }
    for k, (label, curve) in enumerate(curves.items()):
        pair[1].plot(cs, curve(cs), label=label, **line_style(k))
    pair[1].set_ylabel("floor of the training MSE, summed over outputs")
    if floor.variance > 0.0:
        pair[1].set_yscale("log")
    pair[1].legend(fontsize="small")
    for panel in pair:
        panel.set_xscale("log")
        panel.set_xlabel("c")
        if floor.c > 0.0:
            panel.axvline(floor.c, color=GREY, linestyle="--", linewidth=1)
    return figure, pair if axes is None else axes
