"""NRC1 for every k and NRC2 from the moments of the features, without reading rows against a basis."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.linalg import EPSILON, RowSpace
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence, gathered
from nrc_fast.metrics.conventions import Convention, in_range, needs_unit_rows
from nrc_fast.metrics.residuals import leading_angle_bound, leading_values, resolved_rank, trace_bound, trace_outside
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading

__all__ = ["careful_nrc1_by_k", "nrc1_by_k", "subspace_value"]


def nrc1_by_k(evidence: Evidence, convention: Convention, count: int) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for k = 1..count from the second moment S of the projected rows, its bounds, and the rows' mean energy.

    The residual with k components is the sum over j > k of ``v_j^T S v_j``, and what S has outside all that were
    found: positive terms, so that nothing cancels, but each with an absolute floor. NaN where the rows would have to be
    read again for S and cannot be.
    """
    moments = evidence.moments
    d = moments.d
    rows = evidence.second_moment_of_rows(convention)
    if rows is None:
        return np.full(count, np.nan), np.full(count, np.nan), math.nan
    pairs, matrix_error = evidence.leading(count, centered=convention.centered_basis)
    vectors = pairs.vectors[:count]
    with few_blas_threads(d):
        parts = np.maximum(np.einsum("ij,ij->i", vectors @ rows, vectors), 0.0)
        outside = trace_outside(rows, vectors)
    energy = float(parts.sum()) + outside
    if not energy > 0.0:
        return np.full(count, np.nan), np.full(count, np.nan), 0.0
    if convention.relative:
        parts, outside, energy = parts / energy, outside / energy, 1.0
    remaining = np.cumsum(np.append(outside, parts[::-1]))[::-1]  # with 0, 1, ... components
    values = np.full(count, remaining[-1])
    values[: len(parts)] = remaining[1:]
    rank = min(resolved_rank(pairs.values, d), count)
    values[rank:] = remaining[rank]
    values = in_range(convention, values)
    angles = [leading_angle_bound(pairs, k, matrix_error) for k in range(1, count + 1)]
    floor = _floor(moments, convention, energy)
    if convention.centered_rows and convention.unit_rows:
        turned = evidence.relative_mean_error
        angles = [angle + turned for angle in angles]
    bounds = np.array([trace_bound(v, energy, a, floor) for v, a in zip(values, angles, strict=True)])
    # More components only take away: beyond the rank the truth lies between 0 and what is left at the rank.
    bounds[rank:] = values[rank - 1] + bounds[rank - 1] if rank > 0 else energy
    if count == d:
        values[-1] = bounds[-1] = 0.0
    return values, bounds, energy


def careful_nrc1_by_k(
    reading: Reading, convention: Convention, count: int, *, precision: str, rtol: float
) -> tuple[FloatArray, FloatArray]:
    """NRC1 for k = 1..count and its bounds.

    Where these are too wide, moments are read again in float64, then the rows, if they can be.
    """
    evidence = gathered(reading, unit_rows=needs_unit_rows(convention), precision=precision)
    values, bounds, energy = nrc1_by_k(evidence, convention, count)
    if not evidence.can_read_again:
        return values, bounds
    if (bounds > rtol * values).any() and not evidence.moments.is_double:
        evidence.require_double()
        values, bounds, energy = nrc1_by_k(evidence, convention, count)
    near = _floor(evidence.moments, convention, energy) > rtol * values
    near[-1] = near[-1] and count < reading.source.d  # else 0 by definition
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
    value = trace_outside(rows, basis)
    if convention.relative:
        value, energy = value / energy, 1.0
    angle = EPSILON * moments.d + space.error
    return float(in_range(convention, np.array(value))), trace_bound(value, energy, angle, _floor(moments, convention, energy))


def _floor(moments: Moments, convention: Convention, energy: float) -> float:
    """Error of the second moment of the rows that a convention projects, in units where their energy is `energy`."""
    if convention.unit_rows:
        return 3.0 * moments.relative_error * energy
    error, total = moments.covariance_error, moments.variance
    if not convention.centered_rows:
        offset = float(moments.mean @ moments.mean)
        error, total = error + 2.0 * moments.d**0.5 * EPSILON * offset, total + offset
    return error / total * energy if convention.relative and total > 0.0 else error
