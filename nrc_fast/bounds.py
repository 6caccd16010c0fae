"""How far a reported number can be from its definition on the stored rows.

The bounds are statistical: rounding errors of a sum are taken to grow like the square root of its length. They
cover the basis (an eigenvector turns by the error of its matrix over the gap of the eigenvalues), the rounding of
the projection, and of the sums.
"""

from __future__ import annotations

import math

from nrc_fast.linalg import EPSILON, FloatArray

__all__ = ["SINGLE_EPSILON", "angle_bound", "refined_angle_bound", "residual_bound", "trace_bound"]

# Unit roundoff of float32.
SINGLE_EPSILON = 2.0**-24


def angle_bound(eigenvalues: FloatArray, k: int, matrix_error: float) -> float:
    """Largest angle by which the leading k eigenvectors turn when the matrix is off by `matrix_error` in norm.

    Davis and Kahan: the sine is at most error/gap, the gap being that of exact to computed eigenvalues; without a gap
    it is 1.
    """
    if k >= len(eigenvalues):
        return 0.0
    gap = float(eigenvalues[k - 1] - eigenvalues[k]) - matrix_error
    return 1.0 if matrix_error >= gap else matrix_error / gap


def refined_angle_bound(eigenvalues: FloatArray, k: int, matrix_error: float, exact_error: float) -> float:
    """The same after one step of subspace iteration whose own matrix is off by `exact_error`.

    The step shortens the wrong part of the basis by the ratio of the eigenvalues on either side of the gap.
    """
    if k >= len(eigenvalues):
        return 0.0
    largest_dropped = max(float(eigenvalues[k]), matrix_error)
    kept = float(eigenvalues[k - 1])
    ratio = min(1.0, largest_dropped / kept) if kept > 0.0 else 1.0
    exact = min(1.0, exact_error / kept) if kept > 0.0 else 1.0
    return min(1.0, angle_bound(eigenvalues, k, matrix_error) * ratio + exact)


def _mixed_in(value: float, energy: float, angle: float) -> float:
    """What a basis turned by `angle` may add to, or take from, a mean residual."""
    return 2.0 * angle * math.sqrt(max(value, 0.0) * energy) + angle * angle * energy


def residual_bound(value: float, energy: float, angle: float, d: int, count: int, *, double_precision: bool) -> float:
    """Bound of a mean explicit residual of `count` rows with mean energy `energy`, on a basis off by up to `angle`.

    Turning a subspace by a mixes at most ``a sqrt(energy)`` into a residual vector of mean size sqrt(value), in the
    mean over rows; the rounding of the projection acts the same way.
    """
    unit = EPSILON / 2 if double_precision else SINGLE_EPSILON
    turn = angle + unit * (4.0 + 2.0 * math.sqrt(d))
    return min(_mixed_in(value, energy, turn) + EPSILON * (d + 4.0 * math.sqrt(count)) * value, max(energy, value))


def trace_bound(value: float, energy: float, angle: float, relative_error: float) -> float:
    """The same for a residual taken from a second moment, which has an absolute floor."""
    return min(_mixed_in(value, energy, angle) + 3.0 * relative_error * energy, max(energy, value))
