"""The extended precision of the references, tests/support/double_double.py, against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from support.double_double import Pairs, stacked
from support.eigenpairs import eigenpairs

UNIT = 2.0**-102


def exact(pairs: Pairs, *index: int) -> Fraction:
    return Fraction(float(pairs.high[index])) + Fraction(float(pairs.low[index]))


def drawn(seed: int, *shape: int, spread: float = 3.0) -> Pairs:
    """Numbers of many sizes, with all digits of a pair."""
    rng = np.random.default_rng(seed)
    high = rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape))
    return Pairs(high, high * 2.0**-54 * rng.uniform(-1.0, 1.0, shape))


def test_operators_keep_thirty_digits() -> None:
    a, b = drawn(0, 200), drawn(1, 200)
    squares = a * a
    found = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "root": squares.root(), "power": squares**0.5, "2": a**2}
    for i in range(200):
        x, y = exact(a, i), exact(b, i)
        assert abs(exact(found["+"], i) - (x + y)) <= UNIT * (abs(x) + abs(y))
        assert abs(exact(found["-"], i) - (x - y)) <= UNIT * (abs(x) + abs(y))
        assert abs(exact(found["*"], i) - x * y) <= UNIT * abs(x * y)
        assert abs(exact(found["/"], i) - x / y) <= UNIT * abs(x / y)
        assert abs(exact(found["2"], i) - x * x) <= UNIT * x * x
        for name in ("root", "power"):
            assert abs(exact(found[name], i) - abs(x)) <= 4 * UNIT * abs(x)
        assert exact(abs(a), i) == abs(x)
        assert (a < b)[i] == (x < y)
        assert (a >= b)[i] == (x >= y)
    assert (a == a + 0.0).all()
    assert (a != a * (1.0 + 2.0**-52)).all()
    third = 1.0 / Pairs(3.0)
    assert abs(exact(third) - Fraction(1, 3)) <= UNIT
    assert float(third) == 1.0 / 3.0
    assert (Pairs(0.0).root() == 0.0).all()


def test_arrays_and_numbers_stand_on_either_side() -> None:
    rng = np.random.default_rng(2)
    pairs, array = drawn(3, 4, 5), rng.standard_normal((4, 5))
    for found, wanted in (
        (array - pairs, -(pairs - array)),
        (array + pairs, pairs + array),
        (array * pairs, pairs * array),
        (array / pairs, Pairs(array) / pairs),
        (array.T @ pairs, Pairs(array.T) @ pairs),
        (2.0 - pairs, Pairs(2.0) - pairs),
    ):
        assert isinstance(found, Pairs)
        assert found.shape == wanted.shape
        assert (found == wanted).all()
    with pytest.raises(TypeError):
        np.abs(pairs)
    with pytest.raises(TypeError, match="which rounds them"):
        np.asarray(pairs)
    with pytest.raises(AssertionError):
        pairs.astype(np.longdouble if np.finfo(np.longdouble).nmant > 52 else np.int64)  # noqa: TID251 - refused


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("shape", [(1, 3), (7, 1), (64, 5), (1001, 2)])
def test_sums_and_means(shape: tuple[int, int], axis: int | None) -> None:
    pairs = drawn(4, *shape)
    total, kept, mean = pairs.sum(axis), pairs.sum(axis, keepdims=True), pairs.mean(axis)
    lines = {0: pairs, 1: pairs.T, None: pairs.reshape(-1, 1)}[axis]
    count, sizes = len(lines), np.abs(lines.high).sum(axis=0)
    for line, size in enumerate(sizes):
        wanted = sum(exact(lines, p, line) for p in range(count))
        assert abs(exact(total.reshape(-1), line) - wanted) <= 12 * UNIT * size
        assert abs(exact(mean.reshape(-1), line) - wanted / count) <= 12 * UNIT * size / count
    assert kept.shape == pairs.high.sum(axis, keepdims=True).shape
    assert (kept.reshape(-1) == total.reshape(-1)).all()
    assert (Pairs(np.zeros((0, 3))).sum(0) == np.zeros(3)).all()


@pytest.mark.parametrize("spread", [0.0, 3.0, 9.0])
@pytest.mark.parametrize("inner", [1, 2, 40, 700])
def test_products_are_exact_to_the_sum_of_the_magnitudes(inner: int, spread: float) -> None:
    a, b = drawn(5, 3, inner, spread=spread), drawn(6, inner, 4, spread=spread)
    found, sizes = a @ b, np.abs(a.high) @ np.abs(b.high)
    assert found.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        wanted = sum(exact(a, i, p) * exact(b, p, j) for p in range(inner))
        assert abs(exact(found, i, j) - wanted) <= (8 + math.sqrt(inner)) * UNIT * sizes[i, j]
    for ours, same in ((a[0] @ b, found[0]), (a @ b[:, 1], found[:, 1]), (a[2] @ b[:, 3], found[2, 3])):
        assert ours.shape == same.shape
        assert (abs(ours - same) <= 1e-28 * sizes.max()).all()


def test_places_are_those_of_arrays() -> None:
    pairs = drawn(7, 4, 3)
    assert (stacked([pairs[0], pairs[2]]) == pairs[[0, 2]]).all()
    assert (stacked([pairs[:, 0], pairs[:, 1]], axis=1) == pairs[:, :2]).all()
    assert pairs.T.shape == (3, 4)
    np.testing.assert_array_equal(pairs.tril().high, np.tril(pairs.high))
    assert (pairs.diagonal() == stacked([pairs[i, i] for i in range(3)])).all()
    assert (pairs.times_power(7) == 128.0 * pairs).all()
    changed = pairs[:]
    changed[0, 1:] -= 1.0
    assert (changed[0, 1:] == pairs[0, 1:] - 1.0).all()
    assert (changed[1:] == pairs[1:]).all()
    assert [float(row.sum()) for row in pairs] == [float(total) for total in pairs.sum(1)]


def test_eigenpairs_of_a_small_matrix() -> None:
    root = drawn(8, 5, 5, spread=0.0)
    matrix = root @ root.T
    values, vectors = eigenpairs(matrix)
    residual = matrix @ vectors.T - vectors.T * values
    assert np.abs(residual.high).max() <= 1e-28 * values.high.max()
    assert np.abs((vectors @ vectors.T - np.eye(5)).high).max() <= 1e-29
