"""Products of rows with a few vectors against long doubles."""

from __future__ import annotations

from typing import Any

import numpy as np

from nrc_fast.kernels.calls import gram_product
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import ProductSums
from support import arrays

__all__ = ["bits", "check"]

EPS64 = 2.0**-52


def check(features: Any, vectors: Any, shift: Any) -> ProductSums:
    """The product of the features, which has at most twice the error of numpy's."""
    x = arrays.reference_rows(features).astype(np.longdouble) - shift
    wide = x.astype(np.float64)
    found = gram_product(as_rows(features, "H"), vectors, shift)
    # Coefficients are sums over the columns, images over the rows, with three roundings for each product.
    rounding = EPS64 * (3.0 + len(x) ** 0.5 + x.shape[1] ** 0.5)
    magnitude = (np.abs(vectors) @ np.abs(wide).T) @ np.abs(wide)
    exact = (vectors.astype(np.longdouble) @ x.T) @ x
    arrays.expected(exact, magnitude, (vectors @ wide.T) @ wide, rounding).check(found.image, "image")
    arrays.expected(x.sum(axis=0), np.abs(wide).sum(axis=0), wide.sum(axis=0), rounding).check(
        found.column_sums, "sums"
    )
    energy = np.sum(wide**2, keepdims=True)
    arrays.expected(np.sum(x**2, keepdims=True), energy, energy, rounding).check(np.array([[found.energy]]), "energy")
    return found


def bits(sums: ProductSums) -> list[bytes]:
    """Of every result."""
    return [np.asarray(part).tobytes() for part in vars(sums).values()]
