"""Draws docs/figures/depth.png: NRC3 of linear networks by depth, and what they keep of a direction by weight decay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from scipy.optimize import minimize

import nrc_fast as nrc

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the choice of its backend

COLOURS = {2: "#0072b2", 3: "#d55e00", 4: "#009e73", 5: "#cc79a7"}


def trained(X: Any, Y: Any, decay: float, layers: int, start: Any = None) -> list[Any]:
    """Weights of a linear network at a minimum of ``|f(X) - Y|^2/(2M) + decay/2 sum |W_l|^2``, by L-BFGS."""
    (rows, d), n = X.shape, Y.shape[1]
    sizes = [d] * layers + [n]
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def split(x: Any) -> list[Any]:
        return [part.reshape(shape) for part, shape in zip(np.split(x, cuts), shapes, strict=True)]

    def objective(x: Any) -> tuple[float, Any]:
        weights, outputs = split(x), [X]
        for W in weights:
            outputs.append(outputs[-1] @ W.T)
        errors = outputs[-1] - Y
        back, gradients = errors / rows, []
        for W, given in zip(weights[::-1], outputs[-2::-1], strict=True):
            gradients.append((back.T @ given + decay * W).ravel())
            back = back @ W
        loss = np.sum(errors**2) / (2 * rows) + 0.5 * decay * (x @ x)
        return float(loss), np.concatenate(gradients[::-1])

    first = np.random.default_rng(layers).standard_normal(sum(a * b for a, b in shapes)) * 0.7 / math.sqrt(d)
    first = first if start is None else np.concatenate([W.ravel() for W in start])
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 40, "ftol": 0.0, "gtol": 1e-13}
    return split(minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x)


def main() -> None:
    """Train, measure, draw."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((32, 6))
    X = np.linalg.qr(noise - noise.mean(axis=0))[0] * math.sqrt(32)
    left, right = (np.linalg.qr(rng.standard_normal((size, 3)))[0] for size in (3, 6))
    Y = X @ (left * [1.3, 0.8, 0.5] @ right.T).T
    mpl.rcParams.update({"font.size": 12.5})
    figure, (first, second) = plt.subplots(1, 2, figsize=(9.4, 4.0), layout="constrained")
    depths = [1, 2, 3, 4]
    for layers, colour in COLOURS.items():
        W = trained(X, Y, 0.02, layers)[-1]
        values = [max(nrc.nrc3(W, Y, depth=m, return_bound=True)[0], 1e-17) for m in depths]
        first.semilogy(depths, values, "o-", color=colour, label=f"{layers} layers", linewidth=2)
    first.set(xlabel="depth m that NRC3 is asked for", ylabel="NRC3 of the trained head", xticks=depths)
    target = X[:, :1]  # one output of variance 1
    for layers in (2, 3, 4):
        floor = nrc.ufm.predict(target, weight_decay=0.1, layers=layers, loss="paper")
        decays = np.linspace(0.0, 1.1, 2000)
        shares = 1.0 - np.sqrt(floor.mse_floor_at(decays) / floor.variance)
        second.plot(decays, shares, color=COLOURS[layers], linewidth=2)
        start = None
        for decay in np.linspace(0.05, 0.95, 7) * floor.critical_weight_decays[0]:
            start = trained(X, target, decay, layers, start)
            kept = np.linalg.norm(X @ np.linalg.multi_dot(start[::-1]).T) / np.linalg.norm(target)
            second.plot(decay, kept, "o", color=COLOURS[layers])
    second.set(xlabel="weight decay of every layer", ylabel="what is predicted of a direction\nof variance 1, share")
    second.legend(*first.get_legend_handles_labels(), loc="upper right")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
