"""What kernels say of their launches: `__launch_bounds__` in PTX, and the registers that the assembler gave them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# Of a multiprocessor and of a block, on every card since sm_50; a warp takes them in pieces.
REGISTERS = 65536
PIECE = 256
LANES = 32


@dataclass(frozen=True)
class Bounds:
    """The most threads of a block, and the least blocks that are to run on a multiprocessor at once."""

    threads: int
    blocks: int


def launch_bounds(ptx: str) -> dict[str, Bounds]:
    """Those of every kernel, by its mangled name."""
    entry = r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)(?:, 1, 1)?\s*(?:\.minnctapersm (\d+))?"
    found = {name: Bounds(int(threads), int(blocks or 1)) for name, threads, blocks in re.findall(entry, ptx)}
    assert len(found) == ptx.count(".entry "), "a kernel has no launch bounds"
    return found


def registers(report: str) -> dict[str, int]:
    """Those of a thread of every kernel, by its mangled name, from what ptxas says with -v."""
    pattern = r"Compiling entry function '(\w+)' for .*?Used (\d+) registers"
    return {name: int(count) for name, count in re.findall(pattern, report, re.DOTALL)}


def check_room(bounds: Bounds, of_thread: int, card: dict[str, int]) -> None:
    """As many blocks as the bounds ask for have their threads and registers on a multiprocessor of the card."""
    warps = -(-bounds.threads // LANES)
    of_warp = -(-of_thread * LANES // PIECE) * PIECE
    assert of_warp * warps * bounds.blocks <= REGISTERS
    assert bounds.threads <= 1024
    assert bounds.threads * bounds.blocks <= card["threads_per_multiprocessor"]
    assert bounds.blocks <= card["blocks_per_multiprocessor"]


def kernels_of_launch(source: str, name: str) -> set[str]:
    """The functions that a source launches under a name."""
    found = re.findall(rf'\blaunch\(\s*(\w+)\s*(?:<[^"]*>)?\s*,\s*"{name}"', source)
    # One of several, which the launch has chosen.
    return {f"{name}_kernel" if function == "kernel" else function for function in found}


def of_kernel(function: str, bounds: dict[str, Bounds]) -> Any:
    """The bounds of all kernels that a function is a template of."""
    return [found for name, found in bounds.items() if f"{len(function)}{function}" in name]
