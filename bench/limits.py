"""What limits work: the operations and bytes of each read of the features, and what part of a time they explain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Pass", "largest", "share_of_limit", "shared_anew"]


@dataclass(frozen=True)
class Pass:
    """One read of the features: what must be computed and read at least, and the dtype of the arithmetic."""

    flops: float
    bytes_read: float
    arithmetic: str = "float32"

    def least_seconds(self, limits: Mapping[str, float]) -> tuple[float, float]:
        """At the machine's peak rate of arithmetic, and at its bandwidth."""
        return self.flops / limits[f"{self.arithmetic} flops"], self.bytes_read / limits["read bytes"]


def largest(moments: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Each limit at the best of several moments: at the others the machine had other work, or ran slower."""
    found: dict[str, float] = {}
    for limits in moments:
        for name, value in limits.items():
            found[name] = max(value, found.get(name, 0.0))
    return found


def share_of_limit(row: Mapping[str, Any], passes: Sequence[Pass], limits: Mapping[str, float]) -> dict[str, Any]:
    """Columns: what part of its time the limits explain, for each pass the larger of the two, one after the other."""
    if not passes or "seconds" not in row:
        return {}
    bounds = [one.least_seconds(limits) for one in passes]
    least = sum(max(bound) for bound in bounds)
    kinds = dict.fromkeys("arithmetic" if arithmetic >= memory else "memory" for arithmetic, memory in bounds)
    return {
        "passes": [(one.flops, one.bytes_read, one.arithmetic) for one in passes],
        "flops": sum(one.flops for one in passes),
        "bytes read": sum(one.bytes_read for one in passes),
        "seconds to read": sum(memory for _, memory in bounds),
        "limit": ", then ".join(kinds),
        "share of limit": least / row["seconds"],
    }


def shared_anew(row: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, Any]:
    """A row, with its share of limits that were probed after it was measured."""
    passes = [Pass(*one) for one in row.get("passes", ())]
    return dict(row) | share_of_limit(row, passes, limits)
