"""The synchronizations in the sources of the CUDA kernels, found there, and what becomes of passes without one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from support.small_passes import SmallPass
from support.tools import ROOT

KERNELS = ROOT / "csrc" / "cuda"
# Instructions by which threads wait for one another or for their copies. `keep_order` binds the compiler alone.
CALL = re.compile(
    r"\b(?:synchronize_block|synchronize_warp|wait_for_copies|fence_shared_writes|fence_products|commit_products"
    r"|wait_for_products)(?:<.*>)?\(\)|\bwait_for_phase\("
)


@dataclass(frozen=True)
class Barrier:
    """A line of the sources, by its path below csrc/cuda, and the number that it has in its function."""

    file: str
    line: int
    function: str
    number: int

    @property
    def place(self) -> tuple[str, int]:
        return self.file, self.line

    def __str__(self) -> str:
        return f"{self.file} {self.function} {self.number}"


def barriers_of(file: str, text: str) -> list[Barrier]:
    """Those of one source, in the order of its lines."""
    found: list[Barrier] = []
    function = ""
    for number, line in enumerate(text.splitlines(), 1):
        if "NRC_FAST_DEVICE" in line or re.match(r"\w+_kernel\(", line):
            function = re.findall(r"(\w+)\(", line)[0]
        for _ in CALL.finditer(line.split("//")[0]):
            before = sum(barrier.function == function for barrier in found)
            found.append(Barrier(file, number, function, before + 1))
    return found


def barriers_in_sources() -> list[Barrier]:
    """All of them, in the order of files and lines."""
    found = []
    for path in sorted(KERNELS.rglob("*")):
        folder = path.relative_to(KERNELS).parts[0]
        if path.suffix in (".cu", ".h") and folder not in ("machine", "emulation"):
            found += barriers_of(str(path.relative_to(KERNELS)), path.read_text(encoding="utf-8"))
    return found


def reached(core: Any) -> set[tuple[str, int]]:
    """Places of the synchronizations that were come to since records are kept."""
    return {(str(file).split("csrc/cuda/")[-1], line) for _, file, line in core.synchronizations()}


def without(backend: Any, barrier: Barrier, work: SmallPass, bits: bytes, **machine: Any) -> str:
    """What shows when one is left out: the error of the machine, "other numbers", or "" where nothing does."""
    try:
        found = work.bits(backend, left_out_file=barrier.file, left_out_line=barrier.line, **machine)
    except RuntimeError as error:
        return str(error)
    except AssertionError:
        return "other numbers"
    return "" if found == bits else "other numbers"
