"""Turns of components and what they change, against exact eigenvectors of matrices in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.features import largest_angle

from nrc_fast.base.leading import LeadingPairs
from nrc_fast.metrics.turns import MeasuredTurns, measured_turns

EPSILON = 2.0**-52
FloatArray = np.ndarray


class Case:
    """A covariance with known eigenvectors, and pairs of one that is off by `error`."""

    def __init__(self, values: FloatArray, error: float, seed: int = 0, pairs: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        d = len(values)
        self.exact = np.linalg.qr(rng.standard_normal((d, d)))[0].T
        self.matrix = self.exact.T * values @ self.exact
        self.values = values
        off = rng.standard_normal((d, d))
        off = off + off.T
        self.near = self.matrix + error * off / np.linalg.norm(off, 2)
        found, columns = np.linalg.eigh(self.near)
        count = d if pairs is None else pairs
        vectors = np.ascontiguousarray(columns.T[::-1][:count])
        self.pairs = LeadingPairs(
            found[::-1][:count].copy(), vectors, np.full(count, EPSILON), float(np.trace(self.near))
        )
        self.error = error

    def turns(self, count: int, *, known: bool = True, rounding: float | None = None) -> MeasuredTurns:
        image = self.pairs.vectors[:count] @ self.matrix
        left = np.array(
            [np.trace(self.matrix) - np.sum(image[:k] * self.pairs.vectors[:k]) for k in range(1, count + 1)]
        )
        products: Callable[[FloatArray], FloatArray] = lambda rows: rows @ self.near  # noqa: E731
        return measured_turns(
            image,
            self.pairs,
            count,
            left=left * (1.0 + 1e-6) + 1e-14,
            rounding=16 * EPSILON * self.values[0] if rounding is None else rounding,
            matrix_error=self.error,
            products=products if known else None,
        )

    def turned(self, turns: MeasuredTurns, k: int) -> FloatArray:
        return np.linalg.qr((turns.vectors[:k] + turns.parts[k - 1]).T)[0].T


SPREAD = 0.5 ** np.arange(12.0)
COLLAPSED = np.concatenate([[4.0, 2.0, 1.0], 1e-9 * np.linspace(1.0, 0.5, 9)])
FLAT = np.concatenate([[4.0, 3.0], np.linspace(2.0, 1.9, 38)])


@pytest.mark.parametrize("error", [1e-5, 1e-7, 1e-10])
@pytest.mark.parametrize("pairs", [None, 4])
@pytest.mark.parametrize("values", [SPREAD, COLLAPSED, FLAT], ids=["spread", "collapsed", "flat"])
def test_turned_components_are_nearer_than_what_is_not_known(
    values: FloatArray, pairs: int | None, error: float
) -> None:
    case = Case(values, error, seed=3, pairs=pairs)
    for count in (1, 2, 3):
        turns = case.turns(count)
        for k in range(1, count + 1):
            before = largest_angle(turns.vectors[:k], case.exact[:k])
            after = largest_angle(case.turned(turns, k), case.exact[:k])
            assert before <= turns.angles[k - 1] <= 3.0 * before + 1e-13 or (values is FLAT and k == 3)
            if np.isfinite(turns.unknown[k - 1]):
                # The exact vectors here are off by a few roundings over the gap.
                assert after <= turns.unknown[k - 1] + 64 * EPSILON * values[0] / (values[k - 1] - values[k])
                slow = values is FLAT and k == 3  # all beyond the pairs known are as near
                assert slow or turns.unknown[k - 1] <= 0.1 * turns.angles[k - 1] + 1e-12
            else:
                assert values is FLAT
                assert k == 3


def test_without_a_matrix_the_turn_is_known_as_far_as_little_is_left() -> None:
    turns = Case(COLLAPSED, 1e-6).turns(3, known=False)
    assert turns.unknown[2] <= 1e-8 * turns.angles[2] + 1e-13
    assert turns.unknown[0] > 0.05 * turns.angles[0]  # of the first alone much is left


def test_components_that_tie_or_are_rounding_are_not_turned() -> None:
    case = Case(np.array([2.0, 1.0, 1.0, 0.5]), 1e-9)
    turns = case.turns(3)
    assert np.isinf(turns.angles[1])
    assert not turns.parts[1].any()
    assert np.isfinite(turns.angles[[0, 2]]).all()
    assert np.isinf(Case(SPREAD, 1e-9).turns(2, rounding=1.0).angles).all()


@pytest.mark.parametrize("size", [1e-3, 1e-5])
@pytest.mark.parametrize("own", [True, False])
def test_what_a_turn_changes_is_known_but_for_a_share_of_the_value(size: float, own: bool) -> None:
    """Of another second moment of rows, and of the one that the components are of."""
    rng = np.random.default_rng(1)
    case = Case(COLLAPSED, size)
    rows = rng.standard_normal((50, 12)) * 1e-4 + rng.standard_normal((50, 3)) @ case.exact[:3]
    second = case.matrix if own else rows.T @ rows / 50
    turns = case.turns(3)
    correction = turns.correction(turns.vectors @ second, 0.0)
    for k in range(1, 4):
        turned = case.turned(turns, k)

        def left(vectors: FloatArray) -> float:
            outside = np.eye(12) - vectors.T @ vectors
            return float(np.trace(outside @ second @ outside))

        value = left(turns.vectors[:k])
        exact, unknown, beyond = correction.applied(k, value, float(np.trace(second)))
        assert unknown == turns.unknown[k - 1]
        slack = 64 * EPSILON * np.trace(second)
        assert abs(exact - left(turned)) <= beyond + slack
        assert beyond <= 4.0 * turns.angles[k - 1] ** 2 * value + slack


def test_more_components_than_were_turned_have_no_correction() -> None:
    turns = Case(SPREAD, 1e-8).turns(2)
    correction = turns.correction(turns.vectors @ np.eye(12), 1e-16)
    assert correction.applied(3, 0.5, 1.0) == (0.5, np.inf, np.inf)
    moved = correction.moved(np.full(2, 0.25), np.full(2, 1e-3))
    assert moved.has_mean
    assert moved.applied(2, 0.5, 1.0)[0] == pytest.approx(correction.applied(2, 0.5, 1.0)[0] + 0.25)
    assert moved.is_finite
    assert not correction.moved(np.full(2, np.nan), np.zeros(2)).is_finite
