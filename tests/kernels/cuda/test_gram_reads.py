"""What the Gram kernels find in the one read that feeds their products, and how often they read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gram_checks import tile_columns, unit_rows

from nrc_fast.kernels.cuda.launches import Totals

SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Of an element, relative to the sum of the magnitudes of its products: see test_gram.py.
TOLERANCE = 34 * 2.0**-23


def values(n: int, d: int) -> Any:
    return np.random.default_rng(1000 * n + d).standard_normal((n, d))


def check(found: Any, left: Any, right: Any, limit: float = TOLERANCE) -> None:
    assert np.isfinite(found).all()
    assert (np.abs(found - left.T @ right) <= limit * (np.abs(left).T @ np.abs(right))).all()


def check_sums(sums: Any, rows: Any, limit: float = TOLERANCE) -> None:
    check(sums.gram + np.tril(sums.gram, -1).T, rows, rows, limit)
    check(sums.column_sums[None], np.ones((len(rows), 1)), rows, 2.0**-46)


# ---- how often rows are read: the emulated device counts bytes ----


@pytest.mark.parametrize("nonfinite", ["count", "refuse"])
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("d", [40, 128, 200])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_as_they_are_stored_are_read_once(
    emulated: Any, cuda_core: Any, dtype: str, d: int, capability: int, nonfinite: str
) -> None:
    """Once by each tile: sums over columns, counts and magnitudes need no read of their own."""
    n = 37
    rows = cuda_core.stored(values(n, d), dtype)
    emulated.core.configure(capability=capability, multiprocessors=1)
    sums = cuda_core.gram(emulated, rows, nonfinite=nonfinite)
    assert emulated.core.copied_bytes() == n * tile_columns(d) * 2
    assert emulated.core.loaded_bytes() == 0
    check_sums(sums, rows.values)


@pytest.mark.parametrize("nonfinite", ["count", "refuse"])
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("dtype", "d"), [("float32", 40), ("float32", 128), ("float16", 40), ("bfloat16", 128)])
def test_rows_of_one_tile_are_read_once_for_each_gram_matrix(
    emulated: Any, cuda_core: Any, dtype: str, d: int, capability: int, nonfinite: str
) -> None:
    n = 37
    rows = cuda_core.stored(values(n, d), dtype)
    shift = np.linspace(-1.0, 1.0, d)
    for unit in (None, "shifted"):
        emulated.core.configure(capability=capability, multiprocessors=1)
        sums = cuda_core.gram(emulated, rows, shift=shift, unit=unit, nonfinite=nonfinite)
        assert emulated.core.copied_bytes() == n * d * SIZES[dtype] * (1 if unit is None else 2)
        assert emulated.core.loaded_bytes() == 0
        check_sums(sums, rows.values - shift)
    check(sums.unit_gram + np.tril(sums.unit_gram, -1).T, *[unit_rows(rows.values - shift)] * 2)


@pytest.mark.parametrize("target_dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("dtype", "d"), [("float32", 40), ("float32", 128), ("float16", 104), ("bfloat16", 64)])
def test_products_with_few_targets_need_no_read(
    emulated: Any, cuda_core: Any, dtype: str, d: int, target_dtype: str
) -> None:
    """Of rows that are split, in stages that go around, in every layout of the targets; rows are no more than sums."""
    n = 333
    shift, target_shift = np.linspace(-1.0, 1.0, d), np.linspace(2.0, 3.0, 7)
    rows = cuda_core.stored(values(n, d) + 1.0, dtype)
    results = []
    for count, layout, machine in (
        (7, "rows", {"multiprocessors": 1}),
        (7, "apart", {"multiprocessors": 1, "order": "shuffled", "copies": "early", "seed": 3}),
        (2, "columns", {"multiprocessors": 2, "order": "backward"}),
    ):
        targets = cuda_core.stored(values(n, 7)[:, :count] + 2.0, target_dtype, layout)
        emulated.core.configure(**machine)
        given = {"targets": targets, "target_shift": target_shift[:count].copy(), "shift": shift}
        sums = cuda_core.gram(emulated, rows, **given)
        exact = rows.values - shift
        check_sums(sums, exact)
        check(sums.cross, targets.values - target_shift[:count], exact, 2.0**-46)
        results.append(sums.cross.tobytes())
        of_targets = SIZES[target_dtype] if target_dtype in {"float32", "float64"} else 0
        assert emulated.core.copied_bytes() == n * (d * SIZES[dtype] + count * of_targets)
    assert results[0] == results[1]


# ---- what is found on the way ----


@pytest.mark.parametrize("shift", [None, 0.5])
@pytest.mark.parametrize("d", [8, 136])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_are_counted_over_all_of_their_columns(
    backend: Any, cuda_core: Any, dtype: str, d: int, shift: float | None
) -> None:
    """Zeros of either sign, rows that are zero in a part of their columns, and NaN and infinities anywhere."""
    good = values(70, d)
    good[[3, 40, 69]] = 0.0
    good[40] = -0.0
    good[5, :7] = 0.0
    good[66, 1:] = -0.0
    shifts = None if shift is None else np.full(d, shift)
    stored = cuda_core.stored(good, dtype)
    assert cuda_core.gram(backend, stored, shift=shifts).counts == (3, 0, -1)
    assert Totals.of(cuda_core.gram(backend, stored, shift=shifts, nonfinite="refuse").totals).zero == 3
    bad = good.copy()
    bad[[33, 50, 50], [d - 1, 0, 2]] = [np.nan, np.inf, -np.inf]
    targets = np.zeros((70, 2))
    targets[[20, 33], 1] = np.nan
    placed = cuda_core.stored(bad, dtype)
    given = {"shift": shifts, "targets": cuda_core.stored(targets, "float32"), "start": 2.0}
    sums = cuda_core.gram(backend, placed, **given)
    assert sums.counts == (3, 3, 20)
    refused = cuda_core.gram(backend, placed, **given, nonfinite="refuse")
    totals = Totals.of(refused.totals)
    assert (totals.refused, totals.refused_nonfinite, totals.refused_first, totals.rows) == (1, 3, 20, 0)
    for found in (sums, refused):
        assert all((array == 2.0).all() for array in (found.gram, found.column_sums, found.cross))
    kept = cuda_core.gram(backend, placed, shift=shifts, targets=given["targets"], nonfinite="skip")
    rows = np.delete(stored.values, [20, 33, 50], axis=0) - (shift or 0.0)
    check_sums(kept, rows)
    totals = Totals.of(kept.totals)
    assert (totals.refused, totals.skipped, totals.rows, totals.zero) == (0, 3, 67, 3)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("exponent", [-110, -45, -31, -29, 0, 49, 52, 100])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_squares_that_leave_the_range_of_float32_are_not_lost(
    backend: Any, cuda_core: Any, dtype: str, exponent: int, shifted: bool
) -> None:
    plain = np.sign(values(70, 24)) * (1.0 + 0.9 * np.random.default_rng(1).random((70, 24)))
    rows = cuda_core.stored(np.ldexp(plain, exponent), dtype)
    shift = np.full(24, np.ldexp(0.25, exponent)) if shifted else None
    sums = cuda_core.gram(backend, rows, shift=shift, nonfinite="refuse")
    exact = rows.values - (0.0 if shift is None else shift)
    check_sums(sums, exact)
    totals = Totals.of(sums.totals)
    assert (totals.rows, totals.refused, totals.zero) == (70, 0, 0)
    assert totals.exponent == 1023 + int(np.floor(np.log2(np.abs(exact).max())))


@pytest.mark.parametrize(("dtype", "smallest"), [("float16", -24), ("bfloat16", -133)])
def test_sums_over_columns_keep_subnormal_numbers(backend: Any, cuda_core: Any, dtype: str, smallest: int) -> None:
    """Of numbers that float64 adds without a rounding: exact."""
    steps = np.random.default_rng(2).integers(-7, 8, (100, 16))
    rows = cuda_core.stored(np.ldexp(steps.astype(float), smallest), dtype)
    assert (rows.values == np.ldexp(steps.astype(float), smallest)).all()
    assert (cuda_core.gram(backend, rows).column_sums == np.ldexp(steps.sum(axis=0).astype(float), smallest)).all()


@pytest.mark.parametrize(
    ("n", "d", "unit"),
    [(1, 20, "raw"), (15, 1, "shifted"), (50, 20, "shifted"), (50, 65, "raw"), (33, 100, "shifted"), (700, 20, None)],
)
def test_rows_that_are_split_on_their_way(emulated: Any, cuda_core: Any, n: int, d: int, unit: str | None) -> None:
    """Ragged tiles and stages, rings that go around, and folds, in every order; other rows take planes: the same."""
    rows = cuda_core.stored(values(n, d) + 3.0, "float32", "padded")
    shift = np.linspace(2.0, 4.0, d)
    results = []
    for order, copies in (("forward", "late"), ("shuffled", "early"), ("backward", "late")):
        emulated.core.configure(order=order, copies=copies, multiprocessors=1, seed=5)
        sums = cuda_core.gram(emulated, rows, shift=shift, unit=unit)
        check_sums(sums, rows.values - shift)
        if unit is not None:
            expected = unit_rows(rows.values - (shift if unit == "shifted" else 0.0))
            check(sums.unit_gram + np.tril(sums.unit_gram, -1).T, expected, expected)
        results.append(sums.gram.tobytes() + sums.unit_gram.tobytes() + sums.column_sums.tobytes())
    assert len(set(results)) == 1
