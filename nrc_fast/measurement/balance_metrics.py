"""The balance of a head in a report: from moments, or from the rows where these leave too little of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, long_norm, scale_to_unit
from nrc_fast.measurement.moment_errors import ONE_SIDED, mean_residual
from nrc_fast.metrics.head_balances import BalanceMatrix, balance_from_moments, balance_numbers, times_power
from nrc_fast.passes.balance_sums import BalanceSums, LinearModel
from nrc_fast.passes.moments import Moments

__all__ = ["balance_metrics", "balance_of_moments", "notes_of_balance", "summed_balance"]


def balance_of_moments(moments: Moments, model: LinearModel) -> BalanceMatrix:
    """``(1/N) sum (y - W h - b)(W h)^T`` from moments, and the bound of its error.

    What cancels is of the size of ``W C_hh W^T``, far above B where the fit is good.
    """
    weights, mean_error = model.weights, mean_residual(moments, model)
    scaled, exponent = scale_to_unit(weights)
    covariance, cross, mean = moments.matrix("covariance"), moments.cross_covariance, moments.mean
    with np.errstate(over="ignore", invalid="ignore"):
        image = scaled @ mean
        residual = -mean_error.values
        values = balance_from_moments(weights, scaled, (covariance, cross), (residual, image))
    # Of W scaled, and of W.
    largest, norm = (float(np.linalg.norm(scaled, order)) for order in (2, None))
    longest, length = (times_power(size, exponent) for size in (largest, norm))
    sizes = [covariance.norm, long_norm(cross), long_norm(mean)]
    rounding = EPSILON * (4.0 + 2.0 * moments.d**0.5)
    error = ONE_SIDED * largest * (moments.cross_error + longest * moments.covariance_error)
    error += rounding * norm * (sizes[1] + length * sizes[0])
    of_image = largest * moments.mean_error + rounding * norm * sizes[2]
    error += mean_error.error * (long_norm(image) + of_image) + long_norm(residual) * of_image
    return BalanceMatrix(values, error + 4.0 * EPSILON * long_norm(values), exponent)


def summed_balance(sums: BalanceSums) -> BalanceMatrix:
    """``(1/N) sum r (W h)^T`` from sums over the rows."""
    return BalanceMatrix(sums.products / sums.count, sums.error / sums.count, sums.exponent)


def balance_metrics(matrix: BalanceMatrix, weights: FloatArray) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Fields of a report, their bounds, and why some are NaN or mean little."""
    numbers = balance_numbers(matrix, weights)
    values = {name: getattr(numbers, name) for name in numbers.bounds}
    notes = notes_of_balance(values, matrix, n=len(weights))
    fields = {f"balance_{name}": value for name, value in values.items()}
    return fields, {f"balance_{name}": bound for name, bound in numbers.bounds.items()}, notes


def notes_of_balance(values: Mapping[str, float], matrix: BalanceMatrix, *, n: int) -> list[str]:
    """What a distance, a decay and an asymmetry leave open.

    Examples
    --------
    >>> values = {"distance": 0.5, "decay": -0.1, "asymmetry": 0.0}
    >>> for note in notes_of_balance(values, BalanceMatrix(np.diag([1.0, -2.0]), 0.0), n=2):
    ...     print(note)
    The balance implies a negative weight decay: no decay holds this W; training goes on, or had no decay.
    """
    if not matrix.is_finite:
        return ["The balance of the head leaves the range of float64 and is NaN: scale Y, W and b down first."]
    if math.isnan(values["decay"]):
        return ["W is zero: the balance of the head is NaN, as any decay holds it."]
    if math.isnan(values["distance"]):
        return ["Residuals and predictions are uncorrelated to the last digit: their balance is 0 and has no shape."]
    notes = []
    if not matrix.relative_error < 1.0:
        notes.append(
            "The balance of the head cannot be told from the rounding of what was added up: the residuals are too "
            "small beside the predictions."
        )
    elif values["decay"] < 0.0:
        notes.append(
            "The balance implies a negative weight decay: no decay holds this W; training goes on, or had no decay."
        )
    if n == 1:
        notes.append(
            "One output: the balance and W W^T are numbers, whose distance and asymmetry are 0 by definition; the "
            "weight decay that it implies is what there is to read."
        )
    return notes
