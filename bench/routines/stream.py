"""`measure` of features in a file against the same features in memory: time, processor time and memory.

The file is the same million rows over and over, so that its numbers are those of one copy, which fits in memory.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = [(2_000_000, 256)]
DTYPES = ["float32"]
COMPONENTS = 3
COPY_ROWS = 1_000_000
MEMORY = "512MiB"

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


def timed(source: Any) -> tuple[float, float, float]:
    """Seconds, seconds of all processors, and NRC1."""
    import nrc_fast

    usage = resource.getrusage(resource.RUSAGE_SELF)
    start, processor = time.perf_counter(), usage.ru_utime + usage.ru_stime
    value = nrc_fast.measure(source, n=COMPONENTS).nrc1
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime - processor, value


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> list[dict[str, Any]]:
    """Three rows for each shape and dtype: in memory, in a file, and a large file in a process of its own."""
    found = []
    for count, d in shapes:
        for dtype in dtypes:
            with tempfile.TemporaryDirectory() as name:
                found += _rows(Path(name), count, d, dtype, runs)
    return found


def _rows(folder: Path, count: int, d: int, dtype: str, runs: int) -> list[dict[str, Any]]:
    copy, whole, copies = write(folder, count, d, dtype)
    H = np.load(copy)
    sources: dict[str, Any] = {"nrc_fast, features in memory": H, "nrc_fast, in a file (page cache warm)": copy}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sources}
    for index in range(runs + 1):
        for name, source in sources.items():
            measured = timed(source)
            if index:  # the first is the warm-up
                taken[name].append(measured)
    rows = [_row(name, H.nbytes, H.shape, dtype, measured) for name, measured in taken.items()]
    command = [sys.executable, "-c", ALONE, str(whole), str(COMPONENTS), MEMORY]
    output = [
        float(text)
        for text in subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.split()
    ]
    shape = (copies * len(H), d)
    alone = _row(
        f"nrc_fast, in a file, memory={MEMORY}", copies * H.nbytes, shape, dtype, [(output[0], output[1], output[3])]
    )
    return [*rows, alone | {"peak resident MB of the process": round(output[2], 1)}]


def _row(
    name: str, size: int, shape: tuple[int, ...], dtype: str, measured: list[tuple[float, float, float]]
) -> dict[str, Any]:
    seconds, processors, values = zip(*measured, strict=True)
    return {
        "routine": "stream",
        "rows": shape[0],
        "d": shape[1],
        "dtype": dtype,
        "contender": name,
        "seconds": statistics.median(seconds),
        "seconds per GB": statistics.median(seconds) / (size / 1e9),
        "processor seconds per GB": statistics.median(processors) / (size / 1e9),
        "nrc1": values[0],
    }
