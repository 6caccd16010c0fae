"""Moments of features and targets from their sums, and how far they can be off."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import EXTRA_VECTORS, LEAST_FEATURES, LeadingPairs
from nrc_fast.base.linalg import EPSILON, clipped_spectrum, from_lower, long_norm
from nrc_fast.base.symmetric import EigenPairs, SymmetricMatrix
from nrc_fast.kernels.counts import MAGNITUDE_PLACES
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cpu.machine import block_rows
from nrc_fast.kernels.interface import Shifts
from nrc_fast.metrics.grounds import Grounds, grounds_of_sums
from nrc_fast.metrics.rounding import CHAINED_ROWS, addition_rounding, block_rounding
from nrc_fast.passes.derived import Derived
from nrc_fast.passes.long_targets import LongTargets
from nrc_fast.passes.plain_targets import PlainTargets
from nrc_fast.passes.settled_sums import SettledSums
from nrc_fast.passes.shifted_sums import ShiftedSums

__all__ = ["MatrixKind", "Moments"]

MatrixKind = Literal["covariance", "second_moment", "unit_second_moment"]

# How features are multiplied, of the magnitudes.
KINDS = ("double", "single", "device", "fast")
# Leading pairs need not be closer than this share of the bound of their matrix's error, which is itself far below it.
SHARE_OF_ERROR = 2.0**-10


class Moments(ShiftedSums):
    """Means, covariances and second moments of the rows seen so far, with bounds of their errors.

    Parameters
    ----------
    d, n_targets, unit_rows, precision, products, skips_on_device, double_rows
        What is summed, and how: see `ShiftedSums`.
    """

    def _changed(self) -> None:
        super()._changed()
        self._pairs: dict[bool, EigenPairs] = {}
        self._leading: dict[tuple[bool, int, bool], LeadingPairs] = {}
        self._derived: tuple[SettledSums, dict[str, Any]] | None = None

    @property
    def derived(self) -> dict[str, Any]:
        """What has been computed of these sums as they are."""
        settled, kept = self._settled, self._derived
        if kept is None or kept[0] is not settled:
            self._derived = kept = settled, {}
        return kept[1]

    def recentered(self) -> Moments:
        """Empty moments of the same kind that will subtract the mean of these."""
        other = Moments(
            self.d,
            n_targets=self.n_targets,
            unit_rows=self.unit_rows,
            precision=self.precision,
            double_rows=self.double_rows,
        )
        shift = self.mean.astype(np.float32).astype(np.float64)
        other._fix_shifts(Shifts(CPU, shift, self._settled["target_shift"]))
        return other

    # ---- moments ----

    @property
    def shifts(self) -> tuple[FloatArray, FloatArray]:
        """What was subtracted from features and targets, exactly: s and t."""
        return self._settled["shift"], self._settled["target_shift"]

    @Derived
    def mean_offset(self) -> FloatArray:
        """Mean of h - s, (d,)."""
        return self._settled["column_sums"] / self.count

    @Derived
    def mean(self) -> FloatArray:
        """Mean of the features, (d,)."""
        mean: FloatArray = self._settled["shift"] + self.mean_offset
        return mean

    def matrix(self, kind: MatrixKind) -> SymmetricMatrix:
        """One of the second moments of the features, in the memory where its sums lie.

        Kept until more rows come: at a large d it takes as long as reading some hundred megabytes.
        """
        settled, matrices = self._settled, self._matrices
        if kind not in matrices:
            if kind == "covariance":
                matrices[kind] = settled.covariance("gram", settled["column_sums"] / self.count)
            elif kind == "second_moment":
                matrices[kind] = self.matrix("covariance").raised(self.mean)
            else:
                matrices[kind] = settled.covariance("unit_gram")
        return matrices[kind]

    @Derived
    def _matrices(self) -> dict[str, SymmetricMatrix]:
        return {}

    @property
    def covariance(self) -> FloatArray:
        """Population covariance of the features, (d, d): ``(1/N) sum (h - mean)(h - mean)^T``; not to be written to."""
        return self.matrix("covariance").on_host()

    @Derived
    def variances(self) -> FloatArray:
        """Diagonal of `covariance`, none negative."""
        found: FloatArray = np.maximum(self._settled.diagonal / self.count - self.mean_offset**2, 0.0)
        return found

    @Derived
    def variance(self) -> float:
        """Trace of `covariance`: the mean of |h - mean|^2."""
        return float(np.sum(self._settled.diagonal / self.count - self.mean_offset**2))

    def variances_along(self, vectors: FloatArray) -> FloatArray:
        """Variances along some unit vectors (k, d)."""
        along: FloatArray = np.sum(vectors * self.matrix("covariance").products(vectors), axis=1)
        return along

    @property
    def energy(self) -> float:
        """Trace of `second_moment`: the mean of |h|^2."""
        return self.variance + float(self.mean @ self.mean)

    @property
    def second_moment(self) -> FloatArray:
        """``(1/N) sum h h^T``, (d, d): the covariance with the shift undone."""
        return self.covariance + np.outer(self.mean, self.mean)

    def _matrix_of(self, *, centered: bool) -> SymmetricMatrix:
        return self.matrix("covariance" if centered else "second_moment")

    def pairs(self, *, centered: bool = True) -> EigenPairs:
        """All eigenpairs of `covariance`, or of `second_moment`, where that lies.

        Kept until more rows come: at a large d nothing else takes as long.
        """
        if centered not in self._pairs:
            self._pairs[centered] = self._matrix_of(centered=centered).decomposed()
        return self._pairs[centered]

    def spectrum(self, *, centered: bool = True) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues, descending, and eigenvectors (columns) of `covariance`, or of `second_moment`, on the host."""
        pairs = self.pairs(centered=centered)
        return pairs.values, pairs.vectors(self.d).T

    def leading(
        self, k: int, *, centered: bool = True, whole: bool = False, vectors: int | None = None
    ) -> LeadingPairs:
        """The leading k eigenpairs of `covariance`, or of `second_moment`, and one more where there is one.

        All of them if the whole spectrum is wanted anyway, or costs no more. Else each pair is closer to one of the
        matrix than that is to the features. What was asked for before changes no bit.

        Parameters
        ----------
        k : int
        centered, whole : bool
        vectors : int, optional
            How many vectors are wanted on the host, where all pairs are found; k if it is not given.
        """
        wanted = k if vectors is None else vectors
        if whole or self.d < LEAST_FEATURES * (k + EXTRA_VECTORS):
            return self._whole(wanted, centered=centered)
        place = centered, k, False
        if place not in self._leading:
            tolerance = SHARE_OF_ERROR * self.covariance_error
            trace = self.variance if centered else self.energy
            found = self._matrix_of(centered=centered).leading(k, tolerance=tolerance, trace=trace)
            self._leading[place] = self._whole(wanted, centered=centered) if found is None else found
        return self._leading[place]

    def _whole(self, k: int, *, centered: bool) -> LeadingPairs:
        place = centered, k, True
        if place not in self._leading:
            pairs = self.pairs(centered=centered)
            values = pairs.values
            self._leading[place] = LeadingPairs(values, pairs.vectors(k), np.zeros(self.d), float(values.sum()))
        return self._leading[place]

    @property
    def readable_values(self) -> FloatArray:
        """Eigenvalues of `covariance`, descending, with 0 for those that cannot be told from rounding."""
        eigenvalues = clipped_spectrum(self.pairs().values)
        return np.where(eigenvalues > 4.0 * self.covariance_error, eigenvalues, 0.0)

    def readable_spectrum(self) -> tuple[FloatArray, FloatArray]:
        """The spectrum of `covariance`, with 0 for eigenvalues that cannot be told from rounding."""
        return self.readable_values, self.spectrum()[1]

    @property
    def unit_second_moment(self) -> FloatArray:
        """``(1/N) sum u u^T`` with u = h/||h||, (d, d); zero rows add nothing."""
        if not self.unit_rows:
            msg = "these statistics were made without unit_rows=True"
            raise ValueError(msg)
        return self.matrix("unit_second_moment").on_host()

    @Derived
    def long_targets(self) -> LongTargets | None:
        """Mean and covariance of the targets to twice the digits, where all rows were added up so."""
        if not self.has_long_targets:
            return None
        return LongTargets.of(self._settled.numbers, self.count, self._magnitude("targets") / self.count)

    @Derived
    def _targets(self) -> LongTargets | PlainTargets:
        return self._plain_targets if self.long_targets is None else self.long_targets

    @Derived
    def _plain_targets(self) -> PlainTargets:
        offset, square = self._settled["target_sums"] / self.count, self._magnitude("targets") / self.count
        return PlainTargets(
            rounded_offset=offset,
            offset_error=self._rounding_of_target_sums * math.sqrt(square),
            rounded=from_lower(self._settled["target_gram"]) / self.count - np.outer(offset, offset),
            rounded_error=_about_mean(self._rounding("double") * square, square, offset, self._rounding_of_target_sums),
        )

    @Derived
    def _target_mean(self) -> tuple[FloatArray, float]:
        return self._targets.mean(self._settled["target_shift"])

    @property
    def target_mean(self) -> FloatArray:
        """Mean of the targets, (n,)."""
        return self._target_mean[0]

    @property
    def target_covariance(self) -> FloatArray:
        """Population covariance of the targets, (n, n)."""
        return self._targets.rounded

    @property
    def target_offset(self) -> FloatArray:
        """Mean of y - t, (n,)."""
        return self._targets.rounded_offset

    @Derived
    def cross_covariance(self) -> FloatArray:
        """``(1/N) sum (h - mean_h)(y - mean_y)^T``, (d, n)."""
        offsets = np.outer(self.mean_offset, self.target_offset)
        covariance: FloatArray = self._settled["cross"].T / self.count - offsets
        return covariance

    # ---- accuracy ----

    def _rounding(self, kind: str) -> float:
        """Bound of the rounding of a sum of squares, relative to the sum: within blocks, and over blocks and parts."""
        return self._roundings[kind]

    @Derived
    def _roundings(self) -> dict[str, float]:
        rows = min(block_rows(), self.count)
        return {kind: block_rounding(kind, rows) + self._rounding_over_blocks for kind in KINDS}

    @Derived
    def _rounding_over_blocks(self) -> float:
        """Rounding where the sums of a block are added to others, then parts to parts, which nobody has chosen."""
        blocks, parts = self._count("blocks"), max(self._count("parts"), 1)
        return addition_rounding(max(blocks / parts, 1.0)) + EPSILON / 2 * parts

    @Derived
    def _rounding_of_sums(self) -> float:
        """Bound of the rounding of sums of the features, relative to the root of the sum of their squares.

        The CPU adds up few rows at a time, in the type that it multiplies in, and devices in float64.
        """
        if not self._count("single"):
            return self._rounding_of_target_sums
        return block_rounding("single", min(CHAINED_ROWS, self.count)) + self._rounding_over_blocks

    @Derived
    def _rounding_of_target_sums(self) -> float:
        return addition_rounding(min(CHAINED_ROWS, self.count)) + self._rounding_over_blocks

    def _magnitude(self, name: str) -> float:
        return float(self._settled["magnitudes"][MAGNITUDE_PLACES[name]])

    @property
    def relative_error(self) -> float:
        """Bound of the error of `unit_second_moment`, relative to its trace."""
        return max(self._rounding(kind) for kind in KINDS if kind == "double" or self._count(kind))

    @Derived
    def _error(self) -> float:
        """Bound of the error of a mean of squares of features."""
        return sum(self._rounding(kind) * self._magnitude(kind) for kind in KINDS) / self.count

    @property
    def grounds(self) -> Grounds:
        """What the bounds of these moments rest on: how the features were multiplied, and their sums."""
        return grounds_of_sums(["double", *(kind for kind in KINDS if self._magnitude(kind) > 0.0)])

    @Derived
    def mean_square(self) -> float:
        """Mean of |h - s|^2 with the shifts that were subtracted: what rounding is relative to."""
        return sum(map(self._magnitude, KINDS)) / self.count

    @Derived
    def covariance_error(self) -> float:
        """Bound of the Frobenius norm of the error of `covariance`: of the Gram, and twice of the mean's square.

        Every entry of a Gram is off by at most some share of the product of the norms of two columns, so that all of
        them together are by that share of its trace; the offset of the mean from the shift is in each of its entries.
        """
        return _about_mean(self._error, self.mean_square, self.mean_offset, self._rounding_of_sums)

    @Derived
    def mean_error(self) -> float:
        """Bound of the norm of the error of `mean`."""
        return self.mean_error_of(math.sqrt(self.mean_square))

    @property
    def mean_offset_error(self) -> float:
        """Bound of the norm of the error of `mean_offset`."""
        return self._rounding_of_sums * math.sqrt(self.mean_square) + EPSILON * float(np.linalg.norm(self.mean_offset))

    @property
    def target_offset_error(self) -> float:
        """Bound of the norm of the error of `target_offset`."""
        return EPSILON * float(np.linalg.norm(self.target_offset)) + self._targets.offset_error

    def mean_error_of(self, spread: float) -> float:
        """Bound of the norm of the error of `mean` of features that were summed without squares, from their spread.

        Rounding is relative to that, and the sum with the shift is rounded once more.
        """
        return self._rounding_of_sums * spread + EPSILON * long_norm(self.mean)

    @property
    def target_mean_error(self) -> float:
        """Bound of the norm of the error of `target_mean`."""
        return self._target_mean[1]

    @property
    def target_error(self) -> float:
        """Bound of the Frobenius norm of the error of `target_covariance`."""
        return self._targets.rounded_error

    @Derived
    def cross_error(self) -> float:
        """Bound of the Frobenius norm of the error of `cross_covariance`: products of both magnitudes."""
        targets, own = self._magnitude("targets") / self.count, self.mean_square
        error = sum(self._rounding(kind) * math.sqrt(self._magnitude(kind) * targets / self.count) for kind in KINDS)
        sizes = float(np.linalg.norm(self.mean_offset)), float(np.linalg.norm(self.target_offset))
        of_sums, of_targets = self._rounding_of_sums + EPSILON, self._rounding_of_target_sums + EPSILON
        error += of_targets * sizes[0] * math.sqrt(targets) + of_sums * sizes[1] * math.sqrt(own)
        return error + (of_sums * of_targets + EPSILON) * math.sqrt(own * targets)


def _about_mean(error: float, square: float, offset: FloatArray, rounding: float) -> float:
    """Bound of the error of a second moment about the mean, from that of the one about the shift.

    Parameters
    ----------
    error, square : float
        Of the second moment about the shift, and the mean square there.
    offset : float64 array
        Mean of what was added up.
    rounding : float
        Of its sum, relative to the root of the mean square.
    """
    size = float(np.linalg.norm(offset))
    off = rounding * math.sqrt(square) + EPSILON * size
    return error + (2.0 * size + off) * off + EPSILON * (square + size**2)
