"""Products of rows with a block of vectors, there and back: every size, dtype, layout and instruction set."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import arrays, products
from support.double_double import Pairs

from nrc_fast.kernels.calls import gram_product
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.sources import table

DTYPES = ["float64", "float32", "float16", "torch.bfloat16"]
COUNTS = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 65, 97, 300]
# Blocks are of 256 columns: up to four are kept, of more the rows are loaded again.
WIDTHS = [1, 2, 7, 16, 33, 63, 97, 255, 257, 1000, 1030, 3000]
VECTORS = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 17, 18, 24, 33, 40]

EPS64 = 2.0**-52

every_isa = pytest.mark.usefixtures("isa")

SetThreads = Callable[[int], None]


@every_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_size(set_threads: SetThreads, dtype: str, width: int) -> None:
    rng = np.random.default_rng(width)
    shift = rng.standard_normal(width)
    wide = width > 300
    for i, k in enumerate(VECTORS[:: 4 if wide else 1]):
        for count in (COUNTS[(5 * i + width) % len(COUNTS)], 37 if wide else 130):
            features = arrays.normal((count, width), dtype, seed=count, mean=1.0)
            vectors = rng.standard_normal((k, width))  # need not be orthonormal
            reference = products.reference(features, vectors, shift)
            for threads in (1, 3):
                set_threads(threads)
                reference.check()


@every_isa
@pytest.mark.parametrize("count", COUNTS)
def test_every_number_of_rows(count: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((10, 70))
    for dtype in DTYPES:
        products.check(arrays.normal((count, 70), dtype, seed=count), vectors, np.full(70, 0.1))


@every_isa
@pytest.mark.parametrize("k", VECTORS)
@pytest.mark.parametrize("width", [40, 1050])
def test_every_number_of_vectors(k: int, width: int) -> None:
    vectors = np.random.default_rng(k).standard_normal((k, width))
    products.check(arrays.normal((50, width), "float32", seed=1), vectors, np.full(width, 0.1))


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_rows(set_threads: SetThreads, dtype: str) -> None:
    features = arrays.normal((5000, 40), dtype, seed=0, mean=100.0)
    vectors = np.random.default_rng(0).standard_normal((3, 40))
    reference = products.reference(features, vectors, np.full(40, 100.1))
    for threads in (1, 2, 3):
        set_threads(threads)
        reference.check()


@every_isa
def test_integers_is_exact(set_threads: SetThreads) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-8, 9, (1000, 53)).astype(np.float32)
    vectors = rng.integers(-8, 9, (6, 53)).astype(np.float64)
    shift = rng.integers(-8, 9, 53).astype(np.float64)
    x = values - shift
    for threads in (1, 2, 3):
        set_threads(threads)
        found = gram_product(as_rows(values, "H"), vectors, shift)
        np.testing.assert_array_equal(found.image, vectors @ x.T @ x)
        np.testing.assert_array_equal(found.column_sums, x.sum(axis=0))
        assert found.energy == np.sum(x * x)


@every_isa
@pytest.mark.parametrize("power", [-400, -470, 470, 500])
def test_rows_whose_squares_leave_the_range(power: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 21))
    features = arrays.normal((70, 21), "float64", seed=0)
    features[1::2] = 0.0  # only scaled rows count for the sums
    plain = gram_product(as_rows(features, "H"), vectors, np.zeros(21))
    products.check(features, vectors, np.zeros(21))
    features = np.ldexp(features, power)
    features[3] = np.ldexp(1.0, -540)  # all but nothing, in the same group
    found = gram_product(as_rows(features, "H"), vectors, np.zeros(21))
    image, sums = np.ldexp(found.image, -power), np.ldexp(found.column_sums, -power)
    rounding = EPS64 * (3.0 + 70**0.5 + 21**0.5)
    magnitude = (np.abs(vectors) @ np.abs(features).T) @ np.abs(np.ldexp(features, -power))
    arrays.Expected(plain.image, np.ldexp(magnitude, -power), 2 * rounding).check(np.ldexp(image, -power), "image")
    arrays.Expected(plain.column_sums, np.abs(np.ldexp(features, -power)).sum(axis=0), 2 * rounding).check(sums, "sums")
    assert math.ldexp(found.energy, -2 * power) == pytest.approx(plain.energy, rel=2 * rounding)


def check_scaled(found: Any, power: int, plain: Any, vectors: Any) -> None:
    """A product of rows 2^power times as large with vectors as much smaller."""
    wide = Pairs(plain)
    rounding = EPS64 * (3.0 + len(plain) ** 0.5 + plain.shape[1] ** 0.5)
    magnitude = (np.abs(vectors) @ np.abs(plain).T) @ np.abs(plain)
    image, sums = np.ldexp(found.image, -power), np.ldexp(found.column_sums, -power)
    exact = (vectors @ wide.T) @ wide
    arrays.expected(exact, magnitude, (vectors @ plain.T) @ plain, rounding).check(image, "image")
    arrays.expected(wide.sum(axis=0), np.abs(plain).sum(axis=0), plain.sum(axis=0), rounding).check(sums, "sums")


@every_isa
@pytest.mark.parametrize("width", [21, 1100])
def test_rows_of_all_sizes(width: int) -> None:
    """Rows of 1e200 beside ordinary ones, of 1e-200 and zeros, which are nothing beside them; and rows of 1e-200."""
    rng = np.random.default_rng(2)
    plain, vectors = rng.standard_normal((70, width)), rng.standard_normal((11, width))
    mixed = plain.copy()
    mixed[::3] = np.ldexp(plain[::3], 664)
    mixed[1::6] = np.ldexp(plain[1::6], -664)
    mixed[2::9] = 0.0
    found = gram_product(as_rows(mixed, "H"), np.ldexp(vectors, -664), np.zeros(width))
    check_scaled(found, 664, plain[::3], vectors)
    assert found.energy == np.inf
    found = gram_product(as_rows(np.ldexp(plain, -664), "H"), np.ldexp(vectors, 664), np.zeros(width))
    check_scaled(found, -664, plain, vectors)
    assert found.energy == 0.0


@every_isa
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e8])
def test_heavy_tails_and_large_means(mean: float) -> None:
    rng = np.random.default_rng(3)
    features = rng.standard_cauchy((300, 130)) ** 3 + mean
    vectors = rng.standard_normal((9, 130))
    products.check(features, vectors, np.full(130, mean))
    products.check(features.astype(np.float32), vectors, np.zeros(130))


def layouts(features: Any) -> dict[str, Any]:
    """The same rows, placed otherwise."""
    count, width = features.shape
    apart = np.zeros((2 * count, width + 3), features.dtype)
    apart[::2, 1:-2] = features
    memory = np.zeros(features.nbytes + 1, np.uint8)
    memory[1:] = features.view(np.uint8).ravel()
    unaligned = memory[1:].view(features.dtype).reshape(count, width)
    return {
        "apart": apart[::2, 1:-2],
        "unaligned": unaligned,
        "columns": np.asfortranarray(features),
        "backward": features[::-1].copy()[::-1],
    }


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("width", [7, 300, 1300])
def test_layouts_and_files_give_the_same_bits(tmp_path: Path, set_threads: SetThreads, dtype: str, width: int) -> None:
    features = arrays.normal((135, width), dtype, seed=4)
    features[3] = 0.0
    vectors = np.random.default_rng(0).standard_normal((13, width))
    path = tmp_path / "rows.bin"
    path.write_bytes(b"x" * 5 + features.tobytes())
    stored = table.RawTable(path, "rows.bin", 5, 135, width, dtype)
    for threads in (1, 2):
        set_threads(threads)
        wanted = products.bits(products.check(features, vectors, np.full(width, 0.25)))
        placed = {name: as_rows(array, "H") for name, array in layouts(features).items()}
        for name, rows in (placed | {"file": stored.read(0, 135)}).items():
            assert products.bits(gram_product(rows, vectors, np.full(width, 0.25))) == wanted, name


@every_isa
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("width", [5, 1200])
def test_rows_that_are_not_finite_are_refused(value: float, width: int) -> None:
    features = np.ones((100, width), np.float32)
    features[[41, 99], width - 1] = value
    for k in (1, 13):
        with pytest.raises(NonFiniteRowsError, match="H: 2 of 100 rows") as caught:
            gram_product(as_rows(features, "H"), np.ones((k, width)), np.zeros(width))
        assert caught.value.first == 41
