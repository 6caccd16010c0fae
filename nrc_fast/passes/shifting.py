"""Sums over rows about one shift as they are about another."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import Pair, added, exactly, product, two_sum
from nrc_fast.kernels.counts import RESTS, magnitudes_of
from nrc_fast.kernels.long_sums import added_targets, long_sum

__all__ = ["shifted"]


def shifted(
    state: dict[str, FloatArray], shift: FloatArray, target_shift: FloatArray, *, products: bool
) -> dict[str, FloatArray]:
    """The sums of a state, by the names of `kernels.counts.ADDITIVE`, as if other shifts had been subtracted.

    With ``delta = s - s'``: ``sum (h - s')(h - s')^T = G + r delta^T + delta r^T + N delta delta^T``,
    r = sum (h - s), and so on, whose magnitude is one more that rounding is relative to. A state without shifts, which
    has no rows, takes them over.

    Parameters
    ----------
    state : dict of float64 arrays
        Not changed.
    shift, target_shift : (d,) and (n_targets,) float64 arrays
    products : bool
        Whether the state has Gram matrices of features.
    """
    if "shift" not in state:
        return state | {"shift": shift, "target_shift": target_shift}
    delta, target_delta = state["shift"] - shift, state["target_shift"] - target_shift
    sums, target_sums = state["column_sums"], state["target_sums"]
    count = float(state["counts"][0])
    undone = {"double": _undone(sums, delta, count), "targets": _undone(target_sums, target_delta, count)}
    moved = {"shift": shift, "target_shift": target_shift}
    moved["magnitudes"] = state["magnitudes"] + magnitudes_of(**undone)
    if delta.any():
        half = sums + 0.5 * count * delta
        if products:
            moved["gram"] = state["gram"] + np.tril(np.outer(half, delta) + np.outer(delta, half))
        moved["column_sums"] = sums + count * delta
    if target_delta.any():
        moved |= added_targets(state, _undone_targets(state, target_shift, count))
    moved["cross"] = (
        state["cross"]
        + np.outer(target_delta, sums)
        + np.outer(target_sums, delta)
        + count * np.outer(target_delta, delta)
    )
    return state | moved


def _undone_targets(state: dict[str, FloatArray], shift: FloatArray, count: float) -> dict[str, FloatArray]:
    """What a change of their shift adds to the sums of targets, as pairs where these are."""
    delta = two_sum(state["target_shift"], -shift)
    whole = product(Pair(*(part[:, np.newaxis] for part in delta)), exactly(np.array([[count]])))
    sums = long_sum(state, "target_sums")
    half = added(sums, Pair(*(0.5 * part[:, 0] for part in whole)))
    outer = product(Pair(*(part[:, np.newaxis] for part in half)), Pair(*(part[np.newaxis] for part in delta)))
    outer = added(outer, Pair(outer.high.T, outer.low.T))
    found = {"target_sums": Pair(*(part[:, 0] for part in whole)), "target_gram": Pair(*map(np.tril, outer))}
    return {key: part for name, pair in found.items() for key, part in zip((name, RESTS[name]), pair, strict=True)}


def _undone(sums: FloatArray, delta: FloatArray, count: float) -> float:
    """Trace of what a change of the shift adds to a sum of squares, if nothing in it cancelled."""
    size = float(np.linalg.norm(delta))
    return size * (2.0 * float(np.linalg.norm(sums)) + count * size)
