"""Shares of the variance, effective and stable rank to a few roundings, from eigenvalues in twice the digits.

Every rounding is counted at its worst: products and quotients of float64 numbers are off by half a unit in the last
place, logarithms and exponentials of numpy by a whole one, and sums by `math.fsum` by half a unit.
"""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import Pair, quotient
from nrc_fast.base.exact_products import UNIT_ROUNDOFF

__all__ = ["exact_effective_rank", "exact_shares", "exact_stable_rank"]

# Half units in the last place of ``p log p``, and of the exponential of a sum.
OF_TERMS, OF_EXPONENTIAL = 3.0, 2.0


def exact_shares(eigenvalues: Pair, errors: FloatArray) -> tuple[Pair, FloatArray]:
    """Shares of the variance in each component, and bounds of the errors of their leading parts.

    Parameters
    ----------
    eigenvalues : pair of (d,) float64 arrays
        All of them, with a positive sum.
    errors : (d,) float64 array
        Bounds of their errors.

    Examples
    --------
    >>> zeros = np.zeros(2)
    >>> shares, bounds = exact_shares(Pair(np.array([2.0, 1.0]), zeros), zeros)
    >>> shares.high.tolist(), bool((bounds < 1e-16).all())
    ([0.6666666666666666, 0.3333333333333333], True)
    """
    parts = np.concatenate(eigenvalues).tolist()
    total = math.fsum(parts)
    shares = _over(eigenvalues, Pair(np.array(total), np.array(math.fsum([*parts, -total]))))
    off = (errors + np.maximum(shares.high, 0.0) * float(errors.sum())) / total
    is_negative = shares.high < 0.0  # the truth is not
    shares = Pair(*(np.where(is_negative, 0.0, part) for part in shares))
    return shares, (UNIT_ROUNDOFF * shares.high + off) * (1.0 + 1e-12)


def exact_effective_rank(shares: Pair, bounds: FloatArray) -> tuple[float, float]:
    """``exp(-sum p log p)`` of shares p of `exact_shares`, and its bound.

    Examples
    --------
    >>> value, bound = exact_effective_rank(Pair(np.array([0.5, 0.5]), np.zeros(2)), np.zeros(2))
    >>> abs(value - 2.0) <= bound < 1e-14
    True
    """
    d = len(bounds)
    # What the rounding of a share takes from it is in its other part.
    off = np.maximum(bounds - UNIT_ROUNDOFF * shares.high, 0.0)
    is_clear = shares.high > 4.0 * off
    known, rest, unknown = shares.high[is_clear], shares.low[is_clear], off[is_clear]
    logarithms = np.log(known)
    entropy = math.fsum([*(-known * logarithms).tolist(), *(-(1.0 + logarithms) * rest).tolist()])
    error = float(unknown @ (1.5 + np.abs(logarithms)))
    # -p log p of what is less than 5 times its bound rises up to 1/e.
    left = np.minimum(5.0 * off[~is_clear], math.exp(-1.0))
    error += float(-(left[left > 0.0] @ np.log(left[left > 0.0])))
    error += UNIT_ROUNDOFF * (OF_TERMS + 2.0) * entropy
    value = math.exp(entropy)
    bound = value * (math.expm1(error) + OF_EXPONENTIAL * UNIT_ROUNDOFF) if error < 1.0 else float(d)
    return min(max(value, 1.0), float(d)), min(bound, float(d)) if d > 1 else 0.0


def exact_stable_rank(eigenvalues: Pair, errors: FloatArray) -> tuple[float, float]:
    """``sum lambda^2 / lambda_1^2``, and its bound.

    Parameters
    ----------
    eigenvalues, errors
        As in `exact_shares`; the largest one comes first.

    Examples
    --------
    >>> exact_stable_rank(Pair(np.array([2.0, 1.0]), np.zeros(2)), np.zeros(2))[0]
    1.25
    """
    largest = float(eigenvalues.high[0])
    if not largest > 2.0 * float(errors[0]):
        return math.nan, math.nan
    ratios = _over(eigenvalues, Pair(*(part[0] for part in eigenvalues))).high
    off = 2.0 * (errors + np.abs(ratios) * errors[0]) / largest
    value = math.fsum((ratios**2).tolist())
    off[0] = 0.0
    return value, 4.0 * UNIT_ROUNDOFF * (value - 1.0) + UNIT_ROUNDOFF + float(off @ (2.0 * np.abs(ratios) + off))


def _over(numbers: Pair, divisor: Pair) -> Pair:
    first = numbers.high / divisor.high
    return quotient(Pair(numbers.high, numbers.low - first * divisor.low), float(divisor.high))
