"""Sums of the passes that hold rows against a few vectors: over chunks, and from a state that was kept."""

from __future__ import annotations

import numpy as np
import pytest
from support.chunks import chunk, draw

from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.explicit_sums import GramProduct, turned_rows
from nrc_fast.passes.runs import gram_product
from nrc_fast.passes.sums import OtherStateError

EPSILON = 2.0**-52


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
    with pytest.raises(OtherStateError):
        GramProduct(vectors, shift).restore(earlier)


def test_a_state_of_other_vectors_is_refused() -> None:
    H, vectors, shift = draw()
    product = GramProduct(vectors, shift)
    product.add_chunk(chunk(H))
    turned = vectors.copy()
    turned[0, 0] = np.nextafter(turned[0, 0], np.inf)  # as another processor rounds it
    for others in ((turned, shift), (vectors, shift + 1.0), (vectors[:-1], shift)):
        with pytest.raises(OtherStateError):
            GramProduct(*others).restore(product.arrays())


def test_states_of_blocks_are_combined() -> None:
    H, vectors, shift = draw()
    blocks = [GramProduct(vectors, shift) for _ in range(3)]
    for product, rows in zip(blocks, np.split(H, [50, 51]), strict=True):
        product.add_chunk(chunk(rows))
    total = GramProduct(vectors, shift)
    total.restore(GramProduct.combined([product.arrays() for product in blocks]))
    expected = vectors @ (H - shift).T @ (H - shift)
    magnitude = np.abs(vectors) @ np.abs(H - shift).T @ np.abs(H - shift)
    np.testing.assert_allclose(total.image, expected, rtol=0, atol=64 * EPSILON * magnitude.max())
    assert total.count == 300


def test_rows_near_the_shift_are_turned_most() -> None:
    """No row is turned by more than its bound, and one at the shift by anything."""
    rng = np.random.default_rng(2)
    H = rng.standard_normal((500, 4)) * 10.0 ** rng.uniform(-6.0, 0.0, (500, 1))
    off = rng.standard_normal(4)
    off *= 1e-4 / np.linalg.norm(off)
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (H, H + off))
    angles = np.sum((first - second) ** 2, axis=1)
    energies = np.sum(H**2, axis=1)
    single = np.array([turned_rows(energies[i : i + 1], 1e-4) for i in range(500)])
    assert np.all((angles <= single * (1.0 + 1e-9)) | (single == 1.0))
    assert turned_rows(energies, 1e-4) == pytest.approx(single.sum(), rel=1e-12)
    assert turned_rows(np.zeros(3), 1e-4) == 3.0
    assert turned_rows(energies, 0.0) == 0.0
