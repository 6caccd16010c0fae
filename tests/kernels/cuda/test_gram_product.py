"""Products of rows with a block of vectors by the CUDA kernels, in every way in which these share the work.

Rows are read once, and stay in shared memory for both products, or twice where a block has no room for that: the same
tests hold for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import products

DTYPES = ["float64", "float32", "float16", "bfloat16"]
# With and without tensor cores for float64.
CAPABILITIES = [90, 75]
# Rows whose coefficients are in memory at once, which are then read twice; 0: as the kernels choose.
READS = {"one read": 0, "two reads": 1 << 20}


@pytest.fixture
def emulated(cuda_core: Any) -> Any:
    return cuda_core.Emulation()


@pytest.fixture(params=READS)
def rows_at_once(request: pytest.FixtureRequest) -> int:
    return READS[request.param]


def values(n: int, d: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + 100 * n + d).standard_normal((n, d))


def check(backend: Any, cuda_core: Any, rows: Any, vectors: Any, shift: Any, **options: Any) -> Any:
    """One product, with at most twice the error of numpy's against pairs of float64."""
    (image, column_sums, energy), counts = cuda_core.gram_product(backend, rows, vectors, shift, **options)
    expected = products.reference(rows.values, vectors, shift)
    expected.image.check(image, "image")
    expected.column_sums.check(column_sums, "sums")
    expected.energy.check(energy.reshape(1, 1), "energy")
    assert counts == (int((rows.values == 0.0).all(axis=1).sum()), 0, -1)
    return image, column_sums, energy


# Vectors are multiplied in tiles of 8, one, two or four at once, and in groups of 32.
@pytest.mark.parametrize("count", [0, 1, 8, 9, 16, 17, 32, 33, 41])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_vectors(backend: Any, cuda_core: Any, dtype: str, count: int, rows_at_once: int) -> None:
    rows = cuda_core.stored(values(37, 72), dtype)
    shift = np.linspace(-1.0, 1.0, 72)
    check(backend, cuda_core, rows, values(count, 72, seed=1), shift, rows_at_once=rows_at_once)


# Pieces of 16 bytes where the address, the rows and their number of columns allow it, single values elsewhere.
@pytest.mark.parametrize("layout", ["rows", "padded", "columns", "apart", "backward"])
@pytest.mark.parametrize("width", [1, 7, 8, 31, 32, 33, 64, 65, 200, 264])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_width_and_layout(
    backend: Any, cuda_core: Any, dtype: str, width: int, layout: str, rows_at_once: int
) -> None:
    rows = cuda_core.stored(values(21, width) + 1.0, dtype, layout)
    check(backend, cuda_core, rows, values(10, width, seed=1), np.full(width, 0.9), rows_at_once=rows_at_once)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("count", [1, 3, 4, 5, 63, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_every_number_of_rows(
    emulated: Any, cuda_core: Any, dtype: str, count: int, capability: int, rows_at_once: int
) -> None:
    emulated.core.configure(capability=capability)
    features = values(count, 40)
    features[count // 2] = 0.0
    rows, vectors = cuda_core.stored(features, dtype), values(5, 40, seed=1)
    check(emulated, cuda_core, rows, vectors, np.zeros(40), rows_at_once=rows_at_once)


def test_lanes_add_what_tensor_cores_add(emulated: Any, cuda_core: Any) -> None:
    """Whole numbers, of which no order of adding loses any."""
    rng = np.random.default_rng(0)
    rows = cuda_core.stored(rng.integers(-8, 9, (150, 90)), "float16")
    vectors, shift = rng.integers(-8, 9, (18, 90)).astype(float), rng.integers(-8, 9, 90).astype(float)
    x = rows.values - shift
    for capability in CAPABILITIES:
        for rows_at_once in (0, 47):
            emulated.core.configure(capability=capability, order="shuffled", seed=capability)
            (image, sums, energy), _ = cuda_core.gram_product(
                emulated, rows, vectors, shift, start=2.0, rows_at_once=rows_at_once
            )
            np.testing.assert_array_equal(image, (vectors @ x.T) @ x + 2.0)
            np.testing.assert_array_equal(sums, x.sum(axis=0) + 2.0)
            assert energy == np.sum(x * x) + 2.0


def test_thousands_of_features(backend: Any, cuda_core: Any) -> None:
    """Few wide rows are shared out by their columns, too."""
    vectors, shift = values(10, 3000, seed=1), np.full(3000, 0.5)
    for dtype in ("bfloat16", "float32"):
        check(backend, cuda_core, cuda_core.stored(values(70, 3000) + 0.5, dtype), vectors, shift)


@pytest.mark.parametrize("multiprocessors", [1, 3, 40])
def test_any_number_of_multiprocessors(emulated: Any, cuda_core: Any, multiprocessors: int) -> None:
    rows = cuda_core.stored(values(700, 264), "bfloat16")
    vectors, shift = values(3, 264, seed=1), np.full(264, 0.25)
    for rows_at_once in (0, 600):
        emulated.core.configure(multiprocessors=multiprocessors)
        first = check(emulated, cuda_core, rows, vectors, shift, rows_at_once=rows_at_once)
        emulated.core.configure(multiprocessors=multiprocessors, order="shuffled", seed=5)
        again = cuda_core.gram_product(emulated, rows, vectors, shift, rows_at_once=rows_at_once)[0]
        assert [part.tobytes() for part in first] == [part.tobytes() for part in again]


@pytest.mark.parametrize("mean", [1e3, 1e8])
def test_large_means_and_heavy_tails(backend: Any, cuda_core: Any, mean: float) -> None:
    features = np.random.default_rng(3).standard_cauchy((300, 66)) ** 3 + mean
    check(backend, cuda_core, cuda_core.stored(features, "float64"), values(9, 66), np.full(66, mean))


def test_rows_near_few_directions_keep_what_is_left(backend: Any, cuda_core: Any) -> None:
    """Collapse to 1e-14: the image of directions without variance is as small as the rows say, about a mean of 1e4."""
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.standard_normal((48, 5)))[0].T
    features = np.full(48, 1e4) + rng.standard_normal((400, 2)) @ basis[:2] * 1e4
    rows = cuda_core.stored(features, "float64")
    shift = rows.values.mean(axis=0)
    (image, _, energy), _ = cuda_core.gram_product(backend, rows, basis, shift)
    x = rows.values - shift
    # What rounding of the rows themselves, to 2^-40, has left outside.
    assert np.abs(image[2:] - (basis[2:] @ x.T) @ x).max() <= 1e-15 * energy[0]
    assert np.abs(image[2:]).max() <= 1e-14 * energy[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_counted_and_add_nothing(
    backend: Any, cuda_core: Any, value: float, dtype: str
) -> None:
    features = values(300, 70)
    features[[41, 299], 69] = value
    features[7] = 0.0
    rows = cuda_core.stored(features, dtype)
    for vectors in (values(3, 70), values(40, 70)):
        for rows_at_once in (0, 130):
            results, counts = cuda_core.gram_product(
                backend, rows, vectors, np.full(70, 0.5), start=3.0, rows_at_once=rows_at_once
            )
            assert counts == (1, 2, 41)
            assert all((part == 3.0).all() for part in results)


def test_launches_do_not_grow_with_the_rows(emulated: Any, cuda_core: Any) -> None:
    vectors, shift = values(10, 24), np.zeros(24)
    found = []
    for n in (10, 1000):
        for rows_at_once in READS.values():
            rows = cuda_core.stored(values(n, 24), "float32")
            before = emulated.core.launches()
            cuda_core.gram_product(emulated, rows, vectors, shift, rows_at_once=rows_at_once)
            found.append(emulated.core.launches() - before)
    # Shift, vectors; rows; what is added up. Or for rows coefficients, their parts, the energy, the image.
    assert found == [4, 7, 4, 7]


# Warps for other columns, vectors and rows: their numbers, what is left of them, and where one read ends.
@pytest.mark.parametrize("count", [1, 5, 8, 16, 17])
@pytest.mark.parametrize("width", [1, 7, 33, 130, 257, 1000, 1024, 1025])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_read_of_every_width(emulated: Any, cuda_core: Any, dtype: str, width: int, count: int) -> None:
    emulated.core.configure(multiprocessors=2, keeps_records=True)
    shift = None if count == 5 else np.linspace(-1.0, 1.0, width)
    rows = cuda_core.stored(values(19, width), dtype, "padded" if count == 8 else "rows")
    check(emulated, cuda_core, rows, values(count, width, seed=1), np.zeros(width) if shift is None else shift)
    is_read_once = "resident_product" in {name for name, *_ in emulated.core.launched()}
    assert is_read_once == (-(-width // 64) * -(-count // 8) <= 16)


@pytest.mark.parametrize("rows", [0, 1, 5, 40, 300])
@pytest.mark.parametrize(("width", "count"), [(40, 3), (130, 17), (1024, 8)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stages_of_several_blocks(emulated: Any, cuda_core: Any, dtype: str, width: int, count: int, rows: int) -> None:
    """Without any row, with less than a stage, with a ring that goes around."""
    emulated.core.configure(multiprocessors=2)
    stored = cuda_core.stored(values(rows, width) + 2.0, dtype)
    check(emulated, cuda_core, stored, values(count, width, seed=1), np.full(width, 1.75))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_sums_of_many_rows_are_folded(emulated: Any, cuda_core: Any, dtype: str) -> None:
    """Accumulators go to memory every 512 rows of a warp, warps with other rows one after the other."""
    for width, rows, multiprocessors in ((200, 1200, 1), (10, 9000, 1), (70, 3000, 2)):
        emulated.core.configure(multiprocessors=multiprocessors)
        check(emulated, cuda_core, cuda_core.stored(values(rows, width), dtype), values(3, width), np.zeros(width))


# Rows of a warp between two folds: fold_rows in csrc/cuda/gram/resident_product.cu.
FOLD = 512


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_small_numbers_between_large_ones_that_cancel(emulated: Any, cuda_core: Any, dtype: str) -> None:
    """A large number comes before a fold and its negative behind the next one: in one chain the small ones between them
    would leave no trace beside it. All sums are whole numbers, which folds keep."""
    large, small = 2.0**30, 2.0
    rows = np.zeros((2 * FOLD + 1, 1000))  # sixteen warps have all columns and the vectors, and the same rows
    rows[0, :3] = [large, large, large**2]
    rows[FOLD : 2 * FOLD, :3] = small
    rows[2 * FOLD, :3] = [large, -large, -(large**2)]
    emulated.core.configure(multiprocessors=1, keeps_records=True)
    for columns in (2, 3):
        stored = cuda_core.stored(rows * (np.arange(1000) < columns), dtype)
        vectors = np.eye(8, 1000)
        (image, sums, energy), _ = cuda_core.gram_product(emulated, stored, vectors, np.zeros(1000))
        assert image[0, 1] == FOLD * small**2
        assert (sums[1:columns] == FOLD * small).all()
        if columns == 2:
            assert energy[0] == 4 * large**2 + FOLD * 2 * small**2
    launched = [blocks for name, blocks, *_ in emulated.core.launched() if name == "resident_product"]
    assert launched == [(1, 1, 1)] * 2


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "count", "choice"),
    [
        # 16 warps of 64 columns and eight vectors.
        (90, "bfloat16", 1024, 8, (True, 8)),
        (90, "float64", 1024, 8, (True, 8)),
        (90, "float32", 1025, 8, (False, 32)),
        (90, "float32", 512, 16, (True, 16)),
        (90, "float32", 513, 9, (False, 32)),  # two groups of vectors would be two reads as well
        (90, "float32", 256, 32, (True, 32)),
        (90, "float32", 256, 40, (True, 32)),  # two reads where there would be four
        (90, "float32", 1024, 0, (True, 8)),
        # As much shared memory as a block may have.
        (80, "bfloat16", 1024, 8, (True, 8)),
        (80, "float64", 1024, 8, (False, 32)),
        (80, "float64", 512, 16, (True, 16)),
        (86, "float32", 1024, 8, (False, 32)),
        (86, "float32", 512, 8, (True, 16)),
        # Without tensor cores for float64.
        (75, "bfloat16", 64, 8, (False, 8)),
    ],
)
def test_choice_of_the_reads(
    emulated: Any, cuda_core: Any, capability: int, dtype: str, width: int, count: int, choice: tuple[bool, int]
) -> None:
    emulated.core.configure(capability=capability)
    assert emulated.core.product_choice(cuda_core.CODES[dtype], width, count, 0) == choice
