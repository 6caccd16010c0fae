"""Sums about another shift, against sums of the rows about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs

from nrc_fast.kernels.counts import MAGNITUDE_PLACES, RESTS, magnitudes_of
from nrc_fast.passes.shifting import shifted

EPSILON = 2.0**-52


def sums_about(H: np.ndarray, Y: np.ndarray, shift: np.ndarray, target_shift: np.ndarray) -> dict[str, np.ndarray]:
    x, y = Pairs(H) - shift, Pairs(Y) - target_shift
    exact: dict[str, Any] = {
        "column_sums": x.sum(axis=0),
        "gram": (x.T @ x).tril(),
        "cross": y.T @ x,
        "target_sums": y.sum(axis=0),
        "target_gram": (y.T @ y).tril(),
        "counts": np.array([len(H), 0.0]),
        "magnitudes": magnitudes_of(double=float((x * x).sum()), targets=float((y * y).sum())),
        "shift": shift,
        "target_shift": target_shift,
    }
    rests = {RESTS[name]: exact[name].low for name in RESTS}
    return {name: array.astype(np.float64) for name, array in exact.items()} | rests


@pytest.mark.parametrize(("rows", "d", "n"), [(1, 1, 1), (7, 3, 2), (50, 5, 1), (33, 4, 0)])
@pytest.mark.parametrize("moves", ["both", "features", "targets", "nothing"])
def test_sums_about_another_shift(rows: int, d: int, n: int, moves: str) -> None:
    rng = np.random.default_rng(rows)
    H, Y = rng.standard_normal((rows, d)) + 2.0, rng.standard_normal((rows, n)) - 1.0
    shift, target_shift = np.full(d, 2.0), np.full(n, -1.0)
    other = shift + (rng.standard_normal(d) if moves in ("both", "features") else 0.0)
    target_other = target_shift + (rng.standard_normal(n) if moves in ("both", "targets") else 0.0)
    start = sums_about(H, Y, shift, target_shift)
    before = {name: array.copy() for name, array in start.items()}
    found, expected = shifted(start, other, target_other, products=True), sums_about(H, Y, other, target_other)
    assert found.keys() == expected.keys()
    # Rounding is relative to all that was ever added up.
    steps, target_steps = np.linalg.norm(other - shift), np.linalg.norm(target_other - target_shift)
    lengths = [
        2.0 * np.linalg.norm(start[name]) + rows * step
        for name, step in (("column_sums", steps), ("target_sums", target_steps))
    ]
    grown = start["magnitudes"] + magnitudes_of(double=steps * lengths[0], targets=target_steps * lengths[1])
    np.testing.assert_allclose(found["magnitudes"], grown, rtol=1e-14)
    for name, array in (expected | {"magnitudes": grown}).items():
        assert np.abs(found[name] - array).max(initial=0.0) <= 64 * EPSILON * rows * max(
            np.abs(array).max(initial=1.0), 1.0
        )
    # Those of targets to twice the digits.
    for name, rest in RESTS.items():
        apart = (found[name] - expected[name]) + (found[rest] - expected[rest])
        assert np.abs(apart).max(initial=0.0) <= 2.0**-96 * rows * grown[MAGNITUDE_PLACES["targets"]]
    for name, array in before.items():
        np.testing.assert_array_equal(start[name], array)


def test_a_state_without_rows_takes_the_shifts_over() -> None:
    found = shifted({"counts": np.zeros(2)}, np.ones(3), np.zeros(1), products=True)
    assert set(found) == {"counts", "shift", "target_shift"}
    np.testing.assert_array_equal(found["shift"], np.ones(3))
