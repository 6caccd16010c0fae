"""NRC1 for every k, NRC2 and linear CKA from moments, without reading rows against anything."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.linalg import EPSILON, RowSpace, long_norm
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence, gathered
from nrc_fast.metrics.angles import leading_angle_bound
from nrc_fast.metrics.conventions import Convention, in_range, needs_unit_rows
from nrc_fast.metrics.residuals import (
    between_neighbours,
    centring_turn,
    leading_values,
    mixing_angle,
    resolved_rank,
    trace_bound,
)
from nrc_fast.metrics.targets import cka_bound, linear_cka
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading

__all__ = ["careful_nrc1_by_k", "cka_of_moments", "nrc1_by_k", "subspace_value"]


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
    every = count == d  # their vectors stay where they are
    pairs, matrix_error = evidence.leading(count, centered=convention.centered_basis, vectors=0 if every else None)
    with few_blas_threads(d):
        if every:
            along, outside = moments.pairs(centered=convention.centered_basis).along(rows), 0.0
        else:
            vectors = pairs.vectors[:count]
            along, outside = rows.along(vectors), rows.outside(vectors)
    parts = np.maximum(along, 0.0)
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
    angles = np.array([leading_angle_bound(pairs, k, matrix_error) for k in range(1, count + 1)])
    floor = _floor(moments, convention, energy)
    turn = centring_turn(convention, evidence.turn_of_unit_rows**2, energy)
    left = np.minimum(values + floor, energy)
    mixing = [mixing_angle(angles[:k], left[: k - 1], energy) + turn for k in range(1, count + 1)]
    # Ky Fan: no k eigenvalues have a sum that is farther off than k times the matrix.
    scale = pairs.trace if convention.relative else 1.0
    losses = [math.inf] * count
    if convention.projects_its_matrix and scale > 0.0:
        losses = [k * (matrix_error + pairs.distance(k)) / scale for k in range(1, count + 1)]
    found = zip(values, mixing, losses, strict=True)
    bounds = np.array([trace_bound(value, energy, angle, floor, loss) for value, angle, loss in found])
    bounds[rank:] = energy  # what is found there is arbitrary
    bounds = between_neighbours(values, bounds, energy + floor)
    if count == d:
        values[-1] = bounds[-1] = 0.0
    return values, bounds, energy


def careful_nrc1_by_k(
    reading: Reading, convention: Convention, count: int, *, precision: str, rtol: float
) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for k = 1..count, its bounds, and the mean energy of the rows.

    Where these are too wide, moments are read again in float64, then the rows, if they can be.
    """
    evidence = gathered(reading, unit_rows=needs_unit_rows(convention), precision=precision)
    values, bounds, energy = nrc1_by_k(evidence, convention, count)
    if not evidence.can_read_again:
        return values, bounds, energy
    if (bounds > rtol * values).any() and not evidence.moments.is_double:
        evidence.require_double()
        values, bounds, energy = nrc1_by_k(evidence, convention, count)
    near = _floor(evidence.moments, convention, energy) > rtol * values
    # Components that moments cannot tell from rounding are those of what the others leave of the rows.
    near[resolved_rank(evidence.leading(count, centered=convention.centered_basis)[0].values, reading.source.d) :] = (
        True
    )
    near[-1] = near[-1] and count < reading.source.d  # else 0 by definition
    if not near.any():
        return values, bounds, energy
    k = int(np.flatnonzero(near)[-1]) + 1
    basis = evidence.components(k, centered=convention.centered_basis)
    shift = basis.mean if convention.centered_rows else None
    explicit = evidence.residuals([Basis(basis.vectors, shift)], collapsed=True, shift_error=basis.shift_error)
    turned = float(explicit.turned[0]) / explicit.count
    values[:k], bounds[:k] = leading_values(
        convention, basis, explicit.sums[0], explicit.count, rounding=explicit.rounding(0), turned=turned
    )
    return values, bounds, energy


def subspace_value(evidence: Evidence, convention: Convention, space: RowSpace) -> tuple[float, float]:
    """NRC2 and its bound from the second moment S of the rows that are projected.

    ``tr(P S)`` with ``P = I - Q^T Q``, Q the orthonormal rows of the row space; the floor is that of S.
    """
    rows = evidence.second_moment_of_rows(convention)
    if rows is None:
        return math.nan, math.nan
    energy = rows.trace
    if not energy > 0.0:
        return math.nan, math.nan
    basis, moments = space.basis, evidence.moments
    value = rows.outside(basis)
    if convention.relative:
        value, energy = value / energy, 1.0
    angle = EPSILON * moments.d + space.error
    bound = trace_bound(value, energy, angle, _floor(moments, convention, energy))
    return float(in_range(convention, np.array(value))), bound


def cka_of_moments(moments: Moments) -> tuple[float, float]:
    """Linear CKA of features and targets, and its bound."""
    covariance = moments.matrix("covariance")
    sigma, cross = moments.target_covariance, moments.cross_covariance
    norms = covariance.norm, long_norm(sigma), long_norm(cross)
    errors = moments.covariance_error, moments.target_error, moments.cross_error
    value = linear_cka(covariance, sigma, cross)
    return value, cka_bound(value, norms, errors)


def _floor(moments: Moments, convention: Convention, energy: float) -> float:
    """Error of the second moment of the rows that a convention projects, in units where their energy is `energy`."""
    if convention.unit_rows:
        return 3.0 * moments.relative_error * energy
    error, total = moments.covariance_error, moments.variance
    if not convention.centered_rows:
        offset = float(moments.mean @ moments.mean)
        error, total = error + 2.0 * moments.d**0.5 * EPSILON * offset, total + offset
    return error / total * energy if convention.relative and total > 0.0 else error
