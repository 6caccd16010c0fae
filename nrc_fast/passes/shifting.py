"""Sums over rows about one shift as they are about another."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.counts import magnitudes_of

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
        half = target_sums + 0.5 * count * target_delta
        outer = np.outer(half, target_delta) + np.outer(target_delta, half)
        moved["target_gram"] = state["target_gram"] + np.tril(outer)
        moved["target_sums"] = target_sums + count * target_delta
    moved["cross"] = (
        state["cross"]
        + np.outer(target_delta, sums)
        + np.outer(target_sums, delta)
        + count * np.outer(target_delta, delta)
    )
    return state | moved


def _undone(sums: FloatArray, delta: FloatArray, count: float) -> float:
    """Trace of what a change of the shift adds to a sum of squares, if nothing in it cancelled."""
    size = float(np.linalg.norm(delta))
    return size * (2.0 * float(np.linalg.norm(sums)) + count * size)
