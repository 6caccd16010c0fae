"""The balance of a head while a ReLU network is trained with two weight decays: distance, NRC3, and implied decay.

It writes head_balance.png beside itself. The data, the start and the steps are fixed, so that the figure is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import nrc_fast as nrc

STEPS, RATE, MOMENTUM = 12_000, 0.05, 0.9
DECAYS = {2e-2: "#0072b2", 5e-3: "#d55e00"}


def train(decay: float) -> list[tuple[int, Any, float]]:
    """The balance and NRC3 of the last layer at steps that are spread evenly on a logarithmic axis."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.standard_normal((300, 5)))
    Y = torch.tanh(X @ torch.tensor(rng.standard_normal((5, 3)) * np.array([1.5, 1.0, 0.5])))
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(5, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU())
    head = torch.nn.Linear(32, 3)
    net = torch.nn.Sequential(trunk, head).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=decay)
    shown = set(np.unique(np.geomspace(1, STEPS, 60).astype(int)).tolist())
    found = []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(X), Y).backward()
        optimizer.step()
        if step in shown:
            balance = nrc.head_balance(trunk(X).detach(), head.weight, head.bias, Y)
            found.append((step, balance, nrc.nrc3(head.weight, Y)))
    return found


def draw(path: Path) -> None:
    """Train, draw and write the figure."""
    figure, (shape, implied) = plt.subplots(1, 2, figsize=(7.2, 3.3), layout="constrained")
    for decay, color in DECAYS.items():
        run = train(decay)
        steps = [step for step, _, _ in run]
        shape.loglog(steps, [balance.distance for _, balance, _ in run], color=color, label=f"balance, decay {decay:g}")
        shape.loglog(steps, [nrc3 for _, _, nrc3 in run], color=color, ls=":", label=f"NRC3, decay {decay:g}")
        implied.semilogx(steps, [balance.weight_decay() for _, balance, _ in run], color=color)
        implied.axhline(decay, color=color, ls="--", lw=1.0)
        implied.annotate(
            f"trained with {decay:g}", (900, decay), xytext=(0, 5), textcoords="offset points", color=color
        )
    shape.set(xlabel="step", ylabel="distance", title="shape of W Wᵀ")
    shape.legend(fontsize=8)
    implied.set(xlabel="step", title="implied weight decay", xlim=(50, STEPS), ylim=(0.0, 0.03))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(Path(__file__).with_name("head_balance.png"))
