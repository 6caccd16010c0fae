"""How sums over rows add up: number by number, and those that are pairs as pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import Pair, added
from nrc_fast.kernels.counts import LONG_SUMS, RESTS

__all__ = ["added_sums", "added_targets", "combined_sums", "long_sum"]


def long_sum(sums: Mapping[str, FloatArray], name: str) -> Pair:
    """A sum of targets, one of the names of `counts.RESTS`, as a pair; without a rest it is what float64 holds."""
    high, rest = sums[name], sums[RESTS[name]]
    return Pair(high, rest if rest.shape == high.shape else np.zeros_like(high))


def added_targets(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Sums of the targets of two parts, by name.

    Examples
    --------
    >>> import numpy as np
    >>> zero = {name: np.zeros(1) for name in LONG_SUMS}
    >>> one, tiny = ({**zero, "target_sums": np.array([value])} for value in (1.0, 1e-20))
    >>> added_targets(one, tiny)["target_sums_rest"].tolist()
    [1e-20]
    """
    found = {}
    for name, rest in RESTS.items():
        found[name], low = added(long_sum(first, name), long_sum(second, name))
        found[rest] = low if first[rest].shape == low.shape else first[rest]
    return found


def added_sums(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Sums of two parts by the names of `counts.ADDITIVE`, of which some may be missing in both."""
    total = {name: array + second[name] for name, array in first.items() if name not in LONG_SUMS}
    return total | added_targets(first, second) if "target_sums" in first else total


def combined_sums(parts: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Sums of several parts, at least one, in their order."""
    first, *others = parts
    return reduce(added_sums, others, dict(first))
