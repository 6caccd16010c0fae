"""Timing that a rival's author would accept: interleaved, medians and spread, cold and warm, the error beside it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "Contender",
    "Problem",
    "as_float64",
    "machine",
    "random_features",
    "rows_of",
    "set_threads",
    "time_all",
    "with_limits",
]

# Shorter calls are repeated until this many seconds have passed, and the mean counts as one run.
LEAST_SECONDS = 5e-3


@dataclass
class Contender:
    """One way to do the work.

    Attributes
    ----------
    name : str
        Library and call, as its users would write it.
    call : callable
        Does the work and returns its result.
    """

    name: str
    call: Callable[[], Any]


@dataclass
class Problem:
    """One piece of work, who does it, and what limits it.

    Attributes
    ----------
    name : str
    ours : str
        The name of our contender.
    contenders : list of Contender
    error : callable
        Relative error of a result against float64.
    flops, bytes_read : float
        What must be computed and read at least; 0 where it is no limit.
    dtype : str
        Of the arithmetic that the flops are.
    facts : dict
        Further columns.
    """

    name: str
    ours: str
    contenders: list[Contender]
    error: Callable[[Any], float]
    flops: float = 0.0
    bytes_read: float = 0.0
    dtype: str = "float32"
    facts: dict[str, Any] = field(default_factory=dict)


def set_threads(count: int) -> None:
    """The same number of threads for everybody; before numpy, scipy or torch are used."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NRC_FAST_NUM_THREADS"):
        os.environ[name] = str(count)


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    from nrc_fast import diagnostics

    facts: dict[str, Any] = diagnostics.environment() | {"platform": f"{platform.system()} {platform.machine()}"}
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    facts["processor"] = model[0].split(":")[1].strip() if model else platform.processor()
    facts["date"] = datetime.now(timezone.utc).date().isoformat()
    facts["threads of all contenders"] = threads
    return facts


def random_features(rows: int, d: int, dtype: str) -> Any:
    """ReLU-like features with a few strong directions and a mean; bfloat16 as a torch tensor."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((8, d), dtype=np.float32)
    H = rng.standard_normal((rows, 8), dtype=np.float32) @ directions
    for first in range(0, rows, 100_000):
        part = H[first : first + 100_000]
        part += rng.standard_normal(part.shape, dtype=np.float32)
    np.maximum(H, 0, out=H)
    if dtype == "bfloat16":
        import torch

        return torch.from_numpy(H).bfloat16()
    return H.astype(dtype, copy=False)


def rows_of(H: Any, first: int, last: int) -> np.ndarray:
    """Some rows in float64."""
    part = H[first:last]
    return np.asarray(part if isinstance(part, np.ndarray) else part.float().numpy(), dtype=np.float64)


def as_float64(H: Any) -> np.ndarray:
    """All rows in float64."""
    return rows_of(H, 0, len(H))


def time_all(problem: Problem, runs: int) -> list[dict[str, Any]]:
    """A row for each contender: cold, median, fastest and slowest seconds, ratio to ours, error."""
    cold, errors, repeats = {}, {}, {}
    for contender in problem.contenders:
        start = time.perf_counter()
        result = contender.call()
        cold[contender.name] = time.perf_counter() - start
        errors[contender.name] = problem.error(result)
        start = time.perf_counter()
        contender.call()
        repeats[contender.name] = max(1, int(LEAST_SECONDS / max(time.perf_counter() - start, 1e-9)))
    taken: dict[str, list[float]] = {contender.name: [] for contender in problem.contenders}
    for _ in range(runs):
        for contender in problem.contenders:
            count = repeats[contender.name]
            start = time.perf_counter()
            for _ in range(count):
                contender.call()
            taken[contender.name].append((time.perf_counter() - start) / count)
    ours = statistics.median(taken[problem.ours])
    return [
        {
            "routine": problem.name,
            **problem.facts,
            "contender": name,
            "seconds": statistics.median(times),
            "fastest": min(times),
            "slowest": max(times),
            "cold": cold[name],
            "times ours": statistics.median(times) / ours,
            "error": errors[name],
        }
        for name, times in taken.items()
    ]


def with_limits(rows: list[dict[str, Any]], problem: Problem, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Add the share of the machine's limit that each contender reaches: the larger of the two least times."""
    arithmetic = problem.flops / limits[f"{problem.dtype} flops"] if problem.flops else 0.0
    memory = problem.bytes_read / limits["read bytes"] if problem.bytes_read else 0.0
    least = max(arithmetic, memory)
    if least <= 0.0:
        return rows
    bound_by = "arithmetic" if arithmetic >= memory else "memory"
    facts = {"limit": bound_by, "flops": problem.flops, "bytes read": problem.bytes_read}
    return [row | facts | {"share of limit": least / row["seconds"]} for row in rows]
