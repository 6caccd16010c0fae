"""Sums of targets as pairs of float64 numbers, on every instruction set, against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from nrc_fast import kernels
from nrc_fast.kernels import _cpu, calls
from nrc_fast.kernels.counts import RESTS
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.interface import GramRequest
from nrc_fast.kernels.long_sums import added_targets, long_sum
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.kernels.results import GramSums

pytestmark = pytest.mark.usefixtures("isa")
FloatArray = NDArray[np.float64]
# Two units of pairs for each of the additions of a block, and of the few behind it: the square of the unit roundoff.
SHARE = Fraction(2) ** -106 * 2**10


def nothing(n: int) -> dict[str, FloatArray]:
    shapes = {"target_sums": (n,), "target_gram": (n, n)}
    return {name: np.zeros(shape) for key, shape in shapes.items() for name in (key, RESTS[key])}


def sums_of(Y: object, shift: FloatArray, onto: dict[str, FloatArray] | None = None) -> GramSums:
    targets = rows_in_place(Y, "Y")  # type: ignore[arg-type]
    features = rows_in_place(np.ones((targets.count, 1)), "H")
    request = GramRequest(plain=False, targets=targets, target_shift=shift, target_moments=True)
    request.targets_onto = nothing(targets.columns) if onto is None else onto
    return calls.checked_gram(features, request)


def as_pairs(found: GramSums) -> dict[str, FloatArray]:
    return {name: getattr(found, name) for names in RESTS.items() for name in names}


def require_exact(found: dict[str, FloatArray], rows: list[list[Fraction]]) -> None:
    """Each sum but for a share of that of its absolute terms, and all rests below half a unit."""
    n = found["target_sums"].size
    for i in range(n):
        for j in range(-1, i + 1):
            terms = [row[i] if j < 0 else row[i] * row[j] for row in rows]
            name, place = ("target_sums", (i,)) if j < 0 else ("target_gram", (i, j))
            high, low = (float(part[place]) for part in long_sum(found, name))
            assert abs(Fraction(high) + Fraction(low) - sum(terms)) <= SHARE * sum(map(abs, terms))
            assert abs(low) <= 2.0**-53 * abs(high)
    assert not np.triu(found["target_gram"], 1).any()


def about(Y: NDArray[np.floating], shift: FloatArray) -> list[list[Fraction]]:
    return [[Fraction(float(y)) - Fraction(float(t)) for y, t in zip(row, shift, strict=True)] for row in Y]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(("count", "n"), [(1, 1), (7, 2), (8, 3), (9, 1), (255, 2), (257, 3), (530, 2), (40, 6)])
def test_sums_are_exact_but_for_roundings_of_roundings(dtype: str, count: int, n: int) -> None:
    Y = (np.random.default_rng(count).standard_normal((count, n)) + 1e3).astype(dtype)
    shift = Y.astype(np.float64).mean(axis=0)
    found = sums_of(Y, shift)
    require_exact(as_pairs(found), about(Y, shift))
    assert found.target_gram is not None
    assert found.target_energy == pytest.approx(float(np.trace(found.target_gram)), rel=1e-15)


def test_of_columns_apart_of_large_and_of_small_numbers() -> None:
    numbers = np.random.default_rng(0).standard_normal((60, 8))
    for Y in (
        numbers[:, ::3],
        numbers[::-2, :2],
        np.asfortranarray(numbers[:, :3]),
        numbers[:, :2] * 1e-70,
        numbers * 1e70,
    ):
        shift = 0.1 * Y[0]
        require_exact(as_pairs(sums_of(Y, shift)), about(Y, shift))


def test_sums_go_on_from_others_whatever_cancels() -> None:
    Y = np.random.default_rng(1).standard_normal((300, 2))
    shift = np.array([0.25, -3.0])
    first, second = sums_of(Y[:101], shift), sums_of(Y[101:], shift)
    on = as_pairs(sums_of(Y[101:], shift, as_pairs(first)))
    require_exact(on, about(Y, shift))
    require_exact(added_targets(as_pairs(first), as_pairs(second)), about(Y, shift))
    # The energy is that of the new rows.
    assert sums_of(Y[101:], shift, as_pairs(first)).target_energy == second.target_energy
    tiny = nothing(1) | {"target_sums": np.array([1e20]), "target_sums_rest": np.array([1e-3])}
    found = as_pairs(sums_of(np.array([[-1e20]]), np.zeros(1), tiny))
    assert (found["target_sums"].item(), found["target_sums_rest"].item()) == (1e-3, 0.0)


def test_of_several_threads_and_of_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    Y = torch.tensor(np.random.default_rng(2).standard_normal((700, 2))).bfloat16()
    shift = np.array([0.5, 0.0])
    threads, work = kernels.thread_count(), _cpu.least_work()
    try:
        kernels.set_thread_count(3)
        _cpu.set_least_work(1.0)
        found = as_pairs(sums_of(Y, shift))
    finally:
        kernels.set_thread_count(threads)
        _cpu.set_least_work(work)
    require_exact(found, about(Y.double().numpy(), shift))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_counted(wrong: float) -> None:
    Y = np.zeros((300, 3))
    Y[17, 2] = Y[280, 0] = wrong
    with pytest.raises(NonFiniteRowsError, match=r"2 of 300 rows.* row 17"):
        sums_of(Y, np.zeros(3))
