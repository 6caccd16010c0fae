"""Rows as the references take them: in float64, about their mean, or scaled to norm 1."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["EPSILON", "FloatArray", "about_mean", "reference_rows", "to_unit_norm"]

FloatArray = NDArray[np.float64]

EPSILON = 2.0**-52


def reference_rows(H: ArrayLike) -> FloatArray:
    """Copy an array or a torch CPU tensor of any floating dtype to float64, which holds all of them exactly.

    Parameters
    ----------
    H : array or tensor of any shape
        float64, float32, float16, or bfloat16 (``ml_dtypes`` for numpy); a Parameter is detached.

    Returns
    -------
    float64 array
        Never a view of the input.

    Examples
    --------
    >>> reference_rows(np.array([[0.1, 2.0]], dtype=np.float16)).tolist()
    [[0.0999755859375, 2.0]]
    """
    torch = sys.modules.get("torch")  # who has a tensor has imported torch; nobody else waits for it
    if torch is not None and isinstance(H, torch.Tensor):
        H = H.detach().to(torch.float64).numpy()
    return np.array(H, dtype=np.float64)


def about_mean(rows: FloatArray) -> FloatArray:
    """Rows minus their mean, twice: the first mean is rounded, and equal rows shall give exactly zero."""
    if not len(rows):
        return rows
    centered = rows - rows.mean(axis=0)
    centered -= centered.mean(axis=0)
    return np.asarray(centered)


def to_unit_norm(rows: FloatArray) -> FloatArray:
    """Rows scaled to norm 1; a zero row stays zero."""
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / np.where(peaks > 0.0, peaks, 1.0)  # so that the squares of 1e-200 do not vanish
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(norms > 0.0, norms, 1.0)
