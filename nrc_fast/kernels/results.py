"""What passes over rows give back, wherever the rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.counts import GRAMS

__all__ = [
    "Basis",
    "GramSums",
    "PredictionSums",
    "ProductSums",
    "ResidualSums",
    "RowImages",
    "SumsPart",
    "in_range_of_float32",
    "part_of_host",
]

# Mean squared magnitudes outside of which squares of float32 numbers over- or underflow: float64 is used instead.
SMALLEST_FLOAT32_ENERGY = 2.0**-80
LARGEST_FLOAT32_ENERGY = 2.0**80


@dataclass
class GramSums:
    """Sums over the rows of one call; what was not asked for has no elements.

    The energies are the traces of the shifted Gram matrices, of features and of targets, without what they were added
    to. The rests are what float64 has no room for of the targets' sums, where these are pairs.
    """

    rows: int
    gram: FloatArray
    column_sums: FloatArray
    unit_gram: FloatArray
    cross: FloatArray
    zero_rows: int
    double_precision: bool
    energy: float = 0.0
    has_finite_sums: bool = True
    target_gram: FloatArray | None = field(default=None, repr=False)
    target_sums: FloatArray | None = field(default=None, repr=False)
    target_gram_rest: FloatArray | None = field(default=None, repr=False)
    target_sums_rest: FloatArray | None = field(default=None, repr=False)
    target_energy: float = 0.0


@dataclass
class Basis:
    """Orthonormal rows to project on, and the shift of the rows that are projected.

    Attributes
    ----------
    vectors : (k, d) float64 array
    shift : (d,) float64 array, optional
    per_row : bool
        Whether residuals and squares of single rows are wanted beside the sums.
    images : frozenset of {"raw", "unit", "shift"}
        Which of the `RowImages` are wanted too; in float64 only.
    imaged : int
        Of how many of the vectors, the leading ones.
    """

    vectors: FloatArray
    shift: FloatArray | None = None
    per_row: bool = False
    images: frozenset[str] = frozenset()
    imaged: int = 0


@dataclass
class RowImages:
    """Sums over rows x, in float64, of numbers times the rows; NaN where a backend does not have them.

    With the leading k vectors u of a basis and ``f = |x - U^T U x|^2 / |x|^2``; what is divided by ``|x|^2`` is without
    zero rows. What was not asked for has no elements.

    Attributes
    ----------
    raw : (1 + k, d) float64 array
        ``sum x``, and for each vector ``sum (u x) x``.
    unit : (k, d) float64 array
        For each vector ``sum (u x) x / |x|^2``.
    shift : (2 d + 3,) float64 array
        ``sum x / |x|^2``, ``sum f x / |x|^2``, ``sum 1 / |x|^2``, ``sum 1 / |x|^4`` and the number of zero rows: what
        `unit` sums of the residual change when the shift does.
    """

    raw: FloatArray
    unit: FloatArray
    shift: FloatArray

    @classmethod
    def zeros(cls, basis: Basis) -> RowImages:
        """What no rows give for a basis."""
        k, d, wanted = basis.imaged, basis.vectors.shape[1], basis.images
        return cls(
            raw=np.zeros((1 + k, d) if "raw" in wanted else (0, d)),
            unit=np.zeros((k, d) if "unit" in wanted else (0, d)),
            shift=np.zeros(2 * d + 3 if "shift" in wanted else 0),
        )

    def plus(self, other: RowImages) -> RowImages:
        """Those of the rows of both."""
        with np.errstate(invalid="ignore", over="ignore"):
            return RowImages(self.raw + other.raw, self.unit + other.unit, self.shift + other.shift)


@dataclass
class ResidualSums:
    """Sums over rows of the squared residual with the leading j = 0..k vectors, of x and of x/||x||.

    Attributes
    ----------
    raw, unit : (k + 1,) float64 arrays
        Of x, and of x/||x||.
    expanded : (2,) float64 array
        Sum of ``|x|^2`` over rows whose residual is the difference of their energy and that of their projection, which
        leaves much of it, and the number of these rows; all others' are sums over their elements.
    row_residuals, row_energies : (N,) float64 arrays, optional
        Squared residual with all vectors, and square, of every row x.
    images : RowImages, optional
        Where the basis asks for some.
    """

    raw: FloatArray
    unit: FloatArray
    expanded: FloatArray
    row_residuals: FloatArray | None = field(default=None, repr=False)
    row_energies: FloatArray | None = field(default=None, repr=False)
    images: RowImages | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ProductSums:
    """What a product of the rows with k vectors V adds up about a shift s, in float64.

    Attributes
    ----------
    image : (k, d) float64 array
        ``V sum (h - s)(h - s)^T``.
    column_sums : (d,) float64 array
        ``sum (h - s)``.
    energy : float
        ``sum |h - s|^2``, the trace of the Gram that V is multiplied with.
    """

    image: FloatArray
    column_sums: FloatArray
    energy: float


@dataclass(frozen=True)
class PredictionSums:
    """What the errors of a linear model ``s V h + b`` of targets y add up to, in float64.

    Attributes
    ----------
    errors : (n,) float64 array
        ``sum (s V h + b - y)^2`` for each output.
    products : (n, n) float64 array or None
        ``sum (y - s V h - b)(V h)^T``, where it is wanted.
    image_energy, energy : float
        ``sum |V h|^2`` and ``sum |h|^2`` beside the products; 0 without them.
    """

    errors: FloatArray
    products: FloatArray | None = None
    image_energy: float = 0.0
    energy: float = 0.0

    @classmethod
    def of(cls, errors: FloatArray, sums: FloatArray) -> PredictionSums:
        """Errors, and products with the two energies behind them, (n * n + 2,), or nothing."""
        if sums.size == 0:
            return cls(errors)
        n = len(errors)
        return cls(errors, sums[:-2].reshape(n, n), float(sums[-2]), float(sums[-1]))


@dataclass(frozen=True, eq=False)
class SumsPart:
    """A part of what running sums have added up; no batch that comes later changes it.

    Attributes
    ----------
    backend : Backend or None
        In whose memory the Gram matrices lie; None for that of the host.
    numbers : dict of float64 arrays
        On the host: all that adds up, by the names of `counts.ADDITIVE`, but the Gram matrices of the features.
    grams : dict of float64 arrays of the backend
        The lower triangles of these, by name.
    diagonal : (d,) float64 array
        Of "gram", on the host.
    """

    backend: Any  # as the interface of backends names this class
    numbers: dict[str, FloatArray]
    grams: dict[str, PlacedArray]
    diagonal: FloatArray

    def on_host(self) -> dict[str, FloatArray]:
        """Everything, by the names of `counts.ADDITIVE`."""
        return self.numbers | {name: self.gram_on_host(name) for name in self.grams}

    def gram_on_host(self, name: str) -> FloatArray:
        """One of the Gram matrices."""
        found: FloatArray = self.grams[name] if self.backend is None else self.backend.fetch(self.grams[name])
        return found


def part_of_host(sums: Mapping[str, FloatArray]) -> SumsPart:
    """Sums of the host, by the names of `counts.ADDITIVE`."""
    numbers = {name: array for name, array in sums.items() if name not in GRAMS}
    return SumsPart(None, numbers, {name: sums[name] for name in GRAMS}, np.diagonal(sums["gram"]))


def in_range_of_float32(sums: GramSums) -> bool:
    """Whether the squares of the rows are float32 numbers, so that the sums are good."""
    energy = sums.energy / sums.rows
    in_range = sums.gram.size == 0 or SMALLEST_FLOAT32_ENERGY < energy < LARGEST_FLOAT32_ENERGY
    return sums.has_finite_sums and in_range
