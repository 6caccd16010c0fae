"""Debiased CKA from moments and the products of squares that a second read gives."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.rounding import SINGLE_EPSILON
from nrc_fast.metrics.targets import PairedEnergies, debiased_cka, debiased_cka_bound
from nrc_fast.passes.moments import Moments

__all__ = ["debiased_alignment"]


def debiased_alignment(moments: Moments, paired: FloatArray, *, double_precision: bool) -> tuple[float, float]:
    """Debiased linear CKA of features and targets, and its bound; NaN where there are no products of squares.

    Parameters
    ----------
    moments : Moments
        With targets.
    paired : (3,) float64 array
        As in `passes.residual_sums.Residuals`, about the means and in units of the variances.
    double_precision : bool
        Whether the squares of the features are float64.
    """
    sigma = moments.target_covariance
    variances = moments.variance, float(np.trace(sigma))
    if not (np.isfinite(paired).all() and min(variances) > 0.0):
        return math.nan, math.nan
    norms = [moments.matrix("covariance").norm]
    norms += [float(np.linalg.norm(moment)) for moment in (sigma, moments.cross_covariance)]
    units = *variances, math.sqrt(variances[0] * variances[1])
    first, second, both = ((norm / unit) ** 2 for norm, unit in zip(norms, units, strict=True))
    alignments, energies = (first, second, both), PairedEnergies(*map(float, paired))
    value = debiased_cka(alignments, energies, moments.count)
    own, theirs, cross = _alignment_errors(moments, norms, units, alignments)
    unit = EPSILON if double_precision else SINGLE_EPSILON
    centring = moments.mean_error / variances[0] ** 0.5 + moments.target_mean_error / variances[1] ** 0.5
    bound = debiased_cka_bound(
        value,
        alignments,
        energies,
        moments.count,
        errors=(own, theirs, cross),
        rounding=_rounding_of_products(moments, unit) + 4.0 * centring,
    )
    return value, bound


def _rounding_of_products(moments: Moments, unit: float) -> float:
    """Of squares of rows, probable like the root of their length, their products, and the sums of these in lanes."""
    return unit * (12.0 + 4.0 * math.sqrt(moments.d)) + EPSILON * moments.count / 128.0


def _alignment_errors(
    moments: Moments, norms: list[float], units: tuple[float, ...], alignments: tuple[float, ...]
) -> list[float]:
    """Bounds of the errors of ``(|C|_F / unit)^2``: of the norms, and of the variances that they are divided by."""
    errors = moments.covariance_error, moments.target_error, moments.cross_error
    of_features, of_targets = errors[0] / units[0], errors[1] / units[1]
    relative = 2.0 * of_features, 2.0 * of_targets, of_features + of_targets
    return [
        (2.0 * norm + error) * error / unit**2 + 2.0 * alignment * spread
        for norm, error, unit, alignment, spread in zip(norms, errors, units, alignments, relative, strict=True)
    ]
