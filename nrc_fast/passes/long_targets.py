"""Mean and covariance of targets from sums that are pairs of float64 numbers, and how far these are off at most.

With u the unit roundoff, every rounding at its worst: a block of 256 rows in 8 lanes adds 32 products to each sum,
whose roundings are added up beside it, and lose less than ``2^13 u^2`` of the sum of absolute products; then sums are
added as pairs, fewer times than twice the rows, and lose ``4 u^2`` each time, as changes of the shift do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.double_double import Pair, added, exactly, product, quotient
from nrc_fast.base.exact_products import UNIT_ROUNDOFF
from nrc_fast.base.linalg import from_lower, long_norm
from nrc_fast.kernels.long_sums import long_sum

__all__ = ["LongTargets"]

# Of what a block of rows loses, and each row later, in squares of the unit roundoff.
OF_BLOCKS = 2.0**13
OF_ADDITIONS = 2.0**4
# What a product of two numbers may be off by whose square has no normal number.
LEAST = 2.0**-1015


@dataclass(frozen=True, eq=False)
class LongTargets:
    """Targets of rows that were added up as pairs.

    Attributes
    ----------
    offset : Pair
        Mean of y - t about the shift t, (n,).
    offset_error : float
        Bound of the norm of its error.
    covariance : Pair
        (n, n).
    covariance_error : float
        Bound of the Frobenius norm of its error.
    """

    offset: Pair
    offset_error: float
    covariance: Pair
    covariance_error: float

    @classmethod
    def of(cls, sums: Mapping[str, FloatArray], count: int, square: float) -> LongTargets:
        """From sums about the shift.

        Parameters
        ----------
        sums : mapping
            By the names of `kernels.counts.ADDITIVE`.
        count : int
            N, of at least one row.
        square : float
            Mean square of what was added up, about the shifts that it had.

        Examples
        --------
        >>> sums = {"target_sums": np.array([3.0]), "target_gram": np.array([[5.0]])}
        >>> sums |= {"target_sums_rest": np.zeros(1), "target_gram_rest": np.zeros((1, 1))}
        >>> found = LongTargets.of(sums, 2, 2.5)
        >>> found.covariance.high.item(), found.covariance_error < 1e-26
        (0.25, True)
        """
        lower = long_sum(sums, "target_gram")
        offset = quotient(long_sum(sums, "target_sums"), float(count))
        column = Pair(*(part[:, np.newaxis] for part in offset))
        squares = product(column, Pair(*(-part.T for part in column)))
        # Entries above the diagonal are those below it to the last bit.
        covariance = Pair(*map(from_lower, added(quotient(lower, float(count)), squares)))
        share = (OF_BLOCKS + OF_ADDITIONS * count) * UNIT_ROUNDOFF**2
        least = LEAST * len(offset.high)
        return cls(
            offset=offset,
            offset_error=2.0 * share * math.sqrt(square) + least,
            covariance=covariance,
            covariance_error=4.0 * share * square + least,
        )

    @property
    def rounded_offset(self) -> FloatArray:
        """The mean about the shift in float64."""
        return self.offset.high

    @property
    def rounded(self) -> FloatArray:
        """The covariance in float64."""
        return self.covariance.high

    @property
    def rounded_error(self) -> float:
        """Bound of the Frobenius norm of its error."""
        return UNIT_ROUNDOFF * (1.0 + 2.0**-30) * long_norm(self.covariance.high) + self.covariance_error

    def mean(self, shift: FloatArray) -> tuple[FloatArray, float]:
        """The mean about 0, rounded to float64, and the bound of the norm of its error."""
        mean, rest = added(exactly(shift), self.offset)
        return mean, long_norm(rest) * (1.0 + 2.0**-30) + 2.0 * self.offset_error
