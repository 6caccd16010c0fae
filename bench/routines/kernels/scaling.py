"""The Gram matrix by one thread and by all: how much faster, for us, for the rivals, and for the machine's limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from cases import Case
from features import random_features
from harness import Contender, Problem, Settings, time_all
from references import gram, lower_triangle_error

SHAPES = [(400_000, 256), (100_000, 1024)]
DTYPES = ["float32"]


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> Iterator[dict[str, Any]]:
    """Two rows for each contender, and two for the peak rate of arithmetic."""
    from probes import measure_limits

    from nrc_fast import kernels

    most = len(os.sched_getaffinity(0))
    if most < 2:
        yield {"routine": "scaling", "contender": "all", "not run": "there is one processor only"}
        return
    rates = {threads: measure_limits(threads, kernels.current_isa())["float32 flops"] for threads in (1, most)}
    for threads, rate in rates.items():
        facts = {"routine": "scaling", "contender": f"peak rate of arithmetic, {_counted(threads)}", "threads": threads}
        yield facts | {"flops per second": rate, "faster than one thread": rate / rates[1]}
    for shape in shapes:
        for dtype in dtypes:
            yield from _rows(Case(*shape, dtype), [1, most], runs)


def _counted(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _rows(case: Case, counts: list[int], runs: int) -> list[dict[str, Any]]:
    import torch
    from threadpoolctl import ThreadpoolController

    from nrc_fast import kernels
    from nrc_fast.kernels import calls
    from nrc_fast.kernels.inputs import as_rows

    H = random_features(case)
    ours, controller = as_rows(H, "H"), ThreadpoolController()
    tensor = torch.from_numpy(H) if isinstance(H, np.ndarray) else H

    def by_nrc_fast(threads: int) -> Any:
        kernels.set_thread_count(threads)
        return calls.gram(ours).gram

    def by_torch(threads: int) -> Any:
        torch.set_num_threads(threads)
        return torch.mm(tensor.T, tensor)

    def by_numpy(threads: int) -> Any:
        with controller.limit(limits=threads, user_api="blas"):
            return H.T @ H

    ways: dict[str, Callable[[int], Any]] = {"nrc_fast": by_nrc_fast, "torch.mm(H.T, H)": by_torch}
    if isinstance(H, np.ndarray) and H.dtype.itemsize >= 4:
        ways["numpy H.T @ H"] = by_numpy
    problem = Problem(
        name="scaling",
        contenders=[
            Contender(f"{name}, {_counted(threads)}", partial(way, threads))
            for name, way in ways.items()
            for threads in counts
        ],
        error=partial(lower_triangle_error, reference=gram(H)),
        facts=case.facts(),
    )
    found = time_all(problem, Settings(runs=runs))
    kernels.set_thread_count(counts[-1])
    torch.set_num_threads(counts[-1])
    for index, row in enumerate(found):
        alone = found[index - index % len(counts)]["seconds"]
        row |= {"threads": counts[index % len(counts)], "faster than one thread": alone / row["seconds"]}
    return found
