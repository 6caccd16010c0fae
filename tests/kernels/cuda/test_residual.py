"""The residual pass of the CUDA kernels, on a card and on the emulated device, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs

DTYPES = ["float64", "float32", "float16", "bfloat16"]


def values(n: int, d: int, mean: float = 0.0) -> Any:
    rows = np.random.default_rng(1000 * n + d).standard_normal((n, d)) + mean
    if n > 2:
        rows[2] = 0.0
    return rows


def check(sums: Any, rows: Any, arrays: Any, basis: Any, shift: Any, double_precision: bool = False) -> None:
    """Against the definitions, as tight as the kernels of the CPU are held."""
    stored = np.asarray(rows.values) if rows.dtype == "float64" else rows.values.astype(np.float32)
    arrays.residual_reference(stored, basis, shift=shift, double_precision=double_precision).check(sums, rows.dtype)


SHAPES = [
    (1, 1, 1),
    (2, 7, 0),
    (31, 16, 3),
    (33, 31, 31),
    (64, 33, 2),
    (65, 64, 33),
    (130, 65, 8),
    (33, 129, 40),
    (70, 300, 5),
]


@pytest.mark.parametrize("double_precision", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_residual(
    backend: Any, cuda_core: Any, arrays: Any, n: int, d: int, k: int, dtype: str, double_precision: bool
) -> None:
    rows = cuda_core.stored(values(n, d), dtype)
    basis = arrays.orthonormal(k, d, 3)
    sums = cuda_core.residual(backend, rows, basis, double_precision=double_precision)
    check(sums, rows, arrays, basis, None, double_precision)
    assert sums.counts == (int(n > 2), 0, -1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_add_nothing(backend: Any, cuda_core: Any, arrays: Any, dtype: str) -> None:
    sums = cuda_core.residual(backend, cuda_core.stored(values(0, 5), dtype), arrays.orthonormal(2, 5, 0), start=4.0)
    assert (sums.raw == 4.0).all()
    assert (sums.unit == 4.0).all()
    assert sums.counts == (0, 0, -1)


@pytest.mark.parametrize("layout", ["columns", "padded", "apart", "backward"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_and_a_shift(backend: Any, cuda_core: Any, arrays: Any, dtype: str, layout: str) -> None:
    mean = 8.0 if dtype == "bfloat16" else 1000.0
    rows = cuda_core.stored(values(70, 37, mean), dtype, layout)
    basis = arrays.orthonormal(4, 37, 1)
    shift = np.full(37, mean) + np.linspace(0.0, 0.25, 37)
    sums = cuda_core.residual(backend, rows, basis, shift=shift)
    check(sums, rows, arrays, basis, shift)


@pytest.mark.parametrize(("dtype", "share"), [("float64", 1e-14), ("float32", 1e-5), ("float32", 1e-7)])
def test_collapsed_rows(backend: Any, cuda_core: Any, arrays: Any, dtype: str, share: float) -> None:
    """The explicit form: float32 rows in float64, as near as their own rounding lets them come to the subspace."""
    k, d = 5, 70
    basis = arrays.orthonormal(k, d, 2)
    rows = cuda_core.stored(arrays.near_subspace(100, basis, share**0.5, 4), dtype)
    sums = cuda_core.residual(backend, rows, basis, double_precision=True)
    exact = arrays.leading_residuals(Pairs(rows.values), basis)
    found = np.stack([sums.row_residuals, sums.row_energies], axis=1)
    for column, epsilon in ((0, 2.0**-52), (1, 0.0)):
        expected = exact[:, -1] if column == 0 else exact[:, 0]
        share_of_rows = float((exact[:, -1] / exact[:, 0]).astype(np.float64).min())
        limit = arrays.collapse_tolerance(epsilon, k, share_of_rows) + 2.0**-45
        assert (abs(found[:, column] - expected) <= limit * expected).all()
    assert sums.raw[-1] == pytest.approx(float(exact[:, -1].sum()), rel=1e-6)


def test_collapsed_rows_in_float32(backend: Any, cuda_core: Any, arrays: Any) -> None:
    basis = arrays.orthonormal(5, 70, 2)
    rows = cuda_core.stored(arrays.near_subspace(100, basis, 1e-3, 4), "float32")
    sums = cuda_core.residual(backend, rows, basis)
    exact = arrays.leading_residuals(rows.values, basis)
    limit = arrays.collapse_tolerance(2.0**-23, 5, float((exact[:, -1] / exact[:, 0]).min()))
    assert (np.abs(sums.row_residuals - exact[:, -1]) <= limit * exact[:, -1]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_add_nothing(
    backend: Any, cuda_core: Any, arrays: Any, dtype: str, bad: float
) -> None:
    features = values(70, 9)
    features[[66, 30], [8, 0]] = bad
    sums = cuda_core.residual(backend, cuda_core.stored(features, dtype), arrays.orthonormal(2, 9, 0), start=3.0)
    assert sums.counts == (1, 2, 30)
    assert (sums.raw == 3.0).all()
    assert (sums.unit == 3.0).all()


# ---- the emulated device only ----


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_same_bits_in_every_order(emulated: Any, cuda_core: Any, arrays: Any, dtype: str) -> None:
    rows = cuda_core.stored(values(200, 70), dtype)
    basis = arrays.orthonormal(35, 70, 5)
    results = []
    for order in ("forward", "backward", "shuffled"):
        emulated.core.configure(order=order, seed=11)
        sums = cuda_core.residual(emulated, rows, basis)
        results.append(b"".join(array.tobytes() for array in (sums.raw, sums.unit, sums.row_residuals)))
    assert len(set(results)) == 1


@pytest.mark.parametrize("multiprocessors", [1, 132])
def test_any_number_of_multiprocessors(emulated: Any, cuda_core: Any, arrays: Any, multiprocessors: int) -> None:
    emulated.core.configure(multiprocessors=multiprocessors)
    rows = cuda_core.stored(values(700, 5), "float64")
    basis = arrays.orthonormal(2, 5, 5)
    check(cuda_core.residual(emulated, rows, basis), rows, arrays, basis, None)


@pytest.mark.parametrize("capability", [75, 90])
def test_a_missing_barrier_is_seen(emulated: Any, cuda_core: Any, arrays: Any, capability: int) -> None:
    rows = cuda_core.stored(values(70, 70), "float64")
    basis = arrays.orthonormal(3, 70, 5)
    emulated.core.configure(fault="no_barrier", order="shuffled", seed=3, capability=capability)
    # Threads that do not see the same numbers may also go different ways, where the others wait for them or meet them.
    with pytest.raises((AssertionError, RuntimeError), match=r"tolerance|wait for threads|of the same warp"):
        check(cuda_core.residual(emulated, rows, basis), rows, arrays, basis, None)


CAPABILITIES = [75, 80, 90]  # without tensor cores for these products, and with them
# Vectors around what is padded to eight and shared out to groups of up to 32, and columns around steps of 32.
VECTORS = [(1, 37), (3, 33), (8, 64), (9, 31), (16, 40), (17, 72), (31, 32), (32, 65), (33, 48), (97, 104)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "d"), VECTORS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_any_number_of_vectors(
    emulated: Any, cuda_core: Any, arrays: Any, k: int, d: int, capability: int, dtype: str
) -> None:
    emulated.core.configure(capability=capability, multiprocessors=1)
    rows = cuda_core.stored(values(131, d), dtype)
    basis = arrays.orthonormal(k, d, k)
    sums = cuda_core.residual(emulated, rows, basis)
    check(sums, rows, arrays, basis, None)
    assert sums.counts == (1, 0, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows", "padded", "columns", "backward"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_shifted_rows_of_every_layout(
    emulated: Any, cuda_core: Any, arrays: Any, capability: int, layout: str, dtype: str
) -> None:
    """Whole rows of 16 bytes, which are copied, and others; the mean is taken off before anything is rounded."""
    emulated.core.configure(capability=capability)
    mean = 8.0 if dtype == "bfloat16" else 1000.0
    rows = cuda_core.stored(values(70, 40, mean), dtype, layout)
    shift = np.full(40, mean) + np.linspace(0.0, 0.25, 40)
    basis = arrays.orthonormal(11, 40, 1)
    check(cuda_core.residual(emulated, rows, basis, shift=shift), rows, arrays, basis, shift)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_heavy_tails(emulated: Any, cuda_core: Any, arrays: Any, capability: int, dtype: str) -> None:
    """Rows, and vectors of the basis, that a few numbers of very different size make up."""
    emulated.core.configure(capability=capability)
    rng = np.random.default_rng(5)
    columns = 2.0 ** rng.integers(-9, 9, 70)
    rows = cuda_core.stored(np.clip(rng.standard_t(1.5, (140, 70)) * columns, -6e4, 6e4), dtype)
    heavy = rng.standard_t(1.1, (70, 9)) * 2.0 ** rng.integers(-30, 1, (70, 1))
    basis = np.ascontiguousarray(np.linalg.qr(heavy)[0].T)
    check(cuda_core.residual(emulated, rows, basis), rows, arrays, basis, None)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_products_of_one_sign_are_not_biased(
    emulated: Any, cuda_core: Any, arrays: Any, capability: int, dtype: str
) -> None:
    """Tensor cores round toward zero: without folds, coefficients of 4,096 such products would be 1e-5 too small."""
    emulated.core.configure(capability=capability)
    rng = np.random.default_rng(8)
    basis = rng.uniform(0.5, 1.5, (1, 4096))
    basis /= np.linalg.norm(basis)
    rows = cuda_core.stored(64.0 * basis * rng.uniform(0.5, 1.5, (3, 1)) + 0.7 * rng.standard_normal((3, 4096)), dtype)
    sums = cuda_core.residual(emulated, rows, basis)
    assert (sums.row_residuals > 0.25 * sums.row_energies).all()  # or the form that does not need them
    exact = arrays.leading_residuals(rows.values, basis)
    captured = sums.row_energies - sums.row_residuals
    # Of 32 columns the cards that keep the fewest bits cut off up to 7 units of a coefficient, which counts twice.
    np.testing.assert_allclose(captured, exact[:, 0] - exact[:, 1], rtol=24 * 2.0**-24)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_collapsed_rows_among_others(emulated: Any, cuda_core: Any, arrays: Any, dtype: str, capability: int) -> None:
    """Parts of 64 rows are in explicit form, others not; with one group of vectors, and with two."""
    emulated.core.configure(capability=capability)
    for k in (5, 35):
        basis = arrays.orthonormal(k, 70, 2)
        features = values(200, 70)
        # 16-bit rows are no nearer to the subspace than their rounding.
        features[64:140] = arrays.near_subspace(76, basis, 2e-2 if dtype.endswith("16") else 1e-3, 4)
        rows = cuda_core.stored(features, dtype)
        shift = np.linspace(0.0, 2.0**-9, 70)
        sums = cuda_core.residual(emulated, rows, basis, shift=shift)
        check(sums, rows, arrays, basis, shift)
        exact = arrays.leading_residuals(Pairs(rows.values) - shift, basis).astype(np.float64)
        epsilon = 2.0**-52 if dtype == "float64" else 2.0**-23
        share = exact[:, -1] / np.where(exact[:, 0] > 0.0, exact[:, 0], 1.0)
        near = slice(64, 140)
        assert (share[near] < 1e-3).all()
        limit = arrays.collapse_tolerance(epsilon, k, float(share[near].min()))
        assert (np.abs(sums.row_residuals - exact[:, -1]) <= limit * exact[:, -1])[near].all()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_squares_out_of_range_are_not_rows_that_are_not_finite(
    emulated: Any, cuda_core: Any, arrays: Any, capability: int, dtype: str
) -> None:
    emulated.core.configure(capability=capability)
    features = values(70, 9)
    features[40] = 1e200 if dtype == "float64" else 1e30
    sums = cuda_core.residual(emulated, cuda_core.stored(features, dtype), arrays.orthonormal(2, 9, 0))
    assert sums.counts == (1, 0, -1)
    assert np.isinf(sums.row_energies).nonzero()[0].tolist() == [40]
    assert not np.isfinite(sums.raw[0])
