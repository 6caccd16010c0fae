"""Facts about the build and the machine, for reports of problems."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import numpy as np

from nrc_fast import kernels
from nrc_fast.kernels.devices import cuda_summary, hopper_summary

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Versions, compiler, instruction sets, threads and CUDA devices by what they are called, as text.

    Examples
    --------
    >>> environment()["isa"] in environment()["isas of this machine"]
    True
    """
    build = kernels.build_config()
    return {
        "nrc_fast": str(build["version"]),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "numpy": np.__version__,
        "torch": _version("torch"),
        "compiler": str(build["compiler"]),
        "compiler flags": str(build["flags"]).strip(),
        "isa": kernels.current_isa(),
        "isas of this machine": ", ".join(kernels.available_isas()),
        "threads": str(kernels.thread_count()),
        "cuda": cuda_summary(),
        "hopper kernel": hopper_summary(),
    }


def _version(package: str) -> str:
    """Version of an installed package, or that it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
