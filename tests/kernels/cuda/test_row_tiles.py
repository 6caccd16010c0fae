"""Rows of several tiles that are split on the way to the tensor cores, in each tile anew, without planes in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gram_checks import SIZES, check, check_sums, tile_columns, unit_rows

from nrc_fast.kernels.cuda.launches import Totals

COUNTS = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 65, 97]
# Both sides ragged, of 16 bytes a row in every dtype; whole; one of three tiles of a few columns.
WIDTHS = [136, 248, 256, 264]


def values(n: int, d: int) -> Any:
    return np.random.default_rng(1000 * n + d).standard_normal((n, d)) + 0.5


def kernels(emulated: Any) -> set[str]:
    return {name for name, *_ in emulated.core.launched()} & {"gram_row_tiles", "planes", "column_sums", "row_norms"}


# ---- which rows, and how often they are read ----


@pytest.mark.parametrize("nonfinite", ["count", "refuse"])
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("d", [136, 264])
def test_rows_are_read_once(emulated: Any, cuda_core: Any, d: int, dtype: str, capability: int, nonfinite: str) -> None:
    """By each tile, where the device has them in its cache after the first, and nothing is written but sums."""
    n = 37
    rows, shift = cuda_core.stored(values(n, d), dtype), np.linspace(-1.0, 1.0, d)
    emulated.core.configure(capability=capability, multiprocessors=1, keeps_records=True)
    sums = cuda_core.gram(emulated, rows, shift=shift, nonfinite=nonfinite)
    assert kernels(emulated) == {"gram_row_tiles"}
    assert emulated.core.copied_bytes() == n * tile_columns(d) * SIZES[dtype]
    assert emulated.core.loaded_bytes() == 0
    check_sums(sums, rows.values - shift)


@pytest.mark.parametrize("nonfinite", ["count", "refuse"])
@pytest.mark.parametrize("unit", ["raw", "shifted"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_unit_rows_are_read_once_more(emulated: Any, cuda_core: Any, dtype: str, unit: str, nonfinite: str) -> None:
    """Norms come from what the first Gram matrix has found of the rows in each tile."""
    n, d = 37, 264
    rows, shift = cuda_core.stored(values(n, d), dtype), np.linspace(-1.0, 1.0, d)
    emulated.core.configure(multiprocessors=1, keeps_records=True)
    sums = cuda_core.gram(emulated, rows, shift=shift, unit=unit, nonfinite=nonfinite)
    assert kernels(emulated) == {"gram_row_tiles"}
    assert emulated.core.copied_bytes() == 2 * n * tile_columns(d) * SIZES[dtype]
    assert emulated.core.loaded_bytes() == 0
    shifted = rows.values - shift
    check_sums(sums, shifted, unit_rows(shifted if unit == "shifted" else rows.values))


def test_products_with_targets_take_one_read_more(emulated: Any, cuda_core: Any) -> None:
    n, d = 37, 136
    rows, targets = cuda_core.stored(values(n, d), "float32"), cuda_core.stored(values(n, 9), "float64")
    emulated.core.configure(multiprocessors=1, keeps_records=True)
    sums = cuda_core.gram(emulated, rows, targets=targets)
    assert kernels(emulated) == {"gram_row_tiles", "column_sums", "row_norms"}  # these of the targets alone
    assert emulated.core.copied_bytes() == n * tile_columns(d) * 4
    check_sums(sums, rows.values)
    check(sums.cross, targets.values, rows.values, 2.0**-46)


@pytest.mark.parametrize(
    ("d", "layout", "machine", "options"),
    [
        (130, "rows", {}, {}),  # not whole pieces of 16 bytes
        (136, "columns", {}, {}),
        (136, "rows", {}, {"nonfinite": "skip"}),
        (136, "rows", {}, {"rows_at_once": 32}),
        (136, "rows", {}, {"precision": "fast"}),
        (1032, "rows", {}, {}),  # so many tiles that planes cost less
    ],
)
def test_other_rows_become_planes(
    emulated: Any, cuda_core: Any, d: int, layout: str, machine: dict[str, Any], options: dict[str, Any]
) -> None:
    emulated.core.configure(**machine, keeps_records=True)
    cuda_core.gram(emulated, cuda_core.stored(values(5, d), "float32", layout), **options)
    assert kernels(emulated) == {"planes"}


# ---- numbers ----


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("d", WIDTHS)
def test_every_count_of_rows(backend: Any, cuda_core: Any, d: int, dtype: str) -> None:
    """Ragged stages, and rings that are not full."""
    shift = np.linspace(-1.0, 1.0, d)
    for n in COUNTS if d == 136 else COUNTS[::3]:
        plain = values(n, d)
        plain[15:16] = 0.0
        rows = cuda_core.stored(plain, dtype)
        sums = cuda_core.gram(backend, rows, shift=shift, unit="raw", nonfinite="refuse")
        check_sums(sums, rows.values - shift, unit_rows(rows.values))
        totals = Totals.of(sums.totals)
        assert (totals.rows, totals.zero, totals.refused) == (n, int(n > 15), 0)
        if n > 0:
            assert totals.exponent == 1023 + int(np.floor(np.log2(np.abs(rows.values - shift).max())))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_products_of_planes_bit_by_bit(emulated: Any, cuda_core: Any, dtype: str) -> None:
    """The same numbers are multiplied and added in the same order, over folds and segments of several workers."""
    n, d = 560, 264
    rows, shift = cuda_core.stored(values(n, d), dtype, "padded"), np.linspace(-1.0, 1.0, d)
    for multiprocessors in (1, 5):
        emulated.core.configure(multiprocessors=multiprocessors, keeps_records=True)
        on_the_way = cuda_core.gram(emulated, rows, shift=shift, unit="shifted")
        planes = cuda_core.gram(emulated, rows, shift=shift, rows_at_once=2048)
        assert kernels(emulated) == {"gram_row_tiles", "planes"}
        assert on_the_way.gram.tobytes() == planes.gram.tobytes()
        check_sums(on_the_way, rows.values - shift, unit_rows(rows.values - shift))


def test_many_rows(emulated: Any, cuda_core: Any) -> None:
    """Sums go to the slab twice."""
    n, d = 8_219, 136
    rows = cuda_core.stored(values(n, d), "float32")
    emulated.core.configure(multiprocessors=1, keeps_records=True)
    sums = cuda_core.gram(emulated, rows)
    assert kernels(emulated) == {"gram_row_tiles"}
    check_sums(sums, rows.values)


def test_same_bits_in_every_order(emulated: Any, cuda_core: Any) -> None:
    rows, shift = cuda_core.stored(values(333, 136), "float32"), np.linspace(0.0, 1.0, 136)
    results = []
    for order, copies in (("forward", "late"), ("backward", "early"), ("shuffled", "early"), ("ahead", "late")):
        emulated.core.configure(order=order, copies=copies, multiprocessors=2, seed=7)
        sums = cuda_core.gram(emulated, rows, shift=shift, unit="raw")
        check_sums(sums, rows.values - shift, unit_rows(rows.values))
        results.append(sums.gram.tobytes() + sums.unit_gram.tobytes() + sums.column_sums.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("layout", ["rows", "padded"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_that_are_not_finite(backend: Any, cuda_core: Any, dtype: str, layout: str) -> None:
    """In any column of any tile, and by their targets: nothing is added."""
    n, d = 72, 264
    plain, targets = values(n, d), values(n, 2)
    plain[[40, 41]] = 0.0
    plain[[0, 33, 64, 71, 71], [d - 1, 8, 127, 128, 255]] = [np.nan, np.inf, -np.inf, np.nan, np.inf]
    targets[[41, 64, 70], [0, 1, 1]] = np.nan
    rows = cuda_core.stored(plain, dtype, layout)
    given = {"shift": np.linspace(0.0, 1.0, d), "unit": "raw", "start": 2.0}
    given["targets"] = cuda_core.stored(targets, "float32")
    for nonfinite in ("count", "refuse"):
        sums = cuda_core.gram(backend, rows, **given, nonfinite=nonfinite)
        for array in (sums.gram, sums.unit_gram, sums.column_sums, sums.cross):
            assert (array == 2.0).all()
        totals = Totals.of(sums.totals)
        found = sums.counts if nonfinite == "count" else (2, totals.refused_nonfinite, totals.refused_first)
        assert found == (2, 6, 0)


@pytest.mark.parametrize("scale", [1e30, 1e-30, 2.0**-31, 2.0**-29, 2.0**49, 2.0**51])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_squares_that_leave_the_range_of_float32(backend: Any, cuda_core: Any, dtype: str, scale: float) -> None:
    rows, shift = cuda_core.stored(values(41, 136) * scale, dtype), np.full(136, 0.25 * scale)
    sums = cuda_core.gram(backend, rows, shift=shift, unit="shifted", nonfinite="refuse")
    check_sums(sums, rows.values - shift, unit_rows(rows.values - shift))
