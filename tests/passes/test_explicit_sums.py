"""Sums of the passes that hold rows against a few vectors: over chunks, and from a state that was kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.explicit_sums import GramProduct, LinearModel, Residuals
from nrc_fast.passes.runs import gram_product
from nrc_fast.passes.sums import EarlierStateError
from nrc_fast.sources import Chunk

EPSILON = 2.0**-52


def chunk(rows: Any) -> Chunk:
    return Chunk(as_rows(rows, "H"), None)


def draw() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 7)) + 5.0, rng.standard_normal((2, 7)), np.full(7, 4.0)


def test_products_of_all_chunks_add_up() -> None:
    H, vectors, shift = draw()
    product = GramProduct(vectors, shift)
    for part in (H[:100], H[100:100], H[100:]):
        product.add_chunk(chunk(part))
    x = H - shift
    magnitude = (np.abs(vectors) @ np.abs(x).T) @ np.abs(x)
    assert np.all(np.abs(product.image - (vectors @ x.T) @ x) <= 64 * EPSILON * magnitude)
    assert np.all(np.abs(product.column_sums - x.sum(axis=0)) <= 64 * EPSILON * np.abs(x).sum(axis=0))
    assert product.energy == pytest.approx([np.sum(x * x)], rel=64 * EPSILON)
    assert product.count == 300
    whole = gram_product(begin_reading(H), vectors, shift, title="products")
    np.testing.assert_allclose(whole.image, product.image, rtol=0, atol=64 * EPSILON * magnitude.max())
    assert whole.count == 300


def test_products_go_on_from_a_state() -> None:
    H, vectors, shift = draw()
    first, rest = (GramProduct(vectors, shift) for _ in range(2))
    first.add_chunk(chunk(H[:120]))
    rest.restore(first.arrays())
    for sums in (first, rest):
        sums.add_chunk(chunk(H[120:]))
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(rest.arrays()[name], array)
    assert rest.count == 300


def test_a_state_of_an_earlier_version_is_refused() -> None:
    H, vectors, shift = draw()
    product = GramProduct(vectors, shift)
    product.add_chunk(chunk(H))
    earlier = {name: product.arrays()[name] for name in ("image", "column_sums")}
    with pytest.raises(ValueError, match="an earlier version in the middle of a pass; this pass starts anew"):
        GramProduct(vectors, shift).restore(earlier)


def residuals_and_errors() -> tuple[Any, Any, Residuals]:
    H, vectors, shift = draw()
    Y = np.random.default_rng(1).standard_normal((300, 2))
    basis = np.ascontiguousarray(np.linalg.qr(vectors.T)[0].T)
    model = LinearModel(vectors, np.array([1.0, -2.0]))
    return H, Y, Residuals([Basis(basis), Basis(basis[:1], shift)], double_precision=True, model=model)


def test_errors_of_a_model_come_with_the_residuals_and_go_on_from_a_state() -> None:
    H, Y, sums = residuals_and_errors()
    _, _, rest = residuals_and_errors()
    assert rest.errors is not None
    assert not rest.errors.any()
    sums.add_chunk(Chunk(as_rows(H[:120], "H"), as_rows(Y[:120], "Y")))
    rest.restore(sums.arrays())
    for part in (sums, rest):
        part.add_chunk(Chunk(as_rows(H[120:], "H"), as_rows(Y[120:], "Y")))
    for name, array in sums.arrays().items():
        np.testing.assert_array_equal(rest.arrays()[name], array)
    _, vectors, shift = draw()
    assert sums.errors is not None
    expected = np.sum((H @ vectors.T + np.array([1.0, -2.0]) - Y) ** 2, axis=0)
    assert sums.errors == pytest.approx(expected, rel=64 * EPSILON)
    for basis, part, x in zip(sums.bases, sums.sums, (H, H - shift), strict=True):
        remainder = x - (x @ basis.vectors.T) @ basis.vectors
        assert part.raw[-1] == pytest.approx(np.sum(remainder**2), rel=256 * EPSILON)


def test_a_state_without_the_errors_of_the_model_is_refused() -> None:
    H, Y, sums = residuals_and_errors()
    sums.add_chunk(Chunk(as_rows(H, "H"), as_rows(Y, "Y")))
    earlier = {name: array for name, array in sums.arrays().items() if name != "errors"}
    with pytest.raises(EarlierStateError):
        residuals_and_errors()[2].restore(earlier)
    # Where no model is given they are not missed.
    without = Residuals(sums.bases, double_precision=True)
    without.restore(earlier)
    assert without.errors is None
    assert without.count == 300
