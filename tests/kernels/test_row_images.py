"""Images of rows beside their residuals: every size, dtype, layout and instruction set, against pairs of float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import arrays
from support.double_double import Pairs, stacked

from nrc_fast.kernels.calls import residual
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis, RowImages

DTYPES = ["float64", "float32", "float16", "torch.bfloat16"]
COUNTS = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97, 1300]
WIDTHS = [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97]
ALL = frozenset({"raw", "unit", "shift"})
EPS64 = 2.0**-52

every_isa = pytest.mark.usefixtures("isa")

SetThreads = Callable[[int], None]


def check(features: Any, vectors: Any, shift: Any, beyond: int = 0) -> None:
    """Compare what is found with the definitions."""
    imaged = len(vectors) - beyond
    basis = Basis(vectors, shift, images=ALL, imaged=imaged)
    (found,) = residual(as_rows(features, "H"), [basis], double_precision=True)
    assert found.images is not None
    compare(found.images, arrays.reference_rows(features), vectors[:imaged], shift)


def compare(images: RowImages, rows: Any, vectors: Any, shift: Any) -> None:
    d = rows.shape[1]
    x = Pairs(rows) - (np.zeros(d) if shift is None else shift)
    wide = x.astype(np.float64)
    squares = np.sum(wide**2, axis=1)
    weights = np.divide(1.0, squares, out=np.zeros(len(wide)), where=squares > 0.0)
    exact_weights = Pairs(weights) * (2.0 - Pairs(weights) * (x**2).sum(axis=1))
    products = x @ vectors.T
    left = x - products @ vectors
    shares = (left**2).sum(axis=1) * exact_weights
    coefficients = [Pairs(np.ones(len(wide))), *(products[:, j] for j in range(len(vectors)))]
    coefficients += [products[:, j] * exact_weights for j in range(len(vectors))]
    coefficients += [exact_weights, shares * exact_weights]
    # Of a product with a vector: what its terms add up to, of which roundings are a share.
    sizes = np.abs(wide) @ np.abs(vectors).T
    magnitudes = [np.ones(len(wide)), *sizes.T, *(sizes * weights[:, np.newaxis]).T, weights, weights]
    stored = np.concatenate([images.raw, images.unit, images.shift[: 2 * d].reshape(2, d)])
    rounding = EPS64 * (8.0 + len(x) ** 0.5 + d**0.5)
    exact = stacked([(c.reshape(1, -1) @ x).reshape(d) for c in coefficients])
    off = np.abs((exact - stored).astype(np.float64))
    assert (off <= rounding * np.array([m @ np.abs(wide) for m in magnitudes])).all()
    total = float(exact_weights.sum())
    assert abs(images.shift[2 * d] - total) <= rounding * total
    assert abs(images.shift[2 * d + 1] - float((exact_weights**2).sum())) <= 2.0 * rounding * float((weights**2).sum())
    assert images.shift[2 * d + 2] == np.count_nonzero(squares == 0.0)


@every_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_size(set_threads: SetThreads, dtype: str, width: int) -> None:
    for i, k in enumerate([0, 1, 2, 3, 5, 6, 7]):
        vectors = arrays.orthonormal(min(k, width), width, seed=k)
        shift = None if i % 2 else np.random.default_rng(k).standard_normal(width)
        set_threads(1 + i % 3)
        check(
            arrays.normal((COUNTS[(4 * i + width) % len(COUNTS)], width), dtype, seed=k, mean=1.0),
            vectors,
            shift,
            k // 3 % 2,
        )


@every_isa
@pytest.mark.parametrize("count", COUNTS)
def test_every_number_of_rows(count: int) -> None:
    vectors = arrays.orthonormal(3, 70, seed=0)
    for dtype in DTYPES:
        check(arrays.normal((count, 70), dtype, seed=count, mean=2.0), vectors, np.full(70, 0.1))


@every_isa
def test_wide_rows_and_strides() -> None:
    vectors = arrays.orthonormal(4, 600, seed=0)
    H = arrays.normal((130, 1200), "float32", seed=1)
    for features in (H[:, :600], H[:, ::2], np.asfortranarray(H[:, :600]), H[::-2, 5:605]):
        check(features, vectors, None)


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_that_equal_the_shift_add_nothing_but_to_their_number(dtype: str) -> None:
    H = arrays.normal((40, 9), dtype, seed=0)
    H[[3, 17, 39]] = 0.5
    check(H, arrays.orthonormal(2, 9, seed=0), np.full(9, 0.5))


@every_isa
@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_rows_too_large_or_small_to_be_squared(scale: float) -> None:
    """Unit images do not change with the scale, and sums of the rows do not leave the range."""
    H = arrays.normal((50, 7), "float64", seed=4)
    basis = Basis(arrays.orthonormal(2, 7, seed=0), images=ALL, imaged=2)
    (plain,) = residual(as_rows(H, "H"), [basis], double_precision=True)
    power = np.exp2(np.round(np.log2(scale)))
    (found,) = residual(as_rows(H * power, "H"), [basis], double_precision=True)
    assert plain.images is not None
    assert found.images is not None
    np.testing.assert_allclose(found.images.unit, plain.images.unit, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found.images.raw[0], plain.images.raw[0] * power, rtol=1e-13, atol=1e-13 * power)
    np.testing.assert_allclose(found.images.shift[:14], plain.images.shift[:14] / power, rtol=1e-12, atol=1e-12 / power)


@every_isa
def test_sums_do_not_depend_on_the_images_and_come_again(set_threads: SetThreads) -> None:
    H = as_rows(arrays.normal((3000, 33), "float32", seed=5), "H")
    vectors = arrays.orthonormal(3, 33, seed=1)
    set_threads(3)
    plain, other = residual(H, [Basis(vectors), Basis(vectors[:1], np.ones(33))], double_precision=True)
    bases = [Basis(vectors, images=ALL, imaged=3), Basis(vectors[:1], np.ones(33), images=frozenset({"shift"}))]
    for _ in range(2):
        found, beside = residual(H, bases, double_precision=True)
        np.testing.assert_array_equal(found.raw, plain.raw)
        np.testing.assert_array_equal(found.unit, plain.unit)
        np.testing.assert_array_equal(beside.unit, other.unit)
        assert beside.images is not None
        assert beside.images.raw.size == beside.images.unit.size == 0
        compare(found.images or RowImages.zeros(bases[0]), H.to_float64(), vectors, None)
    first, again = (residual(H, bases, double_precision=True)[0].images for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.raw.tobytes() == again.raw.tobytes()
    assert first.unit.tobytes() == again.unit.tobytes()


@every_isa
def test_rows_that_are_not_finite_are_refused() -> None:
    H = arrays.normal((30, 5), "float32", seed=0)
    H[12, 3] = np.nan
    with pytest.raises(NonFiniteRowsError, match=r"1 of 30 rows .* the first is row 12"):
        residual(as_rows(H, "H"), [Basis(np.eye(2, 5), images=ALL, imaged=2)], double_precision=True)


def test_images_are_of_float64_arithmetic() -> None:
    H = as_rows(np.ones((3, 2), dtype=np.float32), "H")
    with pytest.raises(ValueError, match="ask for double_precision"):
        residual(H, [Basis(np.eye(1, 2), images=ALL, imaged=1)], double_precision=False)
