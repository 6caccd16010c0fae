"""The figure of layers: a heat map of their metrics."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.reports.plots.drawn import DrawnLayers
from nrc_fast.reports.plots.panels import COLOURS, GivenAxes, literal, panels_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_layers"]


def plot_layers(report: DrawnLayers, ax: GivenAxes | None = None) -> Figure:
    """Draw Deep NRC as a heat map: a row for each metric, a column for each layer.

    Dark is collapsed: colours are scaled for each metric by itself, from not at all to completely where the metric has
    such ends (noise and imbalance 1 to 0, alignments 0 to 1, readout MSE from the variance of the targets to 0), ranks
    between their largest value and 1. The balance has a row where it is known of a layer. The numbers stand in the
    cells. A line stands before the first collapsed layer.

    Parameters
    ----------
    report : nrc_fast.DeepReport
    ax : matplotlib axes, optional
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
        `ax` holds several.
    """
    names = [literal(layer.name) for layer in report.layers]
    fields: dict[str, tuple[str, float | None, float]] = {
        "noise_fraction": ("noise fraction", 1.0, 0.0),
        "signal_alignment": ("signal alignment (CKA)", 0.0, 1.0),
        "weight_alignment": ("weight alignment", 0.0, 1.0),
        "linear_mse": ("MSE of linear readout", report.target_variance, 0.0),
        "feature_stable_rank": ("stable rank, features", None, 1.0),
        "weight_stable_rank": ("stable rank, weights", None, 1.0),
    }
    if not all(np.isnan(layer.balance) for layer in report.layers):
        fields["balance"] = ("balance with the layer below", 1.0, 0.0)
    values = np.array([[getattr(layer, field) for layer in report.layers] for field in fields])
    shades = np.array([_shades(row, start, end) for row, (_, start, end) in zip(values, fields.values(), strict=True)])
    width = max(4.8, 2.6 + 0.85 * len(names))
    figure, (axes,) = panels_for(ax, ("the heat map",), (width, 3.6 + 0.45 * ("balance" in fields)))
    axes.imshow(shades, cmap="Blues", vmin=0.0, vmax=1.2, aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            text = "-" if np.isnan(value) else f"{value:.4g}"
            colour = "white" if shades[row, column] > 0.75 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(fields)), [label for label, _, _ in fields.values()])
    first = report.first_collapsed
    if first is not None:
        axes.axvline([layer.name for layer in report.layers].index(first) - 0.5, color=COLOURS[4], linewidth=2)
    title = f"first collapsed layer: {literal(first or 'none')} (noise\u00a0<\u00a0{report.threshold:g})"
    if ax is None:
        figure.suptitle(textwrap.fill(title, round(11 * width)), fontsize="medium")
    else:
        axes.set_title(title, fontsize="medium", wrap=True)
    return figure


def _shades(values: FloatArray, start: float | None, end: float) -> FloatArray:
    """0 at the start of a metric's range and 1 at the end where it is collapsed."""
    known = values[~np.isnan(values)]
    begin = float(known.max(initial=end)) if start is None else start
    if begin == end:
        return np.where(np.isnan(values), np.nan, 1.0)
    shades: FloatArray = np.clip((values - begin) / (end - begin), 0.0, 1.0)
    return shades
