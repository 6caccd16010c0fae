"""Products of rows with a few vectors by the CUDA kernels, on a card and on the emulated device, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

DTYPES = ["float64", "float32", "float16", "bfloat16"]
LAYOUTS = ["rows", "columns", "apart", "backward"]


def values(n: int, d: int) -> Any:
    return np.random.default_rng(100 * n + d).standard_normal((n, d))


def close(found: Any, exact: Any, magnitude: Any) -> bool:
    """Sums of float64 numbers, each with a few roundings."""
    return bool((np.abs(found - exact) <= 2.0**-46 * magnitude).all())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (33, 31, 3), (70, 129, 9)])
def test_gram_product(backend: Any, cuda_core: Any, n: int, d: int, k: int, dtype: str, layout: str) -> None:
    rows = cuda_core.stored(values(n, d), dtype, layout)
    vectors = values(k, d)
    shift = np.linspace(0.0, 1.0, d)
    (image, column_sums, energy), counts = cuda_core.gram_product(backend, rows, vectors, shift, start=1.0)
    check_gram_product(image, column_sums, energy, rows, vectors, shift)
    assert counts == (0, 0, -1)


def check_gram_product(image: Any, column_sums: Any, energy: Any, rows: Any, vectors: Any, shift: Any) -> None:
    shifted = rows.values - shift
    magnitude = (np.abs(vectors) @ np.abs(shifted).T) @ np.abs(shifted) + 1.0
    assert close(image, (vectors @ shifted.T) @ shifted + 1.0, magnitude)
    assert close(column_sums, shifted.sum(axis=0) + 1.0, np.abs(shifted).sum(axis=0) + 1.0)
    assert close(energy, np.sum(shifted**2) + 1.0, np.sum(shifted**2) + 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "d"), [(3, 40), (8, 33), (17, 64), (33, 20), (70, 72)])
@pytest.mark.parametrize("capability", [75, 80])
def test_any_number_of_vectors(cuda_core: Any, k: int, d: int, dtype: str, capability: int) -> None:
    backend = cuda_core.BACKENDS["emulation"]()
    backend.core.configure(capability=capability, multiprocessors=1)
    rows, vectors = cuda_core.stored(values(131, d), dtype), values(k, d)
    shift = np.linspace(0.0, 1.0, d)
    (image, column_sums, energy), _ = cuda_core.gram_product(backend, rows, vectors, shift, start=1.0)
    check_gram_product(image, column_sums, energy, rows, vectors, shift)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "outputs"), [(1, 1, 1), (33, 31, 3), (70, 129, 9)])
def test_prediction_error(backend: Any, cuda_core: Any, n: int, d: int, outputs: int, dtype: str, layout: str) -> None:
    rows = cuda_core.stored(values(n, d), dtype, layout)
    targets = cuda_core.stored(values(n, outputs), dtype, layout)
    weights, bias = values(outputs, d), np.linspace(-1.0, 1.0, outputs)
    (errors,), counts = cuda_core.prediction_error(backend, rows, weights, bias, targets, start=1.0)
    terms = rows.values @ weights.T + bias - targets.values
    magnitude = (np.abs(rows.values) @ np.abs(weights).T + np.abs(bias) + np.abs(targets.values)) ** 2
    assert close(errors, (terms**2).sum(axis=0) + 1.0, magnitude.sum(axis=0) + 1.0)
    assert counts == (0, 0, -1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "outputs", "rows_at_once"), [(1, 1, 1, 0), (33, 31, 3, 0), (70, 129, 9, 13)])
def test_products_of_errors_and_images(
    backend: Any, cuda_core: Any, n: int, d: int, outputs: int, rows_at_once: int, dtype: str, layout: str
) -> None:
    rows = cuda_core.stored(values(n, d), dtype, layout)
    targets = cuda_core.stored(values(n, outputs), dtype, layout)
    weights, bias = values(outputs, d), np.linspace(-1.0, 1.0, outputs)
    given = backend, rows, weights, bias, targets, 1.0, rows_at_once
    (errors, found), counts = cuda_core.prediction_error(*given, wants_products=True)
    images = rows.values @ weights.T
    exact = (targets.values - images - bias).T @ images
    lengths = np.abs(rows.values) @ np.abs(weights).T
    magnitude = (lengths + np.abs(bias) + np.abs(targets.values)).T @ lengths
    assert close(found[:-2].reshape(outputs, outputs), exact + 1.0, magnitude + 1.0)
    energies = np.array([np.sum(images**2), np.sum(rows.values**2)])
    assert close(found[-2:], energies + 1.0, np.array([np.sum(lengths**2), energies[1]]) + 1.0)
    np.testing.assert_array_equal(errors, cuda_core.prediction_error(*given)[0][0])
    assert counts == (0, 0, -1)


def test_rows_that_are_not_finite_add_nothing(backend: Any, cuda_core: Any) -> None:
    features, targets = values(40, 9), values(40, 2)
    features[11, 3] = np.nan
    targets[7, 1] = np.inf
    rows = cuda_core.stored(features, "float32")
    (image, column_sums, energy), counts = cuda_core.gram_product(backend, rows, values(2, 9), np.zeros(9), start=3.0)
    assert counts == (0, 1, 11)
    assert (image == 3.0).all()
    assert (column_sums == 3.0).all()
    assert energy == 3.0
    (errors, products), counts = cuda_core.prediction_error(
        backend, rows, values(2, 9), np.zeros(2), cuda_core.stored(targets, "float64"), start=3.0, wants_products=True
    )
    assert counts == (0, 2, 7)
    assert (errors == 3.0).all()
    assert (products == 3.0).all()


def test_rows_go_through_the_workspace_in_parts(backend: Any, cuda_core: Any) -> None:
    rows, targets = cuda_core.stored(values(50, 5), "float32"), cuda_core.stored(values(50, 3), "float64", "apart")
    weights, bias, shift = values(3, 5), np.ones(3), np.ones(5)
    whole = cuda_core.prediction_error(backend, rows, weights, bias, targets)[0]
    parts = cuda_core.prediction_error(backend, rows, weights, bias, targets, rows_at_once=7)[0]
    np.testing.assert_allclose(parts[0], whole[0], rtol=2.0**-46)
    whole = cuda_core.gram_product(backend, rows, weights, shift)[0]
    parts = cuda_core.gram_product(backend, rows, weights, shift, rows_at_once=7)[0]
    for found, expected in zip(parts, whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2.0**-40)
