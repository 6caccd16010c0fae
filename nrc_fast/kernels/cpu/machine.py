"""Instruction set, threads, kept memory and build of the compiled CPU core."""

from __future__ import annotations

import functools
import math
import os
from importlib.util import find_spec
from pathlib import Path

if find_spec("nrc_fast.kernels._cpu") is None:
    _msg = (
        f"nrc_fast was imported from a source tree whose compiled core was not built ({Path(__file__).parents[2]}). "
        "Install it (pip install .) and run Python from another folder, or use 'python -P'"
    )
    raise ImportError(_msg)

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.kernels.cpu.quota import processor_quota

__all__ = [
    "available_isas",
    "block_rows",
    "current_isa",
    "release_memory",
    "set_isa",
    "set_thread_count",
    "thread_count",
]

MOST_THREADS = 65536


def available_isas() -> list[str]:
    """Instruction sets that this machine can run, the fastest first."""
    return _cpu.supported_isas()


def current_isa() -> str:
    """The instruction set that the kernels use."""
    return _cpu.current_isa()


def set_isa(name: str) -> None:
    """Use one instruction set for all further calls of this process.

    Raises
    ------
    ValueError
        The build does not have it or the machine cannot run it.
    """
    _cpu.choose_isa(name)


def thread_count() -> int:
    """Threads that the kernels use: NRC_FAST_NUM_THREADS, else OMP_NUM_THREADS, else the processors allowed.

    The processors allowed are those of the affinity, and no more than the quota of the container is worth.
    """
    return _cpu.thread_count()


def set_thread_count(count: int) -> None:
    """Use `count` threads for all further calls of this process.

    Raises
    ------
    ValueError
        `count` is not between 1 and 65,536.
    """
    if not 1 <= count <= MOST_THREADS:
        msg = f"the number of threads is {count}; give 1 or more, up to {MOST_THREADS}"
        raise ValueError(msg)
    _cpu.set_thread_count(count)


def _read_environment() -> None:
    isa = os.environ.get("NRC_FAST_ISA")
    if isa:
        try:
            set_isa(isa)
        except ValueError as error:
            msg = f"environment variable NRC_FAST_ISA: {error}"
            raise ValueError(msg) from None
    for variable in ("NRC_FAST_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable)
        if not text:
            continue
        # OMP_NUM_THREADS may be a list, one number for each level of nesting.
        first = text.split(",")[0].strip()
        if first.isdecimal() and 1 <= int(first) <= MOST_THREADS:
            set_thread_count(int(first))
            return
        if variable == "NRC_FAST_NUM_THREADS":
            msg = f"environment variable {variable} is {text!r}; a number of threads from 1 on is expected"
            raise ValueError(msg)
    quota = processor_quota()
    if quota is not None:
        # More threads than that would stand still for the rest of every period.
        set_thread_count(min(thread_count(), max(math.ceil(quota), 1)))


_read_environment()


def release_memory() -> None:
    """Give back the memory that is kept for the sums and workspaces of the next call."""
    _cpu.release_memory()


def build_config() -> dict[str, object]:
    """Compiler, flags, instruction sets and constants of the compiled core."""
    return _cpu.build_config()


@functools.cache
def block_rows() -> int:
    """Rows that the kernels multiply together."""
    rows = build_config()["gram_block_rows"]
    assert isinstance(rows, int)
    return rows
