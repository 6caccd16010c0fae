"""Products of rows with a few vectors against pairs of float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nrc_fast.kernels.calls import gram_product, residual_and_errors
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import PredictionRequest, Rows
from nrc_fast.kernels.results import ProductSums
from support import arrays
from support.double_double import Pairs

__all__ = ["ProductReference", "bits", "check", "prediction_error", "reference"]

EPS64 = 2.0**-52


class ProductReference(NamedTuple):
    """The product of features with vectors about a shift, which may have at most twice the error of numpy's."""

    features: Any
    vectors: Any
    shift: Any
    image: arrays.Expected
    column_sums: arrays.Expected
    energy: arrays.Expected

    def check(self) -> ProductSums:
        found = gram_product(as_rows(self.features, "H"), self.vectors, self.shift)
        self.image.check(found.image, "image")
        self.column_sums.check(found.column_sums, "sums")
        self.energy.check(np.array([[found.energy]]), "energy")
        return found


def reference(features: Any, vectors: Any, shift: Any) -> ProductReference:
    x = Pairs(arrays.reference_rows(features)) - shift
    wide = x.astype(np.float64)
    # Coefficients are sums over the columns, images over the rows, with three roundings for each product.
    rounding = EPS64 * (3.0 + len(x) ** 0.5 + x.shape[1] ** 0.5)
    magnitude = (np.abs(vectors) @ np.abs(wide).T) @ np.abs(wide)
    energy = np.sum(wide**2, keepdims=True)
    return ProductReference(
        features,
        vectors,
        shift,
        arrays.expected((vectors @ x.T) @ x, magnitude, (vectors @ wide.T) @ wide, rounding),
        arrays.expected(x.sum(axis=0), np.abs(wide).sum(axis=0), wide.sum(axis=0), rounding),
        arrays.expected((x**2).sum().reshape(1, 1), energy, energy, rounding),
    )


def check(features: Any, vectors: Any, shift: Any) -> ProductSums:
    return reference(features, vectors, shift).check()


def bits(sums: ProductSums) -> list[bytes]:
    """Of every result."""
    return [np.asarray(part).tobytes() for part in vars(sums).values()]


def prediction_error(features: Rows, weights: Any, bias: Any, targets: Rows) -> Any:
    """``sum (W h + b - y)^2`` for each output, (n,), of a read for nothing else."""
    return residual_and_errors(features, [], PredictionRequest(weights, bias, targets))[1].errors
