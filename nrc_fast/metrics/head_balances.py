"""The balance of a head: what weight decay, the residuals and the predictions have to do with W W^T.

Where the gradient with respect to W of a loss with the term ``(lambda_W/2) |W|^2`` is zero,
``lambda_W W = (1/M) sum r h^T`` with ``r = -dl/df``. Multiplied by W^T from the right that is

    lambda_W W W^T = (1/M) sum r (W h)^T = B.

Bounds follow from the bound of B that is given and are certified in it; those of W W^T are statistical.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.metrics.alignment import head_gram

__all__ = ["BalanceMatrix", "BalanceNumbers", "balance_from_moments", "balance_numbers"]


@dataclass(frozen=True)
class BalanceMatrix:
    """``B = (1/M) sum r (W h)^T``, (n, n), and the bound of the Frobenius norm of its error."""

    values: FloatArray
    error: float

    @property
    def relative_error(self) -> float:
        """The bound over the norm of B; infinite for B = 0 that may be another."""
        size = float(np.linalg.norm(self.values))
        return self.error / size if size > 0.0 else (math.inf if self.error > 0.0 else 0.0)


@dataclass(frozen=True)
class BalanceNumbers:
    """What the balance of a head says, and bounds of the errors of these numbers.

    Attributes
    ----------
    distance : float
        ``| B/|B| - W W^T/|W W^T| |_F^2``; NaN for W = 0 and B = 0.
    decay : float
        ``tr B / tr W W^T``; NaN for W = 0.
    asymmetry : float
        ``|B - B^T| / |B|``; NaN for B = 0.
    bounds : dict
        By the names of the numbers.
    """

    distance: float
    decay: float
    asymmetry: float
    bounds: dict[str, float]


def balance_from_moments(
    weights: FloatArray, covariances: tuple[FloatArray, FloatArray], means: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """B of the squared loss from moments: ``(C_yh - W C_hh) W^T + mean(y - f) mean(W h)^T``.

    Parameters
    ----------
    weights : (n, d) float64 array
    covariances : (d, d) and (d, n) float64 arrays
        C_hh and C_hy.
    means : (n,) float64 arrays
        Of ``y - W h - b`` and of ``W h``.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> balance_from_moments(0.5 * one, (one, 0.75 * one), (np.zeros(1), np.zeros(1))).tolist()
    [[0.125]]
    """
    covariance, cross = covariances
    found: FloatArray = (cross.T - weights @ covariance) @ weights.T + np.outer(*means)
    return found


def _times_power(value: float, exponent: int) -> float:
    """``value 2^exponent``, infinite beyond the range of float64."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, exponent))


def balance_numbers(matrix: BalanceMatrix, weights: FloatArray) -> BalanceNumbers:
    """Distance, implied decay and asymmetry, with their bounds.

    Parameters
    ----------
    matrix : BalanceMatrix
    weights : (n, d) float64 array
        W, of any scale.

    Examples
    --------
    >>> numbers = balance_numbers(BalanceMatrix(np.diag([0.2, 0.1]), 0.0), np.diag([2.0, 2.0]))
    >>> round(numbers.distance, 6), round(numbers.decay, 6), numbers.asymmetry
    (0.102633, 0.0375, 0.0)
    """
    scaled, exponent = scale_to_unit(weights)
    gram = head_gram(scaled)
    size, (n, d) = float(np.linalg.norm(gram)), weights.shape
    if not size > 0.0:
        return BalanceNumbers(math.nan, math.nan, math.nan, dict.fromkeys(("distance", "decay", "asymmetry"), math.nan))
    values, power = scale_to_unit(matrix.values)
    error = _times_power(matrix.error, -power)
    length, trace = float(np.linalg.norm(values)), float(np.trace(gram))
    rounding_of_trace = EPSILON * float(np.abs(values.diagonal()).sum())
    decay = _times_power(float(np.trace(values)) / trace, power - 2 * exponent)
    off = (n**0.5 * error + rounding_of_trace) / trace
    bounds = {
        "decay": _times_power(off, power - 2 * exponent) + EPSILON * (4.0 + d**0.5) * abs(decay),
        "distance": math.nan,
        "asymmetry": math.nan,
    }
    if not length > 0.0:
        return BalanceNumbers(math.nan, decay, math.nan, bounds)
    difference = values / length - gram / size
    distance = float(np.vdot(difference, difference))
    asymmetry = float(np.linalg.norm(values - values.T)) / length
    # Of matrices that are apart by e, one of norm v, the directions are apart by at most this (Dunkl and Williams).
    turn = 2.0 * error / (2.0 * length - error) if error < length else 2.0
    turn += EPSILON * (6.0 + n + (n * d) ** 0.5)
    bounds["distance"] = min(2.0 * math.sqrt(distance) * turn + turn**2, 4.0) + 8.0 * EPSILON * distance
    spread = (2.0 + asymmetry) * error / (length - error) if error < length else 2.0
    bounds["asymmetry"] = min(spread, 2.0) + EPSILON * (4.0 + n) * asymmetry
    return BalanceNumbers(distance, decay, asymmetry, bounds)
