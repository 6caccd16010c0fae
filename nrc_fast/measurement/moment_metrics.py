"""NRC1 for every k and NRC2 from the moments of the features, without reading rows against a basis."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, RowSpace
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence, gathered
from nrc_fast.metrics.conventions import Convention, needs_unit_rows
from nrc_fast.metrics.residuals import angle_bound, leading_values, resolved_rank, trace_bound
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading

__all__ = ["careful_nrc1_by_k", "nrc1_by_k", "subspace_value"]


def nrc1_by_k(evidence: Evidence, convention: Convention) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for k = 1..d from one eigendecomposition, its bounds, and the mean energy of the rows.

    The residual with k components is the sum over j > k of ``v_j^T S v_j``, S the second moment of the rows that
    are projected: positive terms, so that nothing cancels, but each with an absolute floor. NaN where the rows
    would have to be read again for S and cannot be.
    """
    moments = evidence.moments
    d = moments.d
    rows = evidence.second_moment_of_rows(convention)
    if rows is None:
        return np.full(d, np.nan), np.full(d, np.nan), math.nan
    eigenvalues, vectors, matrix_error = evidence.spectrum(centered=convention.centered_basis)
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
    floor = _floor(moments, convention, energy)
    if convention.centered_rows and convention.unit_rows:
        turned = evidence.relative_mean_error
        angles = [angle + turned for angle in angles]
    bounds = np.array([trace_bound(v, energy, a, floor) for v, a in zip(values, angles, strict=True)])
    # More components only take away: beyond the rank the truth lies between 0 and what is left at the rank.
    bounds[rank:] = values[rank - 1] + bounds[rank - 1] if rank > 0 else energy
    bounds[-1] = 0.0
    return values, bounds, energy


def careful_nrc1_by_k(
    reading: Reading, convention: Convention, *, precision: str, rtol: float
) -> tuple[FloatArray, FloatArray]:
    """NRC1 for k = 1..d and its bounds; where these are too wide, moments are read again in float64, then the rows."""
    evidence = gathered(reading, unit_rows=needs_unit_rows(convention), precision=precision)
    values, bounds, energy = nrc1_by_k(evidence, convention)
    if not evidence.can_read_again:
        return values, bounds
    if (bounds > rtol * values).any() and not evidence.moments.is_double:
        evidence.require_double()
        values, bounds, energy = nrc1_by_k(evidence, convention)
    near = _floor(evidence.moments, convention, energy) > rtol * values
    near[-1] = False  # 0 by definition
    if not near.any():
        return values, bounds
    k = int(np.flatnonzero(near)[-1]) + 1
    basis = evidence.components(k, centered=convention.centered_basis)
    shift = basis.mean if convention.centered_rows else None
    explicit = evidence.residuals([Basis(basis.vectors, shift)], collapsed=True)
    values[:k], bounds[:k] = leading_values(convention, basis, explicit.sums[0], explicit.count, double_precision=True)
    return values, bounds


def subspace_value(evidence: Evidence, convention: Convention, space: RowSpace) -> tuple[float, float]:
    """NRC2 and its bound from the second moment S of the rows that are projected.

    ``tr(P S)`` with ``P = I - Q^T Q``, Q the orthonormal rows of the row space; the floor is that of S.
    """
    rows = evidence.second_moment_of_rows(convention)
    if rows is None:
        return math.nan, math.nan
    energy = float(np.trace(rows))
    if not energy > 0.0:
        return math.nan, math.nan
    basis, moments = space.basis, evidence.moments
    rest = rows - basis.T @ (basis @ rows)
    rest -= (rest @ basis.T) @ basis
    value = max(float(np.trace(rest)), 0.0) if len(basis) < moments.d else 0.0
    if convention.relative:
        value, energy = value / energy, 1.0
    angle = EPSILON * moments.d + space.error
    return value, trace_bound(value, energy, angle, _floor(moments, convention, energy))


def _floor(moments: Moments, convention: Convention, energy: float) -> float:
    """Error of the second moment of the rows that a convention projects, in units where their energy is `energy`."""
    if convention.unit_rows:
        return 3.0 * moments.relative_error * energy
    error, total = moments.covariance_error, moments.variance
    if not convention.centered_rows:
        offset = float(moments.mean @ moments.mean)
        error, total = error + 2.0 * moments.d**0.5 * EPSILON * offset, total + offset
    return error / total * energy if convention.relative and total > 0.0 else error
