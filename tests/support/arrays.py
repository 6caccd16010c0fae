"""Rows of every dtype and memory layout, and what the kernels shall say about them.

References are written from the definitions, for float64 rows in pairs of float64, for all others in float64.
Errors are relative to the sum of the magnitudes that were added, element by element; they may be twice those of
the plain numpy computation in the same arithmetic, and a few roundings more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from nrc_fast.testing import reference_rows
from support.double_double import Pairs, stacked

FloatArray = NDArray[np.floating[Any]]
Exact = FloatArray | Pairs

DTYPES = ["float64", "float32", "float16", "torch.bfloat16", "ml_dtypes.bfloat16"]
GRAM_BLOCK = 256  # float32 sums are added to float64 after that many rows


def store(values: Any, dtype: str) -> Any:
    """Values rounded to a dtype: an array, or a tensor for dtypes of torch."""
    library, _, name = dtype.rpartition(".")
    if library == "torch":
        torch = pytest.importorskip("torch")
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(getattr(torch, name))
    if library == "ml_dtypes":
        return np.asarray(values).astype(getattr(pytest.importorskip("ml_dtypes"), name))
    return np.asarray(values).astype(name)


def normal(shape: tuple[int, ...], dtype: str, seed: int, mean: float = 0.0) -> Any:
    return store(np.random.default_rng(seed).standard_normal(shape) + mean, dtype)


def is_double(array: Any) -> bool:
    return "float64" in str(array.dtype)


def orthonormal(k: int, d: int, seed: int) -> NDArray[np.float64]:
    """k orthonormal rows."""
    return np.ascontiguousarray(np.linalg.qr(np.random.default_rng(seed).standard_normal((d, k)))[0].T)


def near_subspace(count: int, basis: FloatArray, noise: float, seed: int) -> NDArray[np.float64]:
    """Rows in the span of the basis, none of them short, and a normal noise that is `noise` times as long."""
    rng = np.random.default_rng(seed)
    k, d = basis.shape
    coefficients = rng.uniform(0.5, 1.5, (count, k)) * rng.choice([-1.0, 1.0], (count, k))
    return np.asarray(coefficients @ basis + noise * np.sqrt(k / d) * rng.standard_normal((count, d)))


def unit_rows(rows: Any) -> Any:
    peaks = np.abs(rows.astype(np.float64)).max(axis=1, keepdims=True, initial=0.0)
    powers = -np.frexp(peaks)[1]
    scaled = rows.times_power(powers) if isinstance(rows, Pairs) else np.ldexp(rows, powers)
    norms = (scaled**2).sum(axis=1, keepdims=True) ** 0.5
    norms[norms == 0.0] = 1.0
    return scaled / norms


def relative_error(found: Exact, exact: Exact, magnitude: FloatArray) -> float:
    """Largest error relative to the magnitude of its element; infinite where something stands for exactly 0."""
    difference = abs(found - exact).astype(np.float64)
    unfounded = np.where(difference == 0.0, 0.0, np.inf)
    return float(np.max(np.divide(difference, magnitude, out=unfounded, where=magnitude > 0.0), initial=0.0))


class Expected(NamedTuple):
    """A result, the magnitudes added up in it, and how large the relative error may be."""

    exact: Exact
    magnitude: FloatArray
    tolerance: float

    def check(self, found: Any, what: str) -> None:
        assert found.dtype == np.float64, what
        assert found.shape == self.exact.shape, what
        error = relative_error(found, self.exact, self.magnitude)
        assert error <= self.tolerance, f"{what}: error {error:.2e}, tolerance {self.tolerance:.2e}"

    def check_triangle(self, found: Any, what: str) -> None:
        assert not np.triu(found, 1).any(), f"{what}: above the diagonal"
        exact = self.exact.tril() if isinstance(self.exact, Pairs) else np.tril(self.exact)
        lower = Expected(exact, np.tril(self.magnitude), self.tolerance)
        lower.check(found, what)


def expected(exact: Exact, magnitude: FloatArray, plain: FloatArray, rounding: float) -> Expected:
    error = relative_error(plain, exact, magnitude)
    assert np.isfinite(error), "the plain computation overflows: compare with that of another arithmetic"
    return Expected(exact, magnitude, 2.0 * error + rounding)


class Arithmetic(NamedTuple):
    """The type that a kernel computes rows in."""

    dtype: type[np.floating[Any]]
    epsilon: float


def arithmetic_of(array: Any, double_precision: bool = False) -> Arithmetic:
    wide = double_precision or is_double(array)
    return Arithmetic(np.float64, 2.0**-52) if wide else Arithmetic(np.float32, 2.0**-23)


def exact_rows(array: Any, double_precision: bool = False) -> Exact:
    rows = reference_rows(array)
    return Pairs(rows) if double_precision or is_double(array) else rows


class GramReference(NamedTuple):
    gram: Expected
    column_sums: Expected
    unit_gram: Expected | None
    cross: Expected | None
    zero_rows: int

    def check(self, sums: Any, what: str = "") -> None:
        """Compare everything that the kernel has computed."""
        if sums.gram.size:
            self.gram.check_triangle(sums.gram, f"{what} gram")
        self.column_sums.check(sums.column_sums, f"{what} column sums")
        if self.unit_gram is not None:
            self.unit_gram.check_triangle(sums.unit_gram, f"{what} unit Gram")
        if self.cross is not None:
            self.cross.check(sums.cross, f"{what} cross moments")
        assert sums.zero_rows == self.zero_rows, what


def _products(left: Exact, right: Exact, plain: FloatArray, rounding: float) -> Expected:
    magnitude = np.abs(left.astype(np.float64)).T @ np.abs(right.astype(np.float64))
    return expected(left.T @ right, magnitude, plain, rounding)


def gram_reference(
    features: Any,
    *,
    shift: FloatArray | None = None,
    unit: str | None = None,
    targets: Any = None,
    target_shift: FloatArray | None = None,
    double_precision: bool = False,
) -> GramReference:
    arithmetic, epsilon = arithmetic_of(features, double_precision)
    rows = exact_rows(features, double_precision)
    shifted = rows - (0.0 if shift is None else shift)
    stored = shifted.astype(arithmetic)
    # A random walk of the roundings of the additions, and three for shifting both factors and their product.
    additions = len(rows) if arithmetic is np.float64 else min(len(rows), GRAM_BLOCK)
    rounding = epsilon * (3.0 + additions**0.5)

    gram = _products(shifted, shifted, stored.T @ stored, rounding)
    sizes = np.abs(shifted.astype(np.float64)).sum(axis=0)
    columns = expected(shifted.sum(axis=0), sizes, stored.sum(axis=0), rounding)
    unit_gram = cross = None
    if unit is not None:
        scaled = unit_rows(shifted if unit == "shifted" else rows)
        plain = scaled.astype(arithmetic)
        # Both factors are multiplied by an inverse norm that is itself rounded.
        unit_gram = _products(scaled, scaled, plain.T @ plain, rounding + 2.0 * epsilon)
    if targets is not None:
        deviations = exact_rows(targets, double_precision) - (0.0 if target_shift is None else target_shift)
        # Always added in float64, but the shifted features are rounded to the arithmetic.
        plain = deviations.astype(np.float64).T @ stored.astype(np.float64)
        cross = _products(deviations, shifted, plain, 2.0 * epsilon + 2.0**-52 * (3.0 + len(rows) ** 0.5))
    zero_rows = int(np.count_nonzero(~rows.astype(np.float64).any(axis=1)))
    return GramReference(gram, columns, unit_gram, cross, zero_rows)


def leading_residuals(rows: Any, basis: FloatArray) -> Any:
    """Squared norms of what is left of each row without the leading j = 0..k vectors, (N, k + 1)."""
    rest = rows
    residuals = [(rest * rest).sum(axis=1)]
    for vector in basis if isinstance(rows, Pairs) else basis.astype(rows.dtype):
        with np.errstate(invalid="ignore"):  # BLAS may also multiply what lies beside the numbers
            rest = rest - (rest @ vector)[:, np.newaxis] * vector
        residuals.append((rest * rest).sum(axis=1))
    return stacked(residuals, axis=1) if isinstance(rows, Pairs) else np.stack(residuals, axis=1)


class ResidualReference(NamedTuple):
    raw: Expected
    unit: Expected
    row_residuals: Expected
    row_energies: Expected

    def check(self, sums: Any, what: str = "") -> None:
        self.raw.check(sums.raw, f"{what} raw")
        self.unit.check(sums.unit, f"{what} unit")
        for leading in (sums.raw, sums.unit):
            assert leading.min() >= 0.0, what
            assert np.all(np.diff(leading) <= 0.0), f"{what}: one vector more never adds"
        if sums.row_residuals is not None:
            self.row_residuals.check(sums.row_residuals, f"{what} row residuals")
            self.row_energies.check(sums.row_energies, f"{what} row energies")


def residual_reference(
    features: Any, basis: FloatArray, *, shift: FloatArray | None = None, double_precision: bool = False
) -> ResidualReference:
    """Errors are relative to the energy of the rows: see `collapse_tolerance` for what is left near collapse."""
    arithmetic, epsilon = arithmetic_of(features, double_precision)
    rows = exact_rows(features, double_precision) - (0.0 if shift is None else shift)
    exact = leading_residuals(rows, basis)
    stored = rows.astype(arithmetic)
    plain = leading_residuals(stored, basis).astype(np.float64)  # and added row after row
    # Squares of the shifted values and of coefficients, both random walks over the columns.
    rounding = epsilon * (4.0 + rows.shape[1] ** 0.5)
    sum_rounding = rounding + 2.0**-52 * len(rows) ** 0.5  # float64 whatever the arithmetic

    energies = exact[:, 0]
    sizes = energies.astype(np.float64)
    divisors = energies + np.where(sizes == 0.0, 1.0, 0.0)
    weights = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0.0)
    total, present = float(energies.sum()), float(np.count_nonzero(sizes))
    ones = np.ones(basis.shape[0] + 1)
    plain_raw, plain_unit = (
        np.add.accumulate(np.vstack([0.0 * ones, terms]))[-1] for terms in (plain, weights[:, np.newaxis] * plain)
    )
    return ResidualReference(
        expected(exact.sum(axis=0), total * ones, plain_raw, sum_rounding),
        expected((exact / divisors[:, np.newaxis]).sum(axis=0), present * ones, plain_unit, sum_rounding),
        expected(exact[:, -1], sizes, plain[:, -1], rounding),
        expected(energies, sizes, plain[:, 0], rounding),
    )


def collapse_tolerance(epsilon: float, vectors: int, share: float) -> float:
    """Relative error of a squared residual that is `share` of the energy, computed as an explicit difference.

    The difference is off by a rounding for the coefficient and the product of each vector, which add up like a
    random walk, relative to the length of the row.
    """
    relative = epsilon * (1.0 + vectors**0.5) / share**0.5
    return 2.0 * relative + relative**2


def exact_rotation(d: int) -> np.ndarray:
    """An orthogonal matrix of powers of two, so that products with numbers of few digits are exact; d = 4, 16 or 64."""
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2.0
    rotation = np.eye(1)
    while len(rotation) < d:
        rotation = np.kron(rotation, hadamard)
    assert np.array_equal(rotation @ rotation.T, np.eye(d))
    return rotation


def mixed_rows(digits: int) -> np.ndarray:
    """Three rows that span their space, with a condition of about 2^(1.5 digits)."""
    return np.array([[1.0, 0.0, 0.0], [1.0, 2.0**-digits, 0.0], [0.0, -1.0, 2.0 ** -(digits // 2)]])
