"""Which CUDA devices the compiled kernels can run on, and why not where they cannot."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import cast

__all__ = ["cuda_build", "cuda_core", "cuda_summary", "require_capability", "require_cuda_device", "runs_on"]


@functools.cache
def cuda_core() -> ModuleType | None:
    """The compiled CUDA kernels, or None where this build has none."""
    try:
        return importlib.import_module("nrc_fast.kernels._cuda")
    except ModuleNotFoundError as error:
        if error.name != "nrc_fast.kernels._cuda":
            raise
        return None


def cuda_build() -> dict[str, object] | None:
    """Compiler, architectures and versions of the CUDA kernels, or None where this build has none.

    `architectures` are there as machine code, `ptx` (or "") as what later cards' drivers compile; the compiler did not
    know those `left_out` of the default list.
    """
    core = cuda_core()
    return None if core is None else cast("dict[str, object]", core.build_config())


def runs_on(capability: tuple[int, int], architectures: Sequence[str], ptx: str = "") -> bool:
    """Whether a card can run kernels that were built for some architectures.

    Machine code runs on cards of the same major compute capability and no smaller minor one; that of an architecture
    such as 90a on this one only; PTX on every card of its own or a later compute capability.

    Examples
    --------
    >>> runs_on((8, 9), ["80", "90a"]), runs_on((9, 0), ["80", "90a"]), runs_on((12, 0), ["80", "90a"])
    (True, True, False)
    """
    for architecture in architectures:
        major, minor, only = _parsed(architecture)
        if capability == (major, minor) or (not only and capability[0] == major and capability[1] >= minor):
            return True
    return bool(ptx) and capability >= _parsed(ptx)[:2]


def _parsed(architecture: str) -> tuple[int, int, bool]:
    match = re.fullmatch(r"(\d+)(\d)([af]?)", architecture)
    if match is None:
        msg = f"architecture {architecture!r} is not a number such as '80' or '90a'"
        raise ValueError(msg)
    return int(match[1]), int(match[2]), bool(match[3])


def require_capability(
    capability: tuple[int, int], architectures: Sequence[str], ptx: str = "", name: str = ""
) -> None:
    """Check that a card can run kernels that were built for some architectures.

    Raises
    ------
    RuntimeError
        Neither machine code nor PTX of these architectures runs on a card of its compute capability.
    """
    if runs_on(capability, architectures, ptx):
        return
    built = ", ".join(architectures) + (f" and PTX for {ptx}" if ptx else "")
    own = f"{capability[0]}{capability[1]}"
    msg = (
        f"{name or 'the CUDA device'} has compute capability {capability[0]}.{capability[1]}; nrc_fast was built for "
        f"{built}. Build it again with NRC_FAST_CUDA_ARCHS={own} and an nvcc that knows it, or compute on the CPU"
    )
    raise RuntimeError(msg)


def require_cuda_device(index: int) -> None:
    """Check that the CUDA kernels can run on a device of this machine; what is found out of one is asked once.

    Raises
    ------
    RuntimeError
        This build has no CUDA kernels, the machine has no such device, or they were not built for it.
    """
    core = cuda_core()
    if core is None:
        msg = (
            f"device 'cuda:{index}' cannot be used: this build of nrc_fast has no CUDA kernels. Build it on a machine "
            "with nvcc (NRC_FAST_CUDA=ON says what is missing), or compute on the CPU"
        )
        raise RuntimeError(msg)
    _require_device_of(core, index)


@functools.cache  # of those that can be used: an error is found out again
def _require_device_of(core: ModuleType, index: int) -> None:
    count = core.device_count()
    if not 0 <= index < count:
        reason = core.device_problem() if count == 0 else f"devices 0 to {count - 1} are there"
        msg = f"device 'cuda:{index}' cannot be used: {reason}. Give another device, or compute on the CPU"
        raise RuntimeError(msg)
    build = core.build_config()
    name = f"'cuda:{index}' ({core.device_name(index)})"
    require_capability(core.device_capability(index), build["architectures"], build["ptx"], name)


def cuda_summary() -> str:
    """One line on the CUDA kernels of this build and the devices of this machine."""
    core = cuda_core()
    if core is None:
        return "not built"
    build = core.build_config()
    ptx = f", PTX {build['ptx']}" if build["ptx"] else ""
    devices = [
        f"{core.device_name(index)} ({'.'.join(map(str, core.device_capability(index)))})"
        for index in range(core.device_count())
    ]
    left_out = f" (without {', '.join(build['left_out'])}, unknown to this compiler)" if build["left_out"] else ""
    there = ", ".join(devices) or f"no device: {core.device_problem()}"
    return f"{build['compiler']} for {', '.join(build['architectures'])}{ptx}{left_out}; {there}"
