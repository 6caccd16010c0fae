"""The balance of a head: what weight decay, the residuals and the predictions have to do with W W^T.

Where the gradient with respect to W of a loss with the term ``(lambda_W/2) |W|^2`` is zero,
``lambda_W W = (1/M) sum r h^T`` with ``r = -dl/df``. Multiplied by W^T from the right that is

    lambda_W W W^T = (1/M) sum r (W h)^T = B.

Bounds follow from the bound of B that is given and are certified in it: sums here are rounded once, and counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.linalg import EPSILON, scale_to_unit, scaled_norm
from nrc_fast.base.symmetric import Symmetric, as_symmetric
from nrc_fast.metrics.alignment import head_gram

__all__ = [
    "LARGEST",
    "BalanceMatrix",
    "BalanceNumbers",
    "balance_from_moments",
    "balance_numbers",
    "times_power",
]

# The ends of their ranges.
LARGEST = {"distance": 4.0, "asymmetry": 2.0}


@dataclass(frozen=True)
class BalanceMatrix:
    """``B = (1/M) sum r (W h)^T``, (n, n), and the bound of the Frobenius norm of its error.

    Both are to be multiplied by ``2^exponent``: that of W, which may be of any scale.
    """

    values: FloatArray
    error: float
    exponent: int = 0

    @property
    def is_finite(self) -> bool:
        """Whether B can be told in float64."""
        return bool(np.isfinite(self.values).all()) and math.isfinite(self.error)

    @property
    def relative_error(self) -> float:
        """The bound over the norm of B; infinite for B = 0 that may be another, NaN where B is not finite."""
        if not self.is_finite:
            return math.nan
        norm, power = scaled_norm(self.values)
        if norm > 0.0:
            return times_power(self.error, -power) / norm
        return math.inf if self.error > 0.0 else 0.0


@dataclass(frozen=True)
class BalanceNumbers:
    """What the balance of a head says, and bounds of the errors of these numbers.

    Attributes
    ----------
    distance : float
        ``| B/|B| - W W^T/|W W^T| |_F^2``; NaN for W = 0 and B = 0; all are where B is not finite.
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
    weights: FloatArray,
    scaled: FloatArray,
    covariances: tuple[Symmetric, FloatArray],
    means: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """B of the squared loss from moments: ``(C_yh - W C_hh) V^T + mean(y - f) mean(V h)^T``, V a multiple of W.

    Parameters
    ----------
    weights, scaled : (n, d) float64 arrays
        W and V.
    covariances : (d, d) and (d, n) float64 arrays
        C_hh and C_hy.
    means : (n,) float64 arrays
        Of ``y - W h - b`` and of ``V h``.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> balance_from_moments(0.5 * one, one, (one, 0.75 * one), (np.zeros(1), np.zeros(1))).tolist()
    [[0.25]]
    """
    covariance, cross = covariances
    found: FloatArray = (cross.T - as_symmetric(covariance).products(weights)) @ scaled.T + np.outer(*means)
    return found


def times_power(value: float, exponent: int) -> float:
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
    size, n = _norm(gram), len(weights)
    if not (size > 0.0 and matrix.is_finite):
        return BalanceNumbers(math.nan, math.nan, math.nan, dict.fromkeys(("distance", "decay", "asymmetry"), math.nan))
    values, power = scale_to_unit(matrix.values)
    error = times_power(matrix.error, -power)
    length, trace = _norm(values), math.fsum(gram.diagonal())
    unit = power + matrix.exponent - 2 * exponent
    decay = times_power(math.fsum(values.diagonal()) / trace, unit)
    bounds = {
        "decay": times_power(n**0.5 * error / trace, unit) * (1.0 + 4.0 * EPSILON) + 2.5 * EPSILON * abs(decay),
        "distance": math.nan,
        "asymmetry": math.nan,
    }
    if not length > 0.0:
        return BalanceNumbers(math.nan, decay, math.nan, bounds)
    difference = values / length - gram / size
    distance = float(sums_along(difference.ravel() ** 2, axis=0))
    asymmetry = _norm(values - values.T) / length
    # Of matrices that are apart by e, one of norm v, the directions are apart by at most this (Dunkl and Williams).
    turn = 2.0 * error / (2.0 * length - error) if error < length else 2.0
    turn += 5.0 * EPSILON  # the entries of W W^T, two norms, two quotients, and the difference
    bounds["distance"] = 2.0 * math.sqrt(distance) * turn + turn**2 + 2.0 * EPSILON * distance
    spread = (2.0 + asymmetry) * error / (length - error) if error < length else 2.0
    bounds["asymmetry"] = spread + 4.0 * EPSILON * asymmetry
    for name, value in (("distance", distance), ("asymmetry", asymmetry)):  # both ends of a range are as far as it goes
        bounds[name] = min(bounds[name], max(value, LARGEST[name] - value))
    return BalanceNumbers(distance, decay, asymmetry, bounds)


def _norm(matrix: FloatArray) -> float:
    """The Frobenius norm, of a sum of squares that is rounded once and little more."""
    return math.sqrt(sums_along(matrix.ravel() ** 2, axis=0))
