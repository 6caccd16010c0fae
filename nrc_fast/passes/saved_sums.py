"""Whether saved arrays are a state of shifted sums."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.counts import COUNTS, MAGNITUDES, RESTS, SumsKind, zero_sums

__all__ = ["checked_sums"]


def checked_sums(kind: SumsKind, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The state that these arrays hold, copied, with zeros for what earlier versions did not save.

    Raises
    ------
    ValueError
        Something is missing, has another shape or is not finite.
    """
    zeros = zero_sums(kind)
    found, shapes = _of_this_version(kind, arrays, zeros), {name: array.shape for name, array in zeros.items()}
    if "shift" in found:
        shapes |= {"shift": (kind.d,), "target_shift": (kind.n_targets,)}
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape or not np.isfinite(found[name]).all():
            given = found[name].shape if name in found else "nothing"
            msg = f"the saved {name} is {given} or not finite; finite values of shape {shape} are expected"
            raise ValueError(msg)
    if (found["counts"] < 0.0).any() or (found["magnitudes"] < 0.0).any():
        msg = "the saved counts are negative"
        raise ValueError(msg)
    if found["counts"][0] and "shift" not in found:
        msg = "the saved shift is nothing; finite values are expected where there are rows"
        raise ValueError(msg)
    return {name: np.array(found[name], dtype=np.float64, order="C") for name in shapes}


def _of_this_version(
    kind: SumsKind, arrays: Mapping[str, FloatArray], zeros: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """The same arrays, padded: what was saved before devices added up, or targets as pairs, has no counts of theirs."""
    found = dict(arrays)
    is_older = "counts" in found and found["counts"].ndim == 1 and len(found["counts"]) < len(COUNTS)
    for name, known in (("counts", COUNTS), ("magnitudes", MAGNITUDES)):
        if name in found and found[name].ndim == 1 and len(found[name]) < len(known):
            found[name] = np.pad(found[name], (0, len(known) - len(found[name])))
    if is_older:
        found |= {rest: zeros[rest] for rest in RESTS.values()}
    if not kind.unit_rows and "unit_gram" in found and found["unit_gram"].shape == (kind.d, kind.d):
        found["unit_gram"] = zeros["unit_gram"]  # of a version that needed it
    return found
