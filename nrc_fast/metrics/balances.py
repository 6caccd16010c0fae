"""How far neighbouring linear layers are from balance, and how well conditioned each and their product is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.metrics.head_balances import times_power

__all__ = ["Bounded", "Imbalance", "condition", "imbalance", "product_condition", "unit_imbalance"]


@dataclass(frozen=True)
class Bounded:
    """A number and the absolute bound of its error.

    Attributes
    ----------
    value, bound : float
    """

    value: float
    bound: float


UNDEFINED = Bounded(math.nan, math.nan)


@dataclass(frozen=True)
class Imbalance:
    """What ``W_2^T W_2 - W_1 W_1^T`` is, with its bounds.

    Attributes
    ----------
    frobenius, operator : Bounded
        Its Frobenius norm, and its largest eigenvalue in size.
    relative : Bounded
        The former over the sum of the norms of both matrices: from 0, balanced, to 1. NaN where both are 0.
    """

    frobenius: Bounded
    operator: Bounded
    relative: Bounded


def imbalance(lower: FloatArray, upper: FloatArray) -> Imbalance:
    """The imbalance of two layers with nothing between them.

    Parameters
    ----------
    lower : (d, p) float64 array
        W_1 of the layer below, with its bias as one column more where that decays.
    upper : (n, d) float64 array
        W_2 of the layer above.

    Examples
    --------
    >>> found = imbalance(np.array([[2.0], [0.0]]), np.array([[1.0, 0.0]]))
    >>> found.frobenius.value, found.operator.value, found.relative.value
    (3.0, 3.0, 0.6)
    """
    (first, second), exponent = _scaled(lower, upper)
    above, below = second.T @ second, first @ first.T
    sizes = _norm(above), _norm(below)
    d = len(below)
    # Each entry is a sum of n, or of p, products; the difference and sums of squares round too.
    off = EPSILON * (len(second) * _norm(second) ** 2 + first.shape[1] * _norm(first) ** 2 + sum(sizes))
    difference = above - below
    length = _norm(difference)
    frobenius = Bounded(length, off + (d + 4.0) * EPSILON * length)
    largest = float(np.abs(np.linalg.eigvalsh(difference)).max(initial=0.0))
    operator = Bounded(largest, off + (d + 4.0) * EPSILON * length)
    total = sizes[0] + sizes[1]
    relative = UNDEFINED
    if total > 0.0:
        share = length / total
        total_off = off + (d + 4.0) * EPSILON * total
        relative = Bounded(share, (frobenius.bound + share * total_off) / (total - total_off) + EPSILON * share)
    return Imbalance(_times(frobenius, 2 * exponent), _times(operator, 2 * exponent), relative)


def unit_imbalance(lower: FloatArray, upper: FloatArray) -> Bounded:
    """The same unit by unit: lengths of the columns of W_2 and of the rows of W_1, squared, in place of the matrices.

    ``|a - b|/(|a| + |b|)`` with ``a_j = |column j of W_2|^2`` and ``b_j = |row j of W_1|^2``. It is 0 at stationary
    points where each unit may be scaled by s > 0 and the weights that read it by 1/s, as ReLU allows.

    Examples
    --------
    >>> unit_imbalance(np.array([[2.0], [0.0]]), np.array([[1.0, 0.0]])).value
    0.6
    """
    (first, second), _ = _scaled(lower, upper)
    above, below = np.sum(second**2, axis=0), np.sum(first**2, axis=1)
    total = _norm(above) + _norm(below)
    if not total > 0.0:
        return UNDEFINED
    share = _norm(above - below) / total
    count = max(len(second), first.shape[1])
    return Bounded(share, EPSILON * (2.0 * count + len(below) + 8.0))


def condition(matrix: FloatArray, components: int) -> Bounded:
    """Ratio of the largest singular value to that of number `components`; NaN for W = 0.

    Examples
    --------
    >>> condition(np.diag([4.0, 2.0, 0.0]), 2).value
    2.0
    """
    scaled, _ = scale_to_unit(matrix)
    return _ratio(_singular_values(scaled), components, max(matrix.shape) * EPSILON)


def product_condition(matrices: Sequence[FloatArray], components: int) -> Bounded:
    """That of the product ``W_m ... W_1``, the first of the matrices being that of the first layer.

    Examples
    --------
    >>> product_condition([np.diag([4.0, 1.0]), np.diag([2.0, 1.0])], 2).value
    8.0
    """
    product, _ = scale_to_unit(matrices[0])
    off = 0.0
    for matrix in matrices[1:]:
        factor, _ = scale_to_unit(matrix)
        size = _norm(factor)
        off = size * off + EPSILON * len(product) * size * _norm(product)
        product, exponent = scale_to_unit(factor @ product)
        off = math.ldexp(off, -exponent)
    values = _singular_values(product)
    relative = off / float(values[0]) if values[0] > 0.0 else 0.0
    return _ratio(values, components, max(product.shape) * EPSILON + relative)


def _ratio(values: FloatArray, components: int, relative_error: float) -> Bounded:
    """The first singular value over another, each off by so much of the first."""
    first, last = float(values[0]), float(values[components - 1])
    if not first > 0.0:
        return UNDEFINED
    error = relative_error * first
    ratio = first / last if last > 0.0 else math.inf
    if last <= error:
        return Bounded(ratio, math.inf)
    return Bounded(ratio, (first + error) / (last - error) - ratio + 2.0 * EPSILON * ratio)


def _singular_values(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.svd(matrix, compute_uv=False), dtype=np.float64)


def _scaled(lower: FloatArray, upper: FloatArray) -> tuple[tuple[FloatArray, FloatArray], int]:
    """Both over one power of two."""
    exponent = max(scale_to_unit(part)[1] for part in (lower, upper) if part.any()) if lower.any() or upper.any() else 0
    return (np.ldexp(lower, -exponent), np.ldexp(upper, -exponent)), exponent


def _norm(matrix: FloatArray) -> float:
    return float(np.sqrt(np.sum(matrix**2)))


def _times(number: Bounded, exponent: int) -> Bounded:
    return Bounded(*(times_power(part, exponent) for part in (number.value, number.bound)))
