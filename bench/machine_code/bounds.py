"""Clocks that a turn of a main loop takes at least, and the shares of a card's peaks that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from machine_code.cards import Card

__all__ = ["Bound", "bound_of", "needed_in_flight", "share_of_bandwidth"]

WARP = 32
# Kinds of instructions by the unit that executes them; a multiply of integers takes turns of the float32 lanes.
_INTEGER = ("integer", "predicate", "move")


@dataclass(frozen=True)
class Bound:
    """What follows for one kernel on one card, at best."""

    clocks: dict[str, float]  # that each unit of a multiprocessor needs for one turn of all of its blocks
    exposed: float  # what stands between a barrier and the products, where no other block overlaps it
    share_of_peak: float | None  # of the arithmetic that the loop is for; None where it has none
    share_of_bandwidth: float | None  # of device memory that the loop can ask for; None where it reads nothing
    limit: str

    @property
    def turn(self) -> float:
        """Clocks of a turn."""
        return max(self.clocks.values()) + self.exposed


def needed_in_flight(card: Card, share: float = 1.0) -> float:
    """Bytes of one multiprocessor that must be on their way for a share of the bandwidth (Little's law)."""
    return share * card.bandwidth / card.multiprocessors * card.latency


def share_of_bandwidth(card: Card, in_flight: float) -> float:
    """Share of the bandwidth, at most 1, that so many bytes in flight on each multiprocessor can use."""
    return min(1.0, in_flight / needed_in_flight(card))


def bound_of(card: Card, facts: Mapping[str, Any], *, half: bool = False) -> Bound | None:
    """Bounds of a kernel whose counts are known.

    Parameters
    ----------
    card : Card
        Where it would run.
    facts : mapping
        One kernel of machine_code.json.
    half : bool
        Both sides of a product are the same rows, copied once.

    Returns
    -------
    Bound or None
        None where a kernel has no main loop, or cannot be launched.
    """
    loop = facts.get("half loop" if half else "loop")
    if not loop or not facts["blocks"]:
        return None
    counts: Mapping[str, int] = loop["counts"]
    warps = facts["threads"] // WARP * facts["blocks"]
    lanes = facts["threads"] * facts["blocks"]
    folded = loop["folded"] / loop["turns between folds"] if loop.get("turns between folds") else 0.0
    issued = sum(counts.values()) + folded
    of_warp = {
        "schedulers": issued / card.schedulers,
        "integer lanes": WARP * sum(counts.get(kind, 0) for kind in _INTEGER) / card.integer,
        "float32 lanes": WARP * (counts.get("float32", 0) / card.float32 + counts.get("multiply", 0) / 64),
        "float64 lanes": WARP * counts.get("float64", 0) / card.float64,
        "conversions": WARP * (counts.get("conversion", 0) + counts.get("special", 0)) / card.special,
        "tensor cores": loop["tensor work"] / (card.tensor_float64 if loop["is float64"] else card.tensor),
        "shared memory": loop["shared bytes"] * WARP / card.shared,
    }
    clocks = {unit: warps * each for unit, each in of_warp.items()}
    moved = loop["loaded bytes"] * lanes
    clocks["cache"] = moved * card.clock * card.multiprocessors / card.cache
    exposed = 0.0
    if facts["blocks"] == 1 and loop["behind barriers"]:
        exposed = warps * loop["behind barriers"] / card.schedulers + card.shared_latency
    work = _work(loop, clocks)
    turn = max(clocks.values()) + exposed
    by_flight = None
    by_time = None
    if moved and loop["in flight"]:
        by_flight = share_of_bandwidth(card, loop["in flight"] * lanes)
        of_rows = loop["row bytes"] * lanes
        by_time = min(1.0, of_rows * card.clock * card.multiprocessors / turn / card.bandwidth)
    by_both = min(by_flight, by_time) if by_flight and by_time else None
    limit = max(clocks, key=lambda unit: clocks[unit])
    return Bound(clocks, exposed, work / turn if work else None, by_both, limit)


def _work(loop: Mapping[str, Any], clocks: Mapping[str, float]) -> float:
    """Clocks of the arithmetic that a loop is for: its multiply-adds."""
    if loop["tensor work"]:
        return clocks["tensor cores"]
    if loop["multiply-adds"] == 0:
        return 0.0
    unit = "float64" if loop["is float64"] else "float32"
    kinds = loop["counts"].get(unit, 0)
    return clocks[f"{unit} lanes"] * loop["multiply-adds"] / kinds if kinds else 0.0
