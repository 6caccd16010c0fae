"""The same threads and instructions for everybody, and what the figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["describe", "hold_equal"]

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NRC_FAST_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
# What keeps the libraries of the rivals to the instructions that we are told to use. oneDAL and numpy's own loops
# choose theirs by themselves.
INSTRUCTIONS = {
    "amx": {},
    "avx512bf16": {},
    "avx512": {},
    "avx2": {
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "baseline": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}
LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "scikit-learn-intelex", "torchdr")


def hold_equal(threads: int | None, isa: str | None) -> int:
    """Give everybody the same processors, threads and instructions; before numpy, scipy or torch are imported.

    Parameters
    ----------
    threads : int or None
        The process is pinned to as many of the processors that it may use; all of them if not given.
    isa : str or None
        A name of `INSTRUCTIONS`; what each library chooses if not given.

    Returns
    -------
    int
        The number of threads.

    Raises
    ------
    ValueError
        There are fewer processors than threads.
    """
    allowed = sorted(os.sched_getaffinity(0))
    count = threads or len(allowed)
    if count > len(allowed):
        msg = f"{count} threads were asked for, and this process may use {len(allowed)} processors"
        raise ValueError(msg)
    os.sched_setaffinity(0, allowed[:count])
    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)
    if isa is not None:
        os.environ["NRC_FAST_ISA"] = isa
        os.environ.update(INSTRUCTIONS[isa])
    return count


def describe(threads: int) -> dict[str, Any]:
    """What the figures were measured on: processor, libraries, threads, date; no name of the machine."""
    from nrc_fast.cli import environment

    facts: dict[str, Any] = environment.environment() | {"platform": f"{platform.system()} {platform.machine()}"}
    for name in LIBRARIES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    facts["processor"] = models[0] if models else platform.processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts["memory"] = f"{memory / 2**30:.0f} GiB"
    facts["date"] = datetime.now(timezone.utc).date().isoformat()
    facts["threads of all contenders"] = threads
    return facts
