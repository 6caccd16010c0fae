"""NRC1 of features in memory: ours against what a user writes with numpy or torch.

All do the same work: centred Gram, eigenvectors, unit rows, explicit residual on three components.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

COMPONENTS = 3


def features(rows: int, d: int, dtype: str) -> np.ndarray:
    """ReLU-like features with a few strong directions and a mean."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((8, d), dtype=np.float32)
    H = rng.standard_normal((rows, 8), dtype=np.float32) @ directions
    H += rng.standard_normal((rows, d), dtype=np.float32)
    return np.maximum(H, 0, out=H).astype(dtype, copy=False)


def ours(H: np.ndarray) -> float:
    import nrc_fast

    return nrc_fast.nrc1(H, COMPONENTS)


def with_numpy(H: np.ndarray) -> float:
    H = H if H.dtype.itemsize >= 4 else H.astype(np.float32)
    centered = H - H.mean(axis=0)
    basis = np.linalg.eigh(centered.T @ centered)[1][:, -COMPONENTS:]
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    residual = unit - (unit @ basis) @ basis.T
    return float((residual * residual).sum(axis=1).mean())


def with_torch(H: np.ndarray) -> float:
    import torch

    tensor = torch.from_numpy(H)
    tensor = tensor if tensor.dtype.itemsize >= 4 else tensor.float()
    centered = tensor - tensor.mean(dim=0)
    basis = torch.linalg.eigh(centered.T @ centered)[1][:, -COMPONENTS:]
    unit = tensor / tensor.norm(dim=1, keepdim=True)
    residual = unit - (unit @ basis) @ basis.T
    return float((residual * residual).sum(dim=1).mean())


CONTENDERS: dict[str, Callable[[np.ndarray], float]] = {"nrc_fast": ours, "numpy": with_numpy, "torch": with_torch}


def in_float64(H: np.ndarray) -> float:
    """The truth, in chunks, from the definition."""
    chunks = [H[first : first + 20000] for first in range(0, len(H), 20000)]
    mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(H)
    gram = sum((chunk - mean).T @ (chunk - mean) for chunk in chunks)
    basis = np.linalg.eigh(gram)[1][:, -COMPONENTS:]
    total = 0.0
    for chunk in chunks:
        unit = chunk.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        residual = unit - (unit @ basis) @ basis.T
        total += float((residual * residual).sum())
    return total / len(H)


def peak_memory(name: str, rows: int, d: int, dtype: str, queue: Any) -> None:
    """Peak resident memory beyond the features, in MB, in a process of its own."""
    H = features(rows, d, dtype)
    CONTENDERS[name](H[:1000])
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    CONTENDERS[name](H)
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    queue.put((peak - before) / 1e6)


def memory_of(name: str, rows: int, d: int, dtype: str) -> float:
    context = get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak_memory, args=(name, rows, d, dtype, queue))
    process.start()
    megabytes: float = queue.get()
    process.join()
    return megabytes


def run(rows: int, d: int, dtype: str, runs: int) -> list[dict[str, Any]]:
    H = features(rows, d, dtype)
    truth = in_float64(H)
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    values = {name: function(H) for name, function in CONTENDERS.items()}  # warm-up
    for _ in range(runs):
        for name, function in CONTENDERS.items():
            start = time.perf_counter()
            function(H)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return [
        {
            "contender": name,
            "seconds": round(medians[name], 4),
            "fastest": round(min(times[name]), 4),
            "slowest": round(max(times[name]), 4),
            "times ours": round(medians[name] / medians["nrc_fast"], 2),
            "relative error": f"{abs(values[name] / truth - 1):.1e}",
            "MB beyond H": round(memory_of(name, rows, d, dtype)),
        }
        for name in CONTENDERS
    ]
