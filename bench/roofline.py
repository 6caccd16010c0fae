"""Rates of the kernels and of their rivals under the two limits of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["plot_roofline"]

# Okabe and Ito's colours, which the colour-blind can tell apart; ours is filled, and drawn last.
CONTENDERS = {"scipy": "#E69F00", "numpy": "#009E73", "torch": "#D55E00", "nrc_fast": "#0072B2"}
MARKERS = {"gram": "o", "residual": "s"}
DTYPES = {"float32": "-", "float64": "--"}


def plot_roofline(record: dict[str, Any], path: Path) -> None:
    """Draw one panel for float32 arithmetic and one for float64.

    Parameters
    ----------
    record : dict
        A result file.
    path : Path
        Of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, dtype in zip(panels, DTYPES, strict=True):
        _draw_limits(panel, record["limits"], dtype)
        _draw_points(panel, record["rows"], dtype)
        panel.set_title(f"{dtype} features")
        panel.set_xlabel("operations per byte of the features")
    panels[0].set_ylabel("10^9 useful operations per second")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9, frameon=False)
    facts = record["machine"]
    figure.suptitle(f"{facts['processor']}, {facts['isa']}, threads: {facts['threads of all contenders']}", fontsize=11)
    figure.savefig(path, dpi=120)


def _draw_limits(panel: Any, limits: dict[str, float], dtype: str) -> None:
    import numpy as np

    intensity = np.logspace(-0.5, 3.5, 200)
    roof = np.minimum(limits[f"{dtype} flops"], intensity * limits["read bytes"])
    panel.plot(intensity, roof / 1e9, "k-", linewidth=1.2, label="limit of the machine")
    panel.set(xscale="log", yscale="log")
    panel.grid(visible=True, which="major", linewidth=0.3)


def _draw_points(panel: Any, rows: list[dict[str, Any]], dtype: str) -> None:
    for routine, marker in MARKERS.items():
        for contender, colour in CONTENDERS.items():
            found = [
                row
                for row in rows
                if row["routine"] == routine
                and row.get("dtype") == dtype
                and row.get("flops")
                and row["contender"].startswith(contender)
            ]
            panel.plot(
                [row["flops"] / row["bytes read"] for row in found],
                [row["flops"] / row["seconds"] / 1e9 for row in found],
                marker,
                color=colour,
                markerfacecolor=colour if contender == "nrc_fast" else "none",
                markersize=6,
                linestyle="none",
                label=f"{routine}, {contender}" if found or routine != "residual" or contender == "torch" else None,
            )
