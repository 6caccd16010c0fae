"""Peak memory beyond the features: each contender of NRC1 in a process of its own."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cases import Case
from harness import Settings, taking_part

WIDE = [Case(20_000, 16_384, k=3, kind=kind) for kind in ("collapsed", "power")]
SUITES = {
    "short": [Case(400_000, 256, k=3), Case(1_000_000, 64, k=3), WIDE[0]],
    "full": [Case(400_000, 256, k=3), Case(1_000_000, 64, k=3), *WIDE],
}


def measured(case: Case, settings: Settings, limits: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """One row for each contender."""
    from routines.measurement import nrc1

    everybody = nrc1.contenders(case)
    names = [contender.name for contender in everybody]
    for contender in taking_part(everybody, settings, limits):
        facts = {"routine": "memory", **case.facts(), "contender": contender.name}
        if contender.call is None:
            yield facts | {"not run": contender.absent}
        else:
            yield facts | _alone(names.index(contender.name), case)


def _small(case: Case) -> Case:
    return replace(case, rows=1000)


def _alone(index: int, case: Case) -> dict[str, Any]:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(index, case, sender))
    process.start()
    sender.close()
    process.join()
    if process.exitcode:
        return {"not run": f"its process ended with status {process.exitcode}"}
    return {"MB beyond H": round(receiver.recv(), 1)}


def _measure(index: int, case: Case, sender: Any) -> None:
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
    sender.send((peak - before) / 1e6)
