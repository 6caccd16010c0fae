"""The figure of errors and bounds: NRC1 of features that are more and more collapsed, in every dtype.

    python bench/precision.py           # half a minute; writes bench/results/precision.json and precision.png
    python bench/precision.py --redraw  # the figure alone, from the results that are there

The reference is exact: stored rows are whole numbers times a power of two, whose covariance Python's whole numbers
hold, and its eigenvalues come from mpmath with 60 digits. Rivals are what a user would write with torch and
scikit-learn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

import nrc_fast as nrc

RESULTS = Path(__file__).resolve().parent / "results"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ROWS, COLLAPSED_COLUMNS, OTHER_COLUMNS, COMPONENTS = 1000, 12, 4, 3
# Sizes of the other columns; float16 holds no smaller ones without losing their digits.
NOISES = np.geomspace(10.0, 1e-7, 25)
SMALLEST_NOISE = {"float16": 1e-3}
DIGITS = 60


def features(noise: float, dtype: torch.dtype) -> torch.Tensor:
    """Columns of rank `COMPONENTS` in small whole numbers, which every dtype holds, and columns of noise."""
    rng = np.random.default_rng(0)
    collapsed = rng.integers(-2, 3, (ROWS, COMPONENTS)) @ rng.integers(-3, 4, (COMPONENTS, COLLAPSED_COLUMNS))
    others = noise * rng.standard_normal((ROWS, OTHER_COLUMNS))
    return torch.from_numpy(np.concatenate([collapsed, others], axis=1)).to(dtype)


def exact_nrc1(H: torch.Tensor) -> mpmath.mpf:
    """Share of the variance outside the leading components, of the rows as they are stored."""
    exponent = 160  # of the smallest bit of any value here
    whole = [[int(mpmath.ldexp(mpmath.mpf(value), exponent)) for value in row] for row in H.double().tolist()]
    count, d = len(whole), len(whole[0])
    sums = [sum(row[i] for row in whole) for i in range(d)]
    with mpmath.workdps(DIGITS):
        covariance = mpmath.matrix(d, d)
        for i in range(d):
            for j in range(i + 1):
                about = count * sum(row[i] * row[j] for row in whole) - sums[i] * sums[j]
                covariance[i, j] = covariance[j, i] = mpmath.ldexp(mpmath.mpf(about), -2 * exponent)
        eigenvalues = sorted(mpmath.eigsy(covariance, eigvals_only=True))
        return sum(eigenvalues[: d - COMPONENTS]) / sum(eigenvalues)


def of_torch(H: torch.Tensor) -> float:
    """From singular values, in float32 where torch has none of the dtype."""
    rows = H if H.dtype in (torch.float64, torch.float32) else H.float()
    squares = torch.linalg.svdvals(rows - rows.mean(dim=0)) ** 2
    return float(1.0 - squares[:COMPONENTS].sum() / squares.sum())


def of_sklearn(H: torch.Tensor) -> float:
    rows = H.numpy() if H.dtype != torch.bfloat16 else H.float().numpy()
    return float(1.0 - PCA(COMPONENTS).fit(rows).explained_variance_ratio_.sum())


RIVALS: dict[str, Callable[[torch.Tensor], float]] = {"torch.linalg.svdvals": of_torch, "scikit-learn PCA": of_sklearn}


def measured() -> list[dict[str, Any]]:
    """One row for each dtype and size of the noise: the exact value, and of everyone the error relative to it."""
    found = []
    for name, dtype in DTYPES.items():
        for noise in NOISES[SMALLEST_NOISE.get(name, 0.0) <= NOISES]:
            H = features(noise, dtype)
            exact = exact_nrc1(H)
            value, bound = nrc.nrc1(H, COMPONENTS, convention="variance", return_bound=True)
            errors = {"nrc_fast": value} | {rival: of(H) for rival, of in RIVALS.items()}
            relative = {who: float(abs(mpmath.mpf(one) - exact) / exact) for who, one in errors.items()}
            found.append({"dtype": name, "nrc1": float(exact), "bound": float(bound / exact), "errors": relative})
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Relative errors and our bound against NRC1, a panel for each dtype."""
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(DTYPES) // 2, sharex=True, sharey=True)
    marks = {"nrc_fast": ("C0", "o"), "torch.linalg.svdvals": ("C1", "x"), "scikit-learn PCA": ("C2", "+")}
    for panel, name in zip(panels.flat, DTYPES, strict=True):
        chosen = [row for row in rows if row["dtype"] == name]
        sizes = [row["nrc1"] for row in chosen]
        panel.axhline(1.0, color="0.6", linewidth=1.0)
        panel.loglog(sizes, [row["bound"] for row in chosen], color="C0", label="bound of nrc_fast")
        for who, (color, mark) in marks.items():
            errors = [max(row["errors"][who], 1e-17) for row in chosen]
            panel.loglog(sizes, errors, mark, color=color, markersize=6, label=f"error of {who}")
        panel.set(title=name, ylim=(5e-18, 1e2), yticks=[10.0**k for k in range(-16, 1, 4)])
    for panel in panels[-1]:
        panel.set_xlabel("NRC1, exact")
    for panel in panels[:, 0]:
        panel.set_ylabel("relative error")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "precision.json")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, draw what --out holds")
    options = parser.parse_args()
    if not options.redraw:
        options.out.write_text(json.dumps({"rows": measured()}, indent=1) + "\n", encoding="utf-8")
    plot(json.loads(options.out.read_text(encoding="utf-8"))["rows"], options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
