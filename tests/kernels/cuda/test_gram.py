"""The Gram pass of the CUDA kernels, on a card and on the emulated device, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gram_checks import unit_rows

DTYPES = ["float64", "float32", "float16", "bfloat16"]


def tolerance(dtype: str, precision: str, as_stored: bool = True) -> float:
    """Of an element, relative to the sum of the magnitudes of its products.

    A tensor core adds 16 products at a time and rounds toward zero, by a unit in the last place each time; sums are
    folded after 512 rows, of split products after 256. One product of rounded numbers is off by two roundings to
    8 bits.
    """
    ulp = 2.0**-23
    if dtype == "float64" or precision == "highest":
        return 2.0**-52 * 64
    if precision == "fast" and not (as_stored and dtype != "float32"):
        return 2.0**-7 + 2.0**-16 + 34 * ulp
    return 34 * ulp if as_stored and dtype != "float32" else 18 * ulp


def check(found: Any, exact: Any, magnitude: Any, limit: float, what: str) -> None:
    assert np.isfinite(found).all(), what
    error = np.abs(found - exact)
    assert (error <= limit * magnitude).all(), f"{what}: {np.max(error / np.where(magnitude > 0, magnitude, 1)):.2e}"


def check_gram(found: Any, rows: Any, limit: float, what: str) -> None:
    assert not np.triu(found, 1).any(), f"{what}: above the diagonal"
    check(found, np.tril(rows.T @ rows), np.abs(rows).T @ np.abs(rows), limit, what)


def values(n: int, d: int, mean: float = 0.0) -> Any:
    rows = np.random.default_rng(1000 * n + d).standard_normal((n, d)) + mean
    if n > 2:
        rows[2] = 0.0
    return rows


SHAPES = [(0, 3), (1, 1), (2, 7), (31, 16), (33, 31), (33, 33), (31, 64), (513, 7), (40, 65), (33, 129), (1100, 3)]


@pytest.mark.parametrize("precision", ["high", "highest", "fast"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_gram(backend: Any, cuda_core: Any, n: int, d: int, dtype: str, precision: str) -> None:
    rows = cuda_core.stored(values(n, d), dtype)
    sums = cuda_core.gram(backend, rows, precision=precision)
    check_gram(sums.gram, rows.values, tolerance(dtype, precision), "gram")
    check(sums.column_sums, rows.values.sum(axis=0), np.abs(rows.values).sum(axis=0), 2.0**-46, "column sums")
    assert sums.counts == (int(n > 2), 0, -1)


@pytest.mark.parametrize("unit", ["raw", "shifted"])
@pytest.mark.parametrize("precision", ["high", "highest", "fast"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shifted_rows_unit_rows_and_targets(
    backend: Any, cuda_core: Any, dtype: str, precision: str, unit: str
) -> None:
    n, d = 70, 33
    mean = 8.0 if dtype == "bfloat16" else 1000.0  # numbers near 1000 have no digits after the point in bfloat16
    rows = cuda_core.stored(values(n, d, mean), dtype)
    shift = np.full(d, mean) + np.linspace(0.0, 0.25, d)
    target_shift = np.linspace(-1.0, 2.0, 9)
    targets = cuda_core.stored(np.random.default_rng(5).standard_normal((n, 9)), "float32")
    sums = cuda_core.gram(
        backend, rows, shift=shift, unit=unit, targets=targets, target_shift=target_shift, precision=precision
    )
    shifted = rows.values - shift
    limit = tolerance(dtype, precision, as_stored=False)
    check_gram(sums.gram, shifted, limit, "gram")
    check_gram(sums.unit_gram, unit_rows(shifted if unit == "shifted" else rows.values), limit, "unit gram")
    check(sums.column_sums, shifted.sum(axis=0), np.abs(shifted).sum(axis=0), 2.0**-46, "column sums")
    left = targets.values - target_shift
    check(sums.cross, left.T @ shifted, np.abs(left).T @ np.abs(shifted), 2.0**-46, "cross moments")
    assert sums.counts == (1, 0, -1)


@pytest.mark.parametrize("layout", ["columns", "padded", "apart", "backward"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(backend: Any, cuda_core: Any, dtype: str, layout: str) -> None:
    for n, d in ((37, 16), (18, 67)):
        rows = cuda_core.stored(values(n, d), dtype, layout)
        targets = cuda_core.stored(values(n, 2), dtype, layout)
        sums = cuda_core.gram(backend, rows, unit="raw", targets=targets)
        check_gram(sums.gram, rows.values, tolerance(dtype, "high"), layout)
        check_gram(sums.unit_gram, unit_rows(rows.values), tolerance(dtype, "high", as_stored=False), layout)
        magnitude = np.abs(targets.values).T @ np.abs(rows.values)
        check(sums.cross, targets.values.T @ rows.values, magnitude, 2.0**-46, layout)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_many_times(backend: Any, cuda_core: Any, dtype: str) -> None:
    rows = cuda_core.stored(np.repeat(values(1, 8), 50, axis=0), dtype, "broadcast")
    check_gram(cuda_core.gram(backend, rows).gram, rows.values, tolerance(dtype, "high"), "row stride 0")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sums_of_many_rows_are_folded(backend: Any, cuda_core: Any, dtype: str) -> None:
    """Squares of one sign: without folding, rounding toward zero would bias them by much more."""
    rows = cuda_core.stored(np.abs(values(3000, 4)) + 0.5, dtype)
    sums = cuda_core.gram(backend, rows)
    check_gram(sums.gram, rows.values, tolerance(dtype, "high"), "3,000 rows")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_add_nothing(backend: Any, cuda_core: Any, dtype: str, bad: float) -> None:
    features = values(40, 9)
    features[[11, 30], [8, 0]] = bad
    targets = values(40, 3)
    targets[[11, 7], 1] = bad
    sums = cuda_core.gram(
        backend,
        cuda_core.stored(features, dtype),
        unit="raw",
        targets=cuda_core.stored(targets, dtype),
        start=3.0,
    )
    assert sums.counts == (1, 3, 7)
    for array in (sums.gram, sums.column_sums, sums.unit_gram, sums.cross):
        assert (array == 3.0).all()


def test_results_are_added(backend: Any, cuda_core: Any) -> None:
    rows = cuda_core.stored(values(20, 5), "float64")
    sums = cuda_core.gram(backend, rows, start=2.0)
    check(np.tril(sums.gram), np.tril(rows.values.T @ rows.values + 2.0), np.full((5, 5), 60.0), 2.0**-46, "sum")
    assert (np.triu(sums.gram, 1) == np.triu(np.full((5, 5), 2.0), 1)).all()


@pytest.mark.parametrize("exponent", [-1000, -600, 300, 1000])
def test_unit_rows_of_extreme_float64_rows(backend: Any, cuda_core: Any, exponent: int) -> None:
    plain = np.round(values(20, 5) * 64) / 64
    rows = cuda_core.stored(np.ldexp(plain, exponent), "float64")
    scaled = np.ldexp(rows.values, -exponent)
    sums = cuda_core.gram(backend, rows, unit="raw")
    # The plain Gram over- or underflows, as float64 does.
    check_gram(sums.unit_gram, unit_rows(scaled), 2.0**-46, "unit gram")


def test_workspace_that_is_too_small(backend: Any, cuda_core: Any) -> None:
    rows = cuda_core.stored(values(20, 5), "float32")
    with pytest.raises(ValueError, match=r"the workspace has \d+ bytes; \d+ are needed"):
        cuda_core.gram(backend, rows, workspace_change=-1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_planes_of_some_rows_at_a_time(backend: Any, cuda_core: Any, dtype: str) -> None:
    rows = cuda_core.stored(values(90, 21), dtype)
    sums = cuda_core.gram(backend, rows, unit="raw", rows_at_once=40)
    check_gram(sums.gram, rows.values, tolerance(dtype, "high"), "gram")
    check_gram(sums.unit_gram, unit_rows(rows.values), tolerance(dtype, "high", as_stored=False), "unit gram")


# ---- the emulated device only ----


@pytest.mark.parametrize("capability", [86, 90])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_small_squares_after_a_large_one_are_not_lost(
    emulated: Any, cuda_core: Any, dtype: str, capability: int
) -> None:
    """Beside 1, squares of 2^-26 vanish until the float32 sums are folded: at most those of 512 rows."""
    emulated.core.configure(multiprocessors=1, capability=capability)
    column = np.full((4800, 1), 2.0**-13)
    column[0] = 1.0
    found = cuda_core.gram(emulated, cuda_core.stored(column, dtype)).gram
    assert 1.0 + 4799 * 2.0**-26 - found[0, 0] <= 512 * 2.0**-26


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_in_every_order(emulated: Any, cuda_core: Any, dtype: str) -> None:
    rows = cuda_core.stored(values(150, 70), dtype)
    results = []
    for order, copies in (("forward", "late"), ("backward", "early"), ("shuffled", "early"), ("shuffled", "late")):
        emulated.core.configure(order=order, copies=copies, seed=7)
        sums = cuda_core.gram(emulated, rows, unit="raw")
        results.append(sums.gram.tobytes() + sums.unit_gram.tobytes() + sums.column_sums.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("multiprocessors", [1, 2, 5, 132])
@pytest.mark.parametrize("capability", [75, 80, 86, 90, 120])
def test_every_card(emulated: Any, cuda_core: Any, capability: int, multiprocessors: int) -> None:
    emulated.core.configure(capability=capability, multiprocessors=multiprocessors)
    for dtype, n, d in (("float64", 40, 10), ("float32", 70, 70), ("float16", 70, 130), ("bfloat16", 70, 20)):
        if multiprocessors == 132 and d > 70:
            continue
        rows = cuda_core.stored(values(n, d), dtype)
        check_gram(cuda_core.gram(emulated, rows).gram, rows.values, tolerance(dtype, "high"), f"{dtype} {n} x {d}")


def test_reads_of_matrices_are_free_of_conflicts(emulated: Any, cuda_core: Any) -> None:
    for dtype, d in (("bfloat16", 40), ("float32", 40), ("bfloat16", 130), ("float32", 130)):
        emulated.core.configure()
        cuda_core.gram(emulated, cuda_core.stored(values(40, d), dtype))
        assert emulated.core.matrix_reads() > 0
        assert emulated.core.matrix_passes() == emulated.core.matrix_reads()


FAULTS = {
    "not_transposed": ["bfloat16", "float32"],
    "operands_swapped": ["bfloat16", "float32"],
    "accumulators_swapped": ["bfloat16", "float32", "float64"],
    "wait_too_short": ["bfloat16", "float32"],
    "no_barrier": ["bfloat16", "float32", "float64"],
}


@pytest.mark.parametrize(("fault", "dtype"), [(fault, dtype) for fault, dtypes in FAULTS.items() for dtype in dtypes])
def test_a_fault_of_the_machine_is_seen(emulated: Any, cuda_core: Any, fault: str, dtype: str) -> None:
    """Wrong maps of fragments and missing waits must not pass the comparison with float64."""
    rows = cuda_core.stored(values(200, 40), dtype)
    emulated.core.configure(fault=fault, order="shuffled", seed=3)
    found = cuda_core.gram(emulated, rows).gram
    with pytest.raises(AssertionError):
        check_gram(found, rows.values, tolerance(dtype, "high"), fault)
