"""Products of rows with a block of vectors by the CUDA kernels, in every way in which these share the work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import products

DTYPES = ["float64", "float32", "float16", "bfloat16"]
# With and without tensor cores for float64.
CAPABILITIES = [90, 75]


@pytest.fixture
def emulated(cuda_core: Any) -> Any:
    return cuda_core.Emulation()


@pytest.fixture(params=["emulation", "card"])
def backend(request: pytest.FixtureRequest, cuda_core: Any) -> Any:
    return cuda_core.BACKENDS[request.param]()


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
def test_every_number_of_vectors(backend: Any, cuda_core: Any, dtype: str, count: int) -> None:
    rows = cuda_core.stored(values(37, 72), dtype)
    check(backend, cuda_core, rows, values(count, 72, seed=1), np.linspace(-1.0, 1.0, 72))


# Pieces of 16 bytes where the address, the rows and their number of columns allow it, single values elsewhere.
@pytest.mark.parametrize("layout", ["rows", "padded", "columns", "apart", "backward"])
@pytest.mark.parametrize("width", [1, 7, 8, 31, 32, 33, 64, 65, 200, 264])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_width_and_layout(backend: Any, cuda_core: Any, dtype: str, width: int, layout: str) -> None:
    rows = cuda_core.stored(values(21, width) + 1.0, dtype, layout)
    check(backend, cuda_core, rows, values(10, width, seed=1), np.full(width, 0.9))


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("count", [1, 3, 4, 5, 63, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_every_number_of_rows(emulated: Any, cuda_core: Any, dtype: str, count: int, capability: int) -> None:
    emulated.core.configure(capability=capability)
    features = values(count, 40)
    features[count // 2] = 0.0
    check(emulated, cuda_core, cuda_core.stored(features, dtype), values(5, 40, seed=1), np.zeros(40))


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
        results, counts = cuda_core.gram_product(backend, rows, vectors, np.full(70, 0.5), start=3.0, rows_at_once=130)
        assert counts == (1, 2, 41)
        assert all((part == 3.0).all() for part in results)


def test_launches_do_not_grow_with_the_rows(emulated: Any, cuda_core: Any) -> None:
    found = []
    for n in (10, 1000):
        before = emulated.core.launches()
        cuda_core.gram_product(emulated, cuda_core.stored(values(n, 24), "float32"), values(10, 24), np.zeros(24))
        found.append(emulated.core.launches() - before)
    # Shift, vectors; coefficients, their parts, the energy, the image; what is added up.
    assert found == [7, 7]
