"""Trains one network of the reproduction, and measures it on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from reproduce.data_sets import DataSet, load
from reproduce.networks import network
from reproduce.settings import Run
from torch import nn

import nrc_fast as nrc

__all__ = ["POINTS", "Trained", "checkpoints", "train"]

POINTS = 40


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and what was seen of it.

    Attributes
    ----------
    model : torch.nn.Sequential
        Trunk and head.
    data : DataSet
    history : nrc_fast.History
        On the training samples.
    report : nrc_fast.Report
        Of the last step.
    seen : list of dict
        At each record of the history: what it does not hold itself.
    """

    model: nn.Sequential
    data: DataSet
    history: nrc.History
    report: nrc.Report
    seen: list[dict[str, Any]]


def checkpoints(steps: int) -> list[int]:
    """Steps at which is measured: the start, and at most 40 that are spread evenly on a logarithmic axis."""
    return [0, *np.unique(np.geomspace(1, steps, min(POINTS, steps)).round().astype(int)).tolist()]


def train(run: Run) -> Trained:
    """Stochastic gradient descent with momentum, in one thread; the same bits on every call.

    Raises
    ------
    RuntimeError
        The training diverges.
    """
    data = load(run.data)
    X, Y = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    X_test, Y_test = torch.from_numpy(data.test_inputs), torch.from_numpy(data.test_targets)
    model = network(run, tuple(X.shape[1:]), Y.shape[1])
    optimizer = _optimizer(run, model)
    known = None if run.c is None else SimpleNamespace(c=run.c)
    monitor = nrc.Monitor(model, [(X, Y)], optimizer=optimizer, penalties=known, name=run.name)
    marks, seen = set(checkpoints(run.steps)), []
    # Collapsed weights shrink below the smallest normal number, where arithmetic is slow.
    torch.set_flush_denormal(True)
    for step in _descend(run, model, optimizer, X, Y):
        if step not in marks:
            continue
        monitor.evaluate(step)
        with torch.no_grad():
            errors = (model(X_test) - Y_test).double()
        assert monitor.report is not None
        seen.append(
            {
                "test_mse": float(errors.square().sum(1).mean()),
                "explained_variance_ratio": monitor.report.explained_variance_ratio[:5].tolist(),
            }
        )
        if not np.isfinite(monitor.history.records("each")[-1].mse):
            msg = f"{run.name} diverges: at step {step} its outputs are no longer finite"
            raise RuntimeError(msg)
    assert monitor.report is not None
    return Trained(model, data, monitor.history, monitor.report, seen)


def _optimizer(run: Run, model: nn.Sequential) -> torch.optim.Optimizer:
    head = model[1]
    assert isinstance(head, nn.Linear)
    parameters = list(model.parameters())
    decayed = parameters if run.feature_penalty is None else [head.weight]
    chosen = {id(parameter) for parameter in decayed}
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": run.weight_decay}]
    free = [parameter for parameter in parameters if id(parameter) not in chosen]
    if free:
        groups.append({"params": free, "weight_decay": 0.0})
    return torch.optim.SGD(groups, lr=run.learning_rate, momentum=run.momentum, foreach=True)


def _descend(
    run: Run, model: nn.Sequential, optimizer: torch.optim.Optimizer, X: torch.Tensor, Y: torch.Tensor
) -> Iterator[int]:
    """The numbers of the steps, each before it is taken, and the number of steps at the end."""
    trunk, head = model
    generator = torch.Generator().manual_seed(run.seed)
    batch = min(run.batch, len(X))
    batches = len(X) // batch
    for step in range(run.steps):
        yield step
        if step % batches == 0:
            order = torch.randperm(len(X), generator=generator)
        rows = order[step % batches * batch : (step % batches + 1) * batch]
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * min(1.0, (run.steps - step) / (run.cooling * run.steps))
        features = trunk(X[rows])
        loss = (head(features) - Y[rows]).square().sum() / (2 * batch)
        if run.feature_penalty is not None:
            loss = loss + features.square().sum() * (run.feature_penalty / (2 * batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    yield run.steps
