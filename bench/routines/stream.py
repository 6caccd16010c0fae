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


def run(rows: int, d: int, dtype: str, runs: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        copy, whole, copies = write(Path(name), rows, d, dtype)
        H = np.load(copy)
        gigabytes = H.nbytes / 1e9
        contenders: dict[str, Any] = {"memory": H, "file, page cache warm": copy}
        found: dict[str, list[tuple[float, float, float]]] = {contender: [] for contender in contenders}
        for index in range(runs + 1):
            for contender, source in contenders.items():
                measured = timed(source)
                if index:  # the first is the warm-up
                    found[contender].append(measured)
        results = []
        for contender, measured in found.items():
            seconds, processors, values = zip(*measured, strict=True)
            results.append(
                {
                    "features in": contender,
                    "GB": round(gigabytes, 3),
                    "seconds per GB": round(statistics.median(seconds) / gigabytes, 4),
                    "processor seconds per GB": round(statistics.median(processors) / gigabytes, 4),
                    "nrc1": values[0],
                }
            )
        command = [sys.executable, "-c", ALONE, str(whole), str(COMPONENTS), MEMORY]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        total = copies * gigabytes
        results.append(
            {
                "features in": f"file, a process of its own, memory={MEMORY}",
                "GB": round(total, 3),
                "seconds per GB": round(float(output[0]) / total, 4),
                "processor seconds per GB": round(float(output[1]) / total, 4),
                "nrc1": float(output[3]),
                "peak resident MB of the process": round(float(output[2]), 1),
            }
        )
    return results
