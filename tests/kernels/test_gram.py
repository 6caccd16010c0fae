from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.double_double import Pairs

from nrc_fast.kernels.calls import gram
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import GramSums

DTYPES = ["float64", "float32", "float16", "torch.bfloat16", "ml_dtypes.bfloat16"]
KINDS = DTYPES[:4]  # each kind of number once
WIDTHS = [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 48, 49, 63, 65, 97]
COUNTS = [0, 1, 2, 3, 5, 7, 255, 256, 257, 513]
THREADS = [1, 2, 3]

# Panels are 6 to 48 columns wide: this is a partial one for every instruction set and arithmetic.
PARTIAL_WIDTH = 53

every_isa = pytest.mark.usefixtures("isa")

SetThreads = Callable[[int], None]


def fields(sums: GramSums) -> list[Any]:
    return [sums.gram, sums.column_sums, sums.unit_gram, sums.cross]


def assert_same_bits(found: GramSums, wanted: GramSums, what: str = "") -> None:
    for left, right in zip(fields(found), fields(wanted), strict=True):
        assert left.shape == right.shape, what
        assert left.tobytes() == right.tobytes(), what
    assert (found.rows, found.zero_rows) == (wanted.rows, wanted.zero_rows), what


@functools.cache
def plain_case(arrays: Any, dtype: str, count: int, width: int) -> tuple[Any, Any]:
    """Rows as they are and their unit rows, some of them zero."""
    values = np.random.default_rng(1000 * count + width).standard_normal((count, width)) + 0.5
    values[2::5] = 0.0
    values[7::25] *= -0.0
    features = arrays.store(values, dtype)
    return features, arrays.gram_reference(features, unit="raw")


@functools.cache
def shifted_case(arrays: Any, dtype: str, count: int, width: int) -> tuple[Any, dict[str, Any], Any]:
    """Everything that depends on shifts, which no dtype but float64 holds exactly."""
    rng = np.random.default_rng(1000 * count + width + 1)
    features = arrays.store(rng.standard_normal((count, width)) + 3.0, dtype)
    n = 1 + width % 6
    targets = arrays.store(rng.standard_normal((count, n)) * 2.0 - 1.0, DTYPES[width % 4])
    shifts = {"shift": rng.standard_normal(width) / 3.0 + 3.0, "target_shift": rng.standard_normal(n)}
    reference = arrays.gram_reference(features, unit="shifted", targets=targets, **shifts)
    return features, {"targets": as_rows(targets, "Y"), **shifts}, reference


# ---- sizes ----


@every_isa
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_size(arrays: Any, set_threads: SetThreads, dtype: str, width: int) -> None:
    for count in COUNTS:
        features, plain = plain_case(arrays, dtype, count, width)
        others, arguments, shifted = shifted_case(arrays, dtype, count, width)
        for threads in THREADS:
            set_threads(threads)
            what = f"{count} rows, {threads} threads"
            plain.check(gram(as_rows(features, "H"), unit="raw"), what)
            shifted.check(gram(as_rows(others, "H"), unit="shifted", **arguments), what)


@every_isa
@pytest.mark.parametrize("shape", [(2000, 100), (40_000, 7), (300_000, 1), (300, 300)], ids=str)
@pytest.mark.parametrize("dtype", KINDS)
def test_more_rows_than_one_thread_would_take(
    arrays: Any, set_threads: SetThreads, dtype: str, shape: tuple[int, int]
) -> None:
    features, reference = plain_case(arrays, dtype, *shape)
    for threads in (1, 2, 3, 16):
        set_threads(threads)
        reference.check(gram(as_rows(features, "H"), unit="raw"), f"{threads} threads")


@every_isa
@pytest.mark.parametrize("shape", [(1000, 113), (3000, 300)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_small_integers_are_exact(
    arrays: Any, set_threads: SetThreads, dtype: str, shape: tuple[int, int]
) -> None:
    # 256 products of at most 16^2 stay below the 2^24 that float32 counts to.
    rng = np.random.default_rng(0)
    count, width = shape
    values, targets, shift, target_shift = (
        rng.integers(-8, 9, size).astype(np.float64) for size in ((count, width), (count, 9), width, 9)
    )
    x, y = values - shift, targets - target_shift
    for threads in (1, 3):
        set_threads(threads)
        sums = gram(
            as_rows(arrays.store(values, dtype), "H"),
            shift=shift,
            targets=as_rows(arrays.store(targets, dtype), "Y"),
            target_shift=target_shift,
        )
        np.testing.assert_array_equal(sums.gram, np.tril(x.T @ x))
        np.testing.assert_array_equal(sums.column_sums, x.sum(axis=0))
        np.testing.assert_array_equal(sums.cross, y.T @ x)


@every_isa
@pytest.mark.parametrize("columns_apart", [False, True], ids=["contiguous", "gathered"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "torch.bfloat16"])
def test_tiles_shared_by_many_threads(arrays: Any, set_threads: SetThreads, dtype: str, columns_apart: bool) -> None:
    width, threads = 601, 64
    lower_triangle_bytes = 8 * width * (width + 1) // 2
    assert threads * lower_triangle_bytes > 64 << 20, "private tiles would do"
    rng = np.random.default_rng(3)
    # Multiples of 1/16 that bfloat16 holds; their sums are exact in float32 blocks.
    values = rng.integers(-128, 129, (300, 2 * width)) / 16.0
    values[41] = 0.0
    values = values[:, ::2] if columns_apart else np.ascontiguousarray(values[:, ::2])
    stored = arrays.store(values, dtype)
    if columns_apart and isinstance(stored, np.ndarray):
        stored = np.asfortranarray(stored)
    elif columns_apart:
        stored = stored.t().contiguous().t()
    targets = rng.integers(-8, 9, (300, 5)) / 4.0
    arguments = {"targets": as_rows(targets, "Y"), "target_shift": np.full(5, 0.25), "unit": "raw"}

    set_threads(1)
    alone = gram(as_rows(stored, "H"), **arguments)
    set_threads(threads)
    shared = gram(as_rows(stored, "H"), **arguments)
    np.testing.assert_array_equal(shared.gram, np.tril(values.T @ values))
    np.testing.assert_array_equal(shared.column_sums, values.sum(axis=0))
    np.testing.assert_array_equal(shared.cross, (targets - 0.25).T @ values)
    assert shared.zero_rows == 1
    scaled = arrays.unit_rows(values)
    epsilon = arrays.arithmetic_of(stored).epsilon
    # As in gram_reference, with twice the additions because the reference is rounded too.
    tolerance = epsilon * (5.0 + 2.0 * 300**0.5)
    product = scaled.T @ scaled
    arrays.Expected(product, np.abs(scaled).T @ np.abs(scaled), tolerance).check_triangle(shared.unit_gram, "unit Gram")
    # The blocks are those of one thread, in the same order.
    assert_same_bits(shared, alone)
    for sums in (alone, shared):
        assert not np.triu(sums.unit_gram, 1).any()

    values = values.copy()
    values[299, 600] = np.nan
    values[7, 0] = np.inf
    with pytest.raises(NonFiniteRowsError) as caught:
        gram(as_rows(arrays.store(values, dtype), "H"), **arguments)
    assert (caught.value.count, caught.value.first) == (2, 7)


@every_isa
@pytest.mark.parametrize("columns_apart", [False, True], ids=["contiguous", "gathered"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_wide_rows_of_which_several_blocks_are_packed_at_a_time(
    arrays: Any, set_threads: SetThreads, dtype: str, columns_apart: bool
) -> None:
    count, width = 530, 1501
    cached_tile_bytes = 8 << 20
    assert 8 * width * (width + 1) // 2 > cached_tile_bytes, "one block would do"
    rng = np.random.default_rng(4)
    values = rng.integers(-8, 9, (count, width)).astype(np.float64)
    values[[255, 256, 511, 512, 529]] = 0.0
    stored = arrays.store(values.T if columns_apart else values, dtype)
    features = stored.T if columns_apart else stored
    targets = rng.integers(-8, 9, (count, 5)).astype(np.float64)
    shift = rng.integers(-2, 3, width).astype(np.float64)
    x = values - shift
    gram_of_rows, cross = np.tril(x.T @ x), targets.T @ x
    scaled = arrays.unit_rows(values)
    tolerance = arrays.arithmetic_of(stored).epsilon * (5.0 + 2.0 * count**0.5)
    unit_gram = arrays.Expected(scaled.T @ scaled, np.abs(scaled).T @ np.abs(scaled), tolerance)
    for threads in (1, 64):
        set_threads(threads)
        sums = gram(as_rows(features, "H"), shift=shift, targets=as_rows(targets, "Y"), unit="raw")
        np.testing.assert_array_equal(sums.gram, gram_of_rows)
        np.testing.assert_array_equal(sums.column_sums, x.sum(axis=0))
        np.testing.assert_array_equal(sums.cross, cross)
        assert sums.zero_rows == 5
        unit_gram.check_triangle(sums.unit_gram, "unit Gram")

        kept = features[520, 1500].item()
        features[520, 1500] = np.nan
        features[300, 0] = np.nan
        with pytest.raises(NonFiniteRowsError) as caught:
            gram(as_rows(features, "H"), shift=shift)
        assert (caught.value.count, caught.value.first) == (2, 300)
        features[520, 1500] = kept
        features[300, 0] = values[300, 0]


# ---- memory layouts ----


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "every second row": lambda H: H[::2],
    "every third column": lambda H: H[:, ::3],
    "transposed": lambda H: H.T,
    "rows reversed": lambda H: H[::-1],
    "columns reversed": lambda H: H[:, ::-1],
    "both reversed in steps": lambda H: H[::-2, ::-3],
    "Fortran order": np.asfortranarray,
    "columns from the middle": lambda H: H[:, 5:118],
    "one row for all": lambda H: np.broadcast_to(H[3], H.shape),
    "one column for all": lambda H: np.broadcast_to(H[:, :1], H.shape),
    "one value for all": lambda H: np.broadcast_to(H[:1, :1], H.shape),
    "slice of three dimensions": lambda H: H.reshape(41, 7, 123)[:, 2],
    "column of three dimensions": lambda H: H.reshape(41, 7, 123)[:, :, 5],
    "one column": lambda H: H[:, 9:10],
    "overlapping rows": lambda H: np.lib.stride_tricks.sliding_window_view(H.ravel(), 50)[:3000],
}


@every_isa
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "ml_dtypes.bfloat16"])
def test_layouts_of_arrays(arrays: Any, set_threads: SetThreads, dtype: str, layout: str) -> None:
    features = LAYOUTS[layout](arrays.normal((287, 123), dtype, seed=7, mean=1.0))
    count, width = features.shape
    rng = np.random.default_rng(8)
    arguments = {"targets": as_rows(rng.standard_normal((2 * count, 3))[::2], "Y"), "shift": np.ones(width)}
    copy = np.array(features, order="C")
    assert copy.strides == (width * copy.itemsize, copy.itemsize)
    reference = strided_reference(arrays, dtype, layout)
    for threads in (1, 3):
        set_threads(threads)
        sums = gram(as_rows(features, "H"), unit="raw", **arguments)
        reference.check(sums, f"{threads} threads")
        assert_same_bits(sums, gram(as_rows(copy, "H"), unit="raw", **arguments))


@functools.cache
def strided_reference(arrays: Any, dtype: str, layout: str) -> Any:
    features = LAYOUTS[layout](arrays.normal((287, 123), dtype, seed=7, mean=1.0))
    targets = np.random.default_rng(8).standard_normal((2 * len(features), 3))[::2]
    return arrays.gram_reference(features, unit="raw", targets=targets, shift=np.ones(features.shape[1]))


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_layouts_of_tensors(arrays: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    base = arrays.normal((287, 123), f"torch.{dtype}", seed=9)
    for name, features in {
        "rows": base[::2],
        "columns": base[:, ::3],
        "transposed": base.t(),
        "expanded row": base[3].expand(300, 123),
        "expanded column": base[:, :1].expand(287, 50),
        "offset": base[5:, 7:],
        "overlapping": base.flatten().unfold(0, 60, 11),
        "as_strided": torch.as_strided(base, (90, 40), (3, 200), 17),
    }.items():
        sums = gram(as_rows(features, "H"), unit="raw")
        arrays.gram_reference(features, unit="raw").check(sums, name)
        assert_same_bits(sums, gram(as_rows(features.clone().contiguous(), "H"), unit="raw"), name)


@every_isa
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_arrays_that_are_not_aligned_or_of_the_other_byte_order(arrays: Any, dtype: type[np.floating[Any]]) -> None:
    values = np.random.default_rng(4).standard_normal((270, 51)).astype(dtype)
    wanted = gram(as_rows(values, "H"), unit="raw", targets=as_rows(values[:, :2], "Y"))
    arrays.gram_reference(values, unit="raw", targets=values[:, :2]).check(wanted)

    shifted = np.frombuffer(b"\0" + values.tobytes(), dtype=dtype, offset=1).reshape(values.shape)
    assert not shifted.flags.aligned
    records = np.zeros(270, dtype=[("label", "u1"), ("row", dtype, (51,)), ("other", "u1")])
    records["row"] = values
    odd_columns = np.zeros((270, 51), dtype=[("label", "u1"), ("value", dtype)])
    odd_columns["value"] = values
    padded = np.zeros((270, 51), dtype=[("value", dtype), ("other", dtype, 2)])
    padded["value"] = values
    swapped = values.astype(np.dtype(dtype).newbyteorder())
    assert not swapped.dtype.isnative
    for name, features in {
        "offset by one byte": shifted,
        "record field": records["row"],
        "field of each value": odd_columns["value"],
        "aligned field of each value": padded["value"],
        "other byte order": swapped,
        "other byte order, strided": np.repeat(swapped, 2, axis=1)[:, ::2],
        "other byte order, reversed": swapped[::-1, ::-1][::-1, ::-1],
    }.items():
        targets = as_rows(features[:, :2], "Y")
        assert as_rows(features, "H").array.ctypes.data % values.itemsize == 0, name
        assert_same_bits(gram(as_rows(features, "H"), unit="raw", targets=targets), wanted, name)


# ---- what is asked for ----


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_output_alone_is_that_of_all_together(arrays: Any, dtype: str) -> None:
    features, arguments, reference = shifted_case(arrays, dtype, 513, 65)
    everything = gram(as_rows(features, "H"), unit="shifted", **arguments)
    reference.check(everything)
    shift = {"shift": arguments["shift"]}
    alone = gram(as_rows(features, "H"), **shift)
    assert alone.unit_gram.size == alone.cross.size == 0
    assert alone.gram.tobytes() == everything.gram.tobytes()
    unit_only = gram(as_rows(features, "H"), plain=False, unit="shifted", **shift)
    assert unit_only.gram.size == 0
    assert unit_only.unit_gram.tobytes() == everything.unit_gram.tobytes()
    cross_only = gram(as_rows(features, "H"), plain=False, **arguments)
    assert cross_only.cross.tobytes() == everything.cross.tobytes()
    assert cross_only.column_sums.tobytes() == everything.column_sums.tobytes()


@every_isa
@pytest.mark.parametrize("dtype", KINDS)
def test_raw_unit_rows_do_not_depend_on_the_shift(arrays: Any, dtype: str) -> None:
    features = arrays.normal((300, PARTIAL_WIDTH), dtype, seed=0, mean=1.0)
    shift = np.random.default_rng(1).standard_normal(PARTIAL_WIDTH)
    sums = gram(as_rows(features, "H"), unit="raw", shift=shift)
    arrays.gram_reference(features, unit="raw", shift=shift).check(sums)
    without = gram(as_rows(features, "H"), unit="raw")
    assert sums.unit_gram.tobytes() == without.unit_gram.tobytes()
    # Without a shift both rules are the same.
    assert gram(as_rows(features, "H"), unit="shifted").unit_gram.tobytes() == without.unit_gram.tobytes()


@every_isa
@pytest.mark.parametrize("targets_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_moments_with_targets_of_any_dtype(
    arrays: Any, set_threads: SetThreads, dtype: str, targets_dtype: str
) -> None:
    features = arrays.normal((300, PARTIAL_WIDTH), dtype, seed=0)
    rng = np.random.default_rng(2)
    for n in (1, 2, 3, 4, 5, 8, 9):
        targets = arrays.store(rng.standard_normal((n, 300)) * 3.0, targets_dtype).T  # columns apart
        target_shift = rng.standard_normal(n)
        reference = arrays.gram_reference(features, targets=targets, target_shift=target_shift)
        for threads in (1, 2):
            set_threads(threads)
            found = gram(as_rows(features, "H"), targets=as_rows(targets, "Y"), target_shift=target_shift)
            reference.check(found, f"{n} targets")


@every_isa
def test_special_values_of_targets_are_read_exactly(arrays: Any) -> None:
    ones = np.ones((1, 1))
    for dtype, values in {
        "float16": [0.0, 65504.0, -65504.0, 2.0**-24, 2.0**-14, 1023 * 2.0**-24, 1.0 + 2.0**-10, -0.1],
        "torch.bfloat16": [0.0, 3.3895e38, -3.3895e38, 2.0**-133, 2.0**-126, 1.0078125, -0.1],
        "float32": [3.4028235e38, 2.0**-149, -(2.0**-126), 0.1],
        "float64": [1.7e308, 5e-324, 2.0**-1022, 0.1],
    }.items():
        for value in values:
            target = arrays.store([[value]], dtype)
            sums = gram(as_rows(ones, "H"), targets=as_rows(target, "Y"))
            assert sums.cross.item() == float(target[0, 0]), (dtype, value)


@every_isa
@pytest.mark.parametrize("arithmetic", ["high", "highest"])
def test_every_16_bit_number_is_read_exactly(arithmetic: str) -> None:
    torch = pytest.importorskip("torch")
    bits = np.arange(65536, dtype=np.uint16).view(np.int16)
    for dtype in (torch.float16, torch.bfloat16):
        tensor = torch.from_numpy(bits.copy()).view(dtype)
        tensor = tensor[torch.isfinite(tensor)]
        columns = tensor[: len(tensor) // 248 * 248].reshape(-1, 248)
        for row in columns:
            # A single row: its column sums are its values.
            sums = gram(as_rows(row[None], "H"), plain=False, precision=arithmetic)
            np.testing.assert_array_equal(sums.column_sums, row.double().numpy())


@every_isa
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 97, 256, 257, 3000])
def test_a_gram_is_put_onto_another(arrays: Any, set_threads: SetThreads, count: int, threads: int) -> None:
    set_threads(threads)
    features, _ = plain_case(arrays, "float32", count, PARTIAL_WIDTH)
    rng = np.random.default_rng(count)
    start, unit_start = rng.standard_normal((2, PARTIAL_WIDTH, PARTIAL_WIDTH))
    kept = start.tobytes() + unit_start.tobytes()
    rows = as_rows(features, "H")
    alone = gram(rows, unit="raw")
    assert not np.triu(alone.gram, 1).any()
    assert not np.triu(alone.unit_gram, 1).any()
    found = gram(rows, unit="raw", onto=start, unit_onto=unit_start)
    assert found.gram.tobytes() == (start + alone.gram).tobytes()
    assert found.unit_gram.tobytes() == (unit_start + alone.unit_gram).tobytes()
    assert found.column_sums.tobytes() == alone.column_sums.tobytes()
    # Of what was added alone, and what it was added to is as it was.
    assert found.energy == alone.energy == pytest.approx(np.trace(alone.gram), rel=4 * PARTIAL_WIDTH * 2.0**-52)
    assert start.tobytes() + unit_start.tobytes() == kept


@pytest.mark.parametrize("count", [0, 1, 256, 257, 400, 512, 513])
def test_wide_rows_in_one_thread(arrays: Any, set_threads: SetThreads, count: int) -> None:
    """Several blocks are packed at a time, or one, or none."""
    set_threads(1)
    features = arrays.normal((count, 1500), "float32", seed=count)
    sums = gram(as_rows(features, "H"), unit="raw")
    arrays.gram_reference(features, unit="raw").check(sums, f"{count} rows")
    assert sums.energy == pytest.approx(np.square(features, dtype=np.float64).sum(), rel=2.0**-22)


def test_what_a_gram_is_put_onto_must_fit() -> None:
    with pytest.raises(ValueError, match=r"onto has shape \(2, 3\); \(3, 3\) is expected"):
        gram(as_rows(np.ones((4, 3)), "H"), onto=np.zeros((2, 3)))


def test_no_rows_add_nothing(arrays: Any) -> None:
    for dtype in KINDS:
        empty, targets = as_rows(arrays.store(np.zeros((0, 5)), dtype), "H"), as_rows(np.zeros((0, 2)), "Y")
        sums = gram(empty, unit="raw", targets=targets, shift=np.ones(5))
        assert (sums.rows, sums.zero_rows) == (0, 0)
        for array, shape in zip(fields(sums), [(5, 5), (5,), (5, 5), (2, 5)], strict=True):
            np.testing.assert_array_equal(array, np.zeros(shape))


def test_targets_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="features and targets differ in their rows"):
        gram(as_rows(np.ones((4, 2)), "H"), targets=as_rows(np.ones((5, 1)), "Y"))


# ---- precision ----


@every_isa
@pytest.mark.parametrize("dtype", ["float32", "float16", "torch.bfloat16"])
def test_highest_precision_is_that_of_the_same_rows_in_float64(arrays: Any, dtype: str) -> None:
    features, arguments, _ = shifted_case(arrays, dtype, 513, 49)
    sums = gram(as_rows(features, "H"), unit="shifted", precision="highest", **arguments)
    assert sums.double_precision
    wide = arrays.reference_rows(features)
    assert_same_bits(sums, gram(as_rows(wide, "H"), unit="shifted", **arguments))
    shifts = {"shift": arguments["shift"], "target_shift": arguments["target_shift"]}
    targets = arguments["targets"].to_float64()
    arrays.gram_reference(wide, unit="shifted", targets=targets, **shifts).check(sums)


@pytest.mark.parametrize("dtype", KINDS)
def test_fast_is_no_less_precise_than_high(arrays: Any, dtype: str) -> None:
    features, reference = plain_case(arrays, dtype, 257, 33)
    fast = gram(as_rows(features, "H"), unit="raw", precision="fast")
    reference.check(fast)
    assert fast.double_precision == (dtype == "float64")


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="precision is 'double'; 'high', 'highest', 'fast' are known"):
        gram(as_rows(np.ones((2, 2)), "H"), precision="double")


@every_isa
def test_errors_of_float32_rows_do_not_grow_with_their_number(arrays: Any) -> None:
    # One float32 sum of a million squares would be off by a random walk of 1000 roundings and a drift.
    features = arrays.store(np.random.default_rng(0).uniform(0.5, 1.0, (1_000_000, 2)), "float32")
    rows = features.astype(np.float64)
    found = gram(as_rows(features, "H"), unit="raw")
    tolerance = 2.0**-23 * (3.0 + arrays.GRAM_BLOCK**0.5)
    product = rows.T @ rows
    arrays.Expected(product, product, tolerance).check_triangle(found.gram, "Gram")
    sums = rows.sum(axis=0)
    arrays.Expected(sums, sums, tolerance).check(found.column_sums, "column sums")
    scaled = arrays.unit_rows(rows)
    product = scaled.T @ scaled
    arrays.Expected(product, product, tolerance + 2.0**-22).check_triangle(found.unit_gram, "unit Gram")


@every_isa
@pytest.mark.parametrize("deviation", [1.0, 1e-3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_large_mean_costs_no_digits(arrays: Any, dtype: str, deviation: float) -> None:
    rng = np.random.default_rng(11)
    means = rng.uniform(900.0, 1100.0, PARTIAL_WIDTH)
    features = arrays.store(deviation * rng.standard_normal((2000, PARTIAL_WIDTH)) + means, dtype)
    # The tolerance is that of rows that were centered before they were stored.
    reference = arrays.gram_reference(features, shift=means, unit="shifted")
    found = gram(as_rows(features, "H"), shift=means, unit="shifted")
    reference.check(found)
    offset = found.column_sums / 2000
    covariance = found.gram / 2000 - np.tril(np.outer(offset, offset))
    rows = Pairs(features)
    centered = rows - rows.mean(axis=0)
    exact = centered.T @ centered / 2000.0
    tolerance = 2 * reference.gram.tolerance  # of the Gram and of the outer product of the sums
    deviations = np.abs(centered.astype(np.float64))
    arrays.Expected(exact, deviations.T @ deviations / 2000, tolerance).check_triangle(covariance, "covariance")


@every_isa
@pytest.mark.parametrize("distribution", ["cauchy", "lognormal", "columns of many sizes"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "torch.bfloat16"])
def test_heavy_tails(arrays: Any, set_threads: SetThreads, dtype: str, distribution: str) -> None:
    rng = np.random.default_rng(5)
    shape = (1000, PARTIAL_WIDTH)
    values = {
        "cauchy": lambda: rng.standard_cauchy(shape),
        "lognormal": lambda: rng.lognormal(sigma=5.0, size=shape),
        "columns of many sizes": lambda: rng.standard_normal(shape) * np.geomspace(1e-8, 1e8, PARTIAL_WIDTH),
    }[distribution]()
    features = arrays.store(values, dtype)
    reference = arrays.gram_reference(features, unit="raw")
    for threads in (1, 2):
        set_threads(threads)
        reference.check(gram(as_rows(features, "H"), unit="raw"))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_over_many_equal_rows_do_not_drift(arrays: Any, set_threads: SetThreads, dtype: str, threads: int) -> None:
    # Equal terms are all rounded to the same side.
    set_threads(threads)
    count, row = 1_000_000, arrays.store([[1.0, 2.0, 0.7]], dtype)
    features = as_rows(np.broadcast_to(row, (count, 3)), "H")
    sums = gram(features, unit="raw", targets=features)
    wide = arrays.exact_rows(row).astype(np.float64)
    rounds = {"float64": count, "float32": 0}[dtype]
    tolerance = arrays.arithmetic_of(row).epsilon * (5.0 + arrays.GRAM_BLOCK**0.5) + 2.0**-52 * rounds**0.5
    products = wide.T @ wide
    lengths = arrays.unit_rows(wide)
    arrays.Expected(products, products, tolerance).check_triangle(sums.gram / count, "Gram")
    arrays.Expected(products, products, tolerance).check(sums.cross / count, "cross moments")
    arrays.Expected(wide[0], wide[0], tolerance).check(sums.column_sums / count, "column sums")
    unit_products = lengths.T @ lengths
    arrays.Expected(unit_products, unit_products, tolerance).check_triangle(sums.unit_gram / count, "unit Gram")


# ---- the ends of the range ----


@every_isa
@pytest.mark.parametrize(
    ("dtype", "scale", "in_float64"),
    [
        ("float32", 1e25, True),
        ("float32", 1e-25, True),
        ("float32", 1e-42, True),  # subnormal
        ("float32", 1e11, False),
        ("float32", 1e-11, False),
        ("torch.bfloat16", 1e25, True),
        ("torch.bfloat16", 1e-39, True),  # subnormal
        ("float16", 1e-6, False),  # subnormal
        ("float64", 1e150, True),
        ("float64", 1e-150, True),
    ],
)
def test_rows_whose_squares_leave_the_range_of_float32(arrays: Any, dtype: str, scale: float, in_float64: bool) -> None:
    rng = np.random.default_rng(6)
    features = arrays.store(scale * (rng.standard_normal((300, 37)) + 0.5), dtype)
    targets = rng.standard_normal((300, 3))
    arguments = {"shift": np.full(37, scale / 2), "unit": "shifted"}
    sums = gram(as_rows(features, "H"), targets=as_rows(targets, "Y"), **arguments)
    assert sums.double_precision == in_float64
    arrays.gram_reference(features, targets=targets, double_precision=in_float64, **arguments).check(sums)


@every_isa
@pytest.mark.parametrize("largest", [1e19, 3e38])
def test_one_large_row_among_ordinary_ones(arrays: Any, largest: float) -> None:
    features = arrays.normal((600, PARTIAL_WIDTH), "float32", seed=0)
    features[300] *= np.float32(largest / 5.0)
    sums = gram(as_rows(features, "H"), unit="raw")
    assert sums.double_precision
    arrays.gram_reference(features, unit="raw", double_precision=True).check(sums)


@every_isa
def test_large_finite_values_are_not_taken_for_infinite_ones(arrays: Any) -> None:
    # Column sums of these overflow float32, which looks like an infinite value at first.
    features = np.full((600, PARTIAL_WIDTH), 3e38, dtype=np.float32)
    features[::3] *= -1.0
    sums = gram(as_rows(features, "H"), unit="raw")
    arrays.gram_reference(features, unit="raw", double_precision=True).check(sums)
    features[[401, 77], [PARTIAL_WIDTH - 1, 4]] = np.inf
    with pytest.raises(NonFiniteRowsError) as caught:
        gram(as_rows(features, "H"))
    assert (caught.value.count, caught.value.first) == (2, 77)


@every_isa
def test_large_float32_rows_without_the_plain_gram(arrays: Any) -> None:
    features = np.full((600, 5), 3e38, dtype=np.float32)
    reference = arrays.gram_reference(features, unit="raw", double_precision=True)
    sums = gram(as_rows(features, "H"), plain=False, unit="raw")
    reference._replace(unit_gram=arrays.gram_reference(features / 3e38, unit="raw").unit_gram).check(sums)


UNIT_SCALES = [
    ("float32", 1e-30),
    ("float32", 1e-32),
    ("float32", 1e30),
    ("float32", 1e-44),  # subnormal
    ("float32", 1e38),
    ("torch.bfloat16", 1e-30),
    ("torch.bfloat16", 1e38),
    ("torch.bfloat16", 1e-39),  # subnormal
    ("float16", 1e4),
    ("float16", 6e-7),  # subnormal
    ("float64", 1e-160),
    ("float64", 1e-200),
    ("float64", 1e200),
    ("float64", 1e-300),
    ("float64", 1e307),
]


@every_isa
@pytest.mark.parametrize("rule", ["raw", "shifted"])
@pytest.mark.parametrize(("dtype", "scale"), UNIT_SCALES)
def test_unit_rows_have_no_scale(arrays: Any, dtype: str, scale: float, rule: str) -> None:
    rng = np.random.default_rng(12)
    values = rng.uniform(-1.0, 1.0, (300, PARTIAL_WIDTH))
    values[::2] *= scale  # ordinary rows in the same block
    values[6] = 0.0
    features = arrays.store(values, dtype)
    shift = None
    if rule == "shifted":
        shift = rng.uniform(-0.25, 0.25, PARTIAL_WIDTH) * min(scale, 1.0)
        if scale < 1e-37:  # like the rows, so that it does not fall between the subnormal numbers of float32
            shift = arrays.reference_rows(arrays.store(shift, dtype))
    sums = gram(as_rows(features, "H"), shift=shift, plain=False, unit=rule)
    reference = unit_reference(arrays, features, shift)
    reference.check_triangle(sums.unit_gram, "unit Gram")
    assert sums.zero_rows == np.count_nonzero(~arrays.reference_rows(features).any(axis=1))


def unit_reference(arrays: Any, features: Any, shift: Any) -> Any:
    """The unit-row Gram alone: the other sums leave every range."""
    scaled = arrays.unit_rows(arrays.exact_rows(features) - (0.0 if shift is None else shift))
    scaled[~(abs(scaled) > 0.0)] = 0.0
    arithmetic, epsilon = arrays.arithmetic_of(features)
    plain = scaled.astype(arithmetic)
    magnitude = np.abs(scaled.astype(np.float64))
    rounding = epsilon * (5.0 + len(scaled) ** 0.5)
    return arrays.expected(scaled.T @ scaled, magnitude.T @ magnitude, plain.T @ plain, rounding)


@every_isa
@pytest.mark.parametrize("scale", [1e-310, 1e-320, 5e-324])
def test_unit_rows_of_subnormal_float64_rows(arrays: Any, scale: float) -> None:
    # These norms are subnormal themselves, and have fewer digits than the rows in them.
    features = scale * np.random.default_rng(0).integers(1, 4, (50, 9)).astype(np.float64)
    sums = gram(as_rows(features, "H"), plain=False, unit="raw")
    unit_reference(arrays, features, None).check_triangle(sums.unit_gram, "unit Gram")


@every_isa
def test_a_shift_between_subnormal_float32_numbers(arrays: Any) -> None:
    rng = np.random.default_rng(0)
    features = arrays.store(rng.uniform(-1e-43, 1e-43, (50, 9)), "float32")
    shift = rng.uniform(-1e-43, 1e-43, 9)
    sums = gram(as_rows(features, "H"), shift=shift, plain=False, unit="shifted")
    unit_reference(arrays, features, shift).check_triangle(sums.unit_gram, "unit Gram")


@every_isa
def test_unit_rows_whose_norm_overflows(arrays: Any) -> None:
    features = np.array([[1.5e308, -1.5e308, 1.5e308, 1.5e308], [1.0, 2.0, 3.0, 4.0]])
    sums = gram(as_rows(features, "H"), plain=False, unit="raw")
    unit_reference(arrays, features, None).check_triangle(sums.unit_gram, "unit Gram")


@every_isa
def test_rows_at_the_shift_and_zero_rows(arrays: Any, set_threads: SetThreads) -> None:
    for dtype in KINDS:
        values = np.random.default_rng(1).integers(-3, 4, (600, PARTIAL_WIDTH)).astype(np.float64)
        shift = np.arange(PARTIAL_WIDTH) / 4.0
        values[[0, 256, 599]] = 0.0
        values[[1, 300]] = -0.0
        values[[2, 400, 598]] = shift
        features = arrays.store(values, dtype)
        for threads in (1, 2):
            set_threads(threads)
            for unit in ("raw", "shifted"):
                sums = gram(as_rows(features, "H"), shift=shift, unit=unit)
                assert sums.zero_rows == 5
                arrays.gram_reference(features, shift=shift, unit=unit).check(sums, f"{dtype} {unit}")


@every_isa
def test_sums_of_subnormal_numbers_are_exact() -> None:
    features = np.random.default_rng(0).integers(-1000, 1000, (300, 37)) * 5e-324
    sums = gram(as_rows(features, "H"))
    np.testing.assert_array_equal(sums.column_sums, features.sum(axis=0))
    assert not sums.gram.any()


# ---- rows that are not finite ----


@every_isa
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", KINDS)
def test_one_value_that_is_not_finite(
    arrays: Any, set_threads: SetThreads, dtype: str, value: float, threads: int
) -> None:
    set_threads(threads)
    features = arrays.normal((600, PARTIAL_WIDTH), dtype, seed=0)
    rows = as_rows(features, "H")
    for row in (0, 255, 256, 311, 599):
        for column in (0, 23, 47, 48, PARTIAL_WIDTH - 1):
            kept = features[row, column].item()
            features[row, column] = value
            with pytest.raises(NonFiniteRowsError, match=f"H: 1 of 600 rows .* the first is row {row};") as caught:
                gram(rows)
            assert (caught.value.count, caught.value.first) == (1, row)
            features[row, column] = kept
    arrays.gram_reference(features).check(gram(rows))


@every_isa
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", KINDS)
def test_rows_that_are_not_finite_are_counted(arrays: Any, set_threads: SetThreads, dtype: str, threads: int) -> None:
    set_threads(threads)
    values = np.random.default_rng(0).standard_normal((900, PARTIAL_WIDTH))
    bad = np.array([3, 4, 255, 256, 500, 899])
    values[bad, bad % PARTIAL_WIDTH] = [np.inf, -np.inf, np.nan, np.inf, np.nan, -np.inf]
    values[[3, 4], 7] = [np.inf, -np.inf]  # their sum is no number
    values[4, 11] = np.nan
    values[10] = 0.0
    features = arrays.store(values, dtype)
    shift = np.ones(PARTIAL_WIDTH)
    targets = as_rows(np.ones((900, 2)), "Y")
    for arguments in ({}, {"shift": shift, "unit": "shifted"}, {"plain": False, "unit": "raw", "targets": targets}):
        with pytest.raises(NonFiniteRowsError) as caught:
            gram(as_rows(features, "features"), **arguments)
        assert (caught.value.count, caught.value.first) == (6, 3)
        assert str(caught.value).startswith("features: 6 of 900 rows hold NaN or infinite values")
    rows = as_rows(features, "H")
    apart = as_rows(arrays.store(values.T.copy(), dtype).T, "H")
    assert rows.array.strides[1] == rows.array.itemsize
    assert apart.array.strides[0] == apart.array.itemsize
    with pytest.raises(NonFiniteRowsError) as caught:
        gram(apart)
    assert (caught.value.count, caught.value.first) == (6, 3)


@every_isa
@pytest.mark.parametrize("dtype", KINDS)
def test_targets_that_are_not_finite_are_counted_with_their_rows(arrays: Any, dtype: str) -> None:
    features = np.random.default_rng(0).standard_normal((300, 5))
    targets = np.random.default_rng(1).standard_normal((300, 3))
    targets[[299, 280, 17], [2, 0, 1]] = [np.nan, np.inf, -np.inf]
    y = as_rows(arrays.store(targets, dtype), "Y")
    with pytest.raises(NonFiniteRowsError) as caught:
        gram(as_rows(features, "H"), targets=y)
    assert (caught.value.count, caught.value.first) == (3, 17)
    features[[280, 100], 2] = np.nan
    with pytest.raises(NonFiniteRowsError) as caught:
        gram(as_rows(features, "H"), targets=y)
    assert (caught.value.count, caught.value.first) == (4, 17)


# ---- determinism ----


@every_isa
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("dtype", KINDS)
def test_repeated_calls_give_the_same_bits(arrays: Any, set_threads: SetThreads, dtype: str, threads: int) -> None:
    set_threads(threads)
    features, arguments, reference = shifted_case(arrays, dtype, 3000, 65)
    first = gram(as_rows(features, "H"), unit="shifted", **arguments)
    reference.check(first)
    for _ in range(10):
        assert_same_bits(gram(as_rows(features, "H"), unit="shifted", **arguments), first)


# ---- laws ----

laws = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(0, 700)
widths = st.integers(1, 60)
dtypes = st.sampled_from(KINDS)


def random_rows(arrays: Any, seed: int, count: int, width: int, dtype: str) -> Any:
    rng = np.random.default_rng(seed)
    return arrays.store(rng.standard_normal((count, width)) * rng.lognormal(size=width), dtype)


@every_isa
@laws
@given(seed=seeds, count=counts, width=widths, dtype=dtypes)
def test_the_order_of_rows_does_not_matter(arrays: Any, seed: int, count: int, width: int, dtype: str) -> None:
    features = random_rows(arrays, seed, count, width, dtype)
    reference = arrays.gram_reference(features, unit="raw")
    order = np.random.default_rng(seed).permutation(count)
    reference.check(gram(as_rows(features, "H"), unit="raw"))
    reference.check(gram(as_rows(features[order], "H"), unit="raw"), "permuted")


@every_isa
@pytest.mark.parametrize(("seed", "count"), [(54492, 259), (26, 356)])
def test_sums_of_narrow_rows_are_no_long_chain(arrays: Any, seed: int, count: int) -> None:
    features = random_rows(arrays, seed, count, 1, "float16")
    shift = np.random.default_rng(seed).standard_normal(1)
    reference = arrays.gram_reference(features, shift=shift)
    reference.check(gram(as_rows(features, "H"), shift=shift))


@every_isa
@laws
@given(seed=seeds, count=counts, width=widths, dtype=dtypes, data=st.data())
def test_sums_of_parts_are_the_sums_of_all_rows(
    arrays: Any, seed: int, count: int, width: int, dtype: str, data: st.DataObject
) -> None:
    features = random_rows(arrays, seed, count, width, dtype)
    cut = data.draw(st.integers(0, count))
    shift = np.random.default_rng(seed).standard_normal(width)
    reference = arrays.gram_reference(features, shift=shift, unit="shifted")
    parts = [gram(as_rows(part, "H"), shift=shift, unit="shifted") for part in (features[:cut], features[cut:])]
    added = [first + second for first, second in zip(*map(fields, parts), strict=True)]
    rows, zero_rows = (sum(getattr(part, key) for part in parts) for key in ("rows", "zero_rows"))
    reference.check(GramSums(rows, *added, zero_rows, double_precision=False))


@every_isa
@laws
@given(seed=seeds, count=st.integers(1, 700), width=widths, power=st.integers(-30, 30))
def test_a_power_of_two_scales_exactly(arrays: Any, seed: int, count: int, width: int, power: int) -> None:
    for dtype in ("float64", "float32", "torch.bfloat16"):
        values = arrays.reference_rows(random_rows(arrays, seed, count, width, dtype))
        plain = gram(as_rows(arrays.store(values, dtype), "H"), unit="raw")
        arrays.gram_reference(arrays.store(values, dtype), unit="raw").check(plain)
        scaled = gram(as_rows(arrays.store(2.0**power * values, dtype), "H"), unit="raw")
        np.testing.assert_array_equal(scaled.gram, 4.0**power * plain.gram)
        np.testing.assert_array_equal(scaled.column_sums, 2.0**power * plain.column_sums)
        np.testing.assert_array_equal(scaled.unit_gram, plain.unit_gram)
