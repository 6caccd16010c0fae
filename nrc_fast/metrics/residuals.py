"""NRC1 and NRC2 from sums of residuals, and how far they can be from their definitions on the stored rows.

The bounds are statistical: rounding errors of a sum are taken to grow like the square root of its length. They
cover the basis (an eigenvector turns by the error of its matrix over the gap of the eigenvalues), the rounding of
the projection, and of the sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON, RowSpace
from nrc_fast.metrics.conventions import Convention, in_range
from nrc_fast.metrics.rounding import SINGLE_EPSILON, sum_rounding

__all__ = [
    "PrincipalBasis",
    "ProjectionSums",
    "angle_bound",
    "centring_turn",
    "leading_angle_bound",
    "leading_values",
    "refined_angle_bound",
    "refined_leading_angle_bound",
    "residual_bound",
    "residual_value",
    "resolved_rank",
    "subspace_residual",
    "trace_bound",
    "trace_outside",
]


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


def refined_angle_bound(eigenvalues: FloatArray, k: int, matrix_error: float, exact_error: float) -> float:
    """Largest angle by which k eigenvectors turn that one step of subspace iteration has improved.

    They come from a matrix that is off by `matrix_error` in norm, the step multiplies by one off by `exact_error`.

    The step shortens the wrong part of the basis by the ratio of the eigenvalues on either side of the gap.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Descending.
    k : int
    matrix_error, exact_error : float
    """
    if k >= len(eigenvalues):
        return 0.0
    largest_dropped = max(float(eigenvalues[k]), matrix_error)
    kept = float(eigenvalues[k - 1])
    ratio = min(1.0, largest_dropped / kept) if kept > 0.0 else 1.0
    exact = min(1.0, exact_error / kept) if kept > 0.0 else 1.0
    return min(1.0, angle_bound(eigenvalues, k, matrix_error) * ratio + exact)


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


def refined_leading_angle_bound(pairs: LeadingPairs, k: int, matrix_error: float, exact_error: float) -> float:
    """The same after one step of subspace iteration; see `refined_angle_bound`."""
    ends = _around_gap(pairs, k)
    if ends is None:
        return float(k < pairs.d)
    return refined_angle_bound(ends, 1, matrix_error + pairs.distance(k), exact_error)


def _around_gap(pairs: LeadingPairs, k: int) -> FloatArray | None:
    """Eigenvalue k and the next, at most; None where one of them is missing."""
    if k >= pairs.d or k > len(pairs.values):
        return None
    return np.array([pairs.values[k - 1], pairs.next_value(k)])


def _mixed_in(value: float, energy: float, angle: float) -> float:
    """What a basis turned by `angle` may add to, or take from, a mean residual."""
    return 2.0 * angle * math.sqrt(max(value, 0.0)) * math.sqrt(energy) + angle * angle * energy


def residual_bound(value: float, energy: float, angle: float, d: int, count: int, *, double_precision: bool) -> float:
    """Bound of a mean explicit residual of `count` rows with mean energy `energy`, on a basis off by up to `angle`.

    Turning a subspace by a mixes at most ``a sqrt(energy)`` into a residual vector of mean size sqrt(value), in the
    mean over rows; the rounding of the projection acts the same way.
    """
    unit = EPSILON / 2 if double_precision else SINGLE_EPSILON
    turn = angle + unit * (4.0 + 2.0 * math.sqrt(d))
    return min(_mixed_in(value, energy, turn) + (EPSILON * d + sum_rounding(count)) * value, max(energy, value))


def trace_bound(value: float, energy: float, angle: float, floor: float) -> float:
    """Bound of a mean residual taken from a second moment, on a basis off by up to `angle`.

    It has an absolute `floor`, the error of that moment.
    """
    return min(_mixed_in(value, energy, angle) + floor, max(energy, value))


def trace_outside(matrix: FloatArray, vectors: FloatArray) -> float:
    """Trace of the part of a positive semidefinite matrix (d, d) that lies outside the span of orthonormal rows (k, d).

    Of what is left of the matrix, not 1 minus what is inside: it keeps its digits near collapse.

    Examples
    --------
    >>> trace_outside(np.diag([1.0, 1e-20]), np.array([[1.0, 0.0]]))
    1e-20
    """
    if len(vectors) == len(matrix):
        return 0.0
    rest = matrix - vectors.T @ (vectors @ matrix)
    rest -= (rest @ vectors.T) @ vectors
    return max(float(np.trace(rest)), 0.0)


class ProjectionSums(Protocol):
    """Sums over rows of what is left of them with the leading k = 0, 1, ... vectors of a basis, (K + 1,) each."""

    raw: FloatArray  # of the rows as they are
    unit: FloatArray  # of the rows divided by their norm


@dataclass
class PrincipalBasis:
    """Leading principal components of the features.

    Attributes
    ----------
    vectors : (r, d) float64 array
        Orthonormal rows; the leading j of them span the leading j components. Fewer than were asked for where the
        features vary in fewer directions.
    mean : (d,) float64 array
        Mean of the features, as precise as the basis.
    mean_error : float
        Bound of the error of the mean relative to the spread of the features.
    angles : (k,) float64 array
        Bound of the angle of the leading j = 1..k components to the exact ones.
    collapsed : bool
        Whether next to nothing of the variance is outside, so that the residual must be float64.
    spread : float
        Root of the variance of the features.
    """

    vectors: FloatArray
    mean: FloatArray
    mean_error: float
    angles: FloatArray
    collapsed: bool
    spread: float = 0.0

    @property
    def shift_error(self) -> float:
        """Bound of the norm of the error of the mean."""
        return self.mean_error * self.spread

    def leading(self, k: int) -> PrincipalBasis:
        """The leading k of these components."""
        return replace(self, vectors=self.vectors[:k], angles=self.angles[:k])


def resolved_rank(eigenvalues: FloatArray, d: int) -> int:
    """How many components d features have: leading eigenvalues that can be told from the rounding of the largest.

    Directions beyond are arbitrary. NRC1 with more components than these is, by definition, NRC1 with all of these
    (and 0 for k = d).
    """
    return int(np.count_nonzero(eigenvalues > d * EPSILON * np.max(eigenvalues, initial=0.0)))


def residual_value(convention: Convention, sums: ProjectionSums, k: int, count: int, d: int) -> tuple[float, float]:
    """Value of a convention with the leading k vectors, and the mean energy of its rows.

    NaN where all rows are zero (or have no variance, where rows are centered); exactly 0 where k = d.

    Parameters
    ----------
    convention : Convention
    sums : ProjectionSums
        Sums of squared residuals, (K + 1,) each.
    k : int
        How many vectors; more than K count as K.
    count, d : int
        Rows and columns of the features.

    Raises
    ------
    ValueError
        The squares of the features leave the range of float64.
    """
    by_k = sums.unit if convention.unit_rows else sums.raw
    if not np.isfinite(by_k[0]) or (by_k[0] == 0.0 and sums.unit[0] > 0.0):
        msg = f"under convention {convention.name} the squares of H leave the range of float64; scale it first"
        raise ValueError(msg)
    if not by_k[0] > 0.0:
        return float("nan"), 0.0
    scale = float(by_k[0]) if convention.relative else float(count)
    value = np.array(0.0 if k >= d else by_k[min(k, len(by_k) - 1)] / scale)
    return float(in_range(convention, value)), float(by_k[0]) / scale


def centring_turn(convention: Convention, mean_error: float, turned: float, energy: float) -> float:
    """Angle by which the error of the mean may turn the rows of a convention, in their mean square; 0 about the origin.

    Parameters
    ----------
    convention : Convention
    mean_error : float
        Bound of the error of the mean, relative to the spread of the features.
    turned : float
        Mean square of the angles of single rows, which count where rows are divided by their norm.
    energy : float
        Mean energy of the rows that are projected.
    """
    if not convention.centered_rows:
        return 0.0
    if not convention.unit_rows:
        return mean_error
    return math.sqrt(turned / energy) if energy > 0.0 else 1.0


def subspace_residual(
    convention: Convention,
    space: RowSpace,
    sums: ProjectionSums,
    count: int,
    *,
    double_precision: bool,
    mean_error: float = 0.0,
    turned: float = 0.0,
) -> tuple[float, float]:
    """NRC2 and its bound from the sums of `count` rows on the basis of a row space; NaN where all rows are zero.

    Parameters
    ----------
    convention : Convention
    space : RowSpace
        Of W, with some basis.
    sums : ProjectionSums
    count : int
    double_precision : bool
        Whether the residuals were computed in float64.
    mean_error, turned : float
        As in `centring_turn`.

    Raises
    ------
    ValueError
        The squares of the features leave the range of float64.
    """
    rank, d = space.basis.shape
    value, energy = residual_value(convention, sums, rank, count, d)
    angle = EPSILON * d + space.error + centring_turn(convention, mean_error, turned, energy)
    bound = residual_bound(value, energy, angle, d, count, double_precision=double_precision)
    return value, math.nan if math.isnan(value) else bound


def leading_values(
    convention: Convention,
    basis: PrincipalBasis,
    sums: ProjectionSums,
    count: int,
    *,
    double_precision: bool,
    turned: float = 0.0,
) -> tuple[FloatArray, FloatArray]:
    """NRC1 for k = 1..K and its bounds, (K,) each, from the sums on a basis with K angles.

    Parameters
    ----------
    convention : Convention
    basis : PrincipalBasis
    sums : ProjectionSums
        Sums of squared residuals of `count` rows on that basis.
    count : int
    double_precision : bool
        Whether the residuals were computed in float64.
    turned : float
        Mean square of the angles by which the error of the mean turns rows about it.

    Raises
    ------
    ValueError
        The squares of the features leave the range of float64.
    """
    rank, d = basis.vectors.shape
    values: list[float] = []
    bounds: list[float] = []
    for k, turn in enumerate(basis.angles, start=1):
        value, energy = residual_value(convention, sums, k, count, d)
        angle = float(turn) + centring_turn(convention, basis.mean_error, turned, energy)
        bound = residual_bound(value, energy, angle, d, count, double_precision=double_precision)
        if k > rank:
            # More components only take away: the truth lies between 0 and what is left at the rank.
            bound = min(energy, values[rank - 1] + bounds[rank - 1] if rank > 0 else energy)
        values.append(value)
        bounds.append(math.nan if math.isnan(value) else 0.0 if k >= d else bound)
    return np.array(values), np.array(bounds)
