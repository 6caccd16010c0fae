"""The figure of docs/balance.md: two networks of three layers under weight decay come to balance as they train."""

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import matplotlib.ticker
import torch
from torch import nn

import nrc_fast as nrc

STEPS, EVERY, RATE, DECAY = 3000, 60, 0.1, 5e-3


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and targets that depend on them linearly, with noise."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    return X, X @ torch.randn(8, 2, generator=generator, dtype=torch.float64) / 3 + 0.1 * noise


def train(net: nn.Sequential) -> dict[str, list[float]]:
    """Imbalances, NRC2 and its bound over the steps of plain descent."""
    X, Y = data()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, weight_decay=DECAY)
    found: dict[str, list[float]] = {"step": [], "imbalance": [], "units": [], "nrc2": [], "bound": []}
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                G = net[:-2](X)
                measured = nrc.balance(net, G=G)
                nrc2 = nrc.nrc2(net[:-1](X), net[-1].weight, convention="raw")
            head = measured.layers[-1]
            values = step, head.relative_imbalance, head.unit_imbalance, nrc2, measured.nrc2_bound
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
        optimizer.zero_grad()
        nn.functional.mse_loss(net(X), Y).backward()
        optimizer.step()
    return found


def main() -> None:
    """Draw and write docs/figures/balance.png."""
    torch.manual_seed(1)
    linear = train(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2)).double())
    relu = train(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)).double())
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.4), layout="constrained")
    steps = torch.tensor(linear["step"])
    left.semilogy(steps, linear["imbalance"], color="#0072b2", linewidth=2, label="linear, imbalance")
    left.semilogy(steps, relu["units"], color="#d55e00", linewidth=2, label="ReLU between, by units")
    decay = linear["imbalance"][0] * (1.0 - RATE * DECAY) ** (2.0 * steps.double())
    left.semilogy(steps, decay, color="0.4", linestyle="--", label="decay alone")
    left.set_ylim(0.03, 1.5)
    left.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    left.set_title("last layer and the one below", fontsize="medium")
    right.semilogy(steps, linear["bound"], color="0.4", linewidth=2, label="bound from the weights")
    right.semilogy(steps, linear["nrc2"], color="#0072b2", linewidth=2, label="NRC2 (raw), linear")
    right.set_title("what it says of NRC2", fontsize="medium")
    for panel in (left, right):
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize="small")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
