"""How far the span of leading eigenvectors that were found may be from that of the exact ones.

The bounds are certified for the error of the matrix that they are given (Weyl; Davis and Kahan), and no better than it.
"""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs

__all__ = ["angle_bound", "leading_angle_bound", "refined_angle_bounds"]


def angle_bound(eigenvalues: FloatArray, k: int, matrix_error: float) -> float:
    """Largest angle by which the leading k eigenvectors turn when the matrix is off by `matrix_error` in norm.

    Davis and Kahan: the sine is at most error/gap, the gap being that of exact to computed eigenvalues; without a gap
    it is 1.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Descending.
    k : int
        How many lead; with all d there is nothing to turn out of, and the angle is 0.
    matrix_error : float
    """
    if k >= len(eigenvalues):
        return 0.0
    gap = float(eigenvalues[k - 1] - eigenvalues[k]) - matrix_error
    return 1.0 if matrix_error >= gap else matrix_error / gap


def leading_angle_bound(pairs: LeadingPairs, k: int, matrix_error: float) -> float:
    """Largest angle between the leading k vectors that were found and those of the exact matrix.

    What was found is exact for a matrix that is off by the distances of the pairs too; see `angle_bound`. 1 for pairs
    that were not found.

    Parameters
    ----------
    pairs : LeadingPairs
    k : int
    matrix_error : float
        How far the matrix is off in norm.
    """
    ends = _around_gap(pairs, k)
    return float(k < pairs.d) if ends is None else angle_bound(ends, 1, matrix_error + pairs.distance(k))


def refined_angle_bounds(
    vectors: FloatArray, image: FloatArray, *, trace: float, beyond: FloatArray, error: float
) -> FloatArray:
    """Largest angles of the leading j = 1..r vectors after one step of subspace iteration, which has measured them.

    With ``V C = M V + R`` for the first j vectors, and U the exact eigenvectors of the other eigenvalues L, the part of
    ``M^-1 V C`` along U is ``M^-1 V U L``, and ``V U = M^-1 (V U L - R U)``: it is at most
    ``|L| |M^-2 R|/(1 - |L|/m)``, m the smallest eigenvalue of M, however the vectors were found; and the whole is no
    shorter than V.

    Parameters
    ----------
    vectors : (r, d) float64 array
        V, orthonormal rows.
    image : (r, d) float64 array
        V C.
    trace : float
        Of C. What the vectors leave of it bounds all other eigenvalues for certain.
    beyond : (r,) float64 array
        Another bound of eigenvalue j + 1.
    error : float
        Bound of the norm of the error of the image.

    Examples
    --------
    >>> C, turned = np.diag([4.0, 1.0]), np.array([[1.0, 1e-3]])
    >>> (angle,) = refined_angle_bounds(turned, turned @ C, trace=5.0, beyond=np.ones(1), error=0.0)
    >>> round(float(angle), 6)
    0.00025
    """
    inside = image @ vectors.T
    angles = np.ones(len(vectors))
    for j in range(1, len(vectors) + 1):
        inner = 0.5 * (inside[:j, :j] + inside[:j, :j].T)
        kept, turns = np.linalg.eigh(inner)
        dropped = max(min(trace - float(kept.sum()), float(beyond[j - 1])), 0.0)
        if not kept[0] > dropped:
            continue
        left = turns.T @ (image[:j] - inside[:j, :j] @ vectors[:j]) / kept[:, np.newaxis]
        turned = float(np.linalg.norm(left / kept[:, np.newaxis], 2)) + error / kept[0] ** 2
        angles[j - 1] = min(1.0, dropped * turned / (1.0 - dropped / kept[0]) + error / kept[0])
    return angles


def _around_gap(pairs: LeadingPairs, k: int) -> FloatArray | None:
    """Eigenvalue k and the next, at most; None where one of them is missing."""
    if k >= pairs.d or k > len(pairs.values):
        return None
    return np.array([pairs.values[k - 1], pairs.next_value(k)])
