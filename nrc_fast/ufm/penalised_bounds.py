"""Errors of a minimum of the UFM whose bias is penalised, where the mean of the targets is an eigenvector.

With Y the targets in n + 1 columns, ``Sigma^(1/2)`` and their mean, the predictions Z without the bias minimise
``|Z - Y|_D^2/2 + sqrt(c) |Z|_*``, where the last column of ``| |_D^2`` weighs ``kappa = lambda_b/(1 + lambda_b)``. That
is a proximal map, which moves Z by no more than Y in this norm (Moreau 1965): so what rounding, and a mean that is no
eigenvector to the last digit, do to Y they do to Z at most. The closed form is exact for the Y next to it that has its
eigenvectors. W W^T and H H^T are the roots of Z Z^T and Z^T Z over the scale, which move by sqrt(2) times as much as Z
(Araki and Yamagami 1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.bounds import Thresholded
from nrc_fast.ufm.eigenvalues import Spectrum

__all__ = ["Moved", "PenalisedBias", "moved_by"]

# Of a point of the curve whose root is sought, in units of eps.
CURVE_ROUNDINGS = 8.0
# Relative roundings of sqrt(c) and of kappa, and of what the closed form makes of these.
OPTION_ROUNDINGS = 8.0


@dataclass(frozen=True, eq=False)
class PenalisedBias:
    """What the closed form was solved for; the direction of the mean is the first.

    Attributes
    ----------
    spectrum : Spectrum
        Of the covariance in the basis of the closed form, in another order.
    values : (..., n) float64 array
        Variances of the directions, in the order of the spectrum.
    first : (...) float64 array
        Of them the variance along the mean.
    length : (...) float64 array
        Of the mean.
    kappa : (...) float64 array
    """

    spectrum: Spectrum
    values: FloatArray
    first: FloatArray
    length: FloatArray
    kappa: FloatArray


@dataclass(frozen=True, eq=False)
class Moved:
    """How far the exact predictions may be from those of the closed form, and the exact targets from its own.

    Attributes
    ----------
    roots : (...) float64 array
        Of the root of the covariance.
    targets : (...) float64 array
        Of all columns, that of the mean weighed.
    weighed : (...) float64 array
        Of the predictions, so weighed.
    whole : (...) float64 array
        Of the predictions as they are.
    solution : (...) float64 array
        Of what was computed from the closed form.
    """

    roots: FloatArray
    targets: FloatArray
    weighed: FloatArray
    whole: FloatArray
    solution: FloatArray

    @property
    def of_roots(self) -> FloatArray:
        """Of the Grams of weights and of features."""
        return np.asarray(np.sqrt(2.0) * self.whole)

    @property
    def of_errors(self) -> FloatArray:
        """Of the errors of the predictions with the bias."""
        return self.weighed + self.targets


def moved_by(solved: PenalisedBias, kept: FloatArray, root_c: FloatArray, mean_error: FloatArray) -> Moved:
    """How far exact targets and predictions are from those of the closed form, in Frobenius norms.

    Parameters
    ----------
    solved : PenalisedBias
    kept : (..., n) float64 array
        Singular values of the predictions, that along the mean first.
    root_c : (...) float64 array
    mean_error : (...) float64 array
        Bound of the norm of the error of the mean.

    Examples
    --------
    >>> known = Spectrum(np.ones(1), np.eye(1), np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> solved = PenalisedBias(known, np.ones(1), np.ones(()), np.ones(()), np.full((), 0.5))
    >>> moved = moved_by(solved, np.array([0.8]), np.array(0.1), np.zeros(()))
    >>> bool(0.0 < moved.whole < 1e-13)
    True
    """
    kappa, length = solved.kappa, solved.length
    zero = np.zeros(np.shape(solved.values)[:-1])
    roots = Thresholded(solved.spectrum, zero, zero, np.ones(()), 0.0).gram_error(np.sqrt(solved.values))
    of_mean = np.asarray(mean_error) + 4.0 * EPSILON * length
    targets = np.hypot(roots, np.sqrt(kappa) * of_mean)
    size = np.sqrt(solved.values.sum(axis=-1) + kappa * length**2)
    solution = np.sqrt(2.0) * _root_error(solved, kept[..., 0], root_c)
    found = targets + OPTION_ROUNDINGS * EPSILON * size + solution
    found = np.where(np.isnan(found), np.inf, found)
    # A free bias leaves nothing along the mean, which therefore does not move.
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.where(kappa > 0.0, found / np.sqrt(kappa), found)
    return Moved(roots, np.asarray(targets), np.asarray(found), np.asarray(whole), solution)


def _root_error(solved: PenalisedBias, kept: FloatArray, root_c: FloatArray) -> FloatArray:
    """Of the singular value r along the mean, by the rounding of the curve that it is sought on over its slope."""
    kappa, length = solved.kappa, solved.length
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (np.sqrt(solved.first) / (kept + root_c)) ** 2
        mean = np.where(kappa > 0.0, (kappa * length / (kappa * kept + root_c)) ** 2, 0.0)
        slope = spread / (kept + root_c) + np.where(kappa > 0.0, mean * kappa / (kappa * kept + root_c), 0.0)
        off = CURVE_ROUNDINGS * EPSILON * (spread + mean) / slope
    return np.where(kept > 0.0, off + 2.0 * EPSILON * kept, 0.0)
