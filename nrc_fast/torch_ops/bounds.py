"""Bounds of the errors of loss terms: the same numbers with twice the digits, beside which errors are seen."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import (
    Pair,
    added,
    long_product,
    product,
    quotient,
    subtracted,
    summed,
    two_product,
    two_sum,
)
from nrc_fast.base.linalg import EPSILON, row_space, row_space_and_inverse, scale_to_unit

__all__ = ["mean_residual_bound", "precise_mean_residual"]

BLOCK_VALUES = 1 << 16  # of rows that are worked on at a time, so that a dozen such blocks lie in the cache


def mean_residual_bound(
    value: float, rows: FloatArray, basis: FloatArray, *, centered: bool, unit_rows: bool, relative: bool
) -> float:
    """Bound of the error of a mean residual: its distance from `precise_mean_residual`, and what that may be off by.

    Examples
    --------
    >>> rows, basis = np.array([[3.0, 4.0], [6.0, 8.0]]), np.array([[2.0, 0.0]])
    >>> mean_residual_bound(0.625, rows, basis, centered=False, unit_rows=True, relative=False) >= 0.015
    True
    """
    exact, error = precise_mean_residual(rows, basis, centered=centered, unit_rows=unit_rows, relative=relative)
    return math.nan if math.isnan(value) else abs(value - exact) + error


def precise_mean_residual(
    rows: FloatArray, basis: FloatArray, *, centered: bool, unit_rows: bool, relative: bool
) -> tuple[float, float]:
    """Mean of ``|x - P x|^2`` over rows, P the projection on the rows of a basis, in arithmetic of twice the digits.

    With Q = C B, nearly orthonormal rows that span those of the basis B, and ``Q Q^T = 1 + D``, the part of a row in
    their span is ``|c|^2 - c^T D c + c^T D^2 c - ...`` with c = Q x. What is left loses half of the digits at worst.

    Parameters
    ----------
    rows : (N, d) float64 array
    basis : (k, d) float64 array
        B, of any rank; singular values count as in `linalg.row_space`.
    centered, unit_rows, relative : bool
        Whether rows are about their mean, are divided by their length, and whether the mean is over that of ``|x|^2``.

    Returns
    -------
    float, float
        The mean and a bound of its error; NaN for no rows, and for rows that are all 0 where the mean is relative.

    Examples
    --------
    >>> rows = np.array([[1.0, 1e-12], [1.0, -1e-12]])
    >>> value, error = precise_mean_residual(
    ...     rows, np.array([[1.0, 0.0]]), centered=False, unit_rows=False, relative=False
    ... )
    >>> round(value / 1e-24, 12), error < 1e-28
    (1.0, True)
    """
    count, d = rows.shape
    if count == 0:
        return math.nan, math.nan
    frame, skew = _frame(basis)
    outsides, energies = [], []
    scaled, exponent = scale_to_unit(rows)
    mean = _mean(scaled) if centered else Pair(np.zeros(d), np.zeros(d))
    step = max(BLOCK_VALUES // d, 1)
    for first in range(0, count, step):
        high, low = two_sum(scaled[first : first + step], -mean.high)
        x = two_sum(high, low - mean.low)
        if unit_rows:
            exponents = np.frexp(np.abs(x.high).max(axis=1, keepdims=True))[1]
            x = Pair(*(np.ldexp(part, -exponents) for part in x))
        outside, energy = _outside(x, frame, skew)
        outsides.append(outside / np.where(energy > 0.0, energy, 1.0) if unit_rows else outside)
        energies.append(np.asarray(energy > 0.0, dtype=np.float64) if unit_rows else energy)
    total, length = (math.fsum(np.concatenate(parts).tolist()) for parts in (outsides, energies))
    divisor = length if relative else float(count)
    if not divisor > 0.0:
        return math.nan, math.nan
    value, size = total / divisor, length / divisor
    off = float(np.sqrt(np.sum(skew**2)))
    # Of directions that were counted as 0.
    angle = row_space(basis).error if frame.high.shape[1] < min(basis.shape) else 0.0
    error = size * ((d + 16.0) * 2.0**-98 + 4.0 * EPSILON * off + 2.0 * off**4 + angle**2)
    error += 2.0 * angle * math.sqrt(value * size) + 6.0 * EPSILON * value
    power = 0 if unit_rows or relative else 2 * exponent
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, power)), float(np.ldexp(error, power))


def _frame(basis: FloatArray) -> tuple[Pair, FloatArray]:
    """Q as columns of pairs, (d, r), and D."""
    scaled, _ = scale_to_unit(basis)
    coefficients = row_space_and_inverse(scaled)[1].T
    zeros = np.zeros_like(scaled)
    frame = product(Pair(coefficients, np.zeros_like(coefficients)), Pair(scaled, zeros))
    columns = Pair(frame.high.T, frame.low.T)
    gram = product(frame, columns)
    return columns, (gram.high - np.eye(len(gram.high))) + gram.low


def _mean(rows: FloatArray) -> Pair:
    """The mean of rows."""
    about = rows.mean(axis=0)
    step, total = max(BLOCK_VALUES // rows.shape[1], 1), Pair(np.zeros(rows.shape[1]), np.zeros(rows.shape[1]))
    for first in range(0, len(rows), step):
        total = added(total, summed(two_sum(rows[first : first + step], -about)))
    off = quotient(total, float(len(rows)))
    return added(Pair(about, np.zeros_like(about)), off)


def _outside(x: Pair, frame: Pair, skew: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is left of the squared length of each row, and that length."""
    energy = _squared_lengths(x)
    if frame.high.shape[1] == 0:
        return energy.high, energy.high
    coordinates = long_product(x.high, frame)
    coordinates = added(coordinates, Pair(x.low @ frame.high, np.zeros_like(coordinates.high)))
    inside = _squared_lengths(coordinates)
    turned = coordinates.high @ skew
    again = turned @ skew
    change = np.sum(turned * coordinates.high, axis=1) - np.sum(turned**2, axis=1) + np.sum(again * turned, axis=1)
    outside = subtracted(energy, inside)
    outside = added(outside, Pair(change, np.zeros_like(change)))
    return np.maximum(outside.high, 0.0), energy.high


def _squared_lengths(x: Pair) -> Pair:
    columns = Pair(*(np.ascontiguousarray(part.T) for part in x))
    squares = two_product(columns.high, columns.high)
    return summed(Pair(squares.high, squares.low + 2.0 * columns.high * columns.low))
