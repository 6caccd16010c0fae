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


def bounded_threads(source: str) -> dict[str, str]:
    """What a source says that the threads of a block are at most, by kernel, as it is written there."""
    found = re.findall(r"NRC_FAST_GLOBAL\((.+), [^,]+\)\s+(\w+_kernel)\(", source)
    return {kernel: _plain(threads) for threads, kernel in found}


def launched_threads(source: str) -> list[tuple[str, str, str]]:
    """Of each launch of a source the kernel, the name, and the threads of a block as they are written there."""
    found = re.finditer(r'\blaunch\(\s*(\w+)[^"]*"(\w+)",', source)
    return [
        (_kernel(launch[1], launch[2]), launch[2], _plain(_second_argument(source, launch.end()))) for launch in found
    ]


def _second_argument(source: str, first: int) -> str:
    """Of those that follow a place: what has commas in it is in brackets."""
    depth, starts = 0, [first]
    for place in range(first, len(source)):
        depth += (source[place] in "({") - (source[place] in ")}")
        if depth == 0 and source[place] == ",":
            starts.append(place + 1)
        if len(starts) == 3:
            break
    return source[starts[1] : starts[2] - 1]


def _plain(expression: str) -> str:
    return re.sub(r"\s+", "", expression)


def kernels_of_launch(source: str, name: str) -> set[str]:
    """The functions that a source launches under a name."""
    found = re.findall(rf'\blaunch\(\s*(\w+)\s*(?:<[^"]*>)?\s*,\s*"{name}"', source)
    return {_kernel(function, name) for function in found}


def _kernel(function: str, name: str) -> str:
    """ "kernel" is one of several, which the launch has chosen."""
    return f"{name}_kernel" if function == "kernel" else function


def of_kernel(function: str, bounds: dict[str, Bounds]) -> Any:
    """The bounds of all kernels that a function is a template of."""
    return [found for name, found in bounds.items() if f"{len(function)}{function}" in name]
