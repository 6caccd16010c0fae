"""The figure of README: NRC1 to NRC3 and the loss along exact gradient descent on the unconstrained feature model.

    python bench/ufm_dynamics.py    # three minutes; writes bench/results/ufm_dynamics.png

lambda_W = lambda_H = lambda for the lambdas of arXiv 2409.04180, figures 6 and 9, on the actions of the recorded
demonstrations; NRC1 and NRC2 of convention variance, NRC3 at gamma = c. All descents are one batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nrc_fast import ufm

HERE = Path(__file__).resolve().parent
LAMBDAS = [1e-2, 1e-3, 1e-4, 1e-5, 0.0]
PANELS = {"nrc1": "NRC1", "nrc2": "NRC2", "nrc3": "NRC3", "loss": "loss"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE / "data" / "reacher.npz")
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ufm_dynamics.png")
    options = parser.parse_args()
    Y = np.load(options.data)["actions"].astype(np.float64)
    marks = np.unique(np.geomspace(1, options.steps, 60).astype(int)).tolist()
    run = ufm.descend(
        Y,
        d=64,
        steps=options.steps,
        lambda_W=LAMBDAS,
        lambda_H=LAMBDAS,
        lr=0.05,
        lr_H=0.05 * len(Y),
        record=list(PANELS),
        at=[0, *marks],
    )
    print(run)
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for index, value in enumerate(LAMBDAS):
            axes.loglog(run.recorded_steps[1:], run.history[name][index, 1:], label=f"{value:g}")
        axes.set(title=title, xlabel="step")
    figure.legend(*axes.get_legend_handles_labels(), title="lambda", loc="outside right center")
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
