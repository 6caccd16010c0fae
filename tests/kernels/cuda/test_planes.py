"""Rows that become planes of 16-bit numbers first, and what is found of them as these are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gram_checks import SIZES, SPLIT_TOLERANCE, check, check_gram, check_sums, unit_rows

from nrc_fast.kernels.cuda.launches import Totals

FAST_TOLERANCE = 2.0**-7 + 2.0**-16 + 34 * 2.0**-23
SHAPES = [(n, d) for n in (0, 1, 2, 67) for d in (129, 130, 160, 257)] + [(19, 1024)]


def values(n: int, d: int) -> Any:
    return np.random.default_rng(1000 * n + d).standard_normal((n, d)) + 0.5


# Rows of which whole pieces of 16 bytes can be copied become planes only where so many at once are asked for.
AT_ONCE = 64


# ---- how often rows are read: the emulated device counts bytes ----


@pytest.mark.parametrize("nonfinite", ["count", "refuse", "skip"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("d", [130, 160, 257])
def test_rows_are_read_once_for_each_gram_matrix(
    emulated: Any, cuda_core: Any, d: int, dtype: str, nonfinite: str
) -> None:
    """Sums over columns, counts, magnitudes and norms need no read of their own, nor does it to leave out rows."""
    n = 37
    rows, shift = cuda_core.stored(values(n, d), dtype), np.linspace(-1.0, 1.0, d)
    for unit in (None, "raw", "shifted"):
        emulated.core.configure(capability=80, multiprocessors=1)
        sums = cuda_core.gram(emulated, rows, shift=shift, unit=unit, nonfinite=nonfinite, rows_at_once=AT_ONCE)
        assert emulated.core.loaded_bytes() == n * d * SIZES[dtype] * (1 if unit is None else 2)
        shifted = rows.values - shift
        units = None if unit is None else unit_rows(shifted if unit == "shifted" else rows.values)
        check_sums(sums, shifted, units)


@pytest.mark.parametrize("nonfinite", ["count", "refuse", "skip"])
@pytest.mark.parametrize(("d", "tiles"), [(160, 1), (520, 3)])
def test_products_with_targets_need_no_read(emulated: Any, cuda_core: Any, d: int, tiles: int, nonfinite: str) -> None:
    """Targets are read by blocks of up to 256 columns, or of whole rows, and before, for what is not finite in them."""
    n = 37
    rows, targets = cuda_core.stored(values(n, d), "float32"), cuda_core.stored(values(n, 9), "float64")
    emulated.core.configure(capability=90, multiprocessors=1, keeps_records=True)
    sums = cuda_core.gram(emulated, rows, targets=targets, nonfinite=nonfinite, rows_at_once=AT_ONCE)
    assert not {name for name, *_ in emulated.core.launched()} & {"column_sums", "slab_sums"}
    # A look at targets alone loads eight numbers a lane, the same ones where there are fewer.
    looks, readers = (2, 1) if nonfinite == "skip" else (1, tiles)
    assert emulated.core.loaded_bytes() == n * (d * 4 + (8 * looks + readers) * 9 * 8)
    check_sums(sums, rows.values)
    check(sums.cross, targets.values, rows.values, 2.0**-46)


def test_products_with_more_targets_than_a_block_has_room_for(emulated: Any, cuda_core: Any) -> None:
    """These are formed by the column sums, in one read more."""
    for count, readers in ((60, ["planes"]), (200, ["planes", "column_sums"])):
        rows, targets = cuda_core.stored(values(20, 130), "float32"), cuda_core.stored(values(20, count), "float32")
        emulated.core.configure(capability=90, multiprocessors=1, keeps_records=True)
        sums = cuda_core.gram(emulated, rows, targets=targets, nonfinite="refuse")
        assert [name for name, *_ in emulated.core.launched() if name in ("planes", "column_sums")] == readers
        check(sums.cross, targets.values, rows.values, 2.0**-46)


def test_rows_as_they_are_stored_are_read_once_more_for_unit_rows(emulated: Any, cuda_core: Any) -> None:
    n, d = 37, 160
    rows = cuda_core.stored(values(n, d), "bfloat16")
    emulated.core.configure(multiprocessors=1)
    sums = cuda_core.gram(emulated, rows, unit="raw")
    assert emulated.core.loaded_bytes() == n * d * 2
    check_gram(sums.unit_gram, unit_rows(rows.values))


# ---- numbers ----


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_sums_of_wide_rows(backend: Any, cuda_core: Any, n: int, d: int, dtype: str) -> None:
    plain = values(n, d)
    plain[15:16] = 0.0
    rows, shift = cuda_core.stored(plain, dtype), np.linspace(-1.0, 1.0, d)
    sums = cuda_core.gram(backend, rows, shift=shift, unit="raw", nonfinite="refuse", rows_at_once=AT_ONCE)
    check_sums(sums, rows.values - shift, unit_rows(rows.values))
    totals = Totals.of(sums.totals)
    assert (totals.rows, totals.zero, totals.refused) == (n, int(n > 15), 0)
    if n > 0:
        assert totals.exponent == 1023 + int(np.floor(np.log2(np.abs(rows.values - shift).max())))


@pytest.mark.parametrize("nonfinite", ["refuse", "skip"])
@pytest.mark.parametrize("layout", ["columns", "padded", "apart", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_layout(backend: Any, cuda_core: Any, dtype: str, layout: str, nonfinite: str) -> None:
    """What lies between rows is NaN."""
    for n, d in ((35, 132), (18, 157)):
        rows, shift = cuda_core.stored(values(n, d), dtype, layout), np.linspace(0.0, 1.0, d)
        given = {"shift": shift, "unit": "shifted", "nonfinite": nonfinite, "rows_at_once": AT_ONCE}
        sums = cuda_core.gram(backend, rows, **given)
        check_sums(sums, rows.values - shift, unit_rows(rows.values - shift))


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_addresses_that_sixteen_bytes_do_not_divide(backend: Any, cuda_core: Any, dtype: str, offset: int) -> None:
    wide = cuda_core.stored(values(35, 168), dtype)
    rows = cuda_core.Stored(wide.bits, wide.values[:, offset : offset + 136], dtype, offset, 168, 1)
    sums = cuda_core.gram(backend, rows, shift=np.full(136, 0.25), unit="shifted", nonfinite="refuse")
    check_sums(sums, rows.values - 0.25, unit_rows(rows.values - 0.25))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rounded_rows(backend: Any, cuda_core: Any, dtype: str) -> None:
    rows, shift = cuda_core.stored(values(67, 140), dtype), np.linspace(0.0, 1.0, 140)
    for nonfinite in ("refuse", "skip"):
        sums = cuda_core.gram(backend, rows, shift=shift, unit="raw", precision="fast", nonfinite=nonfinite)
        check_sums(sums, rows.values - shift, unit_rows(rows.values), FAST_TOLERANCE)


@pytest.mark.parametrize("nonfinite", ["refuse", "skip"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("n", "d", "targets", "layout", "target_dtype"),
    [
        *((n, 130, 3, "columns", "float32") for n in (1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97)),
        *((35, 257, count, "apart", "bfloat16") for count in (1, 2, 7, 8, 9, 16, 17)),
        (129, 264, 33, "padded", "float64"),
        (21, 1030, 4, "backward", "float16"),
    ],
)
def test_products_with_targets(
    backend: Any,
    cuda_core: Any,
    n: int,
    d: int,
    targets: int,
    layout: str,
    target_dtype: str,
    dtype: str,
    nonfinite: str,
) -> None:
    """Ragged turns, tiles of columns and groups of targets, in every layout of both."""
    shift, target_shift = np.linspace(-1.0, 1.0, d), np.linspace(2.0, 3.0, targets)
    rows = cuda_core.stored(values(n, d), dtype, layout)
    beside = cuda_core.stored(values(n, targets) + 2.0, target_dtype, layout)
    given = {"targets": beside, "target_shift": target_shift, "shift": shift, "rows_at_once": 32}
    sums = cuda_core.gram(backend, rows, **given, nonfinite=nonfinite)
    exact, crossed = rows.values - shift, beside.values - target_shift
    check(sums.cross, crossed, exact, 2.0**-46)
    check(sums.column_sums[None], np.ones((n, 1)), exact, 2.0**-46)


@pytest.mark.long
def test_rows_of_several_blocks(backend: Any, cuda_core: Any) -> None:
    """Wider than what one block holds: these are looked at first where all of a row tells what becomes of it."""
    d = 4104
    plain = values(3, d)
    rows, shift = cuda_core.stored(plain, "float32"), np.linspace(-1.0, 1.0, d)
    sums = cuda_core.gram(backend, rows, shift=shift, unit="raw", precision="fast", nonfinite="refuse")
    check_sums(sums, rows.values - shift, unit_rows(rows.values), FAST_TOLERANCE)
    plain[1, 4100] = np.inf
    skipped = cuda_core.gram(backend, cuda_core.stored(plain, "float32"), precision="fast", nonfinite="skip")
    check_sums(skipped, rows.values[[0, 2]], None, FAST_TOLERANCE)


def test_same_bits_in_every_order(emulated: Any, cuda_core: Any) -> None:
    rows, shift = cuda_core.stored(values(150, 140), "float32"), np.linspace(0.0, 1.0, 140)
    results = []
    for order, copies in (("forward", "late"), ("backward", "early"), ("shuffled", "early")):
        emulated.core.configure(order=order, copies=copies, multiprocessors=3, seed=7)
        sums = cuda_core.gram(emulated, rows, shift=shift, unit="raw", nonfinite="skip")
        check_sums(sums, rows.values - shift, unit_rows(rows.values))
        results.append(sums.gram.tobytes() + sums.unit_gram.tobytes() + sums.column_sums.tobytes())
    assert len(set(results)) == 1


# ---- the range of float32 ----


@pytest.mark.parametrize("nonfinite", ["refuse", "skip"])
@pytest.mark.parametrize("scale", [1e30, 1e-30, 2.0**-31, 2.0**-29, 2.0**49, 2.0**51])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_squares_that_leave_the_range_of_float32(
    backend: Any, cuda_core: Any, dtype: str, scale: float, nonfinite: str
) -> None:
    d = 130
    plain = values(41, d) * scale
    plain[[7, 12], [3, 129]] = np.nan
    rows, shift = cuda_core.stored(plain, dtype), np.full(d, 0.25 * scale)
    given = rows if nonfinite == "skip" else cuda_core.stored(np.delete(plain, [7, 12], axis=0), dtype)
    sums = cuda_core.gram(backend, given, shift=shift, unit="shifted", nonfinite=nonfinite)
    exact = np.delete(rows.values, [7, 12], axis=0) - shift
    check_sums(sums, exact, unit_rows(exact))
    totals = Totals.of(sums.totals)
    assert (totals.rows, totals.refused) == (39, 0)
    assert totals.exponent == 1023 + int(np.floor(np.log2(np.abs(exact).max())))


def test_rows_of_every_magnitude(backend: Any, cuda_core: Any) -> None:
    """Rows, columns and numbers of 1e-30 beside those of 1e30, 1 and 1e15: no element loses its digits."""
    scales = np.array([1e-30, 1e-15, 1.0, 1e15, 1e30])
    for exponents in (slice(0, 5), slice(1, 4), slice(0, 3), slice(2, 5)):
        for along in ("rows", "columns", "numbers"):
            shape = {"rows": (40, 1), "columns": (1, 138), "numbers": (40, 138)}[along]
            factors = np.random.default_rng(5).choice(scales[exponents], shape)
            rows = cuda_core.stored(values(40, 138) * factors, "float32")
            sums = cuda_core.gram(backend, rows, nonfinite="refuse")
            largest = np.abs(rows.values).max(axis=0)
            error = np.abs(sums.gram - np.tril(rows.values.T @ rows.values))
            # What is smaller than 2^-60 beside the largest number may lose what it has in its products.
            products = np.abs(rows.values).T @ np.abs(rows.values)
            floor = 2.0**-126 * 40 if largest.max() < 2.0**51 else 0.0
            assert (error <= SPLIT_TOLERANCE * products + floor).all(), (exponents, along)
            check(sums.column_sums[None], np.ones((40, 1)), rows.values, 2.0**-46)


@pytest.mark.parametrize("scale", [60000.0, 2.0**-24, 2.0**-14])
def test_float16_rows_with_a_shift(backend: Any, cuda_core: Any, scale: float) -> None:
    """Largest and subnormal numbers."""
    rows = cuda_core.stored(np.clip(values(40, 130) / 4.0, -1.0, 1.0) * scale, "float16")
    shift = np.linspace(-scale, scale, 130)
    sums = cuda_core.gram(backend, rows, shift=shift, unit="shifted", nonfinite="refuse")
    check_sums(sums, rows.values - shift, unit_rows(rows.values - shift))


# ---- rows that are not finite ----


@pytest.mark.parametrize("at_once", [0, 32])
@pytest.mark.parametrize("d", [130, 160])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_that_are_not_finite(backend: Any, cuda_core: Any, dtype: str, d: int, at_once: int) -> None:
    """In any word of the masks, any chunk and any piece of the planes, and by their targets."""
    n, shift = 72, np.linspace(0.0, 1.0, d)
    plain, targets = values(n, d), values(n, 2)
    plain[[40, 41]] = 0.0
    plain[[0, 33, 64, 71, 71], [d - 1, 8, 0, 7, 128]] = [np.nan, np.inf, -np.inf, np.nan, np.inf]
    targets[[41, 64, 70], [0, 1, 1]] = np.nan
    rows = cuda_core.stored(plain, dtype)
    given = {"shift": shift, "unit": "raw", "targets": cuda_core.stored(targets, "float32"), "start": 2.0}
    given["rows_at_once"] = at_once
    for nonfinite in ("count", "refuse"):
        sums = cuda_core.gram(backend, rows, **given, nonfinite=nonfinite)
        for array in (sums.gram, sums.unit_gram, sums.column_sums, sums.cross):
            assert (array == 2.0).all()
        totals = Totals.of(sums.totals)
        found = sums.counts if nonfinite == "count" else (2, totals.refused_nonfinite, totals.refused_first)
        assert found == (2, 6, 0)
    kept = cuda_core.gram(backend, rows, **(given | {"start": 0.0}), nonfinite="skip")
    left = np.delete(rows.values, [0, 33, 41, 64, 70, 71], axis=0)
    check_sums(kept, left - shift, unit_rows(left))
    check(kept.cross, np.delete(given["targets"].values, [0, 33, 41, 64, 70, 71], axis=0), left - shift, 2.0**-46)
    totals = Totals.of(kept.totals)
    assert (totals.rows, totals.skipped, totals.zero, totals.refused) == (n - 6, 6, 1, 0)


def test_rows_that_are_left_out_have_no_magnitude(backend: Any, cuda_core: Any) -> None:
    """Neither what else is in them nor their targets: these would be refused, or leave the range of float32."""
    plain, targets = values(40, 130), values(40, 2)
    plain[9, :3] = [np.nan, 1e30, -1e30]
    targets[9, 0], targets[11] = 1e200, [np.inf, 1e200]
    rows = cuda_core.stored(plain, "float32")
    sums = cuda_core.gram(backend, rows, targets=cuda_core.stored(targets, "float64"), nonfinite="skip")
    left, crossed = (np.delete(array, [9, 11], axis=0) for array in (rows.values, targets))
    check_sums(sums, left)
    check(sums.cross, crossed, left, 2.0**-46)
    totals = Totals.of(sums.totals)
    assert (totals.rows, totals.skipped, totals.refused) == (38, 2, 0)
    assert totals.exponent == 1023 + int(np.floor(np.log2(np.abs(left).max())))
    assert totals.target_exponent == 1023 + int(np.floor(np.log2(np.abs(crossed).max())))


def test_a_shift_that_is_large_leaves_no_row_out(backend: Any, cuda_core: Any) -> None:
    """Squares of shifted numbers leave the range of float64 here: the batch is refused, and no row is called bad."""
    rows = cuda_core.stored(values(5, 130), "float32")
    sums = cuda_core.gram(backend, rows, shift=np.full(130, 1e200), nonfinite="skip")
    totals = Totals.of(sums.totals)
    assert (totals.refused, totals.refused_nonfinite, totals.skipped) == (1, 0, 0)
