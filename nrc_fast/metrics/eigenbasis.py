"""How much of W W^T lies outside the eigenbasis of Sigma, with an interval where that basis is not determined."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.alignment import HeadAlignment

__all__ = ["share_outside"]

# Eigenvalues are grouped by gaps of these sizes, in units of the error of Sigma and of a rounding, and tie up to the
# first.
TIED = 2.0
GAPS = tuple(16.0**k for k in range(1, 14))


def share_outside(alignment: HeadAlignment, covariance_error: float) -> tuple[float, float]:
    r"""Share of W W^T outside the eigenbasis of Sigma, and the bound of its error.

    ``sum |P_k G P_l|_F^2 / |G|_F^2`` over the pairs of different eigenspaces of Sigma, with ``G = W W^T`` and the
    projections P on the eigenspaces. Within an eigenspace of several dimensions the basis can be chosen so that nothing
    is outside, and eigenvalues that tie within the error of Sigma are taken as one.

    Parameters
    ----------
    alignment : HeadAlignment
    covariance_error : float
        Bound of the Frobenius norm of the error of Sigma.

    Returns
    -------
    float, float
        The share is in [0, 1 - 1/n]. NaN where NRC3 is.

    Notes
    -----
    Where eigenvalues are further apart than the error e of Sigma, their space turns by no more than ``e/(gap - e)``
    (Davis and Kahan), and what it shares with the others changes by no more than twice that
    of the traceless part of G. Where they are not, any
    basis of their common space may be the true one: between nothing of it and all of it beside a multiple of the
    identity is outside. Eigenvalues are grouped by gaps of several sizes, and the interval is what all of these allow.

    Examples
    --------
    >>> gram = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> value, bound = share_outside(HeadAlignment(gram, np.diag([4.0, 1.0])), 0.0)
    >>> round(value, 12), bound < 1e-13
    (0.2, True)
    >>> value, bound = share_outside(HeadAlignment(gram, np.eye(2)), 0.0)
    >>> value, round(bound, 6)
    (0.0, 0.2)
    """
    if not alignment.is_defined:
        return math.nan, math.nan
    rotated, eigenvalues = alignment.rotated(), alignment.eigenvalues
    n = len(eigenvalues)
    error = alignment.sigma_error(covariance_error)
    rounding = 3.0 * EPSILON  # of entries, their norm and sums of squares: relative to what is added up
    near = error + EPSILON * float(eigenvalues[0])
    traceless = float(np.linalg.norm(rotated - np.trace(rotated) / n * np.eye(n)))
    value = _between(rotated, _groups(eigenvalues, TIED * near))
    lowest, highest = 0.0, 1.0 - 1.0 / n
    # Fewer groups are unions of more, so that their number tells them.
    for groups in {int(found[-1]): found for found in (_groups(eigenvalues, gap * near) for gap in GAPS)}.values():
        turns = _turns(eigenvalues, groups, error)
        between = math.sqrt(_between(rotated, groups))
        reach = 2.0 * float(np.linalg.norm(turns)) * traceless + alignment.gram_error + rounding * between
        lowest = max(lowest, max(between - reach, 0.0) ** 2)
        highest = min(
            highest, (between + reach) ** 2 + _within(rotated, groups, turns, alignment.gram_error + rounding)
        )
    return value, max(highest - value, value - lowest, 0.0)


def _groups(eigenvalues: FloatArray, gap: float) -> NDArray[np.intp]:
    """The number of the group of each eigenvalue; groups are further apart than the gap."""
    return np.concatenate([[0], np.cumsum(eigenvalues[:-1] - eigenvalues[1:] > gap)])


def _between(rotated: FloatArray, groups: NDArray[np.intp]) -> float:
    """What the entries of different groups have of the squares of all."""
    squares = np.square(rotated) * (groups[:, np.newaxis] != groups)
    return float(sums_along(squares.ravel(), axis=0))


def _turns(eigenvalues: FloatArray, groups: NDArray[np.intp], error: float) -> FloatArray:
    """Bounds of the sines by which the spaces of the groups may be turned."""
    ends = np.flatnonzero(np.diff(groups))
    gaps = np.concatenate([[math.inf], eigenvalues[ends] - eigenvalues[ends + 1], [math.inf]])
    nearest = np.minimum(gaps[:-1], gaps[1:])
    nearest = nearest - EPSILON * float(eigenvalues[0])  # eigenvalues are rounded
    turns: FloatArray = np.minimum(error / np.maximum(nearest - error, error), 1.0)
    return turns


def _within(rotated: FloatArray, groups: NDArray[np.intp], turns: FloatArray, rounding: float) -> float:
    """The most that may lie outside of a basis of the space of each group, over all groups."""
    total = 0.0
    for group in np.flatnonzero(np.bincount(groups) > 1):
        inside = np.flatnonzero(groups == group)
        block = rotated[np.ix_(inside, inside)]
        block -= np.trace(block) / len(inside) * np.eye(len(inside))
        # A basis of the space can be turned into one of the true space by sqrt(2) times the sine.
        total += (float(np.linalg.norm(block)) + 3.0 * float(turns[group]) + rounding) ** 2
    return total
