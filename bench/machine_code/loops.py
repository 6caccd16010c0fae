"""Loops of a kernel: blocks of instructions, which leads to which, and what goes back to where it came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from machine_code.listing import Function, Instruction

__all__ = ["Graph", "Loop", "always_run", "find_loops", "graph_of", "is_jump"]

_ENDS = {"EXIT", "RET", "BPT", "KILL"}
_JUMPS = {"BRA", "BSYNC", "BRX", "JMP", "JMX"}


@dataclass
class Graph:
    """Blocks of instructions that run one after the other, and for each the blocks that may follow it."""

    blocks: list[list[Instruction]]
    after: list[list[int]]
    before: list[list[int]] = field(init=False)
    order: list[int] = field(init=False)  # those that are reached, each before what follows it, loops aside
    nearest: dict[int, int] = field(init=False)  # of the blocks that every way to one passes

    def __post_init__(self) -> None:
        self.order = _reversed_postorder(self.after)
        self.before = [[] for _ in self.blocks]
        for block in self.order:
            for follower in self.after[block]:
                self.before[follower].append(block)
        self.nearest = _nearest_dominators(self.order, self.before)

    def passes(self, block: int, other: int) -> bool:
        """Whether every way to a block leads through the other one."""
        while block != other and self.nearest[block] != block:
            block = self.nearest[block]
        return block == other


@dataclass
class Loop:
    """All blocks between a header and what leads back to it."""

    header: int
    latches: set[int]
    blocks: set[int]
    inner: list[Loop] = field(default_factory=list)
    outer: Loop | None = None

    @property
    def own(self) -> set[int]:
        """Blocks that are in none of the inner loops."""
        return self.blocks.difference(*[loop.blocks for loop in self.inner])


def graph_of(function: Function) -> Graph:
    """Blocks of a kernel and which may follow which.

    Parameters
    ----------
    function : Function
        A kernel.

    Returns
    -------
    Graph
        Calls return; an indirect jump leads nowhere.
    """
    code = function.instructions
    starts = {0, *function.labels.values()}
    starts |= {place + 1 for place, each in enumerate(code) if each.operation in _ENDS or is_jump(each)}
    borders = [*sorted(start for start in starts if start < len(code)), len(code)]
    numbers = {start: number for number, start in enumerate(borders[:-1])}
    joined = _joined_at(code)
    blocks, after = [], []
    for start, end in pairwise(borders):
        blocks.append(code[start:end])
        last = code[end - 1]
        followers = []
        goes_on = not (last.operation in _ENDS or is_jump(last)) or _is_conditional(last) or _parts_lanes(last)
        if goes_on and end < len(code):
            followers.append(numbers[end])
        label = joined.get(end - 1) if last.operation == "BSYNC" else last.target
        if not is_jump(last) or _parts_lanes(last):
            label = None
        if label is not None and function.labels.get(label, len(code)) < len(code):
            followers.append(numbers[function.labels[label]])
        after.append(list(dict.fromkeys(followers)))
    return Graph(blocks, after)


def find_loops(graph: Graph) -> list[Loop]:
    """All loops, each with those inside of it.

    Parameters
    ----------
    graph : Graph
        Blocks of a kernel.

    Returns
    -------
    list of Loop
        From the smallest to the largest.
    """
    latches: dict[int, set[int]] = {}
    for block in graph.order:
        for follower in graph.after[block]:
            if graph.passes(block, follower):
                latches.setdefault(follower, set()).add(block)
    loops = [Loop(header, ends, _body(graph, header, ends)) for header, ends in latches.items()]
    loops.sort(key=lambda loop: len(loop.blocks))
    for place, loop in enumerate(loops):
        for larger in loops[place + 1 :]:
            if loop.header in larger.blocks and loop.header != larger.header:
                loop.outer = larger
                larger.inner.append(loop)
                break
    return loops


def always_run(graph: Graph, loop: Loop) -> set[int]:
    """Blocks that every turn of a loop passes."""
    return {block for block in loop.blocks if all(graph.passes(latch, block) for latch in loop.latches)}


def is_jump(instruction: Instruction) -> bool:
    """Whether what follows is elsewhere; a call to a place in the kernel itself, which nothing comes back from, too."""
    if instruction.operation == "CALL":
        return (instruction.target or "").startswith(".L_")
    return instruction.operation in _JUMPS


def _parts_lanes(instruction: Instruction) -> bool:
    """Whether only warps jump whose lanes have parted: what they do lane by lane is in no turn."""
    return instruction.name.startswith("BRA.DIV")


def _is_conditional(instruction: Instruction) -> bool:
    if instruction.predicate and instruction.predicate not in {"@PT", "@UPT"}:
        return True
    # A second condition is an operand: BRA P1, BRA.U !UP0, EXIT P1.
    first = instruction.operands.split(",")[0].strip().lstrip("!")
    return first.startswith(("P", "UP")) and first not in {"PT", "UPT"}


def _joined_at(code: list[Instruction]) -> dict[int, str]:
    """For each BSYNC the label at which its BSSY lets the lanes of a warp meet."""
    meeting: dict[str, str] = {}
    found: dict[int, str] = {}
    for place, each in enumerate(code):
        barrier = each.operands.split(",")[0].strip()
        if each.operation == "BSSY" and each.target is not None:
            meeting[barrier] = each.target
        elif each.operation == "BSYNC" and barrier in meeting:
            found[place] = meeting[barrier]
    return found


def _reversed_postorder(after: list[list[int]]) -> list[int]:
    order: list[int] = []
    seen = {0}
    stack = [(0, iter(after[0]))] if after else []
    while stack:
        block, followers = stack[-1]
        for follower in followers:
            if follower not in seen:
                seen.add(follower)
                stack.append((follower, iter(after[follower])))
                break
        else:
            order.append(block)
            stack.pop()
    return order[::-1]


def _nearest_dominators(graph_order: list[int], before: list[list[int]]) -> dict[int, int]:
    """For each block the nearest other one that every way to it passes (Cooper, Harvey and Kennedy 2001)."""
    if not graph_order:
        return {}
    place = {block: number for number, block in enumerate(graph_order)}
    nearest = {graph_order[0]: graph_order[0]}

    def common(one: int, other: int) -> int:
        while one != other:
            if place[one] > place[other]:
                one = nearest[one]
            else:
                other = nearest[other]
        return one

    changed = True
    while changed:
        changed = False
        for block in graph_order[1:]:
            known = [other for other in before[block] if other in nearest]
            new = known[0]
            for other in known[1:]:
                new = common(new, other)
            if nearest.get(block) != new:
                nearest[block] = new
                changed = True
    return nearest


def _body(graph: Graph, header: int, latches: Iterable[int]) -> set[int]:
    body = {header}
    waiting = [latch for latch in latches if latch != header]
    while waiting:
        block = waiting.pop()
        if block not in body:
            body.add(block)
            waiting += graph.before[block]
    return body
