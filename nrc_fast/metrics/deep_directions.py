"""One direction of the UFM with m linear layers, at whatever scale its penalties are.

Products of penalties and powers of variances leave the range of float64 long before their roots do, and logarithms of
numbers far from 1 lose digits: they are multiplied as mantissas and exponents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray

__all__ = [
    "Directions",
    "factor_singular_values",
    "gram_eigenvalues",
    "largest_ratio",
    "lost_share",
    "root_of_product",
    "solve_directions",
    "threshold",
]

NEWTON_STEPS = 24
MOST_POWER = 512
MOST_SHIFT = 1000  # what a mantissa may be shifted by and stay a float64 number


def root_of_product(factors: Sequence[FloatArray], powers: Sequence[int], degree: int = 1) -> FloatArray:
    """``(f_1^p_1 f_2^p_2 ...)^(1/degree)`` of numbers at least 0, which over- or underflows only where the root does.

    Its relative error is below 4 eps for a degree of at least a third of the number of factors.

    Examples
    --------
    >>> root_of_product([np.array(1e-200), np.array(1e-200), np.array(1e-200)], [1, 1, 1], 3).item()
    1e-200
    """
    return _root(_product(factors, powers), degree)


class _Product(NamedTuple):
    """A product as mantissas, from 1/2 to 1 or 0, and the exponents of 2 beside them."""

    mantissa: FloatArray
    exponent: IntArray


def _product(factors: Sequence[FloatArray], powers: Sequence[int]) -> _Product:
    found = _Product(np.ones(()), np.zeros((), dtype=np.int64))
    for factor, power in zip(factors, powers, strict=True):
        found = _times(found, factor, power)
    return found


def _times(product: _Product, factor: FloatArray, power: int) -> _Product:
    """The product with one more factor, to a power."""
    mantissa, exponent = product
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        part, whole = np.frexp(factor)
        exponent = exponent + power * whole.astype(np.int64)
        for step in _steps(power):
            mantissa, carried = np.frexp(mantissa * part ** float(step))
            exponent = exponent + carried
    return _Product(mantissa, exponent)


def _root(product: _Product, degree: int) -> FloatArray:
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        quotient, rest = np.divmod(product.exponent, degree)
        # A rest of a degree beyond what float64 holds goes into the root by a factor of its own.
        near = np.minimum(rest, MOST_SHIFT)
        root = np.ldexp(product.mantissa, near)
        if degree > 1:
            root = root ** (1.0 / degree) * 2.0 ** ((rest - near) / degree)
        # Of a factor of 0 the exponent says nothing.
        return np.asarray(np.ldexp(root, np.clip(quotient, -5000, 5000).astype(np.int32)))


def _steps(power: int) -> list[int]:
    """A power as a sum of such that no mantissa leaves the range of float64."""
    whole, rest = divmod(abs(power), MOST_POWER)
    return [step if power > 0 else -step for step in [*[MOST_POWER] * whole, rest]]


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions of some variances at the global minimum.

    Attributes
    ----------
    share : (..., n) float64 array
        ``t = 1 - z/sqrt(lambda)``, what the predictions lose of each direction; 1 where it is dropped.
    energy : (..., n) float64 array
        ``lambda t (1 - t)``, what each direction pays twice in every factor.
    ratio : (..., n) float64 array
        ``r = (product of penalties/lambda^m)^(1/(m + 1))``, which share and fate of a direction depend on.
    """

    share: FloatArray
    energy: FloatArray
    ratio: FloatArray


def largest_ratio(m: int) -> float:
    """The r from which on a direction is dropped.

    Examples
    --------
    >>> largest_ratio(1)
    1.0
    """
    return float((1.0 / m) * (1.0 - 1.0 / m) ** ((m - 1) / (m + 1))) if m > 1 else 1.0


def lost_share(ratio: FloatArray, m: int) -> FloatArray:
    """Shares t of directions that are kept, the smaller root of ``t (1 - t)^((m - 1)/(m + 1)) = r``.

    It beats z = 0 iff t <= 1/m; up to there the left side rises and is concave, so that Newton's steps from t = r
    reach it from below.

    Parameters
    ----------
    ratio : float64 array of any shape
        r, at most `largest_ratio`.
    m : int
        Number of linear layers.

    Examples
    --------
    >>> lost_share(np.array([0.0, largest_ratio(2)]), 2).round(12).tolist()
    [0.0, 0.5]
    """
    exponent, share = (m - 1) / (m + 1), ratio
    for _ in range(NEWTON_STEPS if m > 1 else 0):
        before, left = share, (1.0 - share) ** exponent
        slope = left * (1.0 - share * (1.0 + exponent)) / (1.0 - share)
        share = np.minimum(share - (share * left - ratio) / slope, 1.0 / m)
        if np.all(share <= before):  # what rises no more has arrived
            break
    return share


def solve_directions(values: FloatArray, penalties: FloatArray, *, stretch: float = 1.0) -> Directions:
    """The global minimum in each direction.

    Parameters
    ----------
    values : (..., n) float64 array
        Variances of the directions.
    penalties : (..., m + 1) float64 array
        Positive; those of the layers and of the features.
    stretch : float
        A factor of r, to see what its rounding does.

    Returns
    -------
    Directions

    Examples
    --------
    >>> solve_directions(np.array([4.0, 1.0]), np.array([1.0, 1.0])).share.tolist()
    [0.5, 1.0]
    """
    m = penalties.shape[-1] - 1
    factors = [penalties[..., i, np.newaxis] for i in range(m + 1)]
    ones = [1] * (m + 1)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.where(values > 0.0, root_of_product([*factors, values], [*ones, -m], m + 1) * stretch, np.inf)
    is_kept = ratio < largest_ratio(m)
    share = lost_share(np.where(is_kept, ratio, 0.0), m)
    product = root_of_product([*factors, values], [*ones, 1], m + 1) * stretch
    energy = np.where(is_kept, product * (1.0 - share) ** (2.0 / (m + 1)), 0.0)
    return Directions(np.where(is_kept, share, 1.0), energy, ratio)


def factor_singular_values(values: FloatArray, penalties: FloatArray, share: FloatArray) -> FloatArray:
    """Singular values of all layers and of the features over sqrt(M), (..., m + 1, n): ``sqrt(energy/lambda_i)``.

    Examples
    --------
    >>> factor_singular_values(np.array([4.0]), np.array([0.25, 4.0]), np.array([0.5])).round(12).tolist()
    [[2.0], [0.5]]
    """
    count = penalties.shape[-1]
    factors = [penalties[..., i, np.newaxis] for i in range(count)]
    mantissa, exponent = _product([*factors, values], [1] * (count + 1))
    every = _Product(mantissa[..., np.newaxis, :], exponent[..., np.newaxis, :])
    roots = _root(_times(every, penalties[..., np.newaxis], -count), 2 * count)
    kept = share[..., np.newaxis, :]
    return np.asarray(np.where(kept < 1.0, roots, 0.0) * (1.0 - kept) ** (1.0 / count))


def gram_eigenvalues(values: FloatArray, penalties: FloatArray, share: FloatArray) -> FloatArray:
    """Products of the squares of the layers' singular values, (..., n).

    Examples
    --------
    >>> gram_eigenvalues(np.array([4.0]), np.array([0.25, 4.0]), np.array([0.5])).round(12).tolist()
    [4.0]
    """
    m = penalties.shape[-1] - 1
    factors = [penalties[..., i, np.newaxis] for i in range(m + 1)]
    root = root_of_product([*factors, values], [*[-1] * m, m, m], m + 1)
    return np.asarray(np.where(share < 1.0, root, 0.0) * (1.0 - share) ** (2.0 * m / (m + 1)))


def threshold(values: FloatArray, m: int, *, degree: int = 1) -> FloatArray:
    """``lambda^m (m - 1)^(m - 1)/m^(2m)``, the product of penalties from which on a direction of variance lambda goes.

    Parameters
    ----------
    values : float64 array
        lambda.
    m : int
        Number of linear layers.
    degree : int
        Of the root that is taken: with m + 1 it is the penalty of each factor where all are the same.

    Examples
    --------
    >>> threshold(np.array([4.0]), 2).tolist(), threshold(np.array([4.0]), 2, degree=3).tolist()
    ([1.0], [1.0])
    """
    factors = [values, np.array(float(max(m - 1, 1))), np.array(float(m))]
    return np.where(values > 0.0, root_of_product(factors, [m, m - 1, -2 * m], degree), 0.0)
