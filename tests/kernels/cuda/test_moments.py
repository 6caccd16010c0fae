"""Float64 sums of the CUDA kernels, on the emulated device: all moments of few columns in one read, tiles of many
columns, and workers with several segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

EPSILON = 2.0**-52
DTYPES = ["float64", "float32", "float16", "bfloat16"]
# Positions of DeviceTotals in csrc/cuda/machine/rows.h.
TOTALS = {"rows": 0, "zero": 1, "skipped": 2, "batches": 3, "added": 4, "exponent": 6, "target_exponent": 7}
REFUSED, REFUSED_NONFINITE, REFUSED_FIRST = 8, 11, 12


@dataclass
class Moments:
    gram: Any
    unit_gram: Any
    column_sums: Any
    cross: Any
    target_gram: Any
    target_sums: Any
    totals: Any


def moments(
    emulated: Any, cuda_core: Any, rows: Any, targets: Any, shift: Any, target_shift: Any, *, skips: bool = False
) -> Moments:
    """One pass for all sums, in the highest precision, with totals."""
    d, n = rows.values.shape[1], targets.values.shape[1]
    placed, placed_targets = (cuda_core.place_rows(emulated, matrix) for matrix in (rows, targets))
    arrays = [np.zeros(shape) for shape in ((d, d), (d, d), (d,), (n, d), (n, n), (n,))]
    totals = np.zeros(emulated.core.total_values, dtype=np.int64)
    names = ("gram", "unit_gram", "column_sums", "cross", "target_gram", "target_sums")
    request = emulated.core.GramRequest(
        placed.matrix,
        **{name: emulated.address(array) for name, array in zip(names, arrays, strict=True)},
        shift=emulated.address(shift),
        unit_rows_are_shifted=True,
        targets=placed_targets.matrix,
        target_shift=emulated.address(target_shift),
        precision=cuda_core.PRECISIONS["highest"],
        totals=emulated.address(totals),
        skips_nonfinite=skips,
    )
    size = emulated.core.gram_workspace(request, 0)
    memory, address = emulated.workspace(size)
    emulated.core.gram(request, workspace=address, workspace_bytes=size, device=0, stream=0)
    del memory
    return Moments(**dict(zip(names, arrays, strict=True)), totals=totals)


def close(found: Any, left: Any, right: Any, what: str) -> None:
    """`found` is the product of columns, but for roundings: one for the shift of each factor, and those of the sum."""
    error = np.abs(found - left.T @ right)
    assert (error <= 64 * EPSILON * (np.abs(left).T @ np.abs(right))).all(), what


def check_moments(found: Moments, X: Any, Y: Any) -> None:
    ones = np.ones((len(X), 1))
    close(found.gram + np.tril(found.gram, -1).T, X, X, "gram")
    close(found.column_sums[None], ones, X, "column sums")
    close(found.cross, Y, X, "cross moments")
    close(found.target_gram + np.tril(found.target_gram, -1).T, Y, Y, "gram of the targets")
    close(found.target_sums[None], ones, Y, "sums of the targets")
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    U = np.divide(X, norms, out=np.zeros_like(X), where=norms > 0)
    close(found.unit_gram + np.tril(found.unit_gram, -1).T, U, U, "unit gram")


def draw(n: int, d: int, targets: int) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(100 * d + targets)
    H = rng.standard_normal((n, d)) + 0.5
    Y = rng.standard_normal((n, targets)) - 2.0
    # Numbers of few digits: the shifts are exact in every type.
    return H, Y, np.linspace(0.0, 1.0, d).round(1), np.full(targets, -2.0)


# Columns around strips of 16 and 64, targets up to and beyond those that one read takes along.
SHAPES = [(1, 1), (16, 0), (17, 3), (40, 7), (64, 7), (64, 8), (65, 2), (96, 0), (128, 7), (128, 8), (130, 1)]
SHAPES += [(129, 0), (192, 7), (257, 3), (330, 8)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "targets"), SHAPES)
def test_all_sums(emulated: Any, cuda_core: Any, d: int, targets: int, dtype: str) -> None:
    H, Y, shift, target_shift = draw(301, d, targets)
    H[[7, 48, 300]] = 0.0
    rows, labels = cuda_core.stored(H, dtype), cuda_core.stored(Y, DTYPES[(DTYPES.index(dtype) + 1) % 4], "padded")
    found = moments(emulated, cuda_core, rows, labels, shift, target_shift)
    X, shifted = rows.values - shift, labels.values - target_shift
    check_moments(found, X, shifted)
    exponents = [1022 + int(np.frexp(np.abs(values).max(initial=0.0))[1]) for values in (X, shifted)]
    expected = {"rows": 301, "zero": 3, "skipped": 0, "batches": 1, "added": 1, "exponent": exponents[0]}
    expected["target_exponent"] = exponents[1] if targets else 0
    assert {name: int(found.totals[place]) for name, place in TOTALS.items()} == expected


@pytest.mark.parametrize("layout", ["rows", "padded", "columns", "apart", "backward"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(emulated: Any, cuda_core: Any, dtype: str, layout: str) -> None:
    """Copies of 16 bytes, of one element, of one element down the columns, and through registers."""
    for d in (24, 72, 134):
        H, Y, shift, target_shift = draw(90, d, 2)
        rows, labels = cuda_core.stored(H, dtype, layout), cuda_core.stored(Y, dtype, layout)
        found = moments(emulated, cuda_core, rows, labels, shift, target_shift)
        check_moments(found, rows.values - shift, labels.values - target_shift)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("d", [20, 64, 70, 140])
def test_rows_that_are_not_finite(emulated: Any, cuda_core: Any, d: int, skips: bool) -> None:
    H, Y, shift, target_shift = draw(200, d, 3)
    H[[13, 77], [d - 1, 0]] = np.inf, np.nan
    Y[[5, 77], [2, 1]] = np.nan, -np.inf
    rows, labels = cuda_core.stored(H, "float64"), cuda_core.stored(Y, "float32")
    found = moments(emulated, cuda_core, rows, labels, shift, target_shift, skips=skips)
    good = np.setdiff1d(np.arange(200), [5, 13, 77])
    if skips:
        check_moments(found, rows.values[good] - shift, labels.values[good] - target_shift)
        assert [found.totals[TOTALS[name]] for name in ("rows", "skipped")] == [197, 3]
        return
    for name in ("gram", "unit_gram", "column_sums", "cross", "target_gram", "target_sums"):
        assert not getattr(found, name).any(), name
    assert [found.totals[place] for place in (REFUSED, REFUSED_NONFINITE, REFUSED_FIRST)] == [1, 3, 5]


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4), ("bfloat16", 2)])
def test_few_columns_are_read_once(emulated: Any, cuda_core: Any, dtype: str, size: int) -> None:
    rows = cuda_core.stored(np.random.default_rng(0).standard_normal((500, 32)), dtype)
    cuda_core.gram(emulated, rows, precision="highest")
    assert emulated.core.copied_bytes() == 500 * 32 * size
    assert emulated.core.launches() == 2  # the sums, and their slabs added up


@pytest.mark.parametrize("targets", [0, 3])
# The second number: columns that the items of the plan copy, those on the left and those on the right. The third: items
# that see their columns once, for which targets are copied.
@pytest.mark.parametrize(("d", "copied", "panels"), [(72, 72, 1), (128, 128, 1), (200, 128 + 2 * (72 + 64) + 72, 2)])
@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4), ("bfloat16", 2)])
@pytest.mark.parametrize(("nonfinite", "bad"), [("count", []), ("skip", []), ("skip", [299]), ("skip", [31, 32, 150])])
def test_wide_rows_are_read_once(
    emulated: Any,
    cuda_core: Any,
    dtype: str,
    size: int,
    d: int,
    copied: int,
    panels: int,
    targets: int,
    nonfinite: str,
    bad: list[int],
) -> None:
    """By each item, with sums, products with few targets, and counts, and again where a row is left out."""
    H, Y, shift, _ = draw(300, d, targets)
    H[bad, ::9] = np.nan
    rows, labels = cuda_core.stored(H, dtype), cuda_core.stored(Y, "float32") if targets else None
    sums = cuda_core.gram(emulated, rows, targets=labels, shift=shift, precision="highest", nonfinite=nonfinite)
    reads = 2 if bad else 1
    assert emulated.core.copied_bytes() == reads * 300 * (copied * size + panels * targets * 4)
    # Targets are looked at before, those of rows that are added again where rows are left out. Eight numbers are loaded
    # at once, those beyond the last column from the first.
    looks = 300 if nonfinite == "count" else 2 * 300 - len(bad)
    assert emulated.core.loaded_bytes() == looks * targets * 4 * 8
    X = np.delete(rows.values - shift, bad, axis=0)
    close(sums.gram + np.tril(sums.gram, -1).T, X, X, "gram")
    close(sums.column_sums[None], np.ones((len(X), 1)), X, "column sums")
    if labels is not None:
        close(sums.cross, np.delete(labels.values, bad, axis=0), X, "cross moments")


@pytest.mark.parametrize("d", [72, 200])
def test_norms_take_one_read_more_where_rows_may_be_left_out(emulated: Any, cuda_core: Any, d: int) -> None:
    """A look at the rows and a read for each Gram matrix, one more of the first where a row is left out."""
    H, _, _, _ = draw(300, d, 0)
    copied = []
    for bad in ([], [77, 130]):
        H[bad, d // 2] = np.inf
        emulated.core.configure()
        sums = cuda_core.gram(emulated, cuda_core.stored(H, "float64"), unit="raw", nonfinite="skip")
        copied.append(emulated.core.copied_bytes())
        assert emulated.core.loaded_bytes() == 300 * 256 * 8  # eight numbers of each lane
        X = np.delete(H, bad, axis=0)
        U = X / np.linalg.norm(X, axis=1, keepdims=True)
        close(sums.gram + np.tril(sums.gram, -1).T, X, X, "gram")
        close(sums.column_sums[None], np.ones((len(X), 1)), X, "column sums")
        close(sums.unit_gram + np.tril(sums.unit_gram, -1).T, U, U, "unit gram")
        assert [sums.totals[TOTALS[name]] for name in ("rows", "skipped")] == [300 - len(bad), len(bad)]
    emulated.core.configure()
    cuda_core.gram(emulated, cuda_core.stored(draw(300, d, 0)[0], "float64"))
    assert copied[1] - copied[0] == emulated.core.copied_bytes()


# ---- rows that are left out of float64 sums of many columns ----


@pytest.mark.parametrize("targets", [0, 3, 8])
@pytest.mark.parametrize("d", [70, 128, 250])
@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_rows_are_left_out_wherever_they_are(
    emulated: Any, cuda_core: Any, dtype: str, d: int, targets: int
) -> None:
    """Bad by themselves or by their targets, beside zeros, in words of the masks that workers and panels share."""
    n, zeros = 333, [0, 16, 47, 143, 200, 332]
    H, Y, shift, target_shift = draw(n, d, targets)
    H[zeros] = 0.0
    by_rows, by_targets = [15, 17, 64, 79, 80, 144, 331], [16, 31, 143] if targets else []
    for place, row in enumerate(by_rows):
        H[row, [0, d - 1, 63, 64, 50, 1, 2][place]] = [np.nan, np.inf, -np.inf][place % 3]
    Y[by_targets, targets - 1 :] = np.nan
    good = np.setdiff1d(np.arange(n), by_rows + by_targets)
    rows, labels = cuda_core.stored(H, dtype), cuda_core.stored(Y, "float32")
    emulated.core.configure(multiprocessors=2, order="shuffled", copies="early", seed=d)
    zero = len(np.intersect1d(good, zeros))
    for own in (shift, np.zeros(d), None):
        given = {"targets": labels if targets else None, "target_shift": target_shift, "shift": own}
        sums = cuda_core.gram(emulated, rows, **given, precision="highest", nonfinite="skip")
        X = rows.values[good] - (0.0 if own is None else own)
        close(sums.gram + np.tril(sums.gram, -1).T, X, X, "gram")
        close(sums.column_sums[None], np.ones((len(X), 1)), X, "column sums")
        close(sums.cross, labels.values[good] - target_shift, X, "cross moments")
        expected = {"rows": len(good), "zero": zero, "skipped": n - len(good), "batches": 1, "added": 1}
        expected["exponent"] = 1022 + int(np.frexp(np.abs(X).max())[1])
        if targets:
            expected["target_exponent"] = 1022 + int(np.frexp(np.abs(labels.values[good] - target_shift).max())[1])
        assert {name: int(sums.totals[place]) for name, place in TOTALS.items() if name in expected} == expected
        assert sums.totals[REFUSED] == 0


@pytest.mark.parametrize("d", [70, 140])
def test_only_rows_that_are_added_can_leave_the_range(emulated: Any, cuda_core: Any, d: int) -> None:
    """Numbers and targets of rows that are left out are of no matter; those of others refuse the batch."""
    H, Y, shift, target_shift = draw(100, d, 2)
    H[[3, 40]] = 1e200
    H[40, 7] = np.nan
    Y[3, 1], Y[40, 0] = np.inf, 1e200

    def left_of(H: Any, Y: Any) -> Moments:
        rows, labels = cuda_core.stored(H, "float64"), cuda_core.stored(Y, "float64")
        return moments(emulated, cuda_core, rows, labels, shift, target_shift, skips=True)

    good = np.setdiff1d(np.arange(100), [3, 40])
    found = left_of(H, Y)
    check_moments(found, H[good] - shift, Y[good] - target_shift)
    assert [found.totals[TOTALS[name]] for name in ("rows", "skipped", "added")] == [98, 2, 1]
    for of_targets in (False, True):
        wide, wide_targets = H.copy(), Y.copy()
        (wide_targets if of_targets else wide)[50, 1] = 1e200
        found = left_of(wide, wide_targets)
        assert not any(getattr(found, name).any() for name in ("gram", "unit_gram", "column_sums", "cross"))
        assert [found.totals[place] for place in (REFUSED, REFUSED_NONFINITE)] == [1, 0]
        assert found.totals[TOTALS["rows"]] == 0


@pytest.mark.parametrize("unit", [None, "raw"])
@pytest.mark.parametrize("d", [70, 140])
def test_all_rows_may_be_left_out(emulated: Any, cuda_core: Any, d: int, unit: str | None) -> None:
    rows = cuda_core.stored(np.full((50, d), np.nan), "float64")
    labels = cuda_core.stored(np.ones((50, 2)), "float64")
    sums = cuda_core.gram(emulated, rows, targets=labels, unit=unit, nonfinite="skip", start=2.0)
    assert all((array == 2.0).all() for array in (sums.gram, sums.column_sums, sums.cross, sums.unit_gram))
    expected = dict.fromkeys(TOTALS, 0) | {"skipped": 50, "batches": 1}
    assert {name: int(sums.totals[place]) for name, place in TOTALS.items()} == expected


@pytest.mark.parametrize("d", [70, 140])
def test_sums_are_the_same_whether_rows_may_be_left_out(emulated: Any, cuda_core: Any, d: int) -> None:
    H, Y, shift, _ = draw(200, d, 2)
    given = {"targets": cuda_core.stored(Y, "float64"), "shift": shift}
    results = []
    for nonfinite in ("refuse", "skip"):
        sums = cuda_core.gram(emulated, cuda_core.stored(H, "float64"), **given, nonfinite=nonfinite)
        results.append(b"".join(array.tobytes() for array in (sums.gram, sums.column_sums, sums.cross, sums.totals)))
    assert results[0] == results[1]


@pytest.mark.parametrize("d", [100, 250])
@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_rows_are_found_wherever_they_are(emulated: Any, cuda_core: Any, dtype: str, d: int) -> None:
    """Zeros of either sign and numbers that are not finite, in words of the masks that workers and panels share."""
    H, _, _, _ = draw(333, d, 0)
    zeros, bad = [0, 31, 32, 79, 80, 200, 332], [15, 64, 143, 144, 331]
    H[zeros] = 0.0
    H[zeros[::2], ::3] = -0.0
    H[zeros[0] + 1, 1:] = 0.0
    emulated.core.configure(multiprocessors=2)
    counts = cuda_core.gram(emulated, cuda_core.stored(H, dtype), precision="highest").counts
    assert counts == (len(zeros), 0, -1)
    for place, row in enumerate(bad):
        H[row, [0, d - 1, 63, 64, 50][place]] = [np.nan, np.inf, -np.inf][place % 3]
    sums = cuda_core.gram(emulated, cuda_core.stored(H, dtype), precision="highest", start=2.0)
    assert sums.counts == (len(zeros), len(bad), bad[0])
    assert all((array == 2.0).all() for array in (sums.gram, sums.column_sums))


@pytest.mark.parametrize("columns", [3, 64])
@pytest.mark.parametrize("capability", [80, 90])
def test_few_rows_have_few_workers(emulated: Any, cuda_core: Any, capability: int, columns: int) -> None:
    """One slab for each 128 rows, until every block that runs at once has one."""
    emulated.core.configure(multiprocessors=132, capability=capability)

    def slabs(rows: int) -> float:
        matrix = emulated.core.Matrix(0, rows, columns, columns, 1, cuda_core.CODES["float64"])
        request = emulated.core.GramRequest(matrix, gram=256, counts=256)
        return int(emulated.core.gram_workspace(request, 0)) / (46 * 64 * 8)

    assert [slabs(rows) for rows in (1, 128, 129, 5000)] == [1.0, 1.0, 2.0, 40.0]
    assert slabs(10**9) == 2 * 132


# Nine tiles of 128 columns, ten of 64. An odd number of blocks leaves the last one where the next segment begins.
@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
@pytest.mark.parametrize("n", [40, 90, 600])
@pytest.mark.parametrize(
    ("dtype", "capability", "d"), [("float64", 90, 300), ("float64", 75, 200), ("float32", 86, 200)]
)
def test_workers_with_several_segments(
    emulated: Any, cuda_core: Any, dtype: str, capability: int, d: int, n: int, order: str
) -> None:
    emulated.core.configure(multiprocessors=1, capability=capability, order=order, copies="early", seed=5)
    rows = cuda_core.stored(np.random.default_rng(n).standard_normal((n, d)), dtype)
    found = cuda_core.gram(emulated, rows).gram
    exact = np.tril(rows.values.T @ rows.values)
    limit = 64 * EPSILON if dtype == "float64" else 18 * 2.0**-23
    assert (np.abs(found - exact) <= limit * (np.abs(rows.values).T @ np.abs(rows.values))).all()


@pytest.mark.parametrize("d", [40, 64, 150])
def test_same_bits_in_every_order(emulated: Any, cuda_core: Any, d: int) -> None:
    H, Y, shift, target_shift = draw(700, d, 2)
    rows, labels = cuda_core.stored(H, "float32"), cuda_core.stored(Y, "float64")
    results = set()
    for order, copies in (("forward", "late"), ("backward", "early"), ("shuffled", "late")):
        emulated.core.configure(order=order, copies=copies, seed=11, multiprocessors=2)
        found = moments(emulated, cuda_core, rows, labels, shift, target_shift)
        results.add(b"".join(getattr(found, name).tobytes() for name in found.__dataclass_fields__))
    assert len(results) == 1


def test_sums_of_many_wide_rows_are_folded(emulated: Any, cuda_core: Any) -> None:
    """A large number comes before a fold and its negative behind the next one: those between them are not lost."""
    n, d = 2 * 512 + 1, 130
    H, Y = np.zeros((n, d)), np.ones((n, 1))
    H[0], H[512:1024], H[1024] = 2.0**60, 1.0, -(2.0**60)
    emulated.core.configure(multiprocessors=1)
    rows, labels = cuda_core.stored(H, "float64"), cuda_core.stored(Y, "float64")
    sums = cuda_core.gram(emulated, rows, targets=labels, nonfinite="refuse")
    assert (sums.column_sums == 512.0).all()
    assert (sums.cross == 512.0).all()


@pytest.mark.parametrize("fault", ["wait_too_short", "no_barrier", "accumulators_swapped"])
@pytest.mark.parametrize("d", [64, 150])
def test_a_fault_of_the_machine_is_seen(emulated: Any, cuda_core: Any, d: int, fault: str) -> None:
    emulated.core.configure(fault=fault, order="shuffled", seed=3)
    rows = cuda_core.stored(np.random.default_rng(1).standard_normal((300, d)), "float64")
    found = cuda_core.gram(emulated, rows).gram
    exact = np.tril(rows.values.T @ rows.values)
    assert not (np.abs(found - exact) <= 64 * EPSILON * (np.abs(rows.values).T @ np.abs(rows.values))).all()
