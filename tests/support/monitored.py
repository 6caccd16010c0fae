"""A training that a monitor follows, and what it should have seen."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def samples(n: int = 3) -> tuple[Any, Any]:
    X = draw(96, 5)
    return X, torch.tanh(X[:, :n] + 0.2 * draw(96, n, seed=2)) * torch.tensor([1.0, 2.0, 0.5])[:n]


def network(n: int = 3) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(5, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(12, 9),
            nn.Tanh(),
            nn.Linear(9, n),
        )


class Run:
    """A training that keeps what a monitor should have seen."""

    def __init__(self, *, monitored: bool = True, steps: int = 21, n: int = 3, **options: Any) -> None:
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)  # noqa: NPY002 - that of the user
        self.model = network(n)
        X, Y = samples(n)
        self.Y = Y.numpy()
        data = torch.utils.data.TensorDataset(X, Y)
        loader = torch.utils.data.DataLoader(data, batch_size=40, shuffle=True)
        self.monitor = nrc.Monitor(self.model, loader, every=10, **options) if monitored else None
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        self.seen: list[tuple[Any, Any, Any]] = []
        for step in range(steps):
            if self.monitor is not None and self.monitor.step() is not None:
                self.seen.append(self._state(X))
            optimizer.zero_grad()
            nn.functional.mse_loss(self.model(X), Y).backward()
            optimizer.step()
            del step
        parameters = [part for parameter in self.model.parameters() for part in (parameter, parameter.grad)]
        drawn = [torch.rand(3), torch.tensor([random.random(), np.random.rand()])]  # noqa: NPY002
        self.end = [*parameters, *self.model.buffers(), *drawn]

    def _state(self, X: Any) -> tuple[Any, Any, Any]:
        with torch.no_grad():
            self.model.eval()
            H = self.model[:-1](X)
            self.model.train()
        return H.double().numpy(), self.model[-1].weight.detach().clone(), self.model[-1].bias.detach().double().numpy()
