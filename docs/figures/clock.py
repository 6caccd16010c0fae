"""The figure of docs/clock.md: NRC1 of linear features falls as decay makes it fall; that of ReLU features stays up."""

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import torch
from torch import nn

import nrc_fast as nrc
from nrc_fast.metrics.decay_slopes import decay_slope

STEPS, RATE, MOMENTUM = 2000, 0.05, 0.9


def train(decay: float, *, is_linear: bool) -> nrc.History:
    """The history of a network whose features are the output of a linear layer, or of a ReLU behind one."""
    torch.manual_seed(0)
    X = torch.randn(100, 6, dtype=torch.float64)
    Y = torch.stack([torch.sin(X[:, 0]), 0.5 * X[:, 1] + X[:, 2]], dim=1)
    behind = [] if is_linear else [nn.ReLU()]
    net = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 12), *behind, nn.Linear(12, 2)).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=decay)
    monitor = nrc.Monitor(net, [(X, Y)], optimizer=optimizer, every=50)
    for _ in range(STEPS + 1):
        monitor.step()
        optimizer.zero_grad()
        nn.functional.mse_loss(net(X), Y).backward()
        optimizer.step()
    return monitor.history


def main() -> None:
    """Draw and write docs/figures/clock.png."""
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    runs = [
        ("linear, decay 5e-3", 5e-3, True, "#0072b2"),
        ("linear, decay 2e-3", 2e-3, True, "#009e73"),
        ("ReLU, decay 5e-3", 5e-3, False, "#d55e00"),
    ]
    for label, decay, is_linear, colour in runs:
        history = train(decay, is_linear=is_linear)
        records = history.records("each")
        steps = torch.tensor([record.step for record in records])
        values = torch.tensor([record.nrc1_variance for record in records])
        axes.semilogy(steps, values, color=colour, linewidth=2, label=label)
        if not is_linear:
            continue
        slope = decay_slope(RATE * decay, MOMENTUM).value
        late = steps >= STEPS // 2
        line = values[-1] * torch.exp(slope * (steps[late] - steps[-1]))
        axes.semilogy(steps[late], line, color="black", linestyle="--", linewidth=1.2)
    axes.plot([], [], color="black", linestyle="--", label="decay alone")
    axes.set_xlabel("step")
    axes.set_ylabel("NRC1 (variance)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
