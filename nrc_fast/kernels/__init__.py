"""The compiled kernels: instruction set, threads, and the memory that is kept for the next call."""

from nrc_fast.base.listing import listing
from nrc_fast.kernels.cpu.machine import (
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

__dir__ = listing(__name__, __all__)
