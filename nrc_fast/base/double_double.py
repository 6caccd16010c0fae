"""Arithmetic of unevaluated sums ``high + low`` of two float64 numbers, about 31 digits, for small matrices.

Sums and products of float64 numbers are split without error into what float64 holds and the rest (Knuth; Dekker).
Factors must lie in the middle of the range of float64, so that nothing over- or underflows: scale by powers of two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads

__all__ = [
    "UNIT",
    "Pair",
    "added",
    "exactly",
    "long_product",
    "outer_squares",
    "product",
    "quotient",
    "square_root",
    "subtracted",
    "summed",
    "times",
    "two_product",
    "two_sum",
]

# Relative error of one operation on pairs.
UNIT = 2.0**-102
SPLITTER = 2.0**27 + 1.0
# Products that are held at a time.
BLOCK_PRODUCTS = 1 << 20
# Rows whose products add up without rounding in float64: 2 * 22 bits of each product and 9 of their number.
EXACT_ROWS = 512
SLICE_BITS = 22
SLICES = 3
# Such groups of rows that are worked on at a time.
GROUPS = 32


class Pair(NamedTuple):
    """An array of sums ``high + low``, where low is at most half a unit in the last place of high."""

    high: FloatArray
    low: FloatArray


def exactly(matrix: FloatArray) -> Pair:
    """An array of float64 numbers as a pair."""
    return Pair(matrix, np.zeros_like(matrix))


def two_sum(a: FloatArray, b: FloatArray) -> Pair:
    """Sum and rounding error of two arrays: ``a + b == high + low`` without error.

    Examples
    --------
    >>> high, low = two_sum(np.array([1.0]), np.array([1e-20]))
    >>> high.tolist(), low.tolist()
    ([1.0], [1e-20])
    """
    total = a + b
    other = total - a
    return Pair(total, (a - (total - other)) + (b - other))


def _halves(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    scaled = SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def two_product(a: FloatArray, b: FloatArray) -> Pair:
    """Product and rounding error of two arrays: ``a * b == high + low`` without error.

    Examples
    --------
    >>> high, low = two_product(np.array([1.0 + 2.0**-30]), np.array([1.0 + 2.0**-30]))
    >>> low.tolist() == [2.0**-60]
    True
    """
    high = a * b
    first_a, rest_a = _halves(a)
    first_b, rest_b = _halves(b)
    low = ((first_a * first_b - high) + first_a * rest_b + rest_a * first_b) + rest_a * rest_b
    return Pair(high, low)


def added(a: Pair, b: Pair) -> Pair:
    """Sum of two pairs.

    Examples
    --------
    >>> third = quotient(Pair(np.array(1.0), np.array(0.0)), 3.0)
    >>> added(added(third, third), third).high.item()
    1.0
    """
    high, error = two_sum(a.high, b.high)
    low, rest = two_sum(a.low, b.low)
    high, error = two_sum(high, error + low)
    return two_sum(high, error + rest)


def subtracted(a: Pair, b: Pair) -> Pair:
    """Difference of two pairs.

    Examples
    --------
    >>> found = subtracted(Pair(np.array([1.0]), np.array([1e-20])), Pair(np.array([1.0]), np.array([0.0])))
    >>> found.high.tolist()
    [1e-20]
    """
    return added(a, Pair(-b.high, -b.low))


def quotient(a: Pair, divisor: float) -> Pair:
    """A pair over a float64 number.

    Examples
    --------
    >>> third = quotient(Pair(np.array(1.0), np.array(0.0)), 3.0)
    >>> third.high.item(), third.low.item()
    (0.3333333333333333, 1.850371707708594e-17)
    """
    by = np.asarray(divisor)
    first = a.high / by
    taken = two_product(first, by)
    rest = ((a.high - taken.high) - taken.low) + a.low
    return two_sum(first, rest / by)


def times(a: Pair, b: Pair) -> Pair:
    """Product of two pairs, entry by entry.

    Examples
    --------
    >>> third = quotient(Pair(np.array(1.0), np.array(0.0)), 3.0)
    >>> times(third, Pair(np.array(3.0), np.array(0.0))).high.item()
    1.0
    """
    high, low = two_product(a.high, b.high)
    return two_sum(high, low + (a.high * b.low + a.low * b.high))


def square_root(a: Pair) -> Pair:
    """Root of pairs that are not negative.

    Examples
    --------
    >>> root = square_root(Pair(np.array([2.0, 0.0]), np.zeros(2)))
    >>> times(root, root).high.tolist(), bool(abs(times(root, root).low[0]) < 1e-30)
    ([2.0, 0.0], True)
    """
    root = np.sqrt(a.high)
    square = two_product(root, root)
    rest = ((a.high - square.high) - square.low) + a.low
    return two_sum(root, np.divide(rest, 2.0 * root, out=np.zeros_like(rest), where=root > 0.0))


def product(a: Pair, b: Pair) -> Pair:
    """Matrix product of pairs (..., m, p) and (..., p, n); batch axes broadcast.

    Entries are off by about ``p UNIT`` of the same product of absolute values.

    Examples
    --------
    >>> zero = np.zeros((1, 2))
    >>> found = product(Pair(np.array([[1.0, 1e-20]]), zero), Pair(np.ones((2, 1)), zero.T))
    >>> found.high.item(), found.low.item()
    (1.0, 1e-20)
    """
    m, inner, n = a.high.shape[-2], a.high.shape[-1], b.high.shape[-1]
    batch = np.broadcast_shapes(a.high.shape[:-2], b.high.shape[:-2])
    step = max(BLOCK_PRODUCTS // max(m * n * int(np.prod(batch)), 1), 1)
    columns, rows = np.broadcast_to(a.high, (*batch, m, inner)), np.broadcast_to(b.high, (*batch, inner, n))
    zeros = np.zeros((*batch, m, n))
    total = Pair(zeros, a.high @ b.low + a.low @ b.high)
    for first in range(0, inner, step):
        part = slice(first, min(first + step, inner))
        left = np.moveaxis(columns[..., part], -1, 0)[..., np.newaxis]
        right = np.moveaxis(rows[..., part, :], -2, 0)[..., np.newaxis, :]
        total = added(total, summed(two_product(left, right)))
    return total


def summed(parts: Pair) -> Pair:
    """The sum of pairs over the first axis, by halves.

    Examples
    --------
    >>> summed(Pair(np.array([1.0, 1e-20, -1.0]), np.zeros(3))).high.item()
    1e-20
    """
    while len(parts.high) > 1:
        half = len(parts.high) // 2
        whole = added(*(Pair(*(part[piece] for part in parts)) for piece in (slice(half), slice(half, 2 * half))))
        if len(parts.high) % 2:
            rest = Pair(*(part[-1:] for part in parts))
            first = added(Pair(whole.high[:1], whole.low[:1]), rest)
            whole = Pair(*(np.concatenate([one, part[1:]]) for one, part in zip(first, whole, strict=True)))
        parts = whole
    return Pair(parts.high[0], parts.low[0])


def outer_squares(rows: Pair) -> Pair:
    """``sum x x^T`` over rows x of pairs, (N, n) to (n, n).

    Rows are cut into slices of a few bits, aligned along each column, whose products BLAS adds up without rounding
    (Ozaki et al. 2012). Entry (i, j) is off by less than ``2^-95 |x_i| |x_j|``, with the norms of the columns.

    Examples
    --------
    >>> rows = np.array([[1.0 + 2.0**-30], [2.0**-40]])
    >>> found = outer_squares(Pair(rows, np.zeros((2, 1))))
    >>> found.high.item() - 1.0 == 2.0**-29 and found.low.item() == 2.0**-60 + 2.0**-80
    True
    """
    count, n = rows.high.shape
    total = Pair(np.zeros((n, n)), np.zeros((n, n)))
    step = EXACT_ROWS * GROUPS
    with few_blas_threads(n):
        for first in range(0, count, step):
            groups = [_grouped(part[first : first + step]) for part in rows]
            total = added(total, summed(_group_squares(Pair(*groups))))
    return total


def _grouped(rows: FloatArray) -> FloatArray:
    """Rows in groups of EXACT_ROWS, (G, EXACT_ROWS, n), filled up with zeros."""
    missing = -len(rows) % EXACT_ROWS
    return np.pad(rows, ((0, missing), (0, 0))).reshape(-1, EXACT_ROWS, rows.shape[1])


def _group_squares(groups: Pair) -> Pair:
    slices, rest = _slices(groups.high, SLICE_BITS, axis=1)
    beyond = np.swapaxes(groups.high, 1, 2) @ (rest + groups.low) - 0.5 * (np.swapaxes(rest, 1, 2) @ rest)
    total = Pair(np.zeros_like(beyond), beyond + np.swapaxes(beyond, 1, 2))
    for i, one in enumerate(slices):
        for other in slices[i:]:
            exact = np.swapaxes(one, 1, 2) @ other
            if other is not one:
                exact_twice = two_sum(exact, np.swapaxes(exact, 1, 2))
                total = added(total, exact_twice)
            else:
                total = added(total, Pair(exact, np.zeros_like(exact)))
    return total


def _slices(matrix: FloatArray, bits: int, *, axis: int) -> tuple[list[FloatArray], FloatArray]:
    """Matrices of so many significant bits, aligned along an axis, and the rest: they add up to the matrix."""
    slices, rest = [], matrix
    for _ in range(SLICES):
        _, exponent = np.frexp(np.abs(rest).max(axis=axis, keepdims=True))
        grid = np.ldexp(0.75, exponent + 53 - bits + 1)
        head = (rest + grid) - grid
        slices.append(head)
        rest = rest - head
    return slices, rest


def long_product(a: FloatArray, b: Pair) -> Pair:
    """Product of long rows (N, d) and a matrix of pairs (d, k), by BLAS as in `outer_squares`.

    Entry (i, j) is off by about ``sqrt(d) 2^-100 |a_i| |b_j|``.

    Examples
    --------
    >>> found = long_product(np.array([[1.0, 1e-20]]), Pair(np.ones((2, 1)), np.zeros((2, 1))))
    >>> found.high.item(), found.low.item()
    (1.0, 1e-20)
    """
    bits = (53 - max(a.shape[1] - 1, 1).bit_length()) // 2
    left, left_rest = _slices(a, bits, axis=1)
    right, right_rest = _slices(b.high, bits, axis=0)
    low = a @ (right_rest + b.low) + left_rest @ (b.high - right_rest)
    total = Pair(np.zeros_like(low), low)
    for one in left:
        for other in right:
            part = one @ other
            total = added(total, Pair(part, np.zeros_like(part)))
    return total
