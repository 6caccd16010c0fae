"""The main loop of a kernel, and the instructions of one of its turns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from machine_code.instructions import kind_of, work_of
from machine_code.listing import Function, Instruction
from machine_code.loops import Graph, Loop, always_run, find_loops, graph_of, is_jump

__all__ = ["Launch", "MainLoop", "main_loop"]

# Ways through a loop that differ in what they copy are kept apart, the first few of them.
_MOST_WAYS = 64
# A loop inside of another one is taken to run as often, where the main one is looked for.
_TURNS_OF_INNER = 8
# A loop that would run more often waits for something, and is taken to find it there.
_MOST_TURNS = 4096
# Additions in one block that are no part of the arithmetic: a fold of as many sums.
_FOLDED = 16


@dataclass
class MainLoop:
    """What a warp executes in one turn of the loop that does a kernel's work."""

    path: list[Instruction]  # the longest turn without what happens now and then
    # The same where half as much is copied: both sides of a product are the same rows. There also what is found of rows
    # beside their products, which is looked for once.
    half: list[Instruction] | None
    folded: list[Instruction]  # additions of sums to others after some turns, none to device memory
    turns_of_inner: list[int | None]  # of loops inside that it passes; None: known at run time only, and counted once


@dataclass
class _Way:
    # Work, less of what is rare, fewer copies at the edges of a matrix, bytes that are copied or loaded, length.
    rank: tuple[int, int, int, int, int]
    last: list[Instruction]
    before: _Way | None = None

    @property
    def path(self) -> list[Instruction]:
        pieces: list[list[Instruction]] = []
        way: _Way | None = self
        while way is not None:
            pieces.append(way.last)
            way = way.before
        return [each for piece in reversed(pieces) for each in piece]


@dataclass(frozen=True)
class Launch:
    """What of a turn only the launch knows."""

    inside: int | None = None  # turns of a loop inside whose number is not in the machine code; None: not known
    copies: int | None = None  # and loads of a turn, where those are in loops; None: what is in the machine code
    takes_turns: bool = False  # whether one half of the warps does first what the other half does behind the products


def main_loop(function: Function, launch: Launch = Launch()) -> MainLoop | None:
    """The loop with most of the tensor cores' work; without it with most arithmetic, without that with most loads.

    Parameters
    ----------
    function : Function
        A kernel.
    launch : Launch
        What is known besides. Of the ways through a turn with as many copies and loads the longest is taken.

    Returns
    -------
    MainLoop or None
        A loop that loads nothing belongs to the turn of the loop around it that does. None where a kernel has no loop.
    """
    if not function.instructions:
        return None
    graph = graph_of(function)
    loops = find_loops(graph)
    if not loops:
        return None
    chosen = max(loops, key=lambda loop: _weighed(graph, loop))
    if _weight(graph, chosen.own) == (0, 0):
        return None
    stage = _loading(graph, chosen, is_deep=launch.copies is not None)
    rare = {block for block in stage.own - always_run(graph, stage) if _is_now_and_then(graph.blocks[block])}
    turns: dict[Instruction, int | None] = {}
    copies = {"copy"} if any("copy" in map(kind_of, graph.blocks[block]) for block in stage.own) else {"global load"}
    if launch.copies is not None:
        copies = {"copy", "global load"}
    passed_over = _before_products(graph, stage) if launch.takes_turns else set()
    ways = _ways(graph, stage, rare | passed_over, copies, launch, turns)
    most = max(ways, key=lambda copied: (ways[copied].rank[0], copied))
    if launch.copies is not None:
        most = launch.copies
    if most not in ways:
        msg = (
            f"{function.name}: no turn has {most} copies and loads, but {sorted(ways)}; "
            "its family in bench/machine_code/kernels.py says which is meant"
        )
        raise ValueError(msg)
    whole = ways[most]
    half = ways.get(most // 2) if launch.copies is None and most % 2 == 0 and most > 0 else None
    if half is not None and _global_loads(half.path) > _global_loads(whole.path):
        half = None  # rows that cannot be copied: another way
    if half is not None:
        beside = {block for block in stage.own - always_run(graph, stage) if _is_beside(graph.blocks[block])}
        whole = _ways(graph, stage, rare | passed_over | beside, copies, launch, turns)[most]
    folded = _folded(graph, rare)
    if not folded and stage.outer is not None:  # sums are folded between two runs of the loop
        folded = _folded(graph, {block for block in stage.outer.own if _is_now_and_then(graph.blocks[block])})
    passed = set(whole.path)
    of_inner = [times for first, times in turns.items() if first in passed]
    return MainLoop(whole.path, half.path if half else None, folded, of_inner)


def _loading(graph: Graph, loop: Loop, is_deep: bool) -> Loop:
    """The loop around it that loads what it works on, or the loop itself.

    Deep: loops between the two may load nothing.
    """
    found, around = loop, loop
    while not _loads(graph, found.own) and around.outer is not None:
        inside, around = around, around.outer
        if _loads(graph, around.blocks - inside.blocks):
            found = around
        elif not is_deep:
            break
    return found


def _before_products(graph: Graph, loop: Loop) -> set[int]:
    """What only some turns pass before the products: where warps take turns, the others have that behind them."""
    always = always_run(graph, loop)
    order = [block for block in graph.order if block in loop.own]
    products = (block for block in order if any(kind_of(each) == "tensor" for each in graph.blocks[block]))
    first = next(products, order[0])
    return {block for block in order[: order.index(first)] if block not in always}


def _folded(graph: Graph, rare: set[int]) -> list[Instruction]:
    folds = [graph.blocks[block] for block in sorted(rare) if not _is_written(graph.blocks[block])]
    return [each for code in folds for each in code]


def _weight(graph: Graph, blocks: set[int]) -> tuple[int, int]:
    code = [each for block in blocks for each in graph.blocks[block]]
    loads = sum(each.bytes for each in code if kind_of(each) in {"copy", "global load"})
    return sum(map(work_of, code)), loads


def _weighed(graph: Graph, loop: Loop) -> tuple[int, int, int]:
    """Products of tensor cores, all work, and loads of a loop; what is inside of other loops counts as often."""
    times = 1
    outer = loop.outer
    while outer is not None:
        times *= _TURNS_OF_INNER
        outer = outer.outer
    work, loads = _weight(graph, loop.own)
    code = (each for block in loop.own for each in graph.blocks[block])
    tensor = sum(work_of(each) for each in code if kind_of(each) == "tensor")
    return tensor * times, work * times, loads * times


def _global_loads(path: list[Instruction]) -> int:
    return sum(kind_of(each) == "global load" for each in path)


def _loads(graph: Graph, blocks: set[int]) -> bool:
    return any(kind_of(each) in {"copy", "global load"} for block in blocks for each in graph.blocks[block])


def _is_now_and_then(code: list[Instruction]) -> bool:
    """Whether sums are folded or written by code that some turns only pass."""
    kinds = set(map(kind_of, code))
    if any(map(work_of, code)) or "copy" in kinds:
        return False
    if _is_written(code):
        return True
    if "global load" in kinds:
        return False
    # Sums in registers need no load; those in shared memory are stored again.
    added = sum(each.operation in {"FADD", "DADD", "FADD2"} for each in code)
    return added >= _FOLDED and ("shared load" not in kinds or "shared store" in kinds)


def _is_written(code: list[Instruction]) -> bool:
    """Whether code ends in device memory, in a subroutine or at all."""
    kinds = {kind_of(each) for each in code}
    leaves = (each.operation in {"CALL", "EXIT", "BPT"} and not is_jump(each) for each in code)
    return bool(kinds & {"global store", "atomic"}) or any(leaves)


def _is_beside(code: list[Instruction]) -> bool:
    """Whether code looks at what is multiplied and has no part in it."""
    kinds = [kind_of(each) for each in code]
    if "tensor" in kinds or "copy" in kinds or "global load" in kinds:
        return False
    return kinds.count("float32") + kinds.count("float64") >= _FOLDED // 2


def _ways(
    graph: Graph, loop: Loop, rare: set[int], copies: set[str], launch: Launch, turns: dict[Instruction, int | None]
) -> dict[int, _Way]:
    """The longest turn for each number of copies, of those with as little as possible of what is rare."""
    inner = {block: child for child in loop.inner for block in child.blocks}
    pieces: dict[int, list[Instruction]] = {}
    for child in loop.inner:
        written = {block for block in child.own - always_run(graph, child) if _is_now_and_then(graph.blocks[block])}
        taken = _ways(graph, child, written, copies, launch, turns)
        times = _turns(graph, child) or _turns_at_launch(graph, child, launch)
        longest = taken[max(taken, key=lambda copied: (taken[copied].rank[0], copied))].path
        turns[longest[0]] = times
        pieces[child.header] = longest * (times or 1)
    has_tensor = any(kind_of(each) == "tensor" for block in loop.blocks for each in graph.blocks[block])
    best: dict[int, dict[int, _Way]] = {}
    ends: dict[int, _Way] = {}
    for block in graph.order:
        if block not in loop.blocks or (block in inner and inner[block].header != block):
            continue
        child_blocks = inner[block].blocks if block in inner else {block}
        code = pieces.get(block, graph.blocks[block])
        work = sum(work_of(each) for each in code if kind_of(each) == "tensor" or not has_tensor)
        copied = 0 if block in rare else sum(kind_of(each) in copies for each in code)
        moved = sum(each.bytes for each in code if kind_of(each) in copies)
        # Copies that ask how much of them there is, where another way has as many that need not.
        edges = sum(each.name.endswith(".ZFILL") for each in code)
        behind = {0: _Way((0, 0, 0, 0, 0), [])} if block == loop.header else {}
        for other in _before(graph, loop, child_blocks, inner):
            for number, way in best.get(other, {}).items():
                _keep(behind, number, way)
        here: dict[int, _Way] = {}
        for number, way in behind.items():
            work_so_far, usual, inside, moved_so_far, length = way.rank
            rank = (
                *(work_so_far + work, usual - (block in rare), inside - edges),
                *(moved_so_far + moved, length + len(code)),
            )
            _keep(here, number + copied, _Way(rank, code, way))
        best[block] = dict(sorted(here.items(), reverse=True)[:_MOST_WAYS])
        if any(latch in child_blocks for latch in loop.latches):
            for number, way in best[block].items():
                _keep(ends, number, way)
    return ends or {0: _Way((0, 0, 0, 0, 0), [])}


def _before(graph: Graph, loop: Loop, blocks: set[int], inner: dict[int, Loop]) -> set[int]:
    """What comes before within the turn, loops inside by their headers."""
    found = {other for block in blocks if block != loop.header for other in graph.before[block]}
    return {inner[other].header if other in inner else other for other in found & loop.blocks if other not in blocks}


def _keep(ways: dict[int, _Way], copied: int, way: _Way) -> None:
    if copied not in ways or way.rank > ways[copied].rank:
        ways[copied] = way


def _turns(graph: Graph, loop: Loop) -> int | None:
    """How often a loop runs whose counter starts, steps and ends at constants."""
    if len(loop.latches) != 1:
        return None
    code = [each for block in sorted(loop.blocks) for each in graph.blocks[block]]
    for each in code:
        found = re.fullmatch(r"U?P\d, U?PT, (U?R\d+), (0x[0-9a-f]+|\d+), U?PT", each.operands)
        if each.operation not in {"ISETP", "UISETP"} or not found:
            continue
        register, end = found[1], int(found[2], 0)
        stepping = re.compile(rf"{register}, (?:U?PT, U?PT, )?{register}, (0x[0-9a-f]+|\d+)(?:, U?RZ)?.*")
        added = (other for other in code if other.operation in {"IADD3", "UIADD3", "VIADD", "IADD"})
        steps = [int(step[1], 0) for step in (stepping.fullmatch(other.operands) for other in added) if step]
        if len(steps) == 1 and steps[0] > 0 and end % steps[0] == 0 and _starts_at_zero(graph, loop, register):
            turns = end // steps[0]
            return turns if turns <= _MOST_TURNS else 1
    return None


def _turns_at_launch(graph: Graph, loop: Loop, launch: Launch) -> int | None:
    has_work = any(work_of(each) for block in loop.own for each in graph.blocks[block])
    if launch.copies is not None and _loads(graph, loop.own) and not has_work:
        return 1  # the turn around it has as many copies as are said
    return launch.inside


def _starts_at_zero(graph: Graph, loop: Loop, register: str) -> bool:
    """Whether the nearest value that comes into the loop is zero."""
    block = loop.header
    while graph.nearest[block] != block:
        block = graph.nearest[block]
        if block in loop.blocks:
            continue
        for each in reversed(graph.blocks[block]):
            if each.operands.split(",")[0].strip() == register:
                moved = {part.strip() for part in each.operands.split(",")[1:]}
                return each.operation in {"MOV", "IMAD", "UMOV", "CS2R"} and moved <= {"RZ", "URZ", "0x0", "SRZ"}
    return False
