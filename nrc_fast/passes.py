"""The passes over a source that the metrics need: statistics, refinement of the basis, explicit residuals.

Features in memory are read twice, and three times when they are collapsed: then a basis from a Gram with float32
blocks is first refined by one step of subspace iteration in float64, and the residual is float64 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nrc_fast import kernels
from nrc_fast.bounds import angle_bound, refined_angle_bound, residual_bound, trace_bound
from nrc_fast.conventions import Convention
from nrc_fast.kernels import Basis, ResidualSums
from nrc_fast.linalg import EPSILON, FloatArray, orthonormalize
from nrc_fast.sources import ArraySource
from nrc_fast.statistics import FeatureStatistics

__all__ = [
    "PrincipalBasis",
    "careful_nrc1_by_k",
    "careful_residuals",
    "gather",
    "leading_values",
    "mean_of",
    "nrc1_by_k",
    "principal_basis",
    "residual_value",
]

# Below this share of the variance outside the basis, features count as collapsed and float32 does not suffice.
COLLAPSED = 1e-4
# Eigenvalues up to this multiple of the error of their matrix cannot be told from it.
UNRESOLVED = 4.0
# A float32 residual below this share of the energy has lost digits to its floor of about 1e-14.
FLOAT32_RESIDUAL_FLOOR = 1e-6
# Up to this many vectors a float64 residual costs no more than reading the rows.
ALWAYS_DOUBLE_VECTORS = 8


def gather(source: ArraySource, *, unit_rows: bool = False, precision: str = "high") -> FeatureStatistics:
    """Statistics of a source: the first pass."""
    n_targets = 0 if source.targets is None else source.targets.columns
    statistics = FeatureStatistics(
        source.features.columns, n_targets=n_targets, unit_rows=unit_rows, precision=precision
    )
    for chunk in source.chunks():
        statistics.update(chunk)
    return statistics


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


def principal_basis(source: ArraySource, statistics: FeatureStatistics, k: int, *, centered: bool) -> PrincipalBasis:
    """The leading k components.

    The source is read again where float32 blocks do not do: in float64 if the last component cannot be told from
    their rounding, and once, for a step of subspace iteration, if the features are collapsed.
    """
    eigenvalues, eigenvectors, error = _spectrum(statistics, centered=centered)
    if not statistics.is_double and eigenvalues[0] > 0.0 and eigenvalues[k - 1] <= UNRESOLVED * error:
        statistics = gather(source, precision="highest")
        eigenvalues, eigenvectors, error = _spectrum(statistics, centered=centered)
    total = max(float(eigenvalues.sum()), 0.0)
    outside = float(np.maximum(eigenvalues[k:], 0.0).sum())
    collapsed = k < statistics.d and outside <= COLLAPSED * total
    rank = min(k, resolved_rank(eigenvalues))
    vectors = np.ascontiguousarray(eigenvectors[:, :rank].T)
    if not collapsed or statistics.is_double or rank == 0:
        angles = np.array([angle_bound(eigenvalues, j, error) for j in range(1, k + 1)])
        mean_error = statistics.relative_error + _rounding_of_mean(statistics.mean, total)
        return PrincipalBasis(vectors, eigenvalues, statistics.mean, mean_error, angles, collapsed)
    vectors, mean = _refine(source, statistics, vectors, centered=centered)
    exact = 2.0 * EPSILON * statistics.d**0.5 * total
    angles = np.array([refined_angle_bound(eigenvalues, j, error, exact) for j in range(1, k + 1)])
    mean_error = EPSILON + _rounding_of_mean(mean, total)
    return PrincipalBasis(vectors, eigenvalues, mean, mean_error, angles, collapsed)


def _rounding_of_mean(mean: FloatArray, variance: float) -> float:
    """Rounding of the mean to a float64 number, relative to the spread of the features."""
    return EPSILON * float(np.linalg.norm(mean)) / variance**0.5 if variance > 0.0 else 0.0


def _spectrum(statistics: FeatureStatistics, *, centered: bool) -> tuple[FloatArray, FloatArray, float]:
    """Eigenvalues and vectors of the matrix whose components are asked for, and the bound of its error."""
    values, vectors = statistics.spectrum(centered=centered)
    return values, vectors, statistics.covariance_error + EPSILON * float(values.sum())


def resolved_rank(eigenvalues: FloatArray) -> int:
    """How many components there are: eigenvalues that can be told from the rounding of the largest.

    Directions beyond are arbitrary. NRC1 with more components than these is, by definition, NRC1 with all of these
    (and 0 for k = d).
    """
    return int(np.count_nonzero(eigenvalues > len(eigenvalues) * EPSILON * max(float(eigenvalues[0]), 0.0)))


def _refine(
    source: ArraySource, statistics: FeatureStatistics, vectors: FloatArray, *, centered: bool
) -> tuple[FloatArray, FloatArray]:
    """V <- qr(X^T (X V)) in float64, and the mean in float64: one read."""
    shift = statistics.mean if centered else np.zeros(statistics.d)
    image = np.zeros_like(vectors)
    sums = np.zeros(statistics.d)
    for chunk in source.chunks():
        part, part_sums = kernels.gram_product(chunk.features, vectors, shift)
        image += part
        sums += part_sums
    offset = sums / source.count
    if centered:
        # The rows were shifted by a mean that float32 blocks had left a little off.
        image -= source.count * np.outer(vectors @ offset, offset)
    return np.ascontiguousarray(orthonormalize(image.T).T), shift + offset


def mean_of(source: ArraySource) -> FloatArray:
    """Mean of the features, summed in float64: one read."""
    statistics = FeatureStatistics(source.features.columns, precision="highest")
    for chunk in source.chunks():
        statistics.update(chunk, products=False)
    return statistics.mean


# ---- residuals ----


def residuals(source: ArraySource, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
    """Explicit residuals on several bases: one read of the source."""
    totals: list[ResidualSums] = []
    for chunk in source.chunks():
        parts = kernels.residual(chunk.features, bases, double_precision=double_precision)
        if not totals:
            totals = parts
            continue
        for total, part in zip(totals, parts, strict=True):
            total.raw += part.raw
            total.unit += part.unit
    return totals


def careful_residuals(
    source: ArraySource, bases: Sequence[Basis], *, collapsed: bool
) -> tuple[list[ResidualSums], bool]:
    """Residuals in float32 where that is faster and suffices, else in float64; and whether they are float64."""
    widest = max(basis.vectors.shape[0] for basis in bases)
    if source.features.is_double or collapsed or widest <= ALWAYS_DOUBLE_VECTORS:
        return residuals(source, bases, double_precision=True), True
    sums = residuals(source, bases, double_precision=False)
    if all(_is_safe_in_float32(part) for part in sums):
        return sums, False
    return residuals(source, bases, double_precision=True), True


def _is_safe_in_float32(sums: ResidualSums) -> bool:
    finite = bool(np.isfinite(sums.raw).all() and np.isfinite(sums.unit).all())
    return finite and bool(
        sums.raw[-1] > FLOAT32_RESIDUAL_FLOOR * sums.raw[0] and sums.unit[-1] > FLOAT32_RESIDUAL_FLOOR * sums.unit[0]
    )


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
    source: ArraySource, statistics: FeatureStatistics, convention: Convention
) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for k = 1..d from one eigendecomposition, its bounds, and the mean energy of the rows.

    The residual with k components is the sum over j > k of ``v_j^T S v_j``, S the second moment of the rows that
    are projected: positive terms, so that nothing cancels, but each with an absolute floor.
    """
    d = statistics.d
    rows = _second_moment_of_rows(source, statistics, convention)
    eigenvalues, vectors, matrix_error = _spectrum(statistics, centered=convention.centered_basis)
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
    error = statistics.relative_error
    bounds = np.array([trace_bound(v, energy, a, error) for v, a in zip(values, angles, strict=True)])
    # More components only take away: beyond the rank the truth lies between 0 and what is left at the rank.
    bounds[rank:] = values[rank - 1] + bounds[rank - 1] if rank > 0 else energy
    bounds[-1] = 0.0
    return values, bounds, energy


def careful_nrc1_by_k(
    source: ArraySource, convention: Convention, *, precision: str, rtol: float
) -> tuple[FloatArray, FloatArray]:
    """The same, read again where the bounds are too wide: first the moments in float64, then explicitly."""
    unit_rows = convention.unit_rows and not convention.centered_rows
    statistics = gather(source, unit_rows=unit_rows, precision=precision)
    values, bounds, energy = nrc1_by_k(source, statistics, convention)
    if (bounds > rtol * values).any() and not statistics.is_double:
        statistics = gather(source, unit_rows=unit_rows, precision="highest")
        values, bounds, energy = nrc1_by_k(source, statistics, convention)
    near = _near_floor(values, energy, statistics, rtol)
    if not near.any():
        return values, bounds
    k = int(np.flatnonzero(near)[-1]) + 1
    basis = principal_basis(source, statistics, k, centered=convention.centered_basis)
    shift = basis.mean if convention.centered_rows else None
    (sums,) = residuals(source, [Basis(basis.vectors, shift)], double_precision=True)
    values[:k], bounds[:k] = leading_values(convention, basis, sums, source.count, double_precision=True)
    return values, bounds


def _near_floor(
    values: FloatArray, energy: float, statistics: FeatureStatistics, rtol: float
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where the floor of a second moment exceeds `rtol` of the value; never at k = d, which is 0 by definition."""
    floor = trace_bound(0.0, energy, 0.0, statistics.relative_error)
    near: np.ndarray[Any, np.dtype[np.bool_]] = floor > rtol * values
    near[-1] = False
    return near


def _second_moment_of_rows(source: ArraySource, statistics: FeatureStatistics, convention: Convention) -> FloatArray:
    if not convention.unit_rows:
        return statistics.covariance if convention.centered_rows else statistics.second_moment
    if not convention.centered_rows:
        return statistics.unit_second_moment
    precision = "highest" if statistics.is_double else statistics.precision
    total = np.zeros((statistics.d, statistics.d))
    for chunk in source.chunks():
        sums = kernels.gram(chunk.features, shift=statistics.mean, plain=False, unit="shifted", precision=precision)
        total += sums.unit_gram
    full: FloatArray = (total + np.tril(total, -1).T) / source.count
    return full
