"""What all figures share: axes, lines and colours, without pyplot and its global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.files import replaced_file
from nrc_fast.base.libraries import require_library
from nrc_fast.base.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GivenAxes",
    "GivenPath",
    "draw_band",
    "draw_line",
    "draw_thin_line",
    "finish_panel",
    "finished",
    "line_style",
    "literal",
    "lower_edge",
    "new_figure",
    "panels_for",
    "require_drawable",
    "save_figure",
    "use_log_axis",
]

# Where users want panels to be drawn: axes of matplotlib in the order of the panels, as `subplots` gives them too.
GivenAxes: TypeAlias = "Axes | Sequence[Axes] | NDArray[np.object_]"

# Where users want a figure to be written.
GivenPath: TypeAlias = "str | Path"

# Okabe and Ito: distinct for colour-blind readers; dashes and widths tell the lines apart without colour too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    (0, (4, 2)),
    "-.",
    (0, (9, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 1)),
)
BLUE, GREY = COLOURS[0], "#999999"

LOWEST = 1e-16  # of a logarithmic axis without any positive value


class LineStyle(TypedDict, total=False):
    """Keywords of matplotlib that lines are drawn with."""

    color: str
    linestyle: str | tuple[int, tuple[int, ...]]
    linewidth: float
    marker: str


def line_style(k: int) -> LineStyle:
    """Colour and dashes of the k-th line of a panel."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)], "linewidth": 1.8}


def literal(text: str) -> str:
    """A text of somebody else, that matplotlib draws character by character: dollars begin no formula."""
    return printable(text).replace("$", r"\$")


def draw_line(panel: Axes, k: int, steps: Sequence[int], values: Sequence[float], label: str) -> None:
    """Draw the k-th line of a panel, as a point where there is one step only."""
    style = line_style(k)
    if len(steps) == 1:
        style |= {"marker": "o", "linestyle": "none"}
    panel.plot(steps, values, label=label, **style)


def draw_thin_line(panel: Axes, k: int, steps: Sequence[float], values: Sequence[float], label: str) -> None:
    """Draw a line behind the k-th one, in its colour."""
    style: LineStyle = {"color": COLOURS[k % len(COLOURS)], "linestyle": ":", "linewidth": 1.0}
    if len(steps) == 1:
        style |= {"marker": "."}
    panel.plot(steps, values, label=label, zorder=1.5, **style)


def draw_band(panel: Axes, edges: tuple[float, float], label: str = "") -> None:
    """Shade what lies between two values, and let the axis reach around it; for axes that are scaled already."""
    bottom, top = panel.get_ylim()
    panel.axhspan(*edges, color=GREY, alpha=0.25, linewidth=0, zorder=0, label=label)
    panel.set_ylim(min(bottom, edges[0] / 1.5), max(top, 1.5 * edges[1]))


def finish_panel(panel: Axes, label: str, *, log: bool) -> None:
    """Name the axis of steps, add a grid and a legend; with `log` the values are logarithmic."""
    panel.set_xlabel(label)
    panel.grid(alpha=0.25)
    panel.legend(fontsize="small", frameon=False)
    if log:
        use_log_axis(panel)


def use_log_axis(*panels: Axes) -> None:
    """Make the value axes logarithmic with a common lower edge, and put what is not positive on it."""
    lines = [line for panel in panels for line in panel.get_lines()]
    edge = lower_edge(np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in lines]))
    for line in lines:
        values = np.asarray(line.get_ydata(), dtype=np.float64)
        line.set_ydata(np.where(values <= 0.0, edge, values))
    for panel in panels:
        panel.relim()
        panel.set_yscale("log")
        panel.set_ylim(bottom=edge)


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


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file in the format that its name ends with, all or nothing.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        The name ends with no format that matplotlib knows.
    """
    path = Path(path)
    require_drawable(path)
    with replaced_file(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."))


def lower_edge(values: FloatArray) -> float:
    """Where a logarithmic axis may end: a third of the smallest positive value."""
    positive = values[np.isfinite(values) & (values > 0.0)]
    # A third of a subnormal number may be 0.
    return max(float(positive.min()) / 3.0, np.finfo(np.float64).tiny) if positive.size else LOWEST


def panels_for(
    ax: GivenAxes | None, names: Sequence[str], size: tuple[float, float], rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """The figure and its panels: the axes that are given, or new ones.

    Parameters
    ----------
    ax : axes, a sequence or an array of them, or None
    names : sequence of str
        What the panels show, one for each.
    size : (float, float)
        Width and height of a new figure, in inches.
    rows : int
        Rows of the panels of a new figure.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        Another number of axes is given; the message says what they are for.
    """
    if ax is None:
        figure = new_figure(size)
        grid = figure.subplots(rows, len(names) // rows, squeeze=False)
        return figure, list(grid.ravel())
    panels: list[Axes] = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(panels) != len(names):
        msg = f"ax holds {len(panels)} axes; {len(names)} are expected, for {', '.join(names)}"
        raise ValueError(msg)
    return panels[0].figure.figure, panels  # the axes may lie in a part of the figure


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure, its size in inches; pyplot does not know it, and notebooks show it as it is."""
    modules = ("matplotlib.figure", "matplotlib.backends.backend_agg")
    figure_module, agg = (require_library(name, "demo", "plots need matplotlib") for name in modules)
    figure: Figure = figure_module.Figure(figsize=size, dpi=120, layout="constrained")
    agg.FigureCanvasAgg(figure)
    # What IPython asks any object for. Of a figure it knows better only once pyplot is set up.
    figure._repr_png_ = partial(_shown, figure)  # type: ignore[attr-defined]
    return figure


def _shown(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """A figure as PNG, and how large a notebook shows it: 72 points an inch, so that dense screens show all pixels."""
    image = io.BytesIO()
    figure.savefig(image, format="png")
    width, height = figure.get_size_inches()
    return image.getvalue(), {"width": round(72 * width), "height": round(72 * height)}


def finished(figure: Figure, path: str | Path | None) -> Figure:
    """A figure that was drawn, also written to `path` where one is given; see `save_figure`."""
    if path is not None:
        save_figure(figure, path)
    return figure
