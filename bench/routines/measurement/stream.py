"""NRC1 of features in a file against the same features in memory and rivals that stream: time, processor time, memory.

The large file is the same million rows over and over, so that its numbers are those of one copy, which fits in memory.
Every error is that of NRC1 against float64.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Contender
from references import nrc1 as reference_nrc1
from rivals import contender, nrc1_in_blocks, streaming_bases

SHAPES = [(2_000_000, 256)]
DTYPES = ["float32"]
COMPONENTS = 3
COPY_ROWS = 1_000_000
MEMORY = "512MiB"
ENOUGH_SECONDS = 10.0  # of one contender

ALONE = """
import resource, sys, time
import nrc_fast
start = time.perf_counter()
value = nrc_fast.measure(sys.argv[1], n=int(sys.argv[2]), memory=sys.argv[3]).nrc1
usage = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss: that of a child begins with what its parent had.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, int(peak) / 1024, value)
"""


def write(folder: Path, rows: int, d: int, dtype: str) -> tuple[Path, Path, int]:
    """A file with one copy, one with as many as it takes, and how many those are."""
    rng = np.random.default_rng(0)
    count = min(rows, COPY_ROWS)
    copy = rng.standard_normal((count, COMPONENTS), dtype=np.float32) @ rng.standard_normal(
        (COMPONENTS, d), dtype=np.float32
    )
    copy += 0.1 * rng.standard_normal((count, d), dtype=np.float32)
    copy = copy.astype(dtype, copy=False)
    np.save(folder / "copy.npy", copy)
    copies = rows // count
    with (folder / "all.npy").open("wb") as file:
        shape = (copies * count, d)
        np.lib.format.write_array_header_1_0(file, {"descr": copy.dtype.str, "fortran_order": False, "shape": shape})
        for _ in range(copies):
            copy.tofile(file)
    return folder / "copy.npy", folder / "all.npy", copies


def contenders(H: np.ndarray, path: Path) -> list[Contender]:
    """Ours from memory and from the file, then everybody who takes rows in blocks, from the mapped file."""
    import nrc_fast

    found = [
        Contender("nrc_fast, features in memory", lambda: nrc_fast.measure(H, n=COMPONENTS).nrc1),
        Contender("nrc_fast, in a file (page cache warm)", lambda: nrc_fast.measure(path, n=COMPONENTS).nrc1),
    ]
    for name, module, basis_of in streaming_bases(len(os.sched_getaffinity(0))):

        def build(library: Any, basis_of: Callable[..., np.ndarray] = basis_of) -> Callable[[], float]:
            def run() -> float:
                mapped = np.load(path, mmap_mode="r")
                return nrc1_in_blocks(mapped, basis_of(library, mapped, COMPONENTS))

            return run

        found.append(contender(f"{name}, numpy, mapped file", module, build))
    return found


def timed(call: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds, seconds of all processors, and NRC1."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    start, processor = time.perf_counter(), usage.ru_utime + usage.ru_stime
    value = call()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime - processor, value


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> Iterator[dict[str, Any]]:
    """A row for each contender and shape, and one for a large file in a process of its own."""
    for count, d in shapes:
        for dtype in dtypes:
            with tempfile.TemporaryDirectory() as name:
                yield from _rows(Path(name), count, d, dtype, runs)


def _rows(folder: Path, count: int, d: int, dtype: str, runs: int) -> Iterator[dict[str, Any]]:
    copy, whole, copies = write(folder, count, d, dtype)
    H = np.load(copy)
    truth = reference_nrc1(H, COMPONENTS)
    facts: dict[str, Any] = {"routine": "stream", "rows": len(H), "d": d, "dtype": dtype}
    everybody = contenders(H, copy)
    calls = {one.name: one.call for one in everybody if one.call is not None}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    for index in range(runs + 1):
        for name, call in calls.items():
            if sum(seconds for seconds, _, _ in taken[name]) > ENOUGH_SECONDS:
                continue
            measured = timed(call)
            if index:  # the first is the warm-up
                taken[name].append(measured)
    ours = statistics.median(seconds for seconds, _, _ in taken[everybody[0].name])
    for one in everybody:
        if one.call is None:
            yield facts | {"contender": one.name, "not run": one.absent}
        else:
            row = facts | {"contender": one.name} | _columns(H.nbytes, taken[one.name], truth)
            yield row | {"times ours": row["seconds"] / ours}
    del H
    yield facts | _alone(folder, whole, copies, truth)


def _alone(folder: Path, whole: Path, copies: int, truth: float) -> dict[str, Any]:
    """The large file, in a process that holds nothing else."""
    command = [sys.executable, "-c", ALONE, str(whole), str(COMPONENTS), MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    seconds, processor, peak, value = (float(text) for text in done.stdout.split())
    mapped = np.load(whole, mmap_mode="r")
    facts = {"rows": len(mapped), "contender": f"nrc_fast, in a file of {copies} copies, memory={MEMORY}"}
    columns = _columns(mapped.nbytes, [(seconds, processor, value)], truth)
    return facts | columns | {"peak resident MB of the process": round(peak, 1)}


def _columns(size: int, measured: list[tuple[float, float, float]], truth: float) -> dict[str, Any]:
    seconds, processors, values = zip(*measured, strict=True)
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "runs": len(seconds),
        "seconds per GB": statistics.median(seconds) / (size / 1e9),
        "processor seconds per GB": statistics.median(processors) / (size / 1e9),
        "error": abs(values[0] / truth - 1.0),
    }
