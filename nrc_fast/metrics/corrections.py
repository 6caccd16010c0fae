"""What exact components, or an exact mean, change in a mean residual on those that were found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray

__all__ = ["Correction", "FirstOrder", "sums_across"]


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """What exact components change in NRC1 with k = 1..K of those found, (K,) each.

    Attributes
    ----------
    changes : float64 array
        To first order in the angles.
    angles : float64 array
        Bounds of the sines of the angles; infinite where these are not known.
    unknown : float64 array
        What of the angles the changes do not hold.
    rounding : float64 array
        Bounds of the rounding of the changes.
    """

    changes: FloatArray
    angles: FloatArray
    unknown: FloatArray
    rounding: FloatArray

    def applied(self, k: int, value: float, energy: float) -> tuple[float, float, float]:
        """The value with k exact components, the angle that is left, and what is of second order, with roundings."""
        place = k - 1
        if place >= len(self.changes) or not math.isfinite(self.angles[place]):
            return value, math.inf, math.inf
        beyond = 2.0 * float(self.angles[place]) ** 2 * energy + float(self.rounding[place])
        return max(value + float(self.changes[place]), 0.0), float(self.unknown[place]), beyond


@dataclass(frozen=True, eq=False)
class Correction:
    """What is changed in NRC1 with k = 1..K of the components found, (K,) each.

    Attributes
    ----------
    changes : float64 array
    angles : float64 array
        Bounds of the sines of the angles of the components found; infinite where these are not known.
    unknown : float64 array
        Bounds of the angles that are left with the changes.
    errors : float64 array
        Of the changes, for the angles that they are of.
    shares : float64 array
        Errors of the changes besides, as shares of the value.
    has_mean : bool
        Whether they are of the exact mean too.
    """

    changes: FloatArray
    angles: FloatArray
    unknown: FloatArray
    errors: FloatArray
    shares: FloatArray
    has_mean: bool = False

    def applied(self, k: int, value: float, energy: float) -> tuple[float, float, float]:
        """The value with k exact components, the angle that is left, and what the changes are off by."""
        place = k - 1
        if place >= len(self.changes) or not math.isfinite(self.angles[place]):
            return value, math.inf, math.inf
        beyond = float(self.shares[place]) * value + float(self.errors[place])
        return min(max(value + float(self.changes[place]), 0.0), energy), float(self.unknown[place]), beyond

    def moved(self, changes: FloatArray, errors: FloatArray) -> Correction:
        """With what the exact mean changes."""
        return replace(self, changes=self.changes + changes, errors=self.errors + errors, has_mean=True)

    @property
    def is_finite(self) -> bool:
        """Whether all changes are numbers."""
        return bool(np.isfinite(self.changes).all() and np.isfinite(self.errors).all())


def sums_across(parts: FloatArray) -> FloatArray:
    """Sums over the leading k columns below the leading k rows of parts (d, K), for k = 1, ..., K; K is below d.

    Examples
    --------
    >>> sums_across(np.array([[9.0, 9.0], [1.0, 9.0], [2.0, 4.0]])).tolist()
    [3.0, 6.0]
    """
    sums = np.cumsum(np.cumsum(parts[::-1], axis=0)[::-1], axis=1)
    places = np.arange(parts.shape[1])
    found: FloatArray = sums[places + 1, places]
    return found
