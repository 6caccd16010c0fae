"""The synchronizations in the sources of the CUDA kernels, found there, and what becomes of passes without one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from support.small_passes import SmallPass
from support.tools import ROOT

KERNELS = ROOT / "csrc" / "cuda"
# Instructions by which threads wait for one another or for their copies. `keep_order` binds the compiler alone.
CALL = re.compile(r"\b(synchronize_block|synchronize_warp|wait_for_copies)(?:<.*>)?\(\)")


@dataclass(frozen=True)
class Barrier:
    """A line of the sources, by its path below csrc/cuda."""

    file: str
    line: int
    name: str
    text: str = ""

    @property
    def place(self) -> tuple[str, int]:
        return self.file, self.line


def barriers_in_sources() -> list[Barrier]:
    """All of them, in the order of files and lines."""
    found = []
    for path in sorted(KERNELS.rglob("*")):
        folder = path.relative_to(KERNELS).parts[0]
        if path.suffix not in (".cu", ".h") or folder in ("machine", "emulation"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for call in CALL.finditer(line.split("//")[0]):
                found.append(Barrier(str(path.relative_to(KERNELS)), number, call[1], line.strip()))
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
