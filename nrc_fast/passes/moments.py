"""Moments of features and targets from their sums, and how far they can be off."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import EXTRA_VECTORS, LEAST_FEATURES, LeadingPairs, leading_pairs
from nrc_fast.base.linalg import EPSILON, clipped_spectrum, from_lower, scaled_norm
from nrc_fast.kernels.counts import MAGNITUDE_PLACES
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cpu.machine import block_rows
from nrc_fast.kernels.interface import Shifts
from nrc_fast.metrics.rounding import block_rounding
from nrc_fast.passes.shifted_sums import ShiftedSums

__all__ = ["Moments"]

# How features are multiplied, of the magnitudes.
KINDS = ("double", "single", "device", "fast")
# Leading pairs need not be closer than this share of the bound of their matrix's error, which is itself far below it.
SHARE_OF_ERROR = 2.0**-10


class Moments(ShiftedSums):
    """Means, covariances and second moments of the rows seen so far, with bounds of their errors.

    Parameters
    ----------
    d, n_targets, unit_rows, precision, products, skips_on_device
        What is summed, and how: see `ShiftedSums`.
    """

    def _changed(self) -> None:
        super()._changed()
        self._spectra: dict[bool, tuple[FloatArray, FloatArray]] = {}
        self._leading: dict[tuple[bool, int], LeadingPairs] = {}
        self._covariance: tuple[dict[str, FloatArray], FloatArray] | None = None

    def recentered(self) -> Moments:
        """Empty moments of the same kind that will subtract the mean of these."""
        other = Moments(self.d, n_targets=self.n_targets, unit_rows=self.unit_rows, precision=self.precision)
        shift = self.mean.astype(np.float32).astype(np.float64)
        other._fix_shifts(Shifts(CPU, shift, self._settled["target_shift"]))
        return other

    # ---- moments ----

    @property
    def mean_offset(self) -> FloatArray:
        """Mean of h - s, (d,)."""
        return self._settled["column_sums"] / self.count

    @property
    def mean(self) -> FloatArray:
        """Mean of the features, (d,)."""
        mean: FloatArray = self._settled["shift"] + self.mean_offset
        return mean

    @property
    def covariance(self) -> FloatArray:
        """Population covariance of the features, (d, d): ``(1/N) sum (h - mean)(h - mean)^T``; not to be written to.

        Kept until more rows come: at a large d it takes as long as reading some hundred megabytes.
        """
        settled, kept = self._settled, self._covariance
        if kept is not None and kept[0] is settled:
            return kept[1]
        covariance, offset = from_lower(settled["gram"]), settled["column_sums"] / self.count
        covariance /= self.count
        covariance -= np.outer(offset, offset)
        covariance.flags.writeable = False
        self._covariance = settled, covariance
        return covariance

    @property
    def variance(self) -> float:
        """Trace of `covariance`: the mean of |h - mean|^2."""
        return float(np.sum(np.diagonal(self._settled["gram"]) / self.count - self.mean_offset**2))

    def variances_along(self, vectors: FloatArray) -> FloatArray:
        """Variances along some unit vectors (k, d)."""
        along: FloatArray = np.sum(vectors * (vectors @ self.covariance), axis=1)
        return along

    @property
    def energy(self) -> float:
        """Trace of `second_moment`: the mean of |h|^2."""
        return self.variance + float(self.mean @ self.mean)

    @property
    def second_moment(self) -> FloatArray:
        """``(1/N) sum h h^T``, (d, d): the covariance with the shift undone."""
        return self.covariance + np.outer(self.mean, self.mean)

    def spectrum(self, *, centered: bool = True) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues, descending, and eigenvectors (columns) of `covariance`, or of `second_moment`.

        Kept until more rows come: at a large d nothing else takes as long.
        """
        if centered not in self._spectra:
            matrix = self.covariance if centered else self.second_moment
            self._spectra[centered] = self._eigh(matrix)
        return self._spectra[centered]

    def leading(self, k: int, *, centered: bool = True, whole: bool = False) -> LeadingPairs:
        """The leading k eigenpairs of `covariance`, or of `second_moment`, and one more where there is one.

        All of them if the whole spectrum is wanted anyway, or costs no more. Else each pair is closer to one of the
        matrix than that is to the features. What was asked for before changes no bit.
        """
        if whole or self.d < LEAST_FEATURES * (k + EXTRA_VECTORS):
            return self._whole(centered=centered)
        if (centered, k) not in self._leading:
            matrix = self.covariance if centered else self.second_moment
            tolerance = SHARE_OF_ERROR * self.covariance_error
            found = leading_pairs(matrix, k, tolerance=tolerance, trace=self.variance if centered else self.energy)
            self._leading[centered, k] = self._whole(centered=centered) if found is None else found
        return self._leading[centered, k]

    def _whole(self, *, centered: bool) -> LeadingPairs:
        values, vectors = self.spectrum(centered=centered)
        return LeadingPairs(values, vectors.T, np.zeros(self.d), float(values.sum()))

    def readable_spectrum(self) -> tuple[FloatArray, FloatArray]:
        """The spectrum of `covariance`, with 0 for eigenvalues that cannot be told from rounding."""
        eigenvalues, vectors = self.spectrum()
        eigenvalues = clipped_spectrum(eigenvalues)
        return np.where(eigenvalues > 4.0 * self.covariance_error, eigenvalues, 0.0), vectors

    @property
    def unit_second_moment(self) -> FloatArray:
        """``(1/N) sum u u^T`` with u = h/||h||, (d, d); zero rows add nothing."""
        if not self.unit_rows:
            msg = "these statistics were made without unit_rows=True"
            raise ValueError(msg)
        return from_lower(self._settled["unit_gram"]) / self.count

    @property
    def target_mean(self) -> FloatArray:
        """Mean of the targets, (n,)."""
        return self._settled["target_shift"] + self._settled["target_sums"] / self.count

    @property
    def target_covariance(self) -> FloatArray:
        """Population covariance of the targets, (n, n)."""
        offset = self._settled["target_sums"] / self.count
        return from_lower(self._settled["target_gram"]) / self.count - np.outer(offset, offset)

    @property
    def cross_covariance(self) -> FloatArray:
        """``(1/N) sum (h - mean_h)(y - mean_y)^T``, (d, n)."""
        offsets = np.outer(self.mean_offset, self._settled["target_sums"] / self.count)
        covariance: FloatArray = self._settled["cross"].T / self.count - offsets
        return covariance

    # ---- accuracy ----

    def _rounding(self, kind: str) -> float:
        """Bound of the rounding of a sum of squares, relative to the sum.

        `rounding.block_rounding` within a block; over blocks and parts, added in float64, the worst case.
        """
        blocks, parts = self._count("blocks"), max(self._count("parts"), 1)
        return block_rounding(kind, block_rows()) + EPSILON / 2 * (blocks / parts + parts)

    def _magnitude(self, name: str) -> float:
        return float(self._settled["magnitudes"][MAGNITUDE_PLACES[name]])

    @property
    def relative_error(self) -> float:
        """Bound of the error of `unit_second_moment`, relative to its trace."""
        return max(self._rounding(kind) for kind in KINDS if kind == "double" or self._count(kind))

    @property
    def _error(self) -> float:
        """Bound of the error of a mean of squares of features."""
        return sum(self._rounding(kind) * self._magnitude(kind) for kind in KINDS) / self.count

    @property
    def mean_square(self) -> float:
        """Mean of |h - s|^2 with the shifts that were subtracted: what rounding is relative to."""
        return sum(map(self._magnitude, KINDS)) / self.count

    @property
    def covariance_error(self) -> float:
        """Bound of the spectral norm of the error of `covariance`: of the Gram, and twice of the mean's square."""
        return 3.0 * self._error

    @property
    def mean_error(self) -> float:
        """Bound of the norm of the error of `mean`."""
        return self._error_of_mean(self._error, self.mean_square, self.mean)

    @property
    def target_mean_error(self) -> float:
        """Bound of the norm of the error of `target_mean`."""
        square = self._magnitude("targets") / self.count
        return self._error_of_mean(self.target_error, square, self.target_mean)

    @staticmethod
    def _error_of_mean(error: float, mean_square: float, mean: FloatArray) -> float:
        """Rounding is relative to the root of the mean square, and the sum with the shift is rounded once more."""
        relative = error / mean_square if mean_square > 0.0 else 0.0
        return relative * math.sqrt(mean_square) + EPSILON * math.ldexp(*scaled_norm(mean))

    @property
    def target_error(self) -> float:
        """Bound of the norm of the error of `target_covariance`."""
        return 3.0 * self._rounding("double") * self._magnitude("targets") / self.count

    @property
    def cross_error(self) -> float:
        """Bound of the norm of the error of `cross_covariance`: products of both magnitudes."""
        targets = self._magnitude("targets")
        error = sum(self._rounding(kind) * math.sqrt(self._magnitude(kind) * targets) for kind in KINDS)
        return 3.0 * error / self.count
