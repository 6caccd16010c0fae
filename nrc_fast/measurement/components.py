"""Principal components of features, and NRC1 and NRC2 on them: which passes they need, and how far to believe them.

Features that can be read again are read twice, and three times when they are collapsed: then a basis from a Gram with
float32 blocks is first refined by one step of subspace iteration in float64, and the residual is float64 too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.linalg import EPSILON, FloatArray, RowSpace, orthonormalize
from nrc_fast.kernels.results import Basis, ResidualSums
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.residuals import angle_bound, refined_angle_bound, residual_bound, trace_bound
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.runs import centered_unit_gram, gather, gram_product, require_same_rows, residuals

__all__ = [
    "PrincipalBasis",
    "careful_nrc1_by_k",
    "leading_values",
    "needs_unit_rows",
    "nrc1_by_k",
    "principal_basis",
    "residual_value",
    "resolved_rank",
    "subspace_value",
]

# Below this share of the variance outside the basis, features count as collapsed and float32 does not suffice.
COLLAPSED = 1e-4
# Eigenvalues up to this multiple of the error of their matrix cannot be told from it.
UNRESOLVED = 4.0


@dataclass
class PrincipalBasis:
    """Leading principal components of the features.

    Attributes
    ----------
    vectors : (r, d) float64 array
        Orthonormal rows; the leading j of them span the leading j components. Fewer than were asked for where the
        features vary in fewer directions.
    eigenvalues : (d,) float64 array
        Of the covariance, or of the second moment for an uncentered basis; descending.
    mean : (d,) float64 array
        Mean of the features, as precise as the basis.
    mean_error : float
        Bound of the error of the mean relative to the spread of the features.
    angles : (k,) float64 array
        Bound of the angle of the leading j = 1..k components to the exact ones.
    collapsed : bool
        Whether next to nothing of the variance is outside, so that the residual must be float64.
    """

    vectors: FloatArray
    eigenvalues: FloatArray
    mean: FloatArray
    mean_error: float
    angles: FloatArray
    collapsed: bool


def principal_basis(reading: Reading, statistics: Moments, k: int, *, centered: bool) -> PrincipalBasis:
    """The leading k components.

    The source is read again where float32 blocks do not do: in float64 if the last component cannot be told from
    their rounding, and once, for a step of subspace iteration, if the features are collapsed.
    """
    eigenvalues, eigenvectors, error = _spectrum(reading, statistics, centered=centered)
    if not statistics.is_double and eigenvalues[0] > 0.0 and eigenvalues[k - 1] <= UNRESOLVED * error:
        statistics = gather(reading, precision="highest")
        eigenvalues, eigenvectors, error = _spectrum(reading, statistics, centered=centered)
    total = max(float(eigenvalues.sum()), 0.0)
    outside = float(np.maximum(eigenvalues[k:], 0.0).sum())
    collapsed = k < statistics.d and outside <= COLLAPSED * total
    rank = min(k, resolved_rank(eigenvalues))
    vectors = np.ascontiguousarray(eigenvectors[:, :rank].T)
    if not collapsed or statistics.is_double or rank == 0:
        angles = np.array([angle_bound(eigenvalues, j, error) for j in range(1, k + 1)])
        mean_error = _relative_mean_error(statistics, total)
        return PrincipalBasis(vectors, eigenvalues, statistics.mean, mean_error, angles, collapsed)
    vectors, mean = _refine(reading, statistics, vectors, centered=centered)
    exact = 2.0 * EPSILON * statistics.d**0.5 * total
    angles = np.array([refined_angle_bound(eigenvalues, j, error, exact) for j in range(1, k + 1)])
    mean_error = EPSILON + _rounding_of_mean(mean, total)
    return PrincipalBasis(vectors, eigenvalues, mean, mean_error, angles, collapsed)


def _relative_mean_error(statistics: Moments, variance: float) -> float:
    """Error of the mean of the moments relative to the spread of the features."""
    return statistics.mean_error / variance**0.5 if variance > 0.0 else 0.0


def _rounding_of_mean(mean: FloatArray, variance: float) -> float:
    """Rounding of the mean to a float64 number, relative to the spread of the features."""
    return EPSILON * float(np.linalg.norm(mean)) / variance**0.5 if variance > 0.0 else 0.0


def _spectrum(reading: Reading | None, statistics: Moments, *, centered: bool) -> tuple[FloatArray, FloatArray, float]:
    """Eigenvalues and vectors of the matrix whose components are asked for, and the bound of its error."""
    values, vectors = statistics.spectrum(centered=centered)
    if reading is not None:
        reading.same(values, vectors)
    return values, vectors, statistics.covariance_error + EPSILON * float(values.sum())


def resolved_rank(eigenvalues: FloatArray) -> int:
    """How many components there are: eigenvalues that can be told from the rounding of the largest.

    Directions beyond are arbitrary. NRC1 with more components than these is, by definition, NRC1 with all of these
    (and 0 for k = d).
    """
    return int(np.count_nonzero(eigenvalues > len(eigenvalues) * EPSILON * max(float(eigenvalues[0]), 0.0)))


def _refine(
    reading: Reading, statistics: Moments, vectors: FloatArray, *, centered: bool
) -> tuple[FloatArray, FloatArray]:
    """V <- qr(X^T (X V)) in float64, and the mean in float64: one read."""
    shift = statistics.mean if centered else np.zeros(statistics.d)
    image, column_sums = gram_product(reading, vectors, shift)
    offset = column_sums / statistics.count
    if centered:
        # The rows were shifted by a mean that float32 blocks had left a little off.
        image = image - statistics.count * np.outer(vectors @ offset, offset)
    refined = np.ascontiguousarray(orthonormalize(image.T).T)
    reading.same(refined)
    return refined, shift + offset


def residual_value(convention: Convention, sums: ResidualSums, k: int, count: int, d: int) -> tuple[float, float]:
    """Value of a convention with the leading k vectors, and the mean energy of its rows.

    NaN where all rows are zero (or have no variance, where rows are centered); exactly 0 where k = d.
    """
    by_k = sums.unit if convention.unit_rows else sums.raw
    if not np.isfinite(by_k[0]) or (by_k[0] == 0.0 and sums.unit[0] > 0.0):
        msg = f"under convention {convention.name} the squares of H leave the range of float64; scale it first"
        raise ValueError(msg)
    if not by_k[0] > 0.0:
        return float("nan"), 0.0
    scale = float(by_k[0]) if convention.relative else float(count)
    value = 0.0 if k >= d else float(by_k[min(k, len(by_k) - 1)]) / scale
    return value, float(by_k[0]) / scale


def leading_values(
    convention: Convention, basis: PrincipalBasis, sums: ResidualSums, count: int, *, double_precision: bool
) -> tuple[FloatArray, FloatArray]:
    """NRC1 for k = 1..len(basis.angles) and its bounds, from the sums on that basis."""
    rank, d = basis.vectors.shape
    values: list[float] = []
    bounds: list[float] = []
    for k, turned in enumerate(basis.angles, start=1):
        value, energy = residual_value(convention, sums, k, count, d)
        angle = float(turned) + (basis.mean_error if convention.centered_rows else 0.0)
        bound = residual_bound(value, energy, angle, d, count, double_precision=double_precision)
        if k > rank:
            # More components only take away: the truth lies between 0 and what is left at the rank.
            bound = min(energy, values[rank - 1] + bounds[rank - 1] if rank > 0 else energy)
        values.append(value)
        bounds.append(0.0 if k >= d else bound)
    return np.array(values), np.array(bounds)


# ---- every k at once ----


def nrc1_by_k(
    reading: Reading | None, statistics: Moments, convention: Convention
) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for k = 1..d from one eigendecomposition, its bounds, and the mean energy of the rows.

    The residual with k components is the sum over j > k of ``v_j^T S v_j``, S the second moment of the rows that
    are projected: positive terms, so that nothing cancels, but each with an absolute floor. NaN where the rows
    would have to be read again for S and cannot be.
    """
    d = statistics.d
    rows = _second_moment_of_rows(reading, statistics, convention)
    if rows is None:
        return np.full(d, np.nan), np.full(d, np.nan), math.nan
    eigenvalues, vectors, matrix_error = _spectrum(reading, statistics, centered=convention.centered_basis)
    parts = np.maximum(np.einsum("ij,ij->j", vectors, rows @ vectors), 0.0)
    energy = float(parts.sum())
    if not energy > 0.0:
        return np.full(d, np.nan), np.full(d, np.nan), 0.0
    if convention.relative:
        parts, energy = parts / energy, 1.0
    remaining = np.cumsum(parts[::-1])[::-1]
    values = np.append(remaining[1:], 0.0)
    rank = resolved_rank(eigenvalues)
    values[rank:-1] = remaining[rank] if rank < d else 0.0
    angles = [angle_bound(eigenvalues, k, matrix_error) for k in range(1, d + 1)]
    floor = _floor(statistics, convention, energy)
    if convention.centered_rows and convention.unit_rows:
        turned = _relative_mean_error(statistics, statistics.variance)
        angles = [angle + turned for angle in angles]
    bounds = np.array([trace_bound(v, energy, a, floor) for v, a in zip(values, angles, strict=True)])
    # More components only take away: beyond the rank the truth lies between 0 and what is left at the rank.
    bounds[rank:] = values[rank - 1] + bounds[rank - 1] if rank > 0 else energy
    bounds[-1] = 0.0
    return values, bounds, energy


def careful_nrc1_by_k(
    reading: Reading, convention: Convention, *, precision: str, rtol: float
) -> tuple[FloatArray, FloatArray]:
    """The same, read again where the bounds are too wide: first the moments in float64, then explicitly."""
    unit_rows = needs_unit_rows(convention)
    statistics = gather(reading, unit_rows=unit_rows, precision=precision)
    values, bounds, energy = nrc1_by_k(reading, statistics, convention)
    if not reading.can_read_again:
        return values, bounds
    if (bounds > rtol * values).any() and not statistics.is_double:
        statistics = gather(reading, unit_rows=unit_rows, precision="highest")
        values, bounds, energy = nrc1_by_k(reading, statistics, convention)
    near = _floor(statistics, convention, energy) > rtol * values
    near[-1] = False  # 0 by definition
    if not near.any():
        return values, bounds
    k = int(np.flatnonzero(near)[-1]) + 1
    basis = principal_basis(reading, statistics, k, centered=convention.centered_basis)
    shift = basis.mean if convention.centered_rows else None
    explicit = residuals(reading, [Basis(basis.vectors, shift)], double_precision=True)
    require_same_rows(statistics, explicit)
    values[:k], bounds[:k] = leading_values(convention, basis, explicit.sums[0], explicit.count, double_precision=True)
    return values, bounds


def subspace_value(
    reading: Reading | None, statistics: Moments, convention: Convention, space: RowSpace
) -> tuple[float, float]:
    """NRC2 and its bound from the second moment S of the rows that are projected.

    ``tr(P S)`` with ``P = I - Q^T Q``, Q the orthonormal rows of the row space; the floor is that of S.
    """
    rows = _second_moment_of_rows(reading, statistics, convention)
    if rows is None:
        return math.nan, math.nan
    energy = float(np.trace(rows))
    if not energy > 0.0:
        return math.nan, math.nan
    basis = space.basis
    rest = rows - basis.T @ (basis @ rows)
    rest -= (rest @ basis.T) @ basis
    value = max(float(np.trace(rest)), 0.0) if len(basis) < statistics.d else 0.0
    if convention.relative:
        value, energy = value / energy, 1.0
    return value, trace_bound(
        value, energy, EPSILON * statistics.d + space.error, _floor(statistics, convention, energy)
    )


def _floor(statistics: Moments, convention: Convention, energy: float) -> float:
    """Error of the second moment of the rows that a convention projects, in units where their energy is `energy`."""
    if convention.unit_rows:
        return 3.0 * statistics.relative_error * energy
    error, total = statistics.covariance_error, statistics.variance
    if not convention.centered_rows:
        offset = float(statistics.mean @ statistics.mean)
        error, total = error + 2.0 * statistics.d**0.5 * EPSILON * offset, total + offset
    return error / total * energy if convention.relative and total > 0.0 else error


def needs_unit_rows(convention: Convention) -> bool:
    """Whether the moments of a convention are those of rows divided by their norm."""
    return convention.unit_rows and not convention.centered_rows


def _second_moment_of_rows(reading: Reading | None, statistics: Moments, convention: Convention) -> FloatArray | None:
    if not convention.unit_rows:
        return statistics.covariance if convention.centered_rows else statistics.second_moment
    if not convention.centered_rows:
        return statistics.unit_second_moment if statistics.unit_rows else None
    if reading is None or not reading.can_read_again:
        return None
    precision = "highest" if statistics.is_double else statistics.precision
    return centered_unit_gram(reading, statistics, precision) / statistics.count
