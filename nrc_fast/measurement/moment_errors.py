"""The error of a linear model from moments: of rows about their mean, and of the means.

A large mean of features is no part of what is rounded: what it makes of the model's error is found in arithmetic of
twice the digits, of the d numbers that were subtracted from all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import UNIT, Pair, added, exactly, product, two_sum
from nrc_fast.base.linalg import EPSILON, long_norm, scale_to_unit
from nrc_fast.metrics.head_balances import times_power
from nrc_fast.metrics.targets import centred_error_from_moments
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.moments import Moments

__all__ = ["ONE_SIDED", "MeanResidual", "error_of_moments", "mean_residual"]

# Sums of numbers of one sign are off by at most half a unit for each addition, twice what equal addends reach.
ONE_SIDED = 2.0


@dataclass(frozen=True, eq=False)
class MeanResidual:
    """The mean of ``W h + b - y``.

    Attributes
    ----------
    values : (n,) float64 array
    error : float
        Bound of the norm of its error.
    """

    values: FloatArray
    error: float


def mean_residual(moments: Moments, model: LinearModel) -> MeanResidual:
    """``W mean_h + b - mean_y``, in which large means may cancel.

    With the shifts s and t, which are exact: ``(W s + b - t) + (W (mean_h - s) - (mean_y - t))``.
    """
    weights, bias = model.weights, model.bias
    shift, target_shift = moments.shifts
    (scaled, of_weights), (start, of_shift) = (scale_to_unit(part) for part in (weights, shift))
    power = of_weights + of_shift
    image = product(exactly(scaled), exactly(start[:, np.newaxis]))
    offset, target_offset = moments.mean_offset, moments.target_offset
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = Pair(*(np.ldexp(part[:, 0], power) for part in image))
        large = added(shifted, two_sum(bias, -target_shift))
        small = weights @ offset - target_offset
        values = large.high + (small + large.low)
        # Of pairs, which are off by as much of what is added up in them; of the products, and of two sums.
        sizes = [np.ldexp(np.abs(scaled) @ np.abs(start), power), np.abs(bias) + np.abs(target_shift)]
        error = UNIT * 4.0 * (moments.d + 4.0) * long_norm(sizes[0] + sizes[1])
        error += EPSILON * (moments.d + 2.0) * long_norm(np.abs(weights) @ np.abs(offset) + np.abs(target_offset))
        error += EPSILON * (long_norm(small) + long_norm(values))
        largest = times_power(float(np.linalg.norm(scaled, 2)) * (1.0 + EPSILON * moments.d), of_weights)
        error += largest * moments.mean_offset_error + moments.target_offset_error
    return MeanResidual(values, error)


def error_of_moments(moments: Moments, model: LinearModel) -> tuple[float, float, float]:
    """Mean of ``|W h + b - y|^2`` from moments, its bound, and the size of what cancels in it about 0.

    Each term is a sum of few squares or products, whose roundings need not cancel: where features have two values only,
    every block of rows rounds the same way. The bound holds the worst case.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _error_of_moments(moments, model)


def _error_of_moments(moments: Moments, model: LinearModel) -> tuple[float, float, float]:
    weights, bias = model.weights, model.bias
    covariance, sigma = moments.matrix("covariance"), moments.target_covariance
    centred = centred_error_from_moments(weights, covariance, sigma, moments.cross_covariance)
    offset = mean_residual(moments, model)
    distance = long_norm(offset.values)
    value = centred + distance * distance
    norm, n = float(np.linalg.norm(weights)), len(weights)
    # tr W E W^T of an error E of the covariance is a product of E and W^T W.
    gram = weights @ weights.T if n <= moments.d else weights.T @ weights
    bound = long_norm(gram) * (1.0 + moments.d * EPSILON) * moments.covariance_error
    bound = ONE_SIDED * (bound + 2.0 * norm * moments.cross_error) + n**0.5 * moments.target_error
    # Of entries of a covariance none is larger than the root of the product of two variances.
    of_targets = np.sqrt(np.maximum(np.diagonal(sigma) + moments.target_error, 0.0))
    parts = np.abs(weights) @ np.sqrt(moments.variances + moments.covariance_error) + of_targets
    bound += 8.0 * moments.d**0.5 * EPSILON * float(parts @ parts)
    bound += (2.0 * distance + offset.error) * offset.error + 4.0 * EPSILON * value
    size = norm * norm * moments.energy + float(np.trace(sigma))
    size += float(bias @ bias + moments.target_mean @ moments.target_mean)
    return value, bound, size
