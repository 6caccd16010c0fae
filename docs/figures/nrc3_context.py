"""The figure of docs/nrc3_context.md: NRC3 of random heads, and of two trainings before them. Under half a minute."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

import nrc_fast as nrc

mpl.use("Agg")
from matplotlib import pyplot as plt

STEPS, LAST = [0, 1, 2, 4, 7, 12, 20, 35, 60, 100, 180, 300, 500, 900, 1500], 1500
COLOURS = {0.001: "#D55E00", 0.1: "#0072B2"}


def training(decay: float) -> nrc.History:
    """A network with one hidden layer of 64 rectified units, on two standardised targets that depend on each other."""
    torch.manual_seed(0)
    X = torch.randn(400, 6)
    teacher = torch.nn.Sequential(torch.nn.Linear(6, 30), torch.nn.Tanh(), torch.nn.Linear(30, 2))
    Y = teacher(X).detach()
    Y = (Y - Y.mean(0)) / Y.std(0, correction=0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=decay)
    history = nrc.History(f"decay {decay:g}")
    covariance = np.cov(Y.numpy(), rowvar=False, bias=True)
    for step in range(LAST + 1):
        if step in STEPS:
            history.add_weights(step, net[-1].weight.detach(), covariance)
        optimizer.zero_grad()
        (0.5 * (net(X) - Y).square().sum(1).mean()).backward()
        optimizer.step()
    return history


def main() -> None:
    """Draw both panels."""
    torch.set_num_threads(1)
    plt.rcParams.update({"font.size": 11})
    figure, (above, below) = plt.subplots(2, 1, figsize=(5.0, 6.4), layout="constrained")

    for ratio, style in ((1.1, "-"), (4.0, "--"), (25.0, ":")):
        sigma = np.diag([ratio, 1.0])
        rng = np.random.default_rng(0)
        drawn = [nrc.nrc3(W, covariance=sigma) for W in rng.standard_normal((3000, 2, 64))]
        above.plot(np.sort(drawn), np.linspace(0.0, 1.0, len(drawn)), style, color="black", label=f"{ratio:g} : 1")
    above.set(xscale="log", xlim=(1e-4, 1.0), ylim=(0.0, 1.0), xlabel="NRC3", ylabel="share of random heads below")
    above.axhline(0.05, color="0.6", linewidth=0.8)
    above.set_title("NRC3 of random heads, n = 2, d = 64", fontsize=11)
    above.legend(title="eigenvalues of $\\Sigma$", frameon=False, loc="upper left")

    for decay, colour in COLOURS.items():
        history = training(decay)
        steps = [record.step + 1 for record in history.records()]
        for gamma, style, width in (("last", "-", 2.2), ("each", ":", 1.4)):
            values = [record.nrc3 for record in history.records(gamma)]
            below.plot(steps, values, style, color=colour, linewidth=width)
        below.text(steps[-1], 1.25 * values[-1], f"decay {decay:g}", color=colour, ha="right", va="bottom")
        low, _, high = history.nrc3_null()
    below.axhspan(low, high, color="0.85")
    below.plot([], [], "-", color="black", linewidth=2.2, label="gamma of the last step")
    below.plot([], [], ":", color="black", linewidth=1.4, label="gamma of each step")
    below.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="NRC3", ylim=(5e-5, 1.0))
    below.set_title("two trainings; grey: 90% of random heads", fontsize=11)
    below.legend(frameon=False, loc="lower left")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
