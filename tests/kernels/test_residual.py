from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import products
from support.double_double import Pairs
from support.products import prediction_error

from nrc_fast.kernels.calls import gram_product, residual, residual_and_errors
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import PredictionRequest
from nrc_fast.kernels.results import Basis, ResidualSums

DTYPES = ["float64", "float32", "float16", "torch.bfloat16", "ml_dtypes.bfloat16"]
KINDS = DTYPES[:4]  # each kind of number once
# Of the arithmetic, with the dtypes of rows that it is for.
ARITHMETICS = [(dtype, True) for dtype in KINDS] + [(dtype, False) for dtype in KINDS[1:]]
WIDTHS = [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 48, 63, 65, 97]
COUNTS = [0, 1, 2, 3, 4, 5, 7, 64, 65, 257]

EPS64, EPS32 = 2.0**-52, 2.0**-23

every_isa = pytest.mark.usefixtures("isa")
every_arithmetic = pytest.mark.parametrize(("dtype", "double_precision"), ARITHMETICS)

SetThreads = Callable[[int], None]


def residual_on(
    features: Any, vectors: Any, shift: Any = None, *, double_precision: bool = True, per_row: bool = True
) -> ResidualSums:
    bases = [Basis(vectors, shift, per_row=per_row)]
    return residual(as_rows(features, "H"), bases, double_precision=double_precision)[0]


def bits(sums: ResidualSums) -> list[bytes]:
    arrays = (sums.raw, sums.unit, sums.row_residuals, sums.row_energies)
    return [array.tobytes() for array in arrays if array is not None]


def numbers_of_vectors(width: int) -> list[int]:
    return sorted({k for k in (0, 1, 2, 3, 4, 5, 8, 17, width - 1, width) if k <= width})


@functools.cache
def case(arrays: Any, dtype: str, double_precision: bool, count: int, width: int, k: int) -> Any:
    rng = np.random.default_rng(count + 1000 * width + k)
    values = rng.standard_normal((count, width)) + 0.5
    values[2::5] = 0.0
    features = arrays.store(values, dtype)
    vectors = arrays.orthonormal(k, width, seed=k)
    shift = None if k % 2 else rng.standard_normal(width)
    reference = arrays.residual_reference(features, vectors, shift=shift, double_precision=double_precision)
    return features, vectors, shift, reference


# ---- sizes ----


@every_isa
@every_arithmetic
@pytest.mark.parametrize("width", WIDTHS)
def test_every_size(arrays: Any, set_threads: SetThreads, dtype: str, double_precision: bool, width: int) -> None:
    for i, k in enumerate(numbers_of_vectors(width)):
        for count in (COUNTS[i % 10], COUNTS[(i + 3) % 10], 257):
            features, vectors, shift, reference = case(arrays, dtype, double_precision, count, width, k)
            for threads in (1, 3):
                set_threads(threads)
                sums = residual_on(features, vectors, shift, double_precision=double_precision)
                reference.check(sums, f"{count} rows, {k} vectors, {threads} threads")
                if k % 2:  # without a shift
                    zero = slice(2, None, 5)
                    assert not sums.row_residuals[zero].any()
                    assert not sums.row_energies[zero].any()


@every_isa
@pytest.mark.parametrize("shape", [(3000, 130, 40), (20_000, 6, 2), (60_000, 1, 1), (9, 5000, 3)], ids=str)
@pytest.mark.parametrize(("dtype", "double_precision"), [("float64", True), ("float32", False), ("float32", True)])
def test_many_rows_and_long_rows(
    arrays: Any, set_threads: SetThreads, dtype: str, double_precision: bool, shape: tuple[int, int, int]
) -> None:
    features, vectors, shift, reference = case(arrays, dtype, double_precision, *shape)
    for threads in (1, 2, 3, 16):
        set_threads(threads)
        sums = residual_on(features, vectors, shift, double_precision=double_precision)
        reference.check(sums, f"{threads} threads")


@every_isa
@every_arithmetic
def test_several_bases_at_once_are_those_one_by_one(
    arrays: Any, set_threads: SetThreads, dtype: str, double_precision: bool
) -> None:
    rng = np.random.default_rng(0)
    width = 49
    features = arrays.store(rng.standard_normal((500, width)) + 1.0, dtype)
    shifts = [None, rng.standard_normal(width), None, np.ones(width)]
    vectors = [arrays.orthonormal(k, width, seed=k) for k in (3, 0, width, 8)]
    pairs = list(zip(vectors, shifts, strict=True))
    references = [
        arrays.residual_reference(features, basis, shift=shift, double_precision=double_precision)
        for basis, shift in pairs
    ]
    for threads in (1, 3):
        set_threads(threads)
        bases = [Basis(basis, shift, per_row=i % 2 == 0) for i, (basis, shift) in enumerate(pairs)]
        together = residual(as_rows(features, "H"), bases, double_precision=double_precision)
        for i, (sums, reference) in enumerate(zip(together, references, strict=True)):
            reference.check(sums, f"basis {i}, {threads} threads")
            assert (sums.row_residuals is None) == (i % 2 == 1)
            if threads == 1:  # else the work decides how many threads there are
                basis, shift = pairs[i]
                alone = residual_on(features, basis, shift, double_precision=double_precision, per_row=i % 2 == 0)
                assert bits(sums) == bits(alone)


def test_no_basis_and_no_rows_give_nothing() -> None:
    assert residual(as_rows(np.ones((3, 2)), "H"), [], double_precision=True) == []
    sums = residual_on(np.zeros((0, 4), dtype=np.float32), np.eye(4)[:2])
    assert sums.raw.tolist() == sums.unit.tolist() == [0.0, 0.0, 0.0]


@every_isa
@pytest.mark.parametrize("double_precision", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_integers_on_the_axes_are_exact(
    arrays: Any, set_threads: SetThreads, dtype: str, double_precision: bool
) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-8, 9, (1000, 37)).astype(np.float64)
    features, axes = arrays.store(values, dtype), np.eye(37)[rng.permutation(37)]
    shift = rng.integers(-8, 9, 37).astype(np.float64)
    squares = (values - shift) ** 2 @ axes.T
    for threads in (1, 3):
        set_threads(threads)
        for k in (0, 1, 6, 36, 37):
            sums = residual_on(features, axes[:k], shift, double_precision=double_precision)
            wanted = [np.sum(squares[:, j:]) for j in range(k + 1)]
            np.testing.assert_array_equal(sums.raw, wanted)
            np.testing.assert_array_equal(sums.row_residuals, squares[:, k:].sum(axis=1))
            np.testing.assert_array_equal(sums.row_energies, squares.sum(axis=1))


# ---- near collapse ----


def collapsed_sums(arrays: Any, features: Any, vectors: Any) -> tuple[Any, Any, Any]:
    """Exact raw and unit sums and row residuals of rows that are next to the span of all vectors."""
    exact = arrays.leading_residuals(Pairs(arrays.reference_rows(features)), vectors)
    return exact[:, -1].sum(), (exact[:, -1] / exact[:, 0]).sum(), exact[:, -1]


@every_isa
@pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("width", "k"), [(16, 1), (16, 4), (65, 3), (97, 17), (300, 40)])
def test_float64_residuals_near_collapse(
    arrays: Any, set_threads: SetThreads, dtype: str, noise: float, width: int, k: int
) -> None:
    vectors = arrays.orthonormal(k, width, seed=k)
    features = arrays.store(arrays.near_subspace(400, vectors, noise, seed=1), dtype)
    raw, unit, rows = collapsed_sums(arrays, features, vectors)
    # Storing float32 rows is noise of its own, 6e-8.
    share = float(unit) / 400
    assert share == pytest.approx(noise**2, rel=0.9) or (dtype == "float32" and noise == 1e-7)
    for threads in (1, 2):
        set_threads(threads)
        sums = residual_on(features, vectors)
        assert sums.raw[-1] == pytest.approx(float(raw), rel=arrays.collapse_tolerance(EPS64, k, share))
        assert sums.unit[-1] == pytest.approx(float(unit), rel=arrays.collapse_tolerance(EPS64, k, share))
        shares = rows / sums.row_energies
        tolerances = np.array([arrays.collapse_tolerance(EPS64, k, float(share)) for share in shares])
        assert np.all(abs(sums.row_residuals - rows) <= tolerances * rows)


@every_isa
@pytest.mark.parametrize("noise", [1e-9, 1e-12, 1e-14])
@pytest.mark.parametrize(("width", "k"), [(16, 2), (97, 5), (300, 3)])
def test_float64_rows_are_measured_down_to_their_last_digits(
    arrays: Any, set_threads: SetThreads, noise: float, width: int, k: int
) -> None:
    vectors = arrays.orthonormal(k, width, seed=k)
    features = arrays.near_subspace(400, vectors, noise, seed=2)
    raw, unit, _ = collapsed_sums(arrays, features, vectors)
    share = float(unit) / 400
    assert share == pytest.approx(noise**2, rel=0.9)
    for threads in (1, 2):
        set_threads(threads)
        sums = residual_on(features, vectors)
        tolerance = arrays.collapse_tolerance(EPS64, k, share)
        assert sums.raw[-1] == pytest.approx(float(raw), rel=tolerance)
        assert sums.unit[-1] == pytest.approx(float(unit), rel=tolerance)


@every_isa
@pytest.mark.parametrize("noise", [0.3, 1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("dtype", ["float32", "float16", "torch.bfloat16"])
def test_float32_residuals_near_collapse(arrays: Any, dtype: str, noise: float) -> None:
    width, k = 97, 17
    vectors = arrays.orthonormal(k, width, seed=k)
    features = arrays.store(arrays.near_subspace(400, vectors, noise, seed=3), dtype)
    raw, unit, _ = collapsed_sums(arrays, features, vectors)
    sums = residual_on(features, vectors, double_precision=False)
    tolerance = arrays.collapse_tolerance(EPS32, k, float(unit) / 400)
    assert sums.raw[-1] == pytest.approx(float(raw), rel=tolerance)
    assert sums.unit[-1] == pytest.approx(float(unit), rel=tolerance)


@every_isa
def test_a_few_collapsed_rows_among_others(arrays: Any) -> None:
    # Rows are computed in groups: one that cancels is explicit, whatever its neighbours are.
    vectors = arrays.orthonormal(4, 33, seed=0)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((301, 33))
    near = [0, 63, 64, 150, 300]
    features[near] = arrays.near_subspace(5, vectors, 1e-9, seed=1)
    _, _, rows = collapsed_sums(arrays, features, vectors)
    sums = residual_on(features, vectors)
    shares = (rows[near] / sums.row_energies[near]).astype(np.float64)
    tolerances = np.array([arrays.collapse_tolerance(EPS64, 4, share) for share in shares])
    assert np.all(abs(sums.row_residuals[near] - rows[near]) <= tolerances * rows[near])
    arrays.residual_reference(features, vectors).check(sums)


@every_isa
@every_arithmetic
def test_rows_in_the_span_have_no_residual(arrays: Any, dtype: str, double_precision: bool) -> None:
    values = np.zeros((100, 20))
    values[:, 3:7] = np.random.default_rng(0).integers(-3, 4, (100, 4))
    sums = residual_on(arrays.store(values, dtype), np.eye(20)[3:7], double_precision=double_precision)
    assert sums.raw[-1] == sums.unit[-1] == 0.0
    assert not sums.row_residuals.any()
    # In general position the coefficients and each product are rounded: see collapse_tolerance.
    vectors = arrays.orthonormal(4, 20, seed=0)
    features = arrays.store(values[:, 3:7] @ vectors, "float64" if dtype == "float64" else "float32")
    sums = residual_on(features, vectors, double_precision=double_precision)
    stored = EPS64 if dtype == "float64" else EPS32
    floor = (3.0 * (stored / 2.0 + (EPS64 if double_precision else EPS32))) ** 2
    assert sums.unit[-1] <= 100 * floor


@every_isa
@every_arithmetic
def test_a_large_mean_costs_no_digits(arrays: Any, dtype: str, double_precision: bool) -> None:
    rng = np.random.default_rng(11)
    means = rng.uniform(900.0, 1100.0, 53)  # no dtype but float64 holds them
    features = arrays.store(rng.standard_normal((400, 53)) + means, dtype)
    vectors = arrays.orthonormal(6, 53, seed=0)
    # The tolerance is that of rows that were centered before they were stored.
    reference = arrays.residual_reference(features, vectors, shift=means, double_precision=double_precision)
    reference.check(residual_on(features, vectors, means, double_precision=double_precision))


# ---- the ends of the range ----


@every_isa
@pytest.mark.parametrize("near", [False, True], ids=["scattered", "collapsed"])
@pytest.mark.parametrize(
    ("dtype", "double_precision", "power"),
    [
        ("float64", True, 500),
        ("float64", True, -500),
        ("float64", True, -530),
        ("float64", True, 1000),
        ("float64", True, -1000),
        ("float32", True, 120),
        ("float32", True, -100),
        ("float32", False, 120),
        ("float32", False, -100),
        ("float32", False, 60),
        ("float32", False, -60),
        ("float32", False, -70),
        ("torch.bfloat16", False, 120),
        ("torch.bfloat16", False, -100),
        ("float16", False, 10),
    ],
)
def test_rows_whose_squares_leave_the_range(
    arrays: Any, dtype: str, double_precision: bool, power: int, near: bool
) -> None:
    vectors = arrays.orthonormal(5, 37, seed=0)
    values = arrays.near_subspace(130, vectors, 1e-3 if near else 1.0, seed=1)
    features = arrays.reference_rows(arrays.store(values, dtype))
    # Every second row is scaled, so that both kinds lie in one group. Scaling costs no digit, if it is exact.
    powers = np.where(np.arange(130) % 2, power, 0)
    scaled = arrays.store(np.ldexp(features, powers[:, None]), dtype)
    assert np.array_equal(np.ldexp(arrays.reference_rows(scaled), -powers[:, None]), features)
    reference = arrays.residual_reference(arrays.store(features, dtype), vectors, double_precision=double_precision)
    sums = residual_on(scaled, vectors, double_precision=double_precision)
    reference.unit.check(sums.unit, "unit")
    if abs(power) < 500:
        reference.row_residuals.check(np.ldexp(sums.row_residuals, -2 * powers), "row residuals")
        reference.row_energies.check(np.ldexp(sums.row_energies, -2 * powers), "row energies")
        weights = 4.0**powers
        exact = arrays.leading_residuals(Pairs(arrays.reference_rows(scaled)), vectors)
        total = np.full(6, np.float64(weights @ reference.row_energies.exact.astype(np.float64)))
        arrays.Expected(exact.sum(axis=0), total, reference.row_residuals.tolerance).check(sums.raw, "raw")


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_subnormal_rows(arrays: Any, dtype: str) -> None:
    smallest = {"float64": 2.0**-1074, "float32": 2.0**-149}[dtype]
    values = np.random.default_rng(0).integers(-9, 10, (50, 13)).astype(np.float64)
    vectors = arrays.orthonormal(3, 13, seed=0)
    for double_precision in (False, True):
        reference = arrays.residual_reference(arrays.store(values, dtype), vectors, double_precision=double_precision)
        features = arrays.store(values * smallest, dtype)
        sums = residual_on(features, vectors, double_precision=double_precision)
        reference.unit.check(sums.unit, "unit")
        if dtype == "float32":
            reference.raw.check(sums.raw / smallest / smallest, "raw")


@every_isa
def test_a_residual_that_float64_holds_although_the_energy_overflows() -> None:
    features = np.array([[1e160, 3e140, 0.0, 0.0], [1.0, 1.0, 2.0, 0.0]])
    sums = residual_on(features, np.eye(4)[:1])
    exact = np.array([9e280, 5.0])
    assert np.all(np.abs(sums.row_residuals - exact) <= 8 * EPS64 * exact)
    assert sums.raw[1] == pytest.approx(9e280, rel=8 * EPS64)
    assert sums.raw[0] == np.inf
    assert sums.unit[0] == 2.0


@every_isa
def test_a_row_in_the_span_whose_energy_overflows() -> None:
    features = np.array([[1e200, 0.0, 0.0], [1.0, 1.0, 2.0]])
    sums = residual_on(features, np.eye(3)[:1])
    assert sums.row_residuals.tolist() == [0.0, 5.0]
    assert sums.raw[1] == 5.0
    assert sums.raw[0] == np.inf
    assert sums.unit[1] == pytest.approx(5.0 / 6.0, rel=4 * EPS64)


@every_isa
def test_large_finite_values_are_not_taken_for_infinite_ones(arrays: Any) -> None:
    vectors = arrays.orthonormal(2, 7, seed=0)
    features = np.full((9, 7), 3e38, dtype=np.float32)
    features[::2, 1] *= -1.0
    ordinary = np.ldexp(features, -128)
    for double_precision in (False, True):
        reference = arrays.residual_reference(ordinary, vectors, double_precision=double_precision)
        sums = residual_on(features, vectors, double_precision=double_precision)
        reference.unit.check(sums.unit, "unit")
        reference.raw.check(sums.raw * 2.0**-256, "raw")


# ---- memory layouts ----

LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "every second row": lambda H: H[::2],
    "every third column": lambda H: H[:, ::3],
    "transposed": lambda H: H.T,
    "rows reversed": lambda H: H[::-1],
    "columns reversed": lambda H: H[:, ::-1],
    "both reversed in steps": lambda H: H[::-2, ::-3],
    "Fortran order": np.asfortranarray,
    "columns from the middle": lambda H: H[:, 5:118],
    "one row for all": lambda H: np.broadcast_to(H[3], H.shape),
    "one column for all": lambda H: np.broadcast_to(H[:, :1], H.shape),
    "one column": lambda H: H[:, 9:10],
    "other byte order": lambda H: H.astype(H.dtype.newbyteorder()),
    "offset by one byte": lambda H: np.frombuffer(b"\0" + H.tobytes(), H.dtype, offset=1).reshape(H.shape),
}


@every_isa
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_layouts(arrays: Any, set_threads: SetThreads, dtype: str, layout: str) -> None:
    features = LAYOUTS[layout](arrays.normal((287, 123), dtype, seed=7))
    width = features.shape[1]
    vectors = arrays.orthonormal(min(3, width), width, seed=0)
    rng = np.random.default_rng(1)
    shift, bias = rng.standard_normal(width), rng.standard_normal(len(vectors))
    targets = rng.standard_normal((len(vectors), len(features))).T  # columns apart
    copy = features.astype(features.dtype.newbyteorder("="), order="C")
    assert copy.flags.c_contiguous
    assert copy.flags.aligned
    arrays.residual_reference(copy, vectors, shift=shift, double_precision=True).check(
        residual_on(copy, vectors, shift)
    )
    set_threads(1)  # rows that are gathered come in other groups, which with threads would matter to sums
    rows, plain, y = as_rows(features, "H"), as_rows(copy, "H"), as_rows(targets, "Y")
    for double_precision in (False, True):
        sums = residual_on(features, vectors, shift, double_precision=double_precision)
        wanted = residual_on(copy, vectors, shift, double_precision=double_precision)
        epsilon = arrays.arithmetic_of(copy, double_precision).epsilon
        # Whether a row is explicit may depend on its group, and moves it by some roundings of the energy.
        np.testing.assert_allclose(sums.row_energies, wanted.row_energies, rtol=4 * epsilon * width**0.5)
        atol = 4 * epsilon * width**0.5 * wanted.row_energies.max()
        np.testing.assert_allclose(sums.row_residuals, wanted.row_residuals, rtol=0, atol=atol)
        np.testing.assert_allclose(sums.raw, wanted.raw, rtol=0, atol=len(copy) * atol)
    products.check(features, vectors, shift)
    check_errors(arrays, features, vectors, bias, targets)
    np.testing.assert_allclose(
        prediction_error(rows, vectors, bias, y),
        prediction_error(plain, vectors, bias, as_rows(targets.copy(), "Y")),
        rtol=8 * EPS64 * width**0.5,
    )


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_layouts_of_tensors(arrays: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    base = arrays.normal((287, 123), f"torch.{dtype}", seed=9)
    for name, features in {
        "rows": base[::2],
        "columns": base[:, ::3],
        "transposed": base.t(),
        "expanded": base[3].expand(300, 123),
        "as_strided": torch.as_strided(base, (90, 40), (3, 200), 17),
    }.items():
        width = features.shape[1]
        vectors, shift = arrays.orthonormal(3, width, seed=0), np.linspace(-1.0, 1.0, width)
        for double_precision in (False, True):
            reference = arrays.residual_reference(features, vectors, shift=shift, double_precision=double_precision)
            reference.check(residual_on(features, vectors, shift, double_precision=double_precision), name)
        products.check(features, vectors, shift)


# ---- the error of a prediction ----


def check_errors(arrays: Any, features: Any, weights: Any, bias: Any, targets: Any) -> None:
    wide = [arrays.reference_rows(array) for array in (features, targets)]
    exact = ((Pairs(wide[0]) @ weights.T + bias - wide[1]) ** 2).sum(axis=0)
    plain = np.sum((wide[0] @ weights.T + bias - wide[1]) ** 2, axis=0)
    terms = np.abs(wide[0]) @ np.abs(weights).T + np.abs(bias) + np.abs(wide[1])
    rounding = EPS64 * (4.0 + sum(size**0.5 for size in wide[0].shape))
    found = prediction_error(as_rows(features, "H"), weights, bias, as_rows(targets, "Y"))
    arrays.expected(exact, np.sum(terms**2, axis=0), plain, rounding).check(found, "errors")


@every_isa
@pytest.mark.parametrize("targets_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_prediction_error(arrays: Any, set_threads: SetThreads, dtype: str, targets_dtype: str) -> None:
    rng = np.random.default_rng(0)
    for count, width, n in [(0, 3, 2), (1, 1, 1), (5, 17, 3), (257, 33, 4), (400, 65, 5), (600, 49, 9)]:
        features = arrays.normal((count, width), dtype, seed=1)
        targets = arrays.normal((count, n), targets_dtype, seed=2, mean=1.0)
        weights, bias = rng.standard_normal((n, width)), rng.standard_normal(n)
        for threads in (1, 3):
            set_threads(threads)
            check_errors(arrays, features, weights, bias, targets)


@every_isa
@every_isa
@pytest.mark.parametrize("double_precision", [True, False])
@pytest.mark.parametrize("count", [1, 7, 64, 200, 5000])
def test_energy_of_rows_whose_residual_is_a_difference(count: int, double_precision: bool) -> None:
    """All of it where rows are far from the span, none where they are in it, up to a rounding that does not grow."""
    rng = np.random.default_rng(count)
    vectors = np.eye(9)[:2]
    for inside, share in ((0.0, 1.0), (1.0, 0.0)):
        rows = rng.integers(1, 4, (count, 9)).astype(np.float32)
        rows[:, :2] *= inside
        rows[:, 2:] *= 1.0 - inside
        expanded = residual_on(rows, vectors, double_precision=double_precision).expanded
        assert expanded.tolist() == pytest.approx(
            [share * float(np.sum(rows**2)), share * count], rel=8 * EPS64, abs=0.0
        )


@every_isa
def test_sums_of_residuals_do_not_round_with_the_number_of_rows() -> None:
    """Squares of equal rows round the same way, in every addition."""
    row = np.random.default_rng(1).standard_normal(5)
    rows = np.tile(row, (100_003, 1))
    basis = np.zeros((0, 5))
    (whole,) = residual_on(rows, basis).raw
    (single,) = residual_on(rows[:1], basis).raw
    assert abs(Fraction(whole) - len(rows) * Fraction(single)) <= 16 * Fraction(EPS64) * Fraction(whole)


def test_prediction_error_of_a_good_model() -> None:
    # The error is a small difference of large numbers; its tolerance follows those.
    rng = np.random.default_rng(0)
    weights, bias = rng.standard_normal((3, 40)), rng.standard_normal(3)
    features = rng.standard_normal((500, 40))
    targets = features @ weights.T + bias + 1e-6 * rng.standard_normal((500, 3))
    found = prediction_error(as_rows(features, "H"), weights, bias, as_rows(targets, "Y"))
    exact = ((Pairs(features) @ weights.T + bias - targets) ** 2).sum(axis=0).astype(np.float64)
    lengths = (np.abs(features) @ np.abs(weights).T + np.abs(bias) + np.abs(targets)).max()
    relative = EPS64 * (4.0 + 40**0.5) * lengths / 1e-6
    assert found == pytest.approx(exact, rel=2 * relative + relative**2)


@every_isa
@pytest.mark.parametrize("dtype", KINDS)
def test_residuals_and_errors_at_once_are_those_one_by_one(arrays: Any, set_threads: SetThreads, dtype: str) -> None:
    set_threads(1)  # else the work decides how many there are
    rng = np.random.default_rng(0)
    for count, width, n in [(0, 3, 2), (1, 1, 1), (37, 9, 4), (300, 65, 7), (257, 1030, 2)]:
        values = rng.standard_normal((count, width)) + 0.5
        values[3::5] = 0.0
        if dtype == "float64":
            values[4::50] *= 2.0**500  # rows that are scaled
        features = as_rows(arrays.store(values, dtype), "H")
        targets, mean = as_rows(rng.standard_normal((count, n)), "Y"), rng.standard_normal(width)
        weights, bias = rng.standard_normal((n, width)), rng.standard_normal(n)
        vectors = arrays.orthonormal(min(17, width), width, seed=1)
        bases = [Basis(vectors[:3]), Basis(vectors, mean, per_row=True), Basis(vectors[:1], mean), Basis(vectors[1:2])]
        found, errors = residual_and_errors(features, bases, PredictionRequest(weights, bias, targets))
        alone = residual(features, bases, double_precision=True)
        assert [bits(sums) for sums in found] == [bits(sums) for sums in alone]
        assert errors.errors.tobytes() == prediction_error(features, weights, bias, targets).tobytes()


@every_isa
@pytest.mark.parametrize("power", [-500, -1030, 500])
def test_prediction_error_of_rows_whose_squares_leave_the_range(arrays: Any, power: int) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal((60, 13)), rng.standard_normal((2, 13))
    targets, bias = rng.standard_normal((60, 2)), rng.standard_normal(2)
    features = np.ldexp(values, power)
    weights = np.ldexp(weights, min(-power, 1000))  # so that the predictions are ordinary again, or small
    if power > -1000:
        check_errors(arrays, features, weights, bias, targets)
    else:
        # Predictions of rows 2^1000 times as large by weights as much smaller.
        predictions = Pairs(np.ldexp(features, 1000)) @ np.ldexp(weights, -1000).T
        exact = ((predictions + bias - targets) ** 2).sum(axis=0)
        found = prediction_error(as_rows(features, "H"), weights, bias, as_rows(targets, "Y"))
        assert found == pytest.approx(exact.astype(np.float64), rel=EPS64 * (4.0 + 60**0.5 + 13**0.5))


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_over_many_equal_rows_do_not_drift(set_threads: SetThreads, threads: int) -> None:
    # Equal terms are all rounded to the same side: added one by one they would drift, numpy's sums do not.
    set_threads(threads)
    count, row, basis = 200_000, np.array([[1.0, 2.0, 0.7]]), np.eye(3)[:2]
    features, targets = as_rows(np.broadcast_to(row, (count, 3)), "H"), as_rows(np.zeros((count, 1)), "Y")
    energy, rest = np.sum(row**2), 0.7**2
    tolerance = EPS64 * (4.0 + 3**0.5 + count**0.5)
    sums = residual(features, [Basis(basis)], double_precision=True)[0]
    assert sums.raw[[0, 2]] / count == pytest.approx([energy, rest], rel=tolerance)
    assert sums.unit[[0, 2]] / count == pytest.approx([1.0, rest / energy], rel=tolerance)
    product = gram_product(features, basis, np.zeros(3))
    assert product.column_sums / count == pytest.approx(row[0], rel=tolerance)
    assert product.image / count == pytest.approx(row[:, :2].T @ row, rel=tolerance)
    assert product.energy / count == pytest.approx(energy, rel=tolerance)
    errors = prediction_error(features, np.eye(3)[2:], np.zeros(1), targets)
    assert errors / count == pytest.approx(rest, rel=tolerance)


# ---- rows that are not finite ----


@every_isa
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", KINDS)
def test_rows_that_are_not_finite_are_counted(arrays: Any, set_threads: SetThreads, dtype: str, threads: int) -> None:
    set_threads(threads)
    width = 53
    vectors, shift = arrays.orthonormal(5, width, seed=0), np.ones(width)
    weights, bias = arrays.orthonormal(2, width, seed=1), np.ones(2)
    targets = as_rows(np.ones((600, 2)), "Y")
    for value in (np.nan, np.inf, -np.inf):
        for bad in ([(0, 0)], [(599, width - 1)], [(300, 47), (17, 48), (299, 23)], [(3, 5), (3, 6), (4, 6)]):
            values = np.random.default_rng(0).standard_normal((600, width))
            values[tuple(np.transpose(bad))] = value
            features = as_rows(arrays.store(values, dtype), "features")
            apart = as_rows(arrays.store(values.T.copy(), dtype).T, "features")
            bases = [Basis(vectors), Basis(vectors[:1], shift)]
            calls: list[Callable[[], Any]] = [
                lambda features=features, bases=bases: residual(features, bases, double_precision=False),
                lambda features=features, bases=bases: residual(features, bases, double_precision=True),
                lambda apart=apart, bases=bases: residual(apart, bases, double_precision=True),
                lambda features=features: gram_product(features, vectors, shift),
                lambda features=features: prediction_error(features, weights, bias, targets),
            ]
            rows = {row for row, _ in bad}
            for call in calls:
                with pytest.raises(NonFiniteRowsError, match=r"^features: ") as caught:
                    call()
                assert (caught.value.count, caught.value.first) == (len(rows), min(rows))


def test_targets_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="features and targets differ in their rows"):
        prediction_error(as_rows(np.ones((4, 2)), "H"), np.ones((1, 2)), np.ones(1), as_rows(np.ones((5, 1)), "Y"))


# ---- determinism ----


@every_isa
@pytest.mark.parametrize("threads", [1, 2, 3])
@every_arithmetic
def test_repeated_calls_give_the_same_bits(
    arrays: Any, set_threads: SetThreads, dtype: str, double_precision: bool, threads: int
) -> None:
    set_threads(threads)
    features, vectors, shift, reference = case(arrays, dtype, double_precision, 3000, 31, 4)
    first = residual_on(features, vectors, shift, double_precision=double_precision)
    reference.check(first)
    product = gram_product(as_rows(features, "H"), vectors, shift)
    for _ in range(5):
        again = residual_on(features, vectors, shift, double_precision=double_precision)
        assert bits(again) == bits(first)
        repeated = gram_product(as_rows(features, "H"), vectors, shift)
        assert products.bits(repeated) == products.bits(product)


@every_isa
@pytest.mark.parametrize("dtype", ["float32", "float16", "torch.bfloat16"])
def test_double_precision_is_that_of_the_same_rows_in_float64(arrays: Any, dtype: str) -> None:
    features, vectors, shift, reference = case(arrays, dtype, double_precision=True, count=257, width=33, k=4)
    wide = arrays.reference_rows(features)
    sums = residual_on(wide, vectors, shift)
    reference.check(sums)
    assert bits(residual_on(features, vectors, shift)) == bits(sums)
    # Rows that are float64 are computed in float64 in any case.
    assert bits(residual_on(wide, vectors, shift, double_precision=False)) == bits(sums)
    weights, bias, targets = np.eye(2, 33), np.ones(2), as_rows(np.ones((257, 2)), "Y")
    found, errors = zip(
        *(
            (gram_product(rows, vectors, shift), prediction_error(rows, weights, bias, targets))
            for rows in (as_rows(features, "H"), as_rows(wide, "H"))
        ),
        strict=True,
    )
    assert products.bits(found[0]) == products.bits(found[1])
    assert errors[0].tobytes() == errors[1].tobytes()


# ---- laws ----

laws = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 300)
widths = st.integers(1, 50)
arithmetics = st.sampled_from(ARITHMETICS)


def draw_case(
    arrays: Any, seed: int, count: int, width: int, arithmetic: tuple[str, bool]
) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    vectors = arrays.orthonormal(int(rng.integers(0, width + 1)), width, seed)
    noise = 10.0 ** rng.uniform(-3.0, 0.0)
    features = arrays.store(arrays.near_subspace(count, vectors, noise, seed) + 1e-3, arithmetic[0])
    reference = arrays.residual_reference(features, vectors, double_precision=arithmetic[1])
    return features, vectors, reference, rng


@every_isa
@laws
@given(seed=seeds, count=counts, width=widths, arithmetic=arithmetics)
def test_the_order_of_rows_does_not_matter(
    arrays: Any, seed: int, count: int, width: int, arithmetic: tuple[str, bool]
) -> None:
    features, vectors, reference, rng = draw_case(arrays, seed, count, width, arithmetic)
    reference.check(residual_on(features, vectors, double_precision=arithmetic[1]))
    order = rng.permutation(count)
    sums = residual_on(features[order], vectors, double_precision=arithmetic[1], per_row=False)
    reference.check(sums, "permuted")


@every_isa
@laws
@given(seed=seeds, count=counts, width=widths, arithmetic=arithmetics, data=st.data())
def test_sums_of_parts_are_the_sums_of_all_rows(
    arrays: Any, seed: int, count: int, width: int, arithmetic: tuple[str, bool], data: st.DataObject
) -> None:
    features, vectors, reference, _ = draw_case(arrays, seed, count, width, arithmetic)
    cut = data.draw(st.integers(0, count))
    first, second = (
        residual_on(part, vectors, double_precision=arithmetic[1]) for part in (features[:cut], features[cut:])
    )
    reference.check(
        ResidualSums(
            first.raw + second.raw,
            first.unit + second.unit,
            first.expanded + second.expanded,
            np.concatenate([first.row_residuals, second.row_residuals]),
            np.concatenate([first.row_energies, second.row_energies]),
        )
    )


@every_isa
@laws
@given(seed=seeds, count=counts, width=widths)
def test_residuals_turn_with_the_features(arrays: Any, seed: int, count: int, width: int) -> None:
    features, vectors, reference, _ = draw_case(arrays, seed, count, width, ("float64", True))
    rotation = arrays.orthonormal(width, width, seed + 1)
    sums = residual_on(features @ rotation, np.ascontiguousarray(vectors @ rotation))
    # Both products round: each entry by a random walk over the columns, relative to the length of its row.
    turned = 4.0 * EPS64 * width**0.5
    for found, wanted in ((sums.raw, reference.raw), (sums.unit, reference.unit)):
        wanted._replace(tolerance=wanted.tolerance + 2.0 * turned).check(found, "turned")


@every_isa
@laws
@given(seed=seeds, count=counts, width=widths, arithmetic=arithmetics, power=st.integers(-25, 25))
def test_a_power_of_two_scales_exactly(
    arrays: Any, seed: int, count: int, width: int, arithmetic: tuple[str, bool], power: int
) -> None:
    dtype, double_precision = arithmetic
    dtype = "float32" if dtype == "float16" else dtype
    features, vectors, _, _ = draw_case(arrays, seed, count, width, (dtype, double_precision))
    scaled = arrays.store(np.ldexp(arrays.reference_rows(features), power), dtype)
    sums = residual_on(features, vectors, double_precision=double_precision)
    arrays.residual_reference(features, vectors, double_precision=double_precision).check(sums)
    found = residual_on(scaled, vectors, double_precision=double_precision)
    np.testing.assert_array_equal(found.unit, sums.unit)
    np.testing.assert_array_equal(found.raw, 4.0**power * sums.raw)
    np.testing.assert_array_equal(found.row_residuals, 4.0**power * sums.row_residuals)
