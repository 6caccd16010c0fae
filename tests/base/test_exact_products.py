"""Products of pairs beside exact fractions, and bounds of their errors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from nrc_fast.base.double_double import Pair, two_sum
from nrc_fast.base.exact_products import (
    UNIT_ROUNDOFF,
    ErrorBounds,
    Slices,
    column_means,
    gram,
    leading_bits,
    product,
    sums_along,
)


def pair(seed: int, *shape: int) -> Pair:
    rng = np.random.default_rng(seed)
    high = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
    return two_sum(high, high * rng.uniform(-1.0, 1.0, shape) * UNIT_ROUNDOFF)


def exact(matrix: Pair) -> list[list[Fraction]]:
    rows = zip(matrix.high.tolist(), matrix.low.tolist(), strict=True)
    return [[Fraction(a) + Fraction(b) for a, b in zip(high, low, strict=True)] for high, low in rows]


def off(found: Pair, wanted: list[list[Fraction]]) -> np.ndarray:
    pairs = zip(exact(found), wanted, strict=True)
    return np.array([[float(abs(a - b)) for a, b in zip(one, other, strict=True)] for one, other in pairs])


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("inner", [1, 3, 40])
def test_errors_of_products_are_within_their_bounds(inner: int, slices: Slices) -> None:
    a, b = pair(inner, 30, inner), pair(inner + 1, inner, 4)
    found, errors = product(a, b, slices=slices)
    rows, columns = exact(a), list(zip(*exact(b), strict=True))
    wanted = [
        [sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0)) for column in columns] for row in rows
    ]
    bounds = errors.of_rows @ errors.of_columns
    sizes = np.outer(np.linalg.norm(a.high, axis=1), np.linalg.norm(b.high, axis=0))
    assert (off(found, wanted) <= bounds).all()
    # Of columns and rows whose entries are as large, the rest after so many bits is at most this part of the norm.
    bits = (53 - max(inner - 1, 1).bit_length()) // 2 + 1
    assert (bounds <= (inner + 8.0) * inner * 2.0 ** (4 - 53 - slices * bits) * sizes).all()


def test_one_slice_is_not_as_good_as_two() -> None:
    a, b = pair(5, 20, 30), pair(6, 30, 3)
    (one, _), (two, _) = (product(a, b, slices=slices) for slices in (1, 2))
    difference = (one.high - two.high) + (one.low - two.low)
    assert np.abs(difference / np.linalg.norm(a.high, axis=1, keepdims=True)).max() > 1e-30


@pytest.mark.parametrize("count", [1, 7, 200])
def test_errors_of_grams_and_means_are_within_their_bounds(count: int) -> None:
    images = pair(count, count, 3)
    found, errors = gram(images)
    rows = exact(images)
    wanted = [[sum((row[i] * row[j] for row in rows), Fraction(0)) for j in range(3)] for i in range(3)]
    assert (off(found, wanted) <= errors).all()
    sizes = np.linalg.norm(images.high, axis=0)
    assert (errors <= 3.0 * (count + 5.0) * 2.0**-73 * np.outer(sizes, sizes)).all()
    means, bounds = column_means(images)
    means_wanted = [[sum((row[i] for row in rows), Fraction(0)) / count for i in range(3)]]
    assert (off(Pair(*(part[np.newaxis] for part in means)), means_wanted)[0] <= bounds).all()
    assert (bounds <= count**2 * 2.0**-90 * np.abs(images.high).max(axis=0)).all()


def test_sums_are_rounded_once() -> None:
    parts = np.abs(pair(3, 1000, 5).high)
    wanted = [float(sum((Fraction(x) for x in column), Fraction(0))) for column in parts.T.tolist()]
    np.testing.assert_allclose(sums_along(parts, axis=0), wanted, rtol=1.001 * 2.0**-52)
    np.testing.assert_allclose(sums_along(parts.T, axis=1), wanted, rtol=1.001 * 2.0**-52)


def test_leading_bits_are_on_a_grid_and_leave_less_than_it() -> None:
    matrix = pair(4, 6, 50).high
    leading = leading_bits(matrix, 20, axis=1)
    grid = 2.0 ** (np.frexp(np.abs(matrix).max(axis=1, keepdims=True))[1] - 19.0)
    assert (leading / grid == np.rint(leading / grid)).all()
    assert (np.abs(matrix - leading) <= grid / 2.0).all()
    assert not leading_bits(np.zeros((2, 3)), 20, axis=1).any()


def test_mean_squares_of_error_bounds() -> None:
    rng = np.random.default_rng(7)
    errors = ErrorBounds(rng.uniform(size=(9, 2)), rng.uniform(size=(2, 4))).followed_by(np.ones(9), np.arange(4.0))
    whole, weights = errors.of_rows @ errors.of_columns, rng.uniform(size=9)
    np.testing.assert_allclose(errors.mean_squares(), (whole**2).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(errors.mean_squares(weights), (whole**2 * weights[:, None]).mean(axis=0), rtol=1e-14)
