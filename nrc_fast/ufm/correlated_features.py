"""The features' spectrum and their alignment with targets that are correlated along the directions of the minimum.

Without a bias the directions are those of the second moment ``S = Sigma + m m^T`` of the targets, along which centred
targets are correlated. The features' covariance has the eigenvalues of ``F^(1/2) Sigma F^(1/2)`` with ``F =
[S^(1/2) - sqrt(c)]_+ S^-1``, large where S is small. Here S and Sigma stand in an eigenbasis of S to 30 digits, so that
rounding changes each eigenvalue in proportion to itself.

A change of F by D moves them by no more than ``S^(1/2) D S^(1/2)``, as Sigma is at most S, and in proportion by no more
than ``F^(-1/2) D F^(-1/2)`` where it stays among directions that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, added, exactly, square_root, times, two_product
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON
from nrc_fast.base.refined_eigenpairs import InBasis, in_basis
from nrc_fast.ufm.bounds import length_of, turned_entries
from nrc_fast.ufm.eigenvalues import Spectrum, eigenvalue_errors, long_basis, spectrum
from nrc_fast.ufm.narrow_bounds import thresholded
from nrc_fast.ufm.spectral import Shrinkage
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["CorrelatedFeatures", "root_of_penalties"]

# Relative errors, in units of eps: of the factors of directions, squared, and of sums of squares and their quotient.
OF_FACTORS = 2.5
OF_COSINE = 8.0


def root_of_penalties(lambda_W: FloatArray, lambda_H: FloatArray) -> Pair:
    """``sqrt(lambda_W lambda_H)`` to twice the digits.

    Examples
    --------
    >>> found = root_of_penalties(np.array(0.5), np.array(4.0))
    >>> found.high.item() == 2.0**0.5, found.low.item() != 0.0
    (True, True)
    """
    (weight, one), (feature, other) = np.frexp(lambda_W), np.frexp(lambda_H)
    power = one + other
    root = square_root(two_product(np.ldexp(weight, power % 2), feature))
    with np.errstate(under="ignore"):
        return Pair(*(np.ldexp(part, power // 2) for part in root))


@dataclass(frozen=True, eq=False)
class CorrelatedFeatures:
    """Shares of the features' variance and CKA, with bounds of their errors.

    Attributes
    ----------
    moments : TargetMoments
    shrinkage : Shrinkage
        Of a minimum without a bias.
    root_c : pair of (...) float64 arrays
        sqrt(c) to twice the digits.
    width : int or None
        How many directions there is room for, where they are fewer than n.

    Examples
    --------
    >>> from nrc_fast.ufm.spectral import shrink
    >>> moments = TargetMoments(np.diag([4.0, 1.0]), np.array([1.0, 1.0]))
    >>> shrinkage = shrink(moments, np.array(0.25), np.array(0.5), None)
    >>> found = CorrelatedFeatures(moments, shrinkage, exactly(np.array(0.5)), None)
    >>> found.shares.round(4).tolist(), bool(found.shares_error.max() < 2e-15)
    ([0.7556, 0.2444], True)
    """

    moments: TargetMoments
    shrinkage: Shrinkage
    root_c: Pair
    width: int | None

    # ---- numbers ----

    @cached_property
    def shares(self) -> FloatArray:
        """Shares of the features' variance in their components, (..., n), descending; NaN for rank 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._features.values / self._total[..., np.newaxis])

    @cached_property
    def cka(self) -> FloatArray:
        """``tr(Sigma F Sigma)`` over both norms, (...); NaN for rank 0."""
        cross, features, targets = self._squares
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.minimum(cross / (np.sqrt(features) * np.sqrt(targets)), 1.0))

    # ---- their bounds ----

    @cached_property
    def shares_error(self) -> FloatArray:
        """Bounds of the errors of the shares, (..., n)."""
        values, total = self._features.values, self._total
        errors = self._moved(values) + self._features.errors + self._given[..., np.newaxis]
        n = values.shape[-1]
        of_total = np.sqrt(n) * (self._moved(total[..., np.newaxis])[..., 0] + self._given) + EPSILON * total
        of_total = of_total + self._negative
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = (errors + self.shares * of_total[..., np.newaxis]) / np.maximum(total - of_total, 0.0)[
                ..., np.newaxis
            ]
        return np.minimum(_known(bound) + EPSILON * self.shares, 1.0)

    @cached_property
    def cka_error(self) -> FloatArray:
        """Bound of the error of CKA, (...)."""
        cross, features, targets = (np.sqrt(part) for part in self._squares)
        given, most = np.asarray(self.moments.covariance_error), self._factors.max(axis=-1)
        scaled = np.ldexp(given, -self._exponent)
        moved = self._moved(features[..., np.newaxis])[..., 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            # Of the numerator over both norms, and of either norm.
            relative = moved / np.maximum(features - moved, 0.0)
            of_cross = (2.0 * cross + most * scaled) * most * scaled / cross**2
            of_norms = self._given / np.maximum(features - self._given, 0.0) + scaled / np.maximum(
                targets - scaled, 0.0
            )
        bound = relative * (1.0 + self.cka) + self.cka * (1.0 + of_cross) * (1.0 + of_norms) - self.cka
        return np.minimum(_known(bound) + OF_COSINE * EPSILON * self.cka, 1.0)

    # ---- inside ----

    @cached_property
    def _exponent(self) -> FloatArray:
        """Powers of two, even, over which S and Sigma are about 1, (...)."""
        second, _ = self.moments.second_moment(about_mean=False)
        exponents = np.frexp(np.abs(second.high).max(axis=(-2, -1), initial=0.0))[1]
        return np.asarray(exponents + exponents % 2)

    @cached_property
    def _seen(self) -> tuple[InBasis, InBasis]:
        """S and Sigma in the eigenbasis of S."""
        vectors, power = self.shrinkage.vectors, -self._exponent[..., np.newaxis, np.newaxis]
        pairs = (self.moments.second_moment(about_mean=mean)[0] for mean in (False, True))
        second, covariance = (Pair(*(np.ldexp(part, power) for part in pair)) for pair in pairs)
        n = vectors.shape[-1]
        with few_blas_threads(n):
            found, other = in_basis([second, covariance], long_basis(second, vectors))
        return found, other

    @cached_property
    def _spectrum(self) -> tuple[Pair, Spectrum]:
        """Eigenvalues of S to twice the digits, 0 where they count as 0, and what is known of their errors."""
        assert self.shrinkage.spectrum is not None
        seen, known = self._seen[0], self.shrinkage.spectrum
        error = np.ldexp(
            np.broadcast_to(self.moments.second_moment(about_mean=False)[1], self._exponent.shape), -self._exponent
        )
        is_zero = (known.values <= 0.0) | (np.diagonal(seen.matrix.high, axis1=-2, axis2=-1) <= 0.0)
        values = Pair(*(np.where(is_zero, 0.0, np.diagonal(part, axis1=-2, axis2=-1)) for part in seen.matrix))
        found = eigenvalue_errors(seen.matrix, seen.errors) + error[..., np.newaxis]
        zeros = np.ldexp(known.errors + known.values, -self._exponent[..., np.newaxis])
        return values, Spectrum(
            values=values.high,
            vectors=known.vectors,
            errors=np.where(is_zero, zeros, found),
            mixing=seen.beside + error[..., np.newaxis, np.newaxis],
            skew=np.zeros_like(seen.errors),  # the basis is made orthonormal
        )

    @cached_property
    def _kept(self) -> tuple[Pair, Pair]:
        """``x - sqrt(c)`` and x, the roots of the eigenvalues."""
        roots = square_root(self._spectrum[0])
        power = -(self._exponent // 2)
        scaled = [np.ldexp(part, power)[..., np.newaxis] for part in self.root_c]
        shape = np.broadcast_shapes(roots.high.shape, scaled[0].shape)
        whole = Pair(*(np.broadcast_to(part, shape) for part in roots))
        return added(whole, Pair(*(np.broadcast_to(-part, shape) for part in scaled))), whole

    @cached_property
    def _factors(self) -> FloatArray:
        """Roots of the eigenvalues of F, (..., n), where a direction is kept."""
        above, roots = self._kept
        is_kept = (self.shrinkage.kept > 0.0) & (above.high > 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(is_kept, np.sqrt(np.maximum(above.high, 0.0)) / roots.high, 0.0)

    @cached_property
    def _gram(self) -> Pair:
        """``F^(1/2) Sigma F^(1/2)``."""
        factors, shape = self._factors, (*self._factors.shape, self._factors.shape[-1])
        whole = Pair(*(np.broadcast_to(part, shape) for part in self._seen[1].matrix))
        for axis in (-1, -2):
            whole = times(whole, exactly(np.broadcast_to(np.expand_dims(factors, axis), shape)))
        return whole

    @cached_property
    def _features(self) -> Spectrum:
        gram = self._gram
        zeros = np.zeros(gram.high.shape[:-1])
        return spectrum(gram, zeros, zeros[..., 0])

    @cached_property
    def _total(self) -> FloatArray:
        return sums_along(np.maximum(np.diagonal(self._gram.high, axis1=-2, axis2=-1), 0.0), axis=-1)

    @cached_property
    def _negative(self) -> FloatArray:
        """What the total leaves out: a covariance that was rounded may have variances below 0, which F makes large."""
        return sums_along(np.maximum(-np.diagonal(self._gram.high, axis1=-2, axis2=-1), 0.0), axis=-1)

    @cached_property
    def _squares(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``tr(Sigma F Sigma)``, and the squares of the norms of the features' covariance and of Sigma."""
        inner = self._seen[1].matrix.high
        parts = (self._factors[..., :, np.newaxis] * inner, self._gram.high, inner)
        cross, features, targets = (sums_along(_flat(part) ** 2, axis=-1) for part in parts)
        return cross, features, targets

    @cached_property
    def _given(self) -> FloatArray:
        """Bound of what errors of Sigma, and of its entries in the basis, do to the features' covariance."""
        given = np.ldexp(np.asarray(self.moments.covariance_error), -self._exponent)
        factors = self._factors
        errors = self._seen[1].errors * factors[..., :, np.newaxis] * factors[..., np.newaxis, :]
        return np.asarray(given * factors.max(axis=-1) ** 2 + length_of(_flat(errors)))

    def _moved(self, values: FloatArray) -> FloatArray:
        """Bounds of what errors of F do to eigenvalues (..., k), or to the norm of all of them."""
        whole, outside, share = (part[..., np.newaxis] for part in self._of_factors)
        with np.errstate(invalid="ignore", over="ignore"):
            moved = np.fmin(whole, share * values + outside)
        return np.asarray(moved + OF_FACTORS * EPSILON * values)

    @cached_property
    def _of_factors(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Norms of the error of F beside S, of what is not among kept directions, and of the rest beside F, (...)."""
        (above, roots), (_, known), factors = self._kept, self._spectrum, self._factors
        power = -(self._exponent // 2)
        root = np.ldexp(self.root_c.high, power)
        # Divided differences come from numbers that may be off by a rounding more.
        ends = thresholded(known, root**2, root, np.ones(()), roundings=2.0, width=self.width)
        slopes = ends.inverse_slopes
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            left_out = np.where(factors > 0.0, 0.0, np.maximum(above.high, 0.0) / roots.high**2)
            own = np.diagonal(slopes, axis1=-2, axis2=-1) * known.errors
            own = np.where(known.errors > 0.0, own, 0.0) + np.where(left_out > 0.0, left_out, 0.0)
            if self.width is not None:
                own = np.where(np.arange(own.shape[-1]) < self.width, own, 0.0)
            entries = turned_entries(known, factors**2, slopes, None) + own[..., np.newaxis] * np.eye(own.shape[-1])
            weights = ends.roots.high
            beside = entries * weights[..., :, np.newaxis] * weights[..., np.newaxis, :]
            beside = np.where(entries > 0.0, beside, 0.0)
            relative = entries / factors[..., :, np.newaxis] / factors[..., np.newaxis, :]
        is_kept = (factors[..., :, np.newaxis] > 0.0) & (factors[..., np.newaxis, :] > 0.0)
        parts = (beside, np.where(is_kept, 0.0, beside), np.where(is_kept, relative, 0.0))
        whole, outside, share = (length_of(_flat(part)) for part in parts)
        found = [np.where(ends.is_certain & ~np.isnan(part), part, np.inf) for part in (whole, outside, share)]
        return found[0], found[1], found[2]


def _flat(matrix: FloatArray) -> FloatArray:
    return matrix.reshape(*matrix.shape[:-2], matrix.shape[-1] ** 2)


def _known(bound: FloatArray) -> FloatArray:
    return np.where(np.isnan(bound), np.inf, bound)
