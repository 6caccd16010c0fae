"""What watching a layer costs a training step: an MLP with three hidden layers, watched every 10 steps or every step.

The contenders take turns, a block of steps each, in one thread, and the processor's time is taken: what else the
machine does counts little, and hits all of them alike.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

SHAPES = [(256, 256)]  # batch x width
DTYPES = ["float32"]
STEPS = 100  # of a block


def _training(torch: Any, width: int) -> tuple[Any, Any]:
    nn = torch.nn
    torch.manual_seed(0)
    layers = [nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def _block(torch: Any, training: tuple[Any, Any], X: Any, Y: Any, watch: Any) -> float:
    model, optimizer = training
    with ExitStack() as stack:
        features = None if watch is None else stack.enter_context(watch(model))
        for step in range(STEPS + 1):
            if step == 1:  # the first read also makes the sums
                start = time.process_time()
            if features is not None:
                features.set_targets(Y)
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(model(X), Y).backward()
            optimizer.step()
        return (time.process_time() - start) / STEPS


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> list[dict[str, Any]]:
    """Rows for each batch size and width of the hidden layers."""
    del dtypes
    return [row for batch, width in shapes for row in _rows(batch, width, runs)]


def _rows(batch: int, width: int, runs: int) -> list[dict[str, Any]]:
    """Medians of the time of a step, in the same model and optimizer for all, over `runs` turns of 20 blocks."""
    import torch

    import nrc_fast as nrc
    from nrc_fast import kernels

    before = torch.get_num_threads(), kernels.thread_count()
    torch.set_num_threads(1)
    kernels.set_thread_count(1)
    X, Y = torch.randn(batch, 16), torch.randn(batch, 2)
    training = _training(torch, width)
    contenders: dict[str, Any] = {
        "not watched": None,
        "watched every 10 steps": lambda model: nrc.watch(model[-1], every=10),
        "watched every step": lambda model: nrc.watch(model[-1]),
        "all layers every 10 steps": lambda model: nrc.watch(model, layers=["0", "2", "4", "6"], every=10),
    }
    for watch in contenders.values():
        _block(torch, training, X, Y, watch)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(20 * runs):
        for name, watch in contenders.items():
            times[name].append(_block(torch, training, X, Y, watch))
    torch.set_num_threads(before[0])
    kernels.set_thread_count(before[1])
    base = times["not watched"]
    return [
        {
            "contender": name,
            "routine": "watch",
            "batch": batch,
            "width": width,
            "ms a step": round(1e3 * statistics.median(found), 4),
            # Of neighbours in time, as the machine's speed drifts.
            "overhead %": round(100.0 * (statistics.median(a / b for a, b in zip(found, base, strict=True)) - 1.0), 2),
        }
        for name, found in times.items()
    ]
