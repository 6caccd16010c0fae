"""Leading components of rows that can be read again, without a matrix of d x d: block Krylov iteration on the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import one_blas_thread
from nrc_fast.base.leading import EXTRA_VECTORS, BlockKrylov, LeadingPairs, is_close, start_block
from nrc_fast.base.linalg import EPSILON
from nrc_fast.kernels.counts import SMALLEST_ENERGY
from nrc_fast.kernels.errors import too_large
from nrc_fast.metrics.angles import leading_angle_bound
from nrc_fast.metrics.grounds import ITERATION, Grounds
from nrc_fast.metrics.residuals import resolved_rank
from nrc_fast.passes.component_costs import ComponentCosts
from nrc_fast.passes.explicit_sums import GramProduct
from nrc_fast.passes.memory_needs import MOST_READS
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.rereading import SAME_ENERGY, require_same
from nrc_fast.passes.runs import gram_product, require_rows

__all__ = ["RowComponents", "row_components"]

# Rows that the start is made of.
SAMPLE_ROWS = 64
# Angle, relative to what lies outside the components, up to which these are sought: far below the rounding of rows
# that are not float64, and near the rounding of those that are.
CLOSE = 2.0**-22
CLOSE_DOUBLE = 1e-12
# From this read on it is estimated how many are left.
SETTLED_READS = 3
# Error of the products in float64, in roundings of the mean square of the rows about their shift.
PRODUCT_ROUNDINGS = 64.0


@dataclass(frozen=True, eq=False)
class RowComponents:
    """Leading pairs of the covariance of rows, or of their second moment, and what the reads tell besides.

    Attributes
    ----------
    pairs : LeadingPairs
    mean : (d,) float64 array
    variance : float
        Mean of ``|h - mean|^2``.
    covariance_error : float
        Bound of the spectral norm of the error of the matrix that the pairs are of.
    mean_error : float
        Bound of the norm of the error of the mean.
    is_centered : bool
        Whether the pairs are of the covariance.
    grounds : frozenset of str
        What it rests on that these are the leading ones.
    """

    pairs: LeadingPairs
    mean: FloatArray
    variance: float
    covariance_error: float
    mean_error: float
    is_centered: bool
    grounds: Grounds = ITERATION

    @classmethod
    def found(
        cls, pairs: LeadingPairs, mean: FloatArray, *, variance: float, square: float, is_centered: bool
    ) -> RowComponents:
        """Those of the pairs that are more than rounding, with the bounds of its errors.

        Parameters
        ----------
        pairs, mean, variance, is_centered
            As found.
        square : float
            Mean of ``|h - s|^2`` with the shift s that was subtracted, which rounding is relative to.
        """
        rounding = PRODUCT_ROUNDINGS * EPSILON
        error = rounding * (square if is_centered else square + float(mean @ mean))
        return cls(
            pairs=pairs.part(int(np.count_nonzero(pairs.values > error))),
            mean=mean,
            variance=variance,
            covariance_error=error,
            mean_error=rounding * math.sqrt(square) + EPSILON * float(np.linalg.norm(mean)),
            is_centered=is_centered,
        )

    def variances_along(self, vectors: FloatArray) -> FloatArray:
        """Variances of the rows along the leading vectors; along others they are less than rounding."""
        values = np.zeros(len(vectors))
        known = self.pairs.values[: len(vectors)]
        values[: len(known)] = known
        return values if self.is_centered else values - (vectors @ self.mean) ** 2


def row_components(
    reading: Reading, numbers: Sequence[int], costs: ComponentCosts, *, centered: bool, double_precision: bool
) -> RowComponents | None:
    """Leading pairs of rows: as many as the largest of some numbers, and one more.

    Parameters
    ----------
    reading : Reading
        That can read its rows again and again.
    numbers : sequence of int
        Numbers of components whose span is wanted.
    costs : ComponentCosts
        That all processes agree on.
    centered : bool
        Whether components are those of the covariance, or of the second moment.
    double_precision : bool
        Whether they are sought down to the rounding of float64.

    Returns
    -------
    RowComponents or None
        None where the spectrum falls so slowly that the Gram costs less, or where squares leave the range of float64.

    Raises
    ------
    ValueError, OSError
        Rows are not finite or cannot be read, or there are none.
    RuntimeError
        The rows are not the same at every read.
    """
    rows = _RowsAsMatrix(reading, centered=centered)
    close = CLOSE_DOUBLE if double_precision else CLOSE
    count = max(numbers)
    with one_blas_thread():  # the others would wait actively beside the kernels of the next read
        krylov = BlockKrylov(rows.start(count + EXTRA_VECTORS))
    krylov.block = reading.of_first(krylov.block)
    before: LeadingPairs | None = None
    for reads in range(1, MOST_READS + 1):
        product = rows.product(krylov.block)
        if product is None:
            return None
        with one_blas_thread():
            krylov.add(rows.image(krylov.block, product))
            pairs = krylov.pairs(count + 1, trace=rows.trace)
        krylov.block = reading.of_first(krylov.block)
        pairs = _of_first(reading, pairs)
        left = _reads_left(pairs, numbers, close, before)
        if left == 0.0 or not len(krylov.block):
            break
        if reads >= SETTLED_READS and not costs.is_worth(left):
            return None
        before = pairs
    else:
        if costs.gram_fits:
            return None
    return rows.components(pairs)


def _of_first(reading: Reading, pairs: LeadingPairs) -> LeadingPairs:
    """The pairs that every process goes on with: the first's, as those of other processors have other roundings."""
    values, vectors, distances = map(reading.of_first, (pairs.values, pairs.vectors, pairs.distances))
    return LeadingPairs(values, vectors, distances, pairs.trace)


def _reads_left(pairs: LeadingPairs, numbers: Sequence[int], close: float, before: LeadingPairs | None) -> float:
    """How many more reads the components are likely to take, from what the last one brought; 0 if none."""
    rank = resolved_rank(pairs.values, pairs.d) if pairs.trace > 0.0 else 0
    most = 0.0
    for k in {min(number, rank) for number in numbers} - {0}:
        # What lies outside is a difference, and known no better than this.
        outside = max(pairs.outside(k), EPSILON * pairs.trace)
        angle = close * math.sqrt(outside / pairs.trace)
        if leading_angle_bound(pairs, k, 0.0) <= angle or is_close(pairs, k, 0.0):
            continue
        if before is None:
            return math.inf
        value = float(pairs.values[k - 1])
        gap = max(value - pairs.next_value(k), 0.01 * value)
        gained = math.log(max(before.distance(k) / pairs.distance(k), 1.0))
        wanted = math.log(max(pairs.distance(k) / (angle * gap), math.e))
        most = max(most, wanted / gained if gained > 0.0 else math.inf)
    return most


class _RowsAsMatrix:
    """The covariance of rows, or their second moment, that is known by its products with vectors: one read for each."""

    def __init__(self, reading: Reading, *, centered: bool) -> None:
        self._reading = reading
        self._is_centered = centered
        sample = reading.sample(SAMPLE_ROWS)
        self._shift: FloatArray = sample.mean(axis=0) if len(sample) else np.zeros(reading.source.d)
        self._sample = sample - self._shift
        self._first: GramProduct | None = None

    def start(self, count: int) -> FloatArray:
        """Vectors whose products are wanted first."""
        mean = () if self._is_centered else (self._shift[np.newaxis],)
        block: FloatArray = start_block(np.concatenate([self._sample, *mean]), count)
        return block

    def product(self, block: FloatArray) -> GramProduct | None:
        """The products of vectors (b, d) with the rows, one read; None where squares leave the range of float64."""
        product = gram_product(self._reading, block, self._shift, title="components")
        require_rows(self._reading, product.count)
        energy = float(product.energy[0])
        if not (math.isfinite(energy) and np.isfinite(product.image).all()):
            raise too_large(self._reading.source.name)
        if energy < SMALLEST_ENERGY * product.count and self._sample.any():
            return None
        self._require_same(product)
        return product

    def image(self, block: FloatArray, product: GramProduct) -> FloatArray:
        """The products of vectors with the matrix, from those with the rows."""
        offset = self._offset
        image: FloatArray = product.image / product.count - np.outer(block @ offset, offset)
        return image if self._is_centered else image + np.outer(block @ self._mean, self._mean)

    def _require_same(self, product: GramProduct) -> None:
        """Check that each read gives the rows of the first, as far as their sum and energy tell."""
        first = self._first = self._first or product
        energy = float(first.energy[0])
        sums = np.linalg.norm(product.column_sums - first.column_sums) / math.sqrt(product.count)
        found = np.array([float(product.energy[0]), energy + math.sqrt(energy) * float(sums)])
        require_same(found, np.full(2, energy), energy, np.full(2, SAME_ENERGY * energy))

    @property
    def _read(self) -> GramProduct:
        assert self._first is not None
        return self._first

    @property
    def _offset(self) -> FloatArray:
        return self._read.column_sums / self._read.count

    @property
    def _mean(self) -> FloatArray:
        mean: FloatArray = self._shift + self._offset
        return mean

    @property
    def _variance(self) -> float:
        return max(float(self._read.energy[0]) / self._read.count - float(self._offset @ self._offset), 0.0)

    @property
    def trace(self) -> float:
        """Of the matrix."""
        return self._variance if self._is_centered else self._variance + float(self._mean @ self._mean)

    def components(self, pairs: LeadingPairs) -> RowComponents:
        """Pairs of the matrix with what the reads tell besides."""
        square = float(self._read.energy[0]) / self._read.count
        return RowComponents.found(
            pairs, self._mean, variance=self._variance, square=square, is_centered=self._is_centered
        )
