"""The balance of a head in a report: from moments, or from the rows where these leave too little of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.measurement.moment_metrics import ONE_SIDED
from nrc_fast.metrics.head_balances import BalanceMatrix, balance_from_moments, balance_numbers
from nrc_fast.passes.balance_sums import BalanceSums, LinearModel
from nrc_fast.passes.moments import Moments

__all__ = ["balance_metrics", "balance_of_moments", "notes_of_balance", "summed_balance"]


def balance_of_moments(moments: Moments, model: LinearModel) -> BalanceMatrix:
    """``(1/N) sum (y - W h - b)(W h)^T`` from moments, and the bound of its error.

    What cancels is of the size of ``W C_hh W^T``, far above B where the fit is good.
    """
    weights, bias = model.weights, model.bias
    covariance, cross, mean = moments.covariance, moments.cross_covariance, moments.mean
    image = weights @ mean
    residual = moments.target_mean - bias - image
    values = balance_from_moments(weights, (covariance, cross), (residual, image))
    largest, norm = (float(np.linalg.norm(weights, order)) for order in (2, None))
    sizes = [float(np.linalg.norm(part)) for part in (covariance, cross, mean, moments.target_mean, bias)]
    rounding = EPSILON * (4.0 + 2.0 * moments.d**0.5)
    error = ONE_SIDED * largest * (moments.cross_error + largest * moments.covariance_error)
    error += rounding * norm * (sizes[1] + norm * sizes[0])
    of_image = largest * moments.mean_error + rounding * norm * sizes[2]
    of_residual = of_image + moments.target_mean_error + EPSILON * (sizes[3] + sizes[4] + norm * sizes[2])
    lengths = float(np.linalg.norm(residual)), float(np.linalg.norm(image))
    error += of_residual * (lengths[1] + of_image) + lengths[0] * of_image
    return BalanceMatrix(values, error + 4.0 * EPSILON * float(np.linalg.norm(values)))


def summed_balance(sums: BalanceSums) -> BalanceMatrix:
    """``(1/N) sum r (W h)^T`` from sums over the rows."""
    return BalanceMatrix(sums.products / sums.count, sums.error / sums.count)


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
    The balance implies a negative weight decay: no decay holds this W, and it is not at a stationary point.
    """
    if math.isnan(values["decay"]):
        return ["W is zero: the balance of the head is NaN, as any decay holds it."]
    if math.isnan(values["distance"]):
        return ["Residuals and predictions are uncorrelated to the last digit: their balance is 0 and has no shape."]
    notes = []
    if not matrix.relative_error < 1.0:
        notes.append(
            "The balance of the head cannot be told from the rounding of what was added up; features in arrays or "
            "files are read again where that helps."
        )
    elif values["decay"] < 0.0:
        notes.append(
            "The balance implies a negative weight decay: no decay holds this W, and it is not at a stationary point."
        )
    if n == 1:
        notes.append(
            "One output: the balance and W W^T are numbers, whose distance and asymmetry are 0 by definition; the "
            "weight decay that it implies is what there is to read."
        )
    return notes
