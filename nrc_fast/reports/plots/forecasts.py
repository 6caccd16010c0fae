"""The figure of a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.reports.plots.drawn import DrawnForecast
from nrc_fast.reports.plots.panels import BLUE, GREY, Panels, line_style, pair_of_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_forecast"]


def plot_forecast(
    forecast: DrawnForecast, axes: Sequence[Axes] | Panels | None = None
) -> tuple[Figure, Sequence[Axes] | Panels]:
    """Draw what the UFM predicts from targets alone against c = lambda_W lambda_H.

    Left: the rank of features and head, which falls by one at every eigenvalue of the target covariance. Right: the
    training MSE of one model for all outputs, of one for each, and of standardised and whitened targets mapped back.
    Dashed: the c of the forecast.

    Parameters
    ----------
    forecast : nrc_fast.ufm.Forecast
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
    positive = forecast.eigenvalues[forecast.eigenvalues > 0.0]
    marks = np.append(positive, [forecast.c] if forecast.c > 0.0 else [])
    marks = marks if marks.size else np.ones(1)
    cs = np.geomspace(marks.min() / 30.0, marks.max() * 10.0, 400)
    steps = np.sort(np.concatenate([cs, positive]))  # the rank falls exactly at the eigenvalues
    pair[0].step(steps, forecast.rank_at(steps), where="post", color=BLUE)
    pair[0].set_ylabel("rank of features and head")
    pair[0].yaxis.get_major_locator().set_params(integer=True)
    curves = {
        "one model for all outputs": forecast.mse_at,
        "one model for each output": forecast.single_task_mse_at,
        "standardised targets, mapped back": forecast.standardized_mse_at,
        "whitened targets, mapped back": forecast.whitened_mse_at,
    }
    for k, (label, curve) in enumerate(curves.items()):
        pair[1].plot(cs, curve(cs), label=label, **line_style(k))
    pair[1].set_ylabel("training MSE, summed over outputs")
    if forecast.variance > 0.0:
        pair[1].set_yscale("log")
    pair[1].legend(fontsize="small")
    for panel in pair:
        panel.set_xscale("log")
        panel.set_xlabel("c")
        if forecast.c > 0.0:
            panel.axvline(forecast.c, color=GREY, linestyle="--", linewidth=1)
    return figure, pair if axes is None else axes
