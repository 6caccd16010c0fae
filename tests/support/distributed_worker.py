"""One process of tests/base/test_processes.py: measures its part of the rows and prints what it found."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

import nrc_fast as nrc
from nrc_fast.base.processes import Team
from nrc_fast.passes import component_costs
from nrc_fast.passes.reading import Reading


def main() -> None:
    rank, size, folder, task = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    parts = np.load(folder / "parts.npz")
    H, Y, W = parts[f"H{rank}"], parts[f"Y{rank}"], parts["W"]
    result: dict[str, Any] = globals()[task](H, Y, W)
    (folder / f"result{rank}.json").write_text(json.dumps(result))
    gc.collect()  # DistributedDataParallel is full of cycles, and must go before its group
    dist.barrier()  # nobody leaves while others still talk
    dist.destroy_process_group()
    # torch's threads now and then outlive what they use when the interpreter ends ("terminate called"); the result is
    # on disk.
    os._exit(0)


def statistics(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    found = nrc.FeatureStatistics(H.shape[1], n_targets=Y.shape[1])
    for first in range(0, len(H), 100):
        found.update(H[first : first + 100], Y[first : first + 100])
    found.all_reduce()
    with pytest.raises(RuntimeError, match="hold the rows of all processes already"):
        found.all_reduce()
    return {"report": found.report(W, np.zeros(len(W))).to_dict(), "shift": found.arrays()["shift"].tolist()}


def measured(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    group = dist.group.WORLD
    reports = {
        convention: nrc.measure(H, Y, W, np.zeros(len(W)), convention=convention, chunk_rows=64, group=group).to_dict()
        for convention in nrc.CONVENTIONS
    }
    return reports | {"float32": nrc.measure(H.astype(np.float32), Y, W, chunk_rows=64, group=group).to_dict()}


def single(H: Any, _: Any, W: Any) -> dict[str, Any]:
    """NRC1 by either way, and NRC2; and how many numbers were added up over the processes at once, at most."""
    group, found, largest = dist.group.WORLD, {}, {}
    before = Team.sum

    def counted(self: Team, arrays: Any) -> None:
        largest[way] = max(largest.get(way, 0), *(array.size for array in arrays))
        before(self, arrays)

    Team.sum = counted  # type: ignore[method-assign]
    for way, most in (("rows", 0), ("gram", component_costs.MOST_SQUARE_BYTES)):
        component_costs.MOST_SQUARE_BYTES = most
        for convention in nrc.CONVENTIONS:
            for dtype in ("float64", "float32"):
                value = nrc.nrc1(H.astype(dtype), [1, 3], convention=convention, group=group)
                found[f"{way} {convention} {dtype}"] = value.tolist()
    found |= {convention: nrc.nrc2(H, W, convention=convention, group=group) for convention in nrc.CONVENTIONS}
    return {"found": found, "largest": largest}


def chosen(H: Any, _: Any, __: Any) -> dict[str, Any]:
    """NRC1, and the passes that were made for it."""
    titles, before = [], Reading.run

    def run(self: Reading, title: str, sums: Any) -> None:
        titles.append(title)
        before(self, title, sums)

    Reading.run = run  # type: ignore[method-assign]
    return {"nrc1": nrc.nrc1(H, 3, group=dist.group.WORLD), "passes": titles}


def classes(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    from nrc_fast.measurement.class_statistics import ClassStatistics

    statistics = ClassStatistics(H.shape[1], len(W)).update(H, Y[:, 0].astype(int))
    return statistics.all_reduce().report(W[:, :-1], W[:, -1]).to_dict()


def torchmetric(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    import torch

    from nrc_fast.integrations.torchmetrics import NRC

    metric = NRC(H.shape[1], Y.shape[1], head=torch.from_numpy(W))
    if len(H):
        metric.update(H, Y)
    values = metric.compute()
    if len(H):  # what this process has seen is what it had before
        assert metric.statistics.count == len(H)
    return {name: float(value) for name, value in values.items()}


def monitored(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    """A monitor over the group, in DistributedDataParallel, with other numbers of batches in each process."""
    import torch

    head = torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64)
    head.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.zeros(len(W), dtype=torch.float64)})
    model = torch.nn.parallel.DistributedDataParallel(
        torch.nn.Sequential(torch.nn.BatchNorm1d(W.shape[1]).double(), head)
    )
    inputs, targets = torch.from_numpy(H), torch.from_numpy(Y)
    batches = list(zip(inputs.split(100), targets.split(100), strict=True))
    found: dict[str, Any] = {"logged": []}

    def log(step: int, values: dict[str, float]) -> None:
        del step
        found["logged"].append(values)

    for features in ("held", "streamed", "again"):
        monitor = nrc.Monitor(model, batches, features=features, loggers=log, group=dist.group.WORLD)
        found[features] = monitor.evaluate().scalars()
    mine = batches if dist.get_rank() == 0 else []
    empty = nrc.measure_layers(model, mine, ["1"], group=dist.group.WORLD)
    assert empty.samples == (150 if dist.get_world_size() == 2 else len(H))
    layers = nrc.measure_layers(model, batches, ["1"], group=dist.group.WORLD)
    return found | {"layer": layers.to_dict()}


def watched(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    """A head in DistributedDataParallel; a process without rows makes no forward pass."""
    import torch

    head = torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64)
    head.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.zeros(len(W), dtype=torch.float64)})
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(head))
    with torch.no_grad(), nrc.watch(model, layers=["0"]) as layers:
        for first in range(0, len(H), 100):
            layers.set_targets(Y[first : first + 100])
            model(torch.from_numpy(H[first : first + 100]))
    return layers["0"].all_reduce().report().to_dict()


def sharded(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    """A head whose weights are shared out by fully_shard: watched through a step of training, then monitored."""
    import torch
    from torch.distributed.fsdp import fully_shard

    head = torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64)
    head.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.zeros(len(W), dtype=torch.float64)})
    model = torch.nn.Sequential(torch.nn.Identity(), head)
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(head, mesh=mesh)
    fully_shard(model, mesh=mesh)
    inputs, targets = torch.from_numpy(H), torch.from_numpy(Y)
    with nrc.watch(model, layers=["1"]) as layers:
        layers.set_targets(targets)
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
    found = layers["1"].all_reduce().report().to_dict()
    monitor = nrc.Monitor(model, [(inputs, targets)], group=dist.group.WORLD)
    return found | {
        "monitored": monitor.evaluate().scalars(),
        "is_sharded": head.weight.to_local().shape[0] < len(W),
    }


def grouped(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    """Two groups of two processes, each with its own total."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    mine = dist.get_rank() // 2
    report = nrc.measure(H, Y, W, group=groups[mine]).to_dict()
    with pytest.raises(RuntimeError, match="is not in the group"):
        nrc.FeatureStatistics(3).all_reduce(groups[1 - mine])
    return report


def checkpointed(H: Any, Y: Any, W: Any, **options: Any) -> dict[str, Any]:
    H = H.astype(np.float32)
    report = nrc.measure(
        H, Y, W, convention="id25", by_k="all", chunk_rows=64, group=dist.group.WORLD, checkpoint_every=0.0, **options
    )
    return report.to_dict()


def whole(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    return checkpointed(H, Y, W)


def resumed(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    return checkpointed(H, Y, W, checkpoint="state.npz")


def stopped(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    """The second process dies in the middle of a pass; the first finds its neighbour gone."""
    record, calls = Reading._record, 0
    dies_at = int(sys.argv[5])

    def dying(self: Reading, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        record(self, *arguments, **options)
        calls += 1
        if dist.get_rank() == 1 and calls == dies_at:
            os._exit(3)

    Reading._record = dying  # type: ignore[method-assign]
    return resumed(H, Y, W)


def failing(H: Any, Y: Any, W: Any) -> dict[str, Any]:
    """What every process says when one of them has something wrong with its part."""
    rank, group = dist.get_rank(), dist.group.WORLD
    said: dict[str, Any] = {}

    def attempt(name: str, features: Any, targets: Any = None, **options: Any) -> None:
        try:
            nrc.measure(features, targets, W, chunk_rows=64, group=group, **options)
        except (ValueError, RuntimeError, OSError, TypeError) as error:
            said[name] = f"{type(error).__name__}: {error}"
        else:
            said[name] = "nothing"

    bad = H.copy()
    if rank == 1:
        bad[5] = np.nan
    attempt("not finite in the first chunk", bad)
    late = H.copy()
    if rank == 1:
        late[-1] = np.nan
    attempt("not finite in the last chunk", late)
    for name, part in (("sampled late", late), ("sampled", bad)):
        try:
            nrc.nrc1(part, 2, group=group)
        except (ValueError, RuntimeError) as error:
            said[name] = f"{type(error).__name__}: {error}"
    attempt("no folder for one", H, checkpoint="missing/state.npz" if rank == 1 else "state.npz")
    attempt("widths", H[:, :8] if rank == 1 else H)
    attempt("kind", H.astype(int) if rank == 1 else H)
    attempt("missing file", "missing.npy" if rank == 1 else H)
    attempt("folder", H, save_statistics="missing/state.npz")
    attempt("well", H, Y)
    with pytest.raises(ValueError, match="statistics of different d"):
        nrc.FeatureStatistics(3 + rank).all_reduce()
    return said


def mixed(H: Any, _: Any, W: Any) -> dict[str, Any]:
    """Parts of every kind: no rows of another dtype, no batches at all, batches that are read once."""
    rank, group = dist.get_rank(), dist.group.WORLD
    H = H.astype(np.float32)
    empty = np.empty((0, H.shape[1]))
    parts = {
        "empty float64": H if rank else empty,
        "no batches": iter([H]) if rank else iter([]),
        "once and again": [H] if rank else empty,
    }
    return {name: nrc.measure(part, W=W, chunk_rows=64, group=group).to_dict() for name, part in parts.items()}


if __name__ == "__main__":
    main()
