"""bench/results/machine_code.md: what the counts on record say, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from machine_code.bounds import Bound, bound_of, needed_in_flight
from machine_code.cards import CARDS, H200, SOURCES, Card
from machine_code.kernels import title_of
from machine_code.passes import PASSES, Pass

__all__ = ["is_met", "page", "share_of_pass"]

_INTRODUCTION = """\
# What the machine code of the CUDA kernels says

Written by `python bench/read_machine_code.py --write` from the disassembly of the built module (nvcc {compiler}); the
counts are in machine_code.json, and `tests/bench/test_machine_code.py` compares every build with them. All shares are
estimates: counts of instructions, divided by rates that others have published. Nothing on this page was measured on a
card.

A *turn* is one iteration of the loop with most of a kernel's arithmetic, or most of its loads where it has none,
along its longest way (that at the edges of a matrix only where there is no other); loops inside are counted as often
as they run where that is a constant or said in
`bench/machine_code/kernels.py`, and once where it is not (rows with a question mark). What happens on few turns only,
sums that are folded or written, is left out of the counts; a fold is in the bounds where its turns are known, what
goes to device memory then is not. *In flight* are the bytes that the blocks of a multiprocessor have asked for before
they wait for the first of them, if nothing but the way to memory took time. *Behind the barrier* are the instructions
of a warp between a barrier and its next product: with one block at once nothing overlaps them. Where one half of the
warps multiplies first and the other half last (rows split on the way, 128 x 128), they are those of the first half.

A turn takes at least as many clocks as the busiest of the schedulers, the integer, float32 and float64 lanes, the
conversions, the tensor cores, shared memory and the second-level cache needs (the column *limit*), and what is behind
the barrier on top, where only one block runs at once. The share of the peak is that of the turn that the multiply-adds
alone would take. The share of the bandwidth of device memory is the lesser of what these clocks and what the bytes in
flight allow (Little's law: bytes in flight = bandwidth x latency), where nothing comes from a cache. "One side" is a
tile on the diagonal, whose both sides are the same rows, copied once.
"""
_READS = """\
"As stored" are 16-bit rows without a shift. Running statistics are about a shift, for which 16-bit and float32 rows are
split into three bfloat16 numbers, six products each: these take longer than the read, and what is aimed at is that the
read does not stand in their way. Beside what the table says more reads are needed for

- products with targets where rows are as stored, where they are split on the way and have more than 128 columns (8
  bytes a float32 number in all; planes that are written with the products take 16), where planes leave their sums no
  room in shared memory (more than about 90 targets on H100), and with more than 7 elsewhere: the column sums form them,
  in one read more;
- a Gram matrix of rows of norm 1: one read more, two where d > 4,096, or d > 64 and products are in float64;
- rows that are skipped where they are not finite: of d > 64 where products are in float64 they are read again if there
  are some, without those; of d > 4,096 elsewhere they are looked at first;
- products with a Gram where columns and vectors are more than 16 warps have, of 64 and of eight each (d = 1,024 with 8
  vectors, d = 512 with 16), or where three stages of rows do not fit in the shared memory of a block: two reads for
  every 32 vectors, of the coefficients and of the image.

Rows that are split on the way and have more than one tile of 128 columns are split again in each tile, from what the
second-level cache has of them. Others become planes, which are written and read again, 6 bytes a number each time (2 of
rows as stored): the kernel that writes them reads the rows. These are

- rows that cannot be copied in pieces of 16 bytes;
- split rows of more than 1,024 columns, where the planes are the smaller part of the time;
- split rows of more than 128 columns of which some are to be skipped, or that are scaled to norm 1 beside a Gram matrix
  of rows as stored, whose read finds no norms.

The Gram of warpgroups is off until a card has run it. What brings its rows is one thread of another warpgroup, so that
no loads are in its turn and no share of the bandwidth is worked out; all warps of a block are counted as if they
multiplied, of which a third, or a half, do not: its clocks are too many rather than too few.
"""
_OUTRO = """\
## What is assumed

{sources}\
- Bytes that a loop loads are counted as from device memory or the second-level cache, also where the first-level
  cache has them, but for loads of another width than the rows' own (a shift, a basis), which are not counted.
- Copies of a ring are as many groups on their way as the loop leaves pending, and one; its shared memory is one group
  more. Other shared memory that is asked for at launch is in `bench/machine_code/kernels.py`.
- Kernels of few rows, clocks that fall under load, conflicts of banks, imbalance of the plan of blocks, and the time
  that launches take are in none of these numbers.

## What only a card can tell

Whether asynchronous copies keep as many bytes on their way as are asked for; the latency under load; the rate of
mma.sync beside copies; how much of the rows the second-level cache gives when blocks drift apart; clocks under load.
"""


def share_of_pass(card: Card, kernels: Mapping[str, Any], wanted: Pass) -> tuple[float | None, float | None]:
    """Shares that a pass over rows reaches.

    Parameters
    ----------
    card : Card
        Where it runs.
    kernels : mapping
        Facts of the card's architecture.
    wanted : Pass
        Its kernels and what is aimed at.

    Returns
    -------
    tuple
        Of the peak, by the last reader, and of the bandwidth, as if the rows were read once. None where a kernel is not
        there or has no such share.
    """
    bounds = [_bound(card, kernels.get(name), wanted.is_half) for name in wanted.readers]
    peak = bounds[-1].share_of_peak if bounds[-1] is not None else None
    times = [1 / each.share_of_bandwidth for each in bounds if each is not None and each.share_of_bandwidth]
    return peak, 1 / sum(times) if len(times) == len(bounds) else None


def is_met(card: Card, kernels: Mapping[str, Any], wanted: Pass) -> bool:
    """Whether a pass reaches what is aimed at."""
    peak, bandwidth = share_of_pass(card, kernels, wanted)
    if wanted.share_of_peak is not None:
        return peak is not None and peak >= wanted.share_of_peak
    if wanted.share_in_flight is not None:
        needed = needed_in_flight(card, wanted.share_in_flight)
        return len(wanted.readers) == 1 and _in_flight(kernels.get(wanted.readers[0]), wanted.is_half) >= needed
    return bandwidth is not None and bandwidth >= (wanted.share_of_bandwidth or 0.0)


def page(record: Mapping[str, Any]) -> str:
    """The whole page.

    Parameters
    ----------
    record : mapping
        machine_code.json.

    Returns
    -------
    str
        Markdown.
    """
    parts = [_INTRODUCTION.format(compiler=record["compiler"]), *_targets(CARDS[1], record)]
    for card in CARDS:
        kernels = record["kernels"].get(card.architecture, {})
        parts += [f"## {card.name}, code for sm_{card.architecture}\n", _little(card), _loops(card, kernels)]
        others = {name: facts for name, facts in kernels.items() if "loop" not in facts}
        if others:
            parts += ["Kernels without a main loop:\n", _others(others)]
    return "\n".join([*parts, _OUTRO.format(sources=SOURCES)])


def _targets(card: Card, record: Mapping[str, Any]) -> list[str]:
    kernels = record["kernels"].get(card.architecture, {})
    lines = [
        f"## Targets, {card.name}\n",
        f"| pass | reads of the rows | aimed at | estimate | limit | in flight on a multiprocessor | | {H200.name} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for wanted in PASSES:
        facts = kernels.get(wanted.readers[-1])
        bound = _bound(card, facts, wanted.is_half)
        verdict = "met" if is_met(card, kernels, wanted) else "**not met**"
        reads = f"{len(wanted.readers)}: " + ", ".join(title_of(name) for name in wanted.readers)
        lines.append(
            f"| {wanted.title} | {reads} | {_aim(wanted)} | {_reached(card, kernels, wanted)} "
            f"| {bound.limit if bound else '-'} | {_flight(card, facts, wanted.is_half)} | {verdict} "
            f"| {_reached(H200, kernels, wanted)} |"
        )
    lines.append(f"\nThe last column is the estimate on {H200.name}, the same multiprocessors before faster memory.\n")
    lines.append(_READS)
    for each in (card, H200):
        needed = needed_in_flight(each, 0.85) / 1024
        many = f"each of {each.multiprocessors} multiprocessors"
        lines.append(
            f"85% of {each.name}'s {each.bandwidth / 1e12:.2f} TB/s needs {needed:.1f} KB in flight on {many}.\n"
        )
    return lines


def _aim(wanted: Pass) -> str:
    if wanted.share_of_peak is not None:
        return f"{_percent(wanted.share_of_peak)} of mma.sync's peak"
    if wanted.share_in_flight is not None:
        return f"one read, bytes in flight for {_percent(wanted.share_in_flight)} of the bandwidth"
    return f"{_percent(wanted.share_of_bandwidth)} of the bandwidth"


def _reached(card: Card, kernels: Mapping[str, Any], wanted: Pass) -> str:
    """Never rounded up: a figure that is printed is one that is reached."""
    peak, bandwidth = share_of_pass(card, kernels, wanted)
    if wanted.share_of_peak is None:
        return _whole_percent(bandwidth)
    low = share_of_pass(replace(card, cache=5.5e12), kernels, wanted)[0]
    return f"{_whole_percent(peak)} ({_whole_percent(low)} with a cache of 5.5 TB/s)"


def _whole_percent(share: float | None) -> str:
    return "-" if share is None else f"{math.floor(share * 100)}%"


def _bound(card: Card, facts: Mapping[str, Any] | None, is_half: bool) -> Bound | None:
    if facts is None:
        return None
    return bound_of(card, facts, half=is_half and "half loop" in facts)


def _in_flight(facts: Mapping[str, Any] | None, is_half: bool) -> float:
    """Bytes on a multiprocessor."""
    if facts is None or "loop" not in facts:
        return 0.0
    loop = facts["half loop"] if is_half and "half loop" in facts else facts["loop"]
    return float(loop["in flight"] * facts["threads"] * facts["blocks"])


def _flight(card: Card, facts: Mapping[str, Any] | None, is_half: bool) -> str:
    found = _in_flight(facts, is_half)
    return (
        "-"
        if not found
        else f"{found / 1024:.1f} KB, {_percent(found / needed_in_flight(card))} of what the whole bandwidth needs"
    )


def _little(card: Card) -> str:
    return (
        f"{card.multiprocessors} multiprocessors at {card.clock / 1e9:.3g} GHz, {card.bandwidth / 1e12:.3g} TB/s, "
        f"{card.latency * 1e9:.0f} ns: the whole bandwidth needs {needed_in_flight(card) / 1024:.1f} KB in flight "
        "on each of them.\n"
    )


def _loops(card: Card, kernels: Mapping[str, Any]) -> str:
    head = (
        *("kernel", "registers", "threads", "blocks", "tensor", "multiply-adds", "shared loads", "copies, loads"),
        *("integer", "all", "behind the barrier", "in flight, KB", "limit", "clocks", "of peak", "of bandwidth"),
    )
    rows = []
    for name, facts in kernels.items():
        for key in ("loop", "half loop"):
            if key in facts and (key == "loop" or facts[key]["counts"].get("copy")):
                rows.append(_row(card, name, facts, key))
    return _table(head, rows)


def _row(card: Card, name: str, facts: Mapping[str, Any], key: str) -> list[str]:
    loop = facts[key]
    counts = loop["counts"]
    bound = bound_of(card, facts, half=key == "half loop")
    in_flight = loop["in flight"] * facts["threads"] * facts["blocks"] / 1024
    integer = sum(counts.get(kind, 0) for kind in ("integer", "multiply", "move", "predicate", "uniform"))
    return [
        title_of(name) + (", one side" if key == "half loop" else "") + (" (?)" if "has unknown turns" in loop else ""),
        *(str(facts[each]) for each in ("registers", "threads", "blocks")),
        str(counts.get("tensor", 0)),
        str(loop["multiply-adds"]),
        str(counts.get("shared load", 0)),
        str(counts.get("copy", 0) + counts.get("global load", 0)),
        str(integer),
        str(sum(counts.values())),
        str(loop["behind barriers"]),
        f"{in_flight:.1f}" if in_flight else "-",
        bound.limit if bound else "-",
        f"{bound.turn:.0f}" if bound else "-",
        _percent(bound.share_of_peak if bound else None),
        _percent(bound.share_of_bandwidth if bound else None),
    ]


def _others(kernels: Mapping[str, Any]) -> str:
    rows = [
        [title_of(name), *(str(facts[each]) for each in ("registers", "threads", "blocks"))]
        for name, facts in kernels.items()
    ]
    return _table(("kernel", "registers", "threads", "blocks"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.0f}%"
