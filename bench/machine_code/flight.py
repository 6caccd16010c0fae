"""Loads in flight: what a warp has asked of device memory before it must wait for the first of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from machine_code.instructions import kind_of, work_of
from machine_code.listing import Instruction

__all__ = ["Flight", "behind_barriers", "flight_of"]

_TURNS = 32  # followed; the first half, until all is in step, does not count


@dataclass(frozen=True)
class Flight:
    """Of one turn of a loop, for one lane."""

    bytes: int  # that it loads or copies from device memory
    loads: int  # instructions
    round_trips: Fraction  # waits for the whole way there and back; 1/3 where three turns are on their way

    @property
    def in_flight(self) -> Fraction:
        """Bytes that are on their way, on average, where nothing but the way takes time."""
        return Fraction(self.bytes) / self.round_trips if self.round_trips else Fraction(0)


def flight_of(path: Sequence[Instruction], row_bytes: int = 0) -> Flight:
    """Follow a turn many times over, each load taking one unit of time and all else none.

    Parameters
    ----------
    path : sequence of Instruction
        One turn of a loop.
    row_bytes : int
        Of one element of the rows that the loop reads, where that is known: other widths than these are loads of what
        the cache holds, as a shift.

    Returns
    -------
    Flight
        Loads come back in their order. What is copied to shared memory has arrived where the groups are waited for;
        what is loaded, where a register of it is used.
    """
    copies = any(kind_of(each) == "copy" for each in path)
    # What the cache holds is there at once; what matters of all other instructions is that they use what was loaded.
    slow = {each for each in path if kind_of(each) == "global load" and _is_of_rows(each, row_bytes)}
    loads = [each for each in path if kind_of(each) == "copy" or (not copies and each in slow)]
    targets = {register for each in slow for register in _results(each)}
    steps = [
        (each, "slow load" if each in slow else kind_of(each), each.registers & targets)
        for each in path
        if each in slow or kind_of(each) in {"copy", "barrier"} or (kind_of(each) != "off" and each.registers & targets)
    ]
    now, waited = 0, []
    pending: dict[int, int] = {}
    groups: list[int] = []
    last = 0
    for _ in range(_TURNS):
        begun = now
        for each, kind, used in steps:
            for register in used:
                now = max(now, pending.pop(register, 0))
            if kind == "slow load":
                pending.update(dict.fromkeys(_results(each), now + 1))
            elif kind == "copy":
                last = now + 1
            elif each.operation == "LDGDEPBAR":
                groups.append(last)
            elif each.operation == "DEPBAR" and (found := re.search(r"SB0, (0x[0-9a-f]+|\d+)", each.operands)):
                left = int(found[1], 0)
                done = groups[: len(groups) - left] if left else groups
                now = max([now, *done])
        waited.append(now - begun)
    return Flight(sum(each.bytes for each in loads), len(loads), _steady(waited[_TURNS // 2 :]))


def _steady(waited: Sequence[int]) -> Fraction:
    """The mean of numbers that repeat, over one period."""
    for period in range(1, len(waited) // 2 + 1):
        if all(one == other for one, other in zip(waited, waited[period:], strict=False)):
            return Fraction(sum(waited[:period]), period)
    return Fraction(sum(waited), len(waited))


def _is_of_rows(load: Instruction, row_bytes: int) -> bool:
    """Whether a load may be one of rows: of one element, or of as many as 16 bytes hold."""
    return row_bytes == 0 or load.bytes in {row_bytes, 16}


def _results(load: Instruction) -> range:
    if load.written is None:
        return range(0)
    return range(load.written, load.written + max(1, load.bytes // 4))


def behind_barriers(path: Sequence[Instruction]) -> int:
    """Instructions that all warps of a block execute at once between a barrier and their next product."""
    meetings = [place for place, each in enumerate(path) if each.operation == "BAR" and not each.is_off]
    if not any(map(work_of, path)):
        return 0
    found = 0
    for place in meetings:
        turn = [*path[place + 1 :], *path[:place]]
        ahead = next(number for number, each in enumerate(turn) if work_of(each) or each.operation == "BAR")
        found += ahead
    return found
