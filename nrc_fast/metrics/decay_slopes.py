"""How fast weight decay alone shrinks what the loss does not see, and how fast a measured curve falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON

__all__ = ["UNKNOWN_SLOPE", "Slope", "decay_slope", "fitted_slope", "fitting_weights"]


class Slope(NamedTuple):
    """Change of the logarithm of NRC1 per training step.

    Attributes
    ----------
    value : float
        Negative where NRC1 falls; NaN where it is not known.
    bound : float
        Absolute bound of its error.
    """

    value: float
    bound: float


UNKNOWN_SLOPE = Slope(math.nan, math.nan)


def decay_slope(shrinkage: float, momentum: float = 0.0, *, is_nesterov: bool = False) -> Slope:
    """Slope of the logarithm of NRC1 of linear features under weight decay: two times that of the weights' own size.

    Where the loss has no gradient, descent with decay is ``v <- m v + s x; x <- x - v`` with s the learning rate times
    the decay. From step to step (x, v) is multiplied by a matrix whose eigenvalues are ``z = 1 - y`` with ``y^2 - (1 -
    m + s) y + s = 0``, or with ``1 - m + s + m s`` under Nesterov's momentum. The slope is ``2 log |z|`` of the larger
    one: ``2 log(1 - s)`` without momentum, about ``-2 s/(1 - m)`` for small s.

    Parameters
    ----------
    shrinkage : float
        s, at least 0; with dampening, times 1 minus it.
    momentum : float
        m, in [0, 1).
    is_nesterov : bool

    Returns
    -------
    Slope
        ``log(m)`` (times ``1 - s`` under the logarithm for Nesterov) where both eigenvalues are complex and NRC1 swings
        as it falls. Unknown for numbers out of range.

    References
    ----------
    This project's; the matrix is that of heavy-ball descent on a quadratic (Polyak, 1964).

    Examples
    --------
    >>> round(decay_slope(0.005).value, 6), round(decay_slope(0.0005, 0.9).value, 6)
    (-0.010025, -0.010526)
    >>> decay_slope(0.0).value
    0.0
    """
    if not (shrinkage >= 0.0 and 0.0 <= momentum < 1.0 and math.isfinite(shrinkage)):
        return UNKNOWN_SLOPE
    if shrinkage == 0.0:
        return Slope(0.0, 0.0)
    total = (1.0 - momentum) + shrinkage * (1.0 + (momentum if is_nesterov else 0.0))
    discriminant = total * total - 4.0 * shrinkage
    off = 8.0 * EPSILON * (total * total + 4.0 * shrinkage)
    if discriminant < -off:
        product = momentum * abs(1.0 - shrinkage) if is_nesterov else momentum
        return Slope(math.log(product), 4.0 * EPSILON * (1.0 + 1.0 / product + abs(math.log(product))))
    root = math.sqrt(max(discriminant, 0.0))
    root_error = min(math.sqrt(2.0 * off), off / root if root > 0.0 else math.inf)
    # The smaller solution without cancellation, and the larger.
    small = 2.0 * shrinkage / (total + root)
    small_error = small * (root_error / (total + root) + 4.0 * EPSILON)
    large, large_error = 0.5 * (total + root), 0.5 * root_error + 4.0 * EPSILON * total
    sides = [(abs(1.0 - small), small, small_error), (abs(1.0 - large), large, large_error)]
    size, solution, error = max(sides)
    value = 2.0 * math.log1p(-solution) if solution < 1.0 else 2.0 * math.log(size) if size > 0.0 else -math.inf
    bound = 2.0 * error / max(size - error, 0.0) if size > error else math.inf
    return Slope(value, bound + 4.0 * EPSILON * abs(value))


def fitting_weights(steps: Sequence[float] | FloatArray) -> FloatArray:
    """The weights w with which ``sum w f`` is the slope of the least-squares line through (step, f).

    Examples
    --------
    >>> fitting_weights([0, 1, 2]).tolist()
    [-0.5, 0.0, 0.5]
    """
    centred = np.asarray(steps, dtype=np.float64)
    centred = centred - centred.mean()
    return np.asarray(centred / np.sum(centred**2))


def fitted_slope(steps: Sequence[float], values: Sequence[float], bounds: Sequence[float]) -> Slope:
    """Slope of the least-squares line through the logarithms of positive values, each with an absolute bound.

    Parameters
    ----------
    steps, values, bounds : sequences of the same length
        At least two different steps.

    Returns
    -------
    Slope
        Unknown where a value is not above its bound, or where there are fewer than two steps.

    Examples
    --------
    >>> slope = fitted_slope([0, 10, 20], [1.0, math.exp(-0.1), math.exp(-0.2)], [0.0, 0.0, 0.0])
    >>> round(slope.value, 12), slope.bound < 1e-15
    (-0.01, True)
    """
    known, limits = np.asarray(values, dtype=np.float64), np.asarray(bounds, dtype=np.float64)
    if len(set(steps)) < 2 or not (known > limits).all() or not np.isfinite(known).all():
        return UNKNOWN_SLOPE
    weights, logarithms = fitting_weights(steps), np.log(known)
    errors = -np.log1p(-limits / known) + (len(known) + 4.0) * EPSILON * (1.0 + np.abs(logarithms))
    return Slope(float(weights @ logarithms), float(np.abs(weights) @ errors))
