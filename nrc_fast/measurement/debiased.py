"""Debiased CKA, from moments and products of squares that a second read gives; of few rows, exact alignments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import exactly
from nrc_fast.base.exact_products import column_means, gram, sums_along
from nrc_fast.base.linalg import EPSILON, long_norm, scale_to_unit
from nrc_fast.metrics.rounding import SINGLE_EPSILON
from nrc_fast.metrics.targets import PairedEnergies, debiased_cka, debiased_cka_bound
from nrc_fast.passes.moments import Moments

__all__ = ["RowAlignments", "debiased_alignment"]


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
    norms += [long_norm(moment) for moment in (sigma, moments.cross_covariance)]
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
        unit_error=4.0 * EPSILON,
    )
    return value, bound


@dataclass(frozen=True)
class RowAlignments:
    """Squares of norms of covariances of few rows and their targets, exact but for some roundings of each sum.

    Attributes
    ----------
    count : int
        Rows.
    alignments, errors : three floats
        ``|C|_F^2`` of features, of targets, and of both, in units of the variances, and bounds of their errors.
    energies : PairedEnergies
    of_sums, of_units : float
        Bounds of the errors of the energies, and of the squares of single rows in these units, relative to them.
    """

    count: int
    alignments: tuple[float, float, float]
    errors: tuple[float, float, float]
    energies: PairedEnergies
    of_sums: float
    of_units: float

    @classmethod
    def of(cls, rows: FloatArray, targets: FloatArray) -> RowAlignments | None:
        """Those of rows (N, d) and targets (N, n); None where either of them have no variance.

        Examples
        --------
        >>> rows = np.random.default_rng(0).standard_normal((20, 3))
        >>> found = RowAlignments.of(rows, rows)
        >>> all(abs(value - 1.0) <= bound < 1e-14 for value, bound in (found.cka(), found.debiased()))
        True
        """
        count, d = rows.shape
        centred, units, squares, unknown = [], [], [], 0.0
        for part in (rows, targets):
            about, off = _about_mean(scale_to_unit(part)[0])
            of_rows = sums_along(about**2, axis=1)
            units.append(float(sums_along(of_rows, axis=0)) / count)
            if not units[-1] > 0.0:
                return None
            unknown += off / units[-1] ** 0.5
            centred.append(about)
            squares.append(of_rows / units[-1])
        with few_blas_threads(d):
            moments, off_products = gram(exactly(np.hstack(centred)))
        products = squares[0] * squares[0], squares[1] * squares[1], squares[0] * squares[1]
        scales = units[0] ** 2, units[1] ** 2, units[0] * units[1]
        parts = (slice(d), slice(d)), (slice(d, None), slice(d, None)), (slice(d), slice(d, None))
        # In halves of an epsilon, entries of rows are off by 2, squares of rows by 7, these over the unit, which is a
        # number of its own, by 8, products of two by 17 and their sums by 19; covariances, by 4 of the products of the
        # norms of two columns, and each entry by 2, their squares by 5, over units by 9.
        alignments, errors = [], []
        for place, scale in zip(parts, scales, strict=True):
            size = float(sums_along(np.ravel(moments.high[place] / count) ** 2, axis=0)) / scale
            off = float(np.linalg.norm(off_products[place])) / count / scale**0.5 + 2.0 * EPSILON + 2.0 * unknown
            alignments.append(size)
            errors.append(4.5 * EPSILON * size + (2.0 * size**0.5 + off) * off)
        return cls(
            count,
            (alignments[0], alignments[1], alignments[2]),
            (errors[0], errors[1], errors[2]),
            PairedEnergies(*(float(sums_along(each, axis=0)) for each in products)),
            of_sums=9.5 * EPSILON + 8.0 * unknown,
            of_units=9.0 * EPSILON + 8.0 * unknown,
        )

    def cka(self) -> tuple[float, float]:
        """Linear CKA, ``|C_hy|_F^2 / (|C_hh|_F |C_yy|_F)``, and its bound."""
        first, second, shared = self.alignments
        of_first, of_second, of_shared = self.errors
        value, least = shared / math.sqrt(first * second), max(first - of_first, 0.0) * max(second - of_second, 0.0)
        if not least > 0.0:
            return value, 1.0
        above = (shared + of_shared) / math.sqrt(least) - value
        below = value - (shared - of_shared) / math.sqrt((first + of_first) * (second + of_second))
        return value, min(max(above, below) + 6.0 * EPSILON * value, 1.0)

    def debiased(self) -> tuple[float, float]:
        """Debiased linear CKA and its bound."""
        value = debiased_cka(self.alignments, self.energies, self.count)
        bound = debiased_cka_bound(
            value,
            self.alignments,
            self.energies,
            self.count,
            errors=self.errors,
            rounding=self.of_sums,
            unit_error=self.of_units,
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


def _about_mean(rows: FloatArray) -> tuple[FloatArray, float]:
    """Rows less their mean, of which each entry is off by two roundings, and a bound of what each row lacks alike."""
    means, off = column_means(exactly(rows))
    about = (rows - means.high) - means.low
    return about, float(np.linalg.norm(off + EPSILON * np.abs(means.low)))
