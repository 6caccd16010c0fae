"""Products of matrices whose leading bits BLAS adds up without rounding, as pairs, with bounds of what it rounds.

A factor is cut into so many bits that products of these add up to float64 numbers whatever their order (Ozaki et al.
2012), and the rest, which is as much smaller: its products are rounded, relative to themselves. Every bound counts each
rounding at its worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import Pair, quotient, two_sum

__all__ = [
    "UNIT_ROUNDOFF",
    "ErrorBounds",
    "Slices",
    "column_means",
    "exact_bits",
    "gram",
    "leading_bits",
    "product",
    "sums_along",
]

Slices: TypeAlias = Literal[1, 2]

# Of float64.
UNIT_ROUNDOFF = 2.0**-53
# Of rows that are worked on at a time: larger arrays are new pages for each result.
BLOCK_NUMBERS = 1 << 13


def leading_bits(matrix: FloatArray, bits: int, *, axis: int) -> FloatArray:
    """So many significant bits of each entry, those of the largest one along an axis.

    Examples
    --------
    >>> leading_bits(np.array([[1.0, 2.0**-3, 2.0**-9]]), 6, axis=1).tolist()
    [[1.0, 0.125, 0.0]]
    """
    exponents = np.frexp(np.abs(matrix).max(axis=axis, keepdims=True))[1]
    grid = np.ldexp(0.75, exponents + 53 - bits + 1)
    leading: FloatArray = (matrix + grid) - grid
    return leading


@dataclass(frozen=True, eq=False)
class ErrorBounds:
    """Bounds of the errors of a matrix (..., N, k), each the product of one of a row and one of a column.

    Attributes
    ----------
    of_rows : (..., N, p) float64 array
    of_columns : (..., p, k) float64 array
    """

    of_rows: FloatArray
    of_columns: FloatArray

    def mean_squares(self, weights: FloatArray | None = None) -> FloatArray:
        """Of each column, (k,); rows may have weights (N,)."""
        rows = self.of_rows if weights is None else self.of_rows * np.sqrt(weights)[:, np.newaxis]
        squares = rows.T @ rows / len(rows)
        found: FloatArray = np.einsum("pk,pq,qk->k", self.of_columns, squares, self.of_columns)
        return found

    def followed_by(self, of_rows: FloatArray, of_columns: FloatArray) -> ErrorBounds:
        """These, and some more."""
        return ErrorBounds(np.column_stack([self.of_rows, of_rows]), np.vstack([self.of_columns, of_columns]))


def product(rows: Pair, columns: Pair, *, slices: Slices = 2) -> tuple[Pair, ErrorBounds]:
    """Product of rows (..., N, d) and a few columns (..., d, k), and bounds of the errors of its entries.

    Relative to the norms of a row and a column these are about ``d 2^-77`` with one slice of either that is multiplied
    without rounding, and ``d 2^-101`` with two, which take twice as long.

    Examples
    --------
    >>> zero = np.zeros((1, 2))
    >>> found, errors = product(Pair(np.array([[1.0, 1e-20]]), zero), Pair(np.ones((2, 1)), zero.T))
    >>> found.high.item(), found.low.item(), bool(errors.of_rows @ errors.of_columns < 1e-30)
    (1.0, 1e-20, True)
    """
    *batch, count, inner = rows.high.shape
    parts = _slices(columns, exact_bits(inner), slices, axis=-2)
    found = Pair(*np.empty((2, *batch, count, columns.high.shape[-1])))
    of_rows = np.empty((*batch, count, slices + 1))
    step = max(BLOCK_NUMBERS // inner, 1)
    for start in range(0, count, step):
        block = (..., slice(start, start + step), slice(None))
        of_block = Pair(*(part[block] for part in rows))
        cut = _slices(of_block, exact_bits(inner), slices, axis=-1)
        found.high[block], found.low[block] = _sliced_product((of_block.high, *cut), (columns.high, *parts))
        of_rows[block] = np.stack([_norms(part, -1) for part in (of_block.high, *cut[1:])], axis=-1)
    # Of sums of products and of additions, and the product that is left out.
    unit, (whole, *sizes) = (inner + 4.0) * UNIT_ROUNDOFF, [_norms(part, -2) for part in (columns.high, *parts[1:])]
    terms = [8.0 * UNIT_ROUNDOFF**2 * whole + unit * sizes[-1], *(unit * part for part in sizes[:-1])]
    left_out = sizes[-1] if slices > 1 else UNIT_ROUNDOFF * whole
    return found, ErrorBounds(of_rows, np.stack([*terms, unit * whole + left_out], axis=-2))


def _slices(matrix: Pair, bits: int, count: int, *, axis: int) -> list[FloatArray]:
    """Leading bits of a matrix, so often, and what is left of it."""
    found, rest = [], matrix.high
    for _ in range(count):
        found.append(leading_bits(rest, bits, axis=axis))
        rest = rest - found[-1]
    return [*found, rest + matrix.low]


def _sliced_product(rows: tuple[FloatArray, ...], columns: tuple[FloatArray, ...]) -> Pair:
    """Of matrices that come whole and in slices; only leading slices have products without rounding."""
    whole, left, *left_next, left_last = rows
    columns_whole, right, *right_next, right_last = columns
    low = left_last @ columns_whole + (whole if left_next else left) @ right_last
    high = left @ right
    if not left_next:
        return two_sum(high, low)
    low += left_next[0] @ right_next[0]
    middle = two_sum(left @ right_next[0], left_next[0] @ right)
    found = two_sum(high, middle.high)
    return two_sum(found.high, found.low + (middle.low + low))


def gram(images: Pair) -> tuple[Pair, FloatArray]:
    """``Z^T Z`` of images Z (N, k), and a bound (k, k) of the error of its entries.

    Examples
    --------
    >>> found, error = gram(Pair(np.array([[1.0], [1e-9]]), np.zeros((2, 1))))
    >>> found.high.item(), round(1e18 * found.low.item(), 9), bool(error < 1e-23)
    (1.0, 1.0, True)
    """
    count = len(images.high)
    leading = leading_bits(images.high, exact_bits(count), axis=0)
    rest = (images.high - leading) + images.low
    crossed = leading.T @ rest
    low = crossed + crossed.T + rest.T @ rest
    sizes, left = _norms(leading, -2), _norms(rest, -2)
    both = np.outer(sizes, left)
    error = (count + 5.0) * UNIT_ROUNDOFF * (both + both.T + np.outer(left, left))
    return two_sum(leading.T @ leading, low), error


def column_means(images: Pair) -> tuple[Pair, FloatArray]:
    """Mean of the rows of images (N, k), and a bound (k,) of its error."""
    count = len(images.high)
    leading = leading_bits(images.high, 52 - count.bit_length(), axis=0)
    rest = images.high - leading + images.low
    error = (count + 1.0) * UNIT_ROUNDOFF * np.abs(rest).sum(axis=0) / count
    total = two_sum(leading.sum(axis=0), rest.sum(axis=0))
    means = quotient(total, float(count))
    return means, error + 4.0 * UNIT_ROUNDOFF**2 * np.abs(means.high)


def sums_along(parts: FloatArray, *, axis: int) -> FloatArray:
    """Sums of numbers that are not negative, along one of any axes, rounded once and next to nothing more.

    Examples
    --------
    >>> sums_along(np.array([1.0, *[1e-16] * 10_000]), axis=0).item() == 1.0 + 1e-12
    True
    """
    count = parts.shape[axis]
    leading = leading_bits(parts, 52 - count.bit_length(), axis=axis)
    rest = np.subtract(parts, leading, out=np.zeros_like(parts), where=np.isfinite(leading))
    total: FloatArray = leading.sum(axis=axis) + rest.sum(axis=axis)
    return total


def exact_bits(inner: int) -> int:
    """Of factors whose products add up without rounding: integers up to half of 2^bits."""
    return (53 - max(inner - 1, 1).bit_length()) // 2 + 1


def _norms(matrix: FloatArray, axis: int) -> FloatArray:
    norms: FloatArray = np.sqrt(np.einsum("...ij,...ij->...i" if axis == -1 else "...ij,...ij->...j", matrix, matrix))
    return norms
