"""Mean and covariance of targets from float64 sums, and how far these probably are off."""

from __future__ import annotations

from dataclasses import dataclass

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, long_norm

__all__ = ["PlainTargets"]


@dataclass(frozen=True, eq=False)
class PlainTargets:
    """Targets of rows that were added up in float64, as `LongTargets` are in pairs.

    Attributes
    ----------
    rounded_offset : (n,) float64 array
        Mean of y - t about the shift t.
    offset_error : float
        Bound of the norm of what its sum is off by.
    rounded : (n, n) float64 array
        Covariance.
    rounded_error : float
        Bound of the Frobenius norm of its error.
    """

    rounded_offset: FloatArray
    offset_error: float
    rounded: FloatArray
    rounded_error: float

    def mean(self, shift: FloatArray) -> tuple[FloatArray, float]:
        """The mean about 0, and the bound of the norm of its error.

        Examples
        --------
        >>> import numpy as np
        >>> targets = PlainTargets(np.array([0.5]), 1e-17, np.ones((1, 1)), 1e-16)
        >>> mean, error = targets.mean(np.array([1.0]))
        >>> mean.tolist(), error == 1e-17 + 1.5 * EPSILON
        ([1.5], True)
        """
        mean: FloatArray = shift + self.rounded_offset
        return mean, self.offset_error + EPSILON * long_norm(mean)
