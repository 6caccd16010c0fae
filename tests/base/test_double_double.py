"""Sums and products of pairs beside exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nrc_fast.base.double_double import (
    UNIT,
    Pair,
    added,
    long_product,
    outer_squares,
    product,
    quotient,
    summed,
    two_product,
    two_sum,
)


def exact(pair: Pair, *index: int) -> Fraction:
    return Fraction(float(pair.high[index])) + Fraction(float(pair.low[index]))


def numbers(seed: int, *shape: int, spread: float = 4.0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape))


def pairs(seed: int, *shape: int) -> Pair:
    high = numbers(seed, *shape)
    return Pair(high, high * 2.0**-54 * np.random.default_rng(seed + 1).uniform(-1.0, 1.0, shape))


def test_sums_and_products_are_split_without_error() -> None:
    a, b = numbers(0, 200), numbers(1, 200, spread=20.0)
    total, products = two_sum(a, b), two_product(a, b)
    for i in range(200):
        assert exact(total, i) == Fraction(a[i]) + Fraction(b[i])
        assert exact(products, i) == Fraction(a[i]) * Fraction(b[i])


def test_pairs_are_added_and_divided_with_all_their_digits() -> None:
    a, b = pairs(0, 100), pairs(2, 100)
    total, part = added(a, b), quotient(a, 7.0)
    for i in range(100):
        wanted = exact(a, i) + exact(b, i)
        assert abs(exact(total, i) - wanted) <= UNIT * (abs(exact(a, i)) + abs(exact(b, i)))
        assert abs(exact(part, i) - exact(a, i) / 7) <= UNIT * abs(exact(a, i))
    for count in (1, 2, 7, 100):
        whole = summed(Pair(a.high[:count], a.low[:count]))
        wanted = sum(exact(a, i) for i in range(count))
        assert abs(exact(whole) - wanted) <= 8 * UNIT * float(np.abs(a.high[:count]).sum())


@pytest.mark.parametrize("inner", [1, 5, 40])
def test_products_of_matrices(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nrc_fast.base.double_double.BLOCK_PRODUCTS", 100)  # several blocks
    a, b = pairs(0, 2, 3, inner), pairs(2, inner, 4)
    found = product(a, b)
    sizes = np.abs(a.high) @ np.abs(b.high)
    for index in np.ndindex(2, 3, 4):
        i, j, k = index
        wanted = sum(exact(a, i, j, p) * exact(b, p, k) for p in range(inner))
        assert abs(exact(found, *index) - wanted) <= (inner + 4) * UNIT * sizes[index]


@pytest.mark.parametrize("count", [1, 511, 1300])
def test_squares_of_many_rows(count: int) -> None:
    rows = pairs(3, count, 2)
    found = outer_squares(rows)
    norms = np.sqrt(np.sum(rows.high**2, axis=0))
    for i, j in np.ndindex(2, 2):
        wanted = sum(exact(rows, p, i) * exact(rows, p, j) for p in range(count))
        assert abs(exact(found, i, j) - wanted) <= 2.0**-95 * norms[i] * norms[j]
    np.testing.assert_array_equal(found.high, found.high.T)


def test_products_of_long_rows() -> None:
    rows, frame = numbers(5, 3, 700), pairs(6, 700, 2)
    found = long_product(rows, frame)
    for i, j in np.ndindex(3, 2):
        wanted = sum(Fraction(rows[i, p]) * exact(frame, p, j) for p in range(700))
        size = float(np.linalg.norm(rows[i]) * np.linalg.norm(frame.high[:, j]))
        assert abs(exact(found, i, j) - wanted) <= 700**0.5 * 2.0**-100 * size
