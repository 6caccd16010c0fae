"""Whether a second read gave the rows of the first, as far as their sums can tell."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.passes.residual_sums import Residuals

__all__ = ["FirstRead", "require_same", "require_same_errors", "require_same_mean", "require_same_rows"]

# Two reads of the same rows agree in their energy to this, far above the rounding of sums and far below the change
# that noise of any use makes.
SAME_ENERGY = 1e-10
SAME_ENERGY_SINGLE = 1e-5


class FirstRead(Protocol):
    """What a first read tells of the features."""

    @property
    def mean(self) -> FloatArray:
        """Mean of the features, (d,)."""

    @property
    def mean_error(self) -> float:
        """Bound of the norm of the error of `mean`."""

    @property
    def variance(self) -> float:
        """Mean of |h - mean|^2."""

    @property
    def covariance_error(self) -> float:
        """Bound of the spectral norm of the error of the covariance that `variances_along` is of."""

    def variances_along(self, vectors: FloatArray) -> FloatArray:
        """Variance of the features along each of some unit vectors, (k,)."""


def require_same_rows(first: FirstRead, residuals: Residuals) -> None:
    """Check that a second read gave the same features: their energies in the leading j directions of every basis.

    Other rows, and the same ones with their columns in another order, have other energies; the order of the rows does
    not matter.

    Raises
    ------
    RuntimeError
        They do not agree up to rounding: a loader augments at random, or dropout is on.
    """
    rounding = SAME_ENERGY if residuals.is_double else SAME_ENERGY_SINGLE
    for basis, sums in zip(residuals.bases, residuals.sums, strict=True):
        offset = first.mean if basis.shift is None else first.mean - basis.shift
        along = first.variances_along(basis.vectors) + (basis.vectors @ offset) ** 2
        energy = first.variance + float(offset @ offset)
        expected = energy - np.append(0.0, np.cumsum(along))
        require_same(sums.raw / residuals.count, expected, energy, _tolerance(first, offset, len(along), rounding))


def _tolerance(first: FirstRead, offset: FloatArray, directions: int, rounding: float) -> FloatArray:
    """How far energies without the leading 0, 1, ... directions may be off for rounding of either read."""
    of_mean = (2.0 * float(np.linalg.norm(offset)) + first.mean_error) * first.mean_error
    energy = first.variance + float(offset @ offset)
    return np.asarray((4.0 + np.arange(directions + 1)) * (first.covariance_error + of_mean) + rounding * energy)


def require_same(found: FloatArray, expected: FloatArray, scale: float, tolerance: FloatArray) -> None:
    """Check that what a second read gave is what the first says.

    Parameters
    ----------
    found, expected : float64 arrays
        Energies that the second read gave, and those that the first expects.
    scale : float
        What the message gives the largest change in units of.
    tolerance : float64 array
        How much each may differ.

    Raises
    ------
    RuntimeError
        One differs by more.
    """
    with np.errstate(invalid="ignore"):
        change = np.where(np.isfinite(found), np.abs(found - expected), 0.0)
    if (change > tolerance).any():
        msg = (
            "the source gave other features when it was read again: their energy or mean changed by "
            f"{float(change.max()) / scale:.1e}. Switch off random augmentation and dropout, or store them"
        )
        raise RuntimeError(msg)


def require_same_mean(mean: FloatArray, residuals: Residuals) -> None:
    """Check that features were read again around their mean: the last basis has no vectors and no shift, the first it.

    Then the mean of ``|h|^2`` is that of ``|h - mean|^2`` and ``|mean|^2``.

    Raises
    ------
    RuntimeError
        The two do not agree up to rounding: a loader augments at random, or dropout is on.
    """
    about, plain = (float(sums.raw[0]) / residuals.count for sums in (residuals.sums[0], residuals.sums[-1]))
    rounding = SAME_ENERGY if residuals.is_double else SAME_ENERGY_SINGLE
    require_same(np.array([plain]), np.array([about + float(mean @ mean)]), plain, np.array([rounding * plain]))


def require_same_errors(found: float, expected: float, tolerance: float, size: float) -> None:
    """Check that errors of predictions, read again, are those of the moments, in units of the size of what cancels.

    Raises
    ------
    RuntimeError
        They do not agree up to rounding: features or targets are others, or they are paired in another way.
    """
    if math.isfinite(found) and abs(found - expected) > tolerance + SAME_ENERGY * size:
        msg = (
            "the source gave other features or targets when it was read again: the error of the predictions changed "
            f"from {expected:.6g} to {found:.6g}. Switch off random augmentation and dropout, or store them"
        )
        raise RuntimeError(msg)
