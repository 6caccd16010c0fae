"""The compiled kernels: instruction set, threads, and the memory that is kept for the next call."""

from importlib.util import find_spec
from pathlib import Path

if find_spec("nrc_fast.kernels._cpu") is None:
    _msg = (
        f"nrc_fast was imported from a source tree whose compiled core was not built ({Path(__file__).parents[1]}). "
        "Install it (pip install .) and run Python from another folder, or use 'python -P'"
    )
    raise ImportError(_msg)

from nrc_fast.kernels.calls import (
    available_isas,
    build_config,
    current_isa,
    release_memory,
    set_isa,
    set_thread_count,
    thread_count,
)

__all__ = [
    "available_isas",
    "build_config",
    "current_isa",
    "release_memory",
    "set_isa",
    "set_thread_count",
    "thread_count",
]
