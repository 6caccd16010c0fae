"""What watching a layer costs a training step: an MLP with three hidden layers, watched every 10 steps or every step.

One thread, and the processor's time is taken: what else the machine does counts little. Every contender trains a model
of its own, begun anew for each turn. Within a turn they go on by a few steps each, so that the machine's speed, which
drifts, is the same for all.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SHAPES = [(256, 256)]  # batch x width
DTYPES = ["float32"]
STEPS = 60  # before the next contender goes on
ROUNDS = 12  # of a turn


class _Training:
    """A model that is trained, and what watches it."""

    def __init__(self, torch: Any, batch: int, width: int, watch: Any) -> None:
        nn = torch.nn
        torch.manual_seed(0)
        layers = [nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)]
        self._model = nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, 2))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01, momentum=0.9)
        self._X, self._Y = torch.randn(batch, 16), torch.randn(batch, 2)
        self._loss = nn.functional.mse_loss
        self._features = None if watch is None else watch(self._model)

    def seconds(self) -> float:
        """What some steps take."""
        start = time.process_time()
        for _ in range(STEPS):
            if self._features is not None:
                self._features.set_targets(self._Y)
            self._optimizer.zero_grad(set_to_none=True)
            self._loss(self._model(self._X), self._Y).backward()
            self._optimizer.step()
        return time.process_time() - start


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> list[dict[str, Any]]:
    """Rows for each batch size and width of the hidden layers."""
    del dtypes
    return [row for batch, width in shapes for row in _rows(batch, width, runs)]


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """On one processor, as a thread that moves to another leaves its caches behind."""
    from nrc_fast import kernels

    before = torch.get_num_threads(), kernels.thread_count(), os.sched_getaffinity(0)
    torch.set_num_threads(1)
    kernels.set_thread_count(1)
    os.sched_setaffinity(0, {min(before[2])})
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        kernels.set_thread_count(before[1])
        os.sched_setaffinity(0, before[2])


class _Idle:
    """A hook that does nothing: what torch itself takes for one."""

    def __init__(self, model: Any) -> None:
        model[-1].register_forward_pre_hook(lambda *_: None, with_kwargs=True)

    def set_targets(self, Y: Any) -> None:
        self.targets = Y


def _rows(batch: int, width: int, runs: int) -> list[dict[str, Any]]:
    """Medians over two turns for each of `runs`."""
    import torch

    import nrc_fast as nrc

    contenders: dict[str, Any] = {
        "not watched": None,
        "a hook that does nothing": _Idle,
        "watched every 10 steps": lambda model: nrc.watch(model[-1], every=10),
        "watched every step": lambda model: nrc.watch(model[-1]),
        "all layers every 10 steps": lambda model: nrc.watch(model, layers=["0", "2", "4", "6"], every=10),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with _one_thread(torch):
        for _ in range(2 * runs):
            trainings = {name: _Training(torch, batch, width, watch) for name, watch in contenders.items()}
            for training in trainings.values():
                training.seconds()
            rounds = [[training.seconds() for training in trainings.values()] for _ in range(ROUNDS)]
            for name, *found in zip(contenders, *rounds, strict=True):
                times[name].append(sum(found) / (ROUNDS * STEPS))
    base = times["not watched"]
    return [
        {
            "contender": name,
            "routine": "watch",
            "batch": batch,
            "width": width,
            "ms a step": round(1e3 * statistics.median(found), 4),
            "overhead %": round(100.0 * (statistics.median(a / b for a, b in zip(found, base, strict=True)) - 1.0), 2),
        }
        for name, found in times.items()
    ]
