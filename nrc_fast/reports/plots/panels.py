"""Plots of reports, forecasts and histories, without pyplot and its global state."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast.base.libraries import require_library
from nrc_fast.base.linalg import FloatArray

__all__ = ["plot_forecast", "plot_history", "plot_layers", "plot_report", "plot_runs", "require_drawable"]

# Okabe and Ito: distinct for colour-blind readers; dashes and widths tell the lines apart without colour too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
DASHES = ("-", (0, (4, 2)), "-.", (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 1)))
BLUE, GREY = COLOURS[0], "#999999"

LOWEST = 1e-16  # of a logarithmic axis without any positive value
MOST_BARS = 12
# Conventions whose rows differ, where both are drawn.
ROWS = {"nrc24": "nrc24 (rows as they are)", "id25": "id25 (rows minus their mean)"}
WIDEST_LINEAR = 20  # more components than this go on a logarithmic axis


def plot_report(report: Any, axes: Any = None) -> tuple[Any, Any]:
    """Draw NRC1 and the explained variance of a report against the number of components.

    Left: NRC1 for every number of components, shaded by its bound, pale where it is no larger than that; a value
    that is 0 stands on the lower edge as a triangle. Right: the share of the variance in each of the leading
    components. Dashed: n, the target dimension.

    Parameters
    ----------
    report : nrc_fast.Report
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

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast import measure
    >>> report = measure(np.random.default_rng(0).standard_normal((100, 8)), n=2)
    >>> figure, (left, right) = plot_report(report)
    >>> right.get_title()
    'first 2 components: 36.2% of the variance'
    """
    figure, pair = _pair_of_axes(axes, "for NRC1 and for the explained variance")
    _draw_nrc1_by_k(pair[0], report)
    _draw_explained_variance(pair[1], report)
    return figure, pair if axes is None else axes


def plot_runs(
    histories: Mapping[str, Any], gamma: str | float = "last", predicted: Mapping[str, float] | None = None
) -> Any:
    """Draw the histories of several trainings, a line for each, against the step.

    NRC1 under their own convention and under id25, NRC2, NRC3 and the training MSE on logarithmic axes, where a 0 lies
    on the lower edge, and the variance in the first n components. Dotted in a training's colour: the MSE that is
    predicted for it.

    Parameters
    ----------
    histories : mapping of str to nrc_fast.reports.history.History
        By the names of the trainings.
    gamma : {"last", "each"} or float
        For which gamma NRC3 is shown; see `History.records`.
    predicted : mapping of str to float, optional
        The MSE that the UFM predicts, for trainings whose penalties are known.

    Returns
    -------
    figure
        Not known to pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    figure = _new_figure((12.0, 7.4))
    panels = figure.subplots(2, 3, sharex=True)
    for panel in panels[0, 1:]:
        panel.sharey(panels[0, 0])
    runs = {name: history.records(gamma) for name, history in histories.items()}
    convention = ", ".join(dict.fromkeys(history.convention for history in histories.values()))
    n = " or ".join(dict.fromkeys(str(history.n) for history in histories.values()))
    _draw_curves(panels[0, 0], runs, "nrc1", f"NRC1, convention {ROWS.get(convention, convention)}")
    _draw_curves(panels[0, 1], runs, "nrc1_id25", f"NRC1, convention {ROWS['id25']}")
    _draw_curves(panels[0, 2], runs, "nrc2", "NRC2")
    _draw_curves(panels[1, 0], runs, "nrc3", f"NRC3, {_gamma_name(gamma)}")
    _draw_curves(panels[1, 1], runs, "mse", "training MSE, summed over outputs")
    _draw_curves(panels[1, 2], runs, "explained_variance", f"variance in the first {n} components")
    _use_log_axis(*panels[0])
    _use_log_axis(panels[1, 0])
    _use_log_axis(panels[1, 1])
    handles = dict(zip(runs, panels[0, 0].get_lines(), strict=True))
    for name, mse in (predicted or {}).items():
        style = {"color": handles[name].get_color(), "linestyle": ":", "linewidth": 1.2}
        handles[f"MSE predicted for {name}"] = panels[1, 1].axhline(mse, **style)
    for panel in panels[1]:
        panel.set_xlabel("step")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _gamma_name(gamma: str | float) -> str:
    chosen = {"last": "gamma of the last step", "each": "the best gamma of each step"}
    return chosen.get(str(gamma), f"gamma = {gamma}")


def plot_forecast(forecast: Any, axes: Any = None) -> tuple[Any, Any]:
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
    figure, pair = _pair_of_axes(axes, "for the rank and for the MSE")
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
        pair[1].plot(cs, curve(cs), label=label, color=COLOURS[k], linestyle=DASHES[k], linewidth=1.8)
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


def plot_history(history: Any, gamma: str | float = "last") -> Any:
    """Draw a history as the paper does: NRC1 and NRC2, NRC3, MSE and R2, explained variance, NRC3 against gamma.

    The sixth panel holds NRC1 under the conventions id25 and variance, which tell a collapse to a plane away from the
    origin. Metrics of collapse and the MSE are on logarithmic axes, where a 0 lies on the lower edge.

    Parameters
    ----------
    history : nrc_fast.reports.history.History
        With at least one record.
    gamma : {"last", "each"} or float
        For which gamma NRC3 is shown; see `History.records`.

    Returns
    -------
    figure
        Not known to pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), figures 2 to 4.
    """
    figure = _new_figure((12.0, 7.0))
    panels = figure.subplots(2, 3)
    records = history.records(gamma)
    steps = [record.step for record in records]

    def draw(panel: Any, *curves: tuple[str, str]) -> None:
        for k, (field, label) in enumerate(curves):
            _draw_line(panel, k, steps, [getattr(record, field) for record in records], label)
        _finish_panel(panel, "step", log=True)

    draw(panels[0, 0], ("nrc1", "NRC1"), ("nrc2", "NRC2"))
    panels[0, 0].set_title(f"NRC1 and NRC2, convention {history.convention}", fontsize="medium")
    draw(panels[0, 1], ("nrc3", "NRC3"))
    panels[0, 1].set_title(f"NRC3, {_gamma_name(gamma)}", fontsize="medium")
    draw(panels[0, 2], ("mse", "MSE, summed over outputs"))
    _draw_r2(panels[0, 2], steps, [record.r2 for record in records])
    _draw_shares(panels[1, 0], steps, records, history.n)
    _draw_nrc3_against_gamma(panels[1, 1], history)
    draw(panels[1, 2], ("nrc1_id25", "NRC1, id25"), ("nrc1_variance", "NRC1, variance"))
    panels[1, 2].set_title("NRC1 around the mean", fontsize="medium")
    if history.name:
        figure.suptitle(history.name)
    return figure


def plot_layers(report: Any) -> Any:
    """Draw Deep NRC as a heat map: a row for each metric, a column for each layer.

    Dark is collapsed: colours are scaled for each metric by itself, from not at all to completely where the metric has
    such ends (noise 1 to 0, alignments 0 to 1, readout MSE from the variance of the targets to 0), ranks between their
    largest value and 1. The numbers stand in the cells. A line stands before the first collapsed layer.

    Parameters
    ----------
    report : nrc_fast.training.layers.DeepReport

    Returns
    -------
    figure
        Not known to pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    names = [layer.name for layer in report.layers]
    fields = {
        "noise_fraction": ("noise fraction", 1.0, 0.0),
        "signal_alignment": ("signal alignment (CKA)", 0.0, 1.0),
        "weight_alignment": ("weight alignment", 0.0, 1.0),
        "linear_mse": ("MSE of linear readout", report.target_variance, 0.0),
        "feature_stable_rank": ("stable rank, features", None, 1.0),
        "weight_stable_rank": ("stable rank, weights", None, 1.0),
    }
    values = np.array([[getattr(layer, field) for layer in report.layers] for field in fields])
    shades = np.array([_shades(row, start, end) for row, (_, start, end) in zip(values, fields.values(), strict=True)])
    figure = _new_figure((max(4.8, 2.6 + 0.85 * len(names)), 3.6))
    axes = figure.subplots()
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
        axes.axvline(names.index(first) - 0.5, color=COLOURS[4], linewidth=2)
    title = f"first collapsed layer: {first or 'none'} (noise\u00a0<\u00a0{report.threshold:g})"
    figure.suptitle(textwrap.fill(title, round(11 * figure.get_figwidth())), fontsize="medium")
    return figure


def _shades(values: FloatArray, start: float | None, end: float) -> FloatArray:
    """0 at the start of a metric's range and 1 at the end where it is collapsed."""
    known = values[~np.isnan(values)]
    begin = float(known.max(initial=end)) if start is None else start
    if begin == end:
        return np.where(np.isnan(values), np.nan, 1.0)
    shades: FloatArray = np.clip((values - begin) / (end - begin), 0.0, 1.0)
    return shades


# ---- the panels of a history ----


def _draw_line(panel: Any, k: int, steps: Sequence[int], values: Sequence[float], label: str) -> None:
    style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)], "linewidth": 1.8}
    if len(steps) == 1:
        style |= {"marker": "o", "linestyle": "none"}
    panel.plot(steps, values, label=label, **style)


def _finish_panel(panel: Any, label: str, *, log: bool) -> None:
    panel.set_xlabel(label)
    panel.grid(alpha=0.25)
    panel.legend(fontsize="small", frameon=False)
    if log:
        _use_log_axis(panel)


def _draw_r2(panel: Any, steps: Sequence[int], values: Sequence[float]) -> None:
    """R2 on an axis of its own at the right."""
    panel.set_title("MSE and R2", fontsize="medium")
    right = panel.twinx()
    _draw_line(right, 1, steps, values, "R2 (right)")
    finite = [value for value in values if np.isfinite(value)]
    right.set_ylim(max(min([*finite, 0.0]), -1.0) - 0.05, 1.05)
    handles = [*panel.get_lines(), *right.get_lines()]
    panel.legend(handles, [line.get_label() for line in handles], fontsize="small", frameon=False, loc="lower center")


def _draw_shares(panel: Any, steps: Sequence[int], records: Sequence[Any], n: int) -> None:
    panel.set_title(f"variance in components; n = {n}", fontsize="medium")
    _draw_line(panel, 0, steps, [record.explained_variance for record in records], f"first {n} together")
    count = min(len(record.explained_variance_ratio) for record in records)
    for k in range(min(count, len(COLOURS) - 1)):
        _draw_line(panel, k + 1, steps, [record.explained_variance_ratio[k] for record in records], f"number {k + 1}")
    _finish_panel(panel, "step", log=False)
    panel.set_ylim(-0.02, 1.5)  # the upper part holds the legend
    panel.set_yticks(np.linspace(0.0, 1.0, 6))
    panel.legend(fontsize="small", frameon=False, ncols=2, loc="upper center")


def _draw_nrc3_against_gamma(panel: Any, history: Any) -> None:
    panel.set_title("NRC3 of the last step against gamma", fontsize="medium")
    gammas, values = history.nrc3_curve()
    if np.isnan(values).all():
        panel.text(0.5, 0.5, "not defined for these targets", ha="center", transform=panel.transAxes)
        return
    panel.plot(gammas, values, color=BLUE, linewidth=1.8, label="NRC3")
    best = history.records("each")[-1].gamma
    panel.axvline(best, color=GREY, linestyle="--", linewidth=1, label=f"smallest at {best:.3g}")
    _finish_panel(panel, "gamma, from 0 to the smallest eigenvalue of Sigma", log=False)


# ---- the panels of a report ----


def _draw_nrc1_by_k(axes: Any, report: Any) -> None:
    components = np.arange(1, report.d + 1)
    values = np.asarray(report.nrc1_by_k)
    bounds = np.asarray(report.bounds.get("nrc1_by_k", np.zeros(report.d)))
    known = values > bounds
    # NRC1 falls with the number of components: what bounds one from above bounds all larger ones, and so from below.
    highest = np.minimum.accumulate(np.where(np.isnan(values + bounds), np.inf, values + bounds))
    highest[np.isinf(highest)] = np.nan
    vague = np.fmin(values, highest)
    edge = _lower_edge(vague)
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
    if report.d > WIDEST_LINEAR:
        axes.set_xscale("log")
    axes.axvline(report.n, color=GREY, linestyle="--", linewidth=1, label=f"n = {report.n}")
    axes.set_xlabel("number of components")
    axes.set_ylabel(f"NRC1 ({report.convention})")
    axes.legend(fontsize="small")


def _draw_explained_variance(axes: Any, report: Any) -> None:
    count = min(report.d, max(MOST_BARS, report.n + 2))
    components = np.arange(1, count + 1)
    colours = [BLUE if k <= report.n else GREY for k in components]
    axes.bar(components, report.explained_variance_ratio[:count], color=colours)
    axes.axvline(report.n + 0.5, color=GREY, linestyle="--", linewidth=1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("component")
    axes.set_ylabel("share of the variance")
    total = float(np.sum(report.explained_variance_ratio[: report.n]))
    plural = "s" if report.n > 1 else ""
    axes.set_title(f"first {report.n} component{plural}: {_percent(total)} of the variance", fontsize="medium")


def _percent(share: float) -> str:
    """A share in percent, never rounded up to 100."""
    if np.isnan(share):
        return "none"
    return "over 99.9%" if 0.999 < share < 1.0 else f"{100.0 * share:.1f}%"


# ---- the panels of the demonstration ----


def _draw_curves(axes: Any, runs: Mapping[str, Sequence[Any]], field: str, title: str) -> None:
    for k, (name, records) in enumerate(runs.items()):
        values = [getattr(record, field) for record in records]
        steps = [record.step for record in records]
        style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)], "linewidth": 1.8}
        axes.plot(steps, values, label=name, **style)
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)


def _use_log_axis(*panels: Any) -> None:
    """Make the value axes logarithmic with a common lower edge, and put what is not positive on it."""
    lines = [line for panel in panels for line in panel.get_lines()]
    edge = _lower_edge(np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in lines]))
    for line in lines:
        values = np.asarray(line.get_ydata(), dtype=np.float64)
        line.set_ydata(np.where(values <= 0.0, edge, values))
    for panel in panels:
        panel.relim()
        panel.set_yscale("log")
        panel.set_ylim(bottom=edge)


# ---- for all ----


def require_drawable(path: Path) -> None:
    """Check that a plot can be written to a file of that name.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The name ends with no format that it knows.
    """
    known = require_library("matplotlib.backend_bases", "demo", "plots need matplotlib").FigureCanvasBase
    formats = sorted(known.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in formats:
        msg = f"{path} has no ending of a plot; .{', .'.join(formats)} are known"
        raise ValueError(msg)


def _lower_edge(values: FloatArray) -> float:
    """Where a logarithmic axis may end: a third of the smallest positive value."""
    positive = values[np.isfinite(values) & (values > 0.0)]
    # A third of a subnormal number may be 0.
    return max(float(positive.min()) / 3.0, np.finfo(np.float64).tiny) if positive.size else LOWEST


def _pair_of_axes(axes: Any, purpose: str) -> tuple[Any, Any]:
    """The figure and two axes: those that are given, or new ones."""
    if axes is None:
        figure = _new_figure((9.0, 3.8))
        return figure, figure.subplots(1, 2)
    pair = np.ravel(np.asarray(axes, dtype=object))
    if len(pair) != 2:
        msg = f"axes holds {len(pair)} axes; a pair is expected, {purpose}"
        raise ValueError(msg)
    return pair[0].figure, pair


def _new_figure(size: tuple[float, float]) -> Any:
    modules = ("matplotlib.figure", "matplotlib.backends.backend_agg")
    figure_module, agg = (require_library(name, "demo", "plots need matplotlib") for name in modules)
    figure = figure_module.Figure(figsize=size, dpi=120, layout="constrained")
    agg.FigureCanvasAgg(figure)
    return figure
