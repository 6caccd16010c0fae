"""Whether the machine code of a module is as good as the one on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from machine_code.bounds import bound_of
from machine_code.cards import CARDS

__all__ = ["Change", "changes", "quantities"]

# What another version of the compiler may change without anybody being asked.
MARGIN = 0.10
_INTEGER = ("integer", "multiply", "move", "predicate", "uniform", "constant load")
# Shares are rounded in the record's page; smaller changes than these are none.
_NOISE = 1e-9


@dataclass(frozen=True)
class Change:
    """One number of one kernel that differs from its record."""

    kernel: str
    architecture: str
    quantity: str
    before: float | str
    after: float | str
    is_worse: bool

    def __str__(self) -> str:
        """Which number, before and after."""
        verdict = "worse" if self.is_worse else "better or other"
        numbers = f"{_number(self.before)} -> {_number(self.after)}"
        return f"{self.kernel}, sm_{self.architecture}: {self.quantity} {numbers} ({verdict})"


def quantities(facts: Mapping[str, Any], architecture: str) -> dict[str, tuple[float, bool]]:
    """What is compared of one kernel.

    Parameters
    ----------
    facts : mapping
        Of one kernel.
    architecture : str
        As "90a".

    Returns
    -------
    dict
        By name the number, and whether more of it is better. Counts are of as much work as the first multiply-add, or
        byte where there is none, so that a turn may become longer.
    """
    found: dict[str, tuple[float, bool]] = {
        "blocks at once on a multiprocessor": (facts["blocks"], True),
        "bytes of local memory": (facts.get("local", 0), False),
    }
    for name in ("loop", "half loop"):
        loop = facts.get(name)
        if not loop:
            continue
        label = "" if name == "loop" else " with one side"
        work = loop["tensor work"] / 2048 or loop["multiply-adds"] or loop["loaded bytes"] or 1
        unit = "product" if loop["tensor work"] else "multiply-add" if loop["multiply-adds"] else "byte"
        counts = loop["counts"]
        found |= {
            f"integer instructions a {unit}{label}": (sum(counts.get(kind, 0) for kind in _INTEGER) / work, False),
            f"bytes of shared memory a {unit}{label}": (loop["shared bytes"] / work, False),
            f"copies a {unit}{label}": ((counts.get("copy", 0) + counts.get("global load", 0)) / work, False),
            f"instructions a {unit}{label}": (sum(counts.values()) / work, False),
            f"instructions behind barriers a {unit}{label}": (loop["behind barriers"] / work, False),
            f"bytes in flight on a multiprocessor{label}": (
                loop["in flight"] * facts["threads"] * facts["blocks"],
                True,
            ),
        }
        for card in CARDS:
            bound = bound_of(card, facts, half=name == "half loop") if card.architecture == architecture else None
            if bound is None:
                continue
            for share, title in ((bound.share_of_peak, "peak"), (bound.share_of_bandwidth, "bandwidth")):
                if share is not None:
                    found[f"share of {title} on {card.name}{label}"] = (share, True)
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """How two records differ, of the architectures that both have.

    Parameters
    ----------
    before, after : mapping
        As `record_of` makes them.

    Returns
    -------
    list of Change
        With the same compiler every difference; with another one what is worse by more than MARGIN.
    """
    is_same = before["compiler"] == after["compiler"]
    found: list[Change] = []
    for architecture, kernels in after["kernels"].items():
        known = before["kernels"].get(architecture)
        if known is None:
            continue
        for name in sorted(known.keys() - kernels.keys()):
            found.append(Change(name, architecture, "kernel", "on record", "gone", is_worse=False))
        for name in sorted(kernels.keys() - known.keys()):
            found.append(Change(name, architecture, "kernel", "not on record", "new", is_worse=False))
        for name in sorted(kernels.keys() & known.keys()):
            found += _of_kernel(name, architecture, known[name], kernels[name], is_same)
    return found


def _of_kernel(
    name: str, architecture: str, before: Mapping[str, Any], after: Mapping[str, Any], is_same: bool
) -> Iterator[Change]:
    old, new = quantities(before, architecture), quantities(after, architecture)
    margin = _NOISE if is_same else MARGIN
    seen = False
    for quantity in sorted(old.keys() | new.keys()):
        if quantity not in old or quantity not in new:
            lost = quantity in old and old[quantity][1]
            if is_same or lost:
                seen = True
                numbers = [each[quantity][0] if quantity in each else "none" for each in (old, new)]
                yield Change(name, architecture, quantity, numbers[0], numbers[1], is_worse=lost)
            continue
        (was, more_is_better), (is_now, _) = old[quantity], new[quantity]
        difference = (was - is_now) if more_is_better else (is_now - was)
        if difference > margin * max(abs(was), _NOISE):
            seen = True
            yield Change(name, architecture, quantity, was, is_now, is_worse=True)
        elif is_same and -difference > margin * max(abs(was), _NOISE):
            seen = True
            yield Change(name, architecture, quantity, was, is_now, is_worse=False)
    if is_same and not seen and before != after:
        yield Change(name, architecture, "other counts", "on record", "different", is_worse=False)


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
