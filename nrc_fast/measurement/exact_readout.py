"""The least error of an affine readout of few rows: of what exact components leave of the targets, row by row."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, exactly, subtracted
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, ErrorBounds, product, sums_along
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.measurement.exact_components import ExactComponents
from nrc_fast.measurement.exact_targets import OF_PAIRS, rows_about_mean

__all__ = ["exact_readout"]

# Errors of images, relative to all rows along a component, from which on it is not read from.
UNKNOWN = 2.0**-20
# How far normalised images may be from orthonormal for one step to be enough.
SKEWED = 0.1


def exact_readout(components: ExactComponents, targets: FloatArray) -> tuple[float, float] | None:
    """``min over A, a of (1/N) sum |A h + a - y|^2`` and its bound; None where the images are not near orthogonal.

    What is left of the targets is found for the readout of images that are orthogonal but for roundings. It is more
    than the least by the square of what the readout is off by. Components that are all rounding are not read from:
    what they could explain is not known, and the bound is then no less than the value.

    Parameters
    ----------
    components : ExactComponents
        Of the covariance of all rows.
    targets : (N, n) float64 array

    Examples
    --------
    >>> from nrc_fast.measurement.exact_components import exact_components
    >>> rows = np.array([[2.0], [-2.0], [1.0], [-1.0]])
    >>> components = exact_components(rows, np.eye(1), centered=True)
    >>> value, bound = exact_readout(components, 1e8 + rows + np.array([[1.0], [1.0], [-1.0], [-1.0]]))
    >>> abs(value - 1.0) <= bound < 1e-15
    True
    """
    count = len(targets)
    scaled, exponent = scale_to_unit(targets)
    images, errors = _images_of_size_one(components)
    k, lengths = images.high.shape[1], np.sqrt(np.einsum("ij,ij->j", images.high, images.high))
    with few_blas_threads(max(k, targets.shape[1])):
        aimed, of_means = rows_about_mean(scaled)
        loads = images.high.T @ aimed.high / lengths[:, np.newaxis] ** 2
        skew = images.high.T @ images.high / np.outer(lengths, lengths) - np.eye(k)
        fitted, of_products = product(images, exactly(loads))
        left = subtracted(aimed, fitted)
    # Of the products of float64 numbers above, each at its worst.
    rounding = (count + 8.0) * EPSILON * math.sqrt(k)
    skewed = float(np.linalg.norm(skew)) + rounding * math.sqrt(k)
    of_images = math.sqrt(count * float((errors.mean_squares() / lengths**2).sum()))
    if k == 0 or not skewed + of_images < SKEWED:
        return None
    size = float(np.linalg.norm(aimed.high))
    # Readouts that come near the least are no longer than this, those found and the best one.
    longest = size * (1.0 + 2.0 * (skewed + of_images))
    value = float(sums_along(np.ravel(left.high) ** 2, axis=0))
    off = of_images * longest + math.sqrt(count * float(of_products.mean_squares().sum()))
    off += OF_PAIRS * (size + longest) + math.sqrt(count) * float(np.linalg.norm(of_means))
    excess = (2.0 * (skewed + rounding) * longest) ** 2
    bound = 6.0 * UNIT_ROUNDOFF * value + (2.0 * math.sqrt(value) + off) * off + excess
    bound *= 1.0 + 4.0 * (count + k) * EPSILON  # of these bounds themselves
    if k < len(components.values.high):
        bound = max(bound, value)
    found, most = (float(np.ldexp(part / count, 2 * exponent)) for part in (value, bound))
    return found, most


def _images_of_size_one(components: ExactComponents) -> tuple[Pair, ErrorBounds]:
    """Images on components that are more than rounding, times powers of two that lose nothing, and their errors."""
    images, errors = components.images.images, components.images.errors
    lengths = np.sqrt(np.einsum("ij,ij->j", images.high, images.high))
    kept = np.flatnonzero(np.sqrt(len(images.high) * errors.mean_squares()) < UNKNOWN * lengths)
    powers = -np.frexp(lengths[kept])[1]
    high, low, of_columns = (np.ldexp(part[:, kept], powers) for part in (*images, errors.of_columns))
    return Pair(high, low), ErrorBounds(errors.of_rows, of_columns)
