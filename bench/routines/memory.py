"""Peak memory beyond the features: each contender of NRC1 in a process of its own."""

from __future__ import annotations

import resource
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from harness import random_features

SHAPES = [(400_000, 256), (1_000_000, 64)]
DTYPES = ["float32"]


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> list[dict[str, Any]]:
    """One row for each contender."""
    from routines import nrc1

    del runs
    found = []
    for count, d in shapes:
        for dtype in dtypes:
            small = next(iter(nrc1.problems([(1000, d)], [dtype])))
            for index, contender in enumerate(small.contenders):
                megabytes = _alone(index, count, d, dtype)
                facts = {"routine": "memory", "rows": count, "d": d, "dtype": dtype, "contender": contender.name}
                found.append(facts | {"MB beyond H": round(megabytes, 1)})
    return found


def _alone(index: int, count: int, d: int, dtype: str) -> float:
    context = get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(index, count, d, dtype, queue))
    process.start()
    megabytes: float = queue.get()
    process.join()
    return megabytes


def _measure(index: int, count: int, d: int, dtype: str, queue: Any) -> None:
    from routines import nrc1

    next(iter(nrc1.problems([(1000, d)], [dtype]))).contenders[index].call()  # what a first call loads
    contender = nrc1.contenders(random_features(count, d, dtype))[index]
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak to what is resident now
    before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    contender.call()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    queue.put((peak - before) / 1e6)
