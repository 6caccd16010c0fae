"""Peak memory beyond the features: each contender of NRC1 in a process of its own."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cases import Case

SHAPES = [(400_000, 256), (1_000_000, 64)]
DTYPES = ["float32"]
COMPONENTS = 3


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> Iterator[dict[str, Any]]:
    """One row for each contender."""
    from routines.measurement import nrc1

    del runs
    for count, d in shapes:
        for dtype in dtypes:
            case = Case(count, d, dtype, k=COMPONENTS)
            for index, contender in enumerate(nrc1.contenders(_small(case))):
                facts = {"routine": "memory", **case.facts(), "contender": contender.name}
                if contender.call is None:
                    yield facts | {"not run": contender.absent}
                else:
                    yield facts | {"MB beyond H": round(_alone(index, case), 1)}


def _small(case: Case) -> Case:
    return replace(case, rows=1000)


def _alone(index: int, case: Case) -> float:
    context = get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(index, case, queue))
    process.start()
    megabytes: float = queue.get()
    process.join()
    return megabytes


def _measure(index: int, case: Case, queue: Any) -> None:
    from routines.measurement import nrc1

    small, whole = (nrc1.contenders(part)[index].call for part in (_small(case), case))
    assert small is not None
    assert whole is not None
    small()  # what a first call loads
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak to what is resident now
    before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    whole()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    queue.put((peak - before) / 1e6)
