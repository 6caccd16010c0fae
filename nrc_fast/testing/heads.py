"""NRC3 of a head from its definition, and a search for its best gamma that knows no closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nrc_fast.testing.rows import EPSILON, FloatArray, about_mean, reference_rows

__all__ = ["reference_nrc3", "reference_nrc3_gamma"]


def _nrc3_matrices(W: ArrayLike, Y: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Head Gram over its norm, root of the target covariance, and the eigenvalues of that root, ascending."""
    weights, centered = reference_rows(W), about_mean(reference_rows(Y))
    weights /= np.abs(weights).max() or 1.0
    gram = weights @ weights.T
    n = len(gram)
    values, vectors = np.linalg.eigh(centered.T @ centered / len(centered))
    values[values <= n * EPSILON * values[-1]] = 0.0  # rounding, whose root would be 1e-8
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    return gram / (np.linalg.norm(gram) or math.nan), root, np.sqrt(values)


def _nrc3_at(head: FloatArray, root: FloatArray, largest: float, shift: float) -> float:
    """NRC3 for one shift of the root; NaN where nothing but rounding is left of the shifted root."""
    shifted = root - shift * np.eye(len(root))
    norm = np.linalg.norm(shifted)
    if len(root) == 1 or norm <= 4 * len(root) ** 1.5 * EPSILON * largest:
        return math.nan
    return float(np.sum((head - shifted / norm) ** 2))


def reference_nrc3_gamma(W: ArrayLike, Y: ArrayLike) -> float:
    """Search the gamma in [0, lambda_min] with the smallest NRC3: 1001 roots, then golden sections.

    It knows nothing of the closed form. NRC3 is flat at its minimum, so gamma itself is found to about
    sqrt(eps) only, while NRC3 is found to eps.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) array or tensor

    Returns
    -------
    float
        NaN for n = 1, W = 0 and targets without variance; 0.0 where NRC3 does not depend on gamma.

    Examples
    --------
    >>> head = np.diag([1.0, 2.0]) - 0.3 * np.eye(2)
    >>> targets = np.diag([1.0, 2.0])[[0, 1, 0, 1]] * np.array([[1.0], [1.0], [-1.0], [-1.0]]) * 2**0.5
    >>> round(reference_nrc3_gamma(head**0.5, targets), 6)
    0.09
    """
    head, root, roots = _nrc3_matrices(W, Y)
    grid = np.linspace(0.0, roots[0], 1001)
    values = [_nrc3_at(head, root, roots[-1], shift) for shift in grid]
    if np.isnan(values[0]):
        return math.nan
    if roots[-1] - roots[0] <= 4 * len(root) * EPSILON * roots[-1]:
        return 0.0  # a multiple of the identity: constant but for rounding, which grows towards lambda_min
    best = int(np.nanargmin(values))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 1000)]
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(80):  # 0.618^80 = 2e-17: down to neighbouring floats
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _nrc3_at(head, root, roots[-1], left) <= _nrc3_at(head, root, roots[-1], right):
            high = right
        else:
            low = left
    refined = 0.5 * (low + high)
    # The ends of the interval belong to it, and golden sections only come near them.
    candidates = [grid[best], refined]
    return float(min(candidates, key=lambda shift: _nrc3_at(head, root, roots[-1], shift)) ** 2)


def reference_nrc3(W: ArrayLike, Y: ArrayLike, gamma: float | None = None) -> float:
    """NRC3: squared distance of the normalised head Gram from the normalised shifted root of the covariance.

    ``|| W W^T / |W W^T|_F - (Sigma^(1/2) - gamma^(1/2) I) / |Sigma^(1/2) - gamma^(1/2) I|_F ||_F^2`` with
    Sigma the centred 1/N covariance of the targets.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) array or tensor
    gamma : float, optional
        The minimum over [0, lambda_min] if not given, found by `reference_nrc3_gamma`.

    Returns
    -------
    float
        NaN for n = 1, W = 0, and where the shifted root is zero.

    Examples
    --------
    >>> targets = np.diag([1.0, 2.0])[[0, 1, 0, 1]] * np.array([[1.0], [1.0], [-1.0], [-1.0]])
    >>> reference_nrc3(np.diag([1.0, 2.0]) ** 0.5, targets, gamma=0.0) < 1e-28
    True
    """
    head, root, roots = _nrc3_matrices(W, Y)
    chosen = reference_nrc3_gamma(W, Y) if gamma is None else gamma
    return math.nan if math.isnan(chosen) else _nrc3_at(head, root, roots[-1], math.sqrt(chosen))
