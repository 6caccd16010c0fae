"""The figure of docs/convex.md: minority classes that merge, and targets with outliers under three losses."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from nrc_fast import ufm

COUNTS = [100, 100, 100, 12, 12, 12]
ROWS = 300


def minority(axes: plt.Axes) -> None:
    """Distances between class means, against c."""
    levels = np.geomspace(1e-3, 0.28, 60)
    found = ufm.convex(range(6), weights=COUNTS, loss="cross_entropy", lambda_W=1.0, lambda_H=levels)
    features = found.features(range(6))
    unit = np.linalg.norm(features[:, 0] - features[:, 1], axis=1)
    for pair, label in (((0, 3), "one of each"), ((3, 4), "two minority classes")):
        distance = np.linalg.norm(features[:, pair[0]] - features[:, pair[1]], axis=1)
        axes.plot(levels, distance / unit, linewidth=2.5, label=label)
    threshold = COUNTS[3] / sum(COUNTS)
    axes.axvline(threshold, color="0.4", linestyle="--")
    axes.text(threshold * 1.1, 0.12, "$n_k/N$ of the\nminority", fontsize=13)
    axes.set(xscale="log", xlabel=r"$c = \lambda_W\lambda_H$", ylabel="distance / two majority classes")
    axes.set_title("cross-entropy: minority collapse", fontsize=14)
    axes.legend(fontsize=12, loc="lower left")


def outliers(axes: plt.Axes) -> None:
    """What is kept of two directions, against c, for targets of which one in twenty is ten times as large."""
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((ROWS, 2)) * [1.0, 0.5]
    Y[: ROWS // 20] *= 10.0
    levels = np.geomspace(1e-2, 12.0, 50)
    for loss, style in (("squared", "-"), ("huber", "--"), ("absolute", "-.")):
        kept = ufm.convex(Y, loss=loss, lambda_W=1.0, lambda_H=levels).kept
        axes.plot(levels, kept[:, 0], style, color="C0", linewidth=2.5, label=loss)
        axes.plot(levels, kept[:, 1], style, color="C1", linewidth=2.5)
    axes.set(xscale="log", xlabel=r"$c = \lambda_W\lambda_H$", ylabel="singular values of predictions")
    axes.set_title("targets with outliers", fontsize=14)
    axes.legend(fontsize=12)


def main() -> None:
    """Draw both into convex.png beside this file."""
    plt.rcParams.update({"font.size": 13})
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    minority(axes[0])
    outliers(axes[1])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
