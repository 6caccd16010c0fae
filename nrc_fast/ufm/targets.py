"""Mean and covariance of targets: all that the unconstrained feature model (UFM) asks of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeGuard

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, IntArray
from nrc_fast.base.double_double import Pair, added, exactly, outer_squares, quotient, subtracted, two_product, two_sum
from nrc_fast.base.linalg import EPSILON, EPSILONS, from_lower
from nrc_fast.kernels import calls
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.metrics.rounding import CHAINED_ROWS, addition_rounding, block_rounding
from nrc_fast.ufm.eigenvalues import Spectrum, spectrum, spectrum_in_basis
from nrc_fast.ufm.inputs import as_float64

__all__ = ["TargetMoments", "Targets", "is_measured", "target_moments"]

# Eigenvalues and their products with penalties stay float64 numbers with all their digits inside these limits.
SMALLEST_VARIANCE = 1e-280
LARGEST_VARIANCE = 1e280
# Products up to which moments of targets are added up with twice the digits, in a second or so.
MOST_PRODUCTS = 1 << 28
EXACT_ROUNDING = 2.0**-95


class MeasuredTargets(Protocol):
    """What has added up targets: `nrc_fast.FeatureStatistics` and the like."""

    @property
    def target_covariance(self) -> FloatArray:
        """The population covariance, (n, n)."""

    @property
    def target_mean(self) -> FloatArray:
        """The mean, (n,)."""


# What functions of the UFM take as targets.
Targets: TypeAlias = "Array | MeasuredTargets"


@dataclass(frozen=True, eq=False)
class TargetMoments:
    """Mean and covariance of targets, or of a batch of them.

    Attributes
    ----------
    covariance : (..., n, n) float64 array
        Population covariance (1/M), symmetric positive semidefinite.
    mean : (..., n) float64 array
    epsilon : float
        Rounding unit of the dtype in which the covariance was given.
    covariance_rest, mean_rest : arrays of the same shapes, or None
        What the exact covariance and mean are above these, where the targets themselves were given.
    noise : (..., n) float64 array or None
        Root mean square of the rounding of the targets of each output; that of a given covariance if None.
    covariance_error, mean_error : float
        Bounds of the norms of the errors of both, with their rests; 0 for what is taken as it is given.
    """

    covariance: FloatArray
    mean: FloatArray
    epsilon: float = EPSILON
    covariance_rest: FloatArray | None = None
    mean_rest: FloatArray | None = None
    noise: FloatArray | None = None
    covariance_error: float = 0.0
    mean_error: float = 0.0

    @property
    def n(self) -> int:
        """Number of outputs."""
        return int(self.mean.shape[-1])

    @property
    def batch(self) -> tuple[int, ...]:
        """Leading axes."""
        return self.covariance.shape[:-2]

    def spectrum(self, *, about_mean: bool = True, is_precise: bool = True) -> Spectrum:
        """Eigenvalues and eigenvectors of the covariance, or of the second moment about 0, with their errors.

        Those that are not precise are LAPACK's, for a covariance that is itself no better than that.
        """
        matrix, error = self.second_moment(about_mean=about_mean)
        noise = self.noise
        if noise is None:
            diagonal = np.diagonal(matrix.high, axis1=-2, axis2=-1)
            noise = np.sqrt(self.n * self.epsilon) * np.sqrt(np.maximum(diagonal, 0.0))
        return spectrum(matrix, noise, error, is_precise=is_precise)

    def second_moment(self, *, about_mean: bool) -> tuple[Pair, FloatArray]:
        """The covariance, or the second moment about 0, and a bound of the norm of its error, (...)."""
        matrix, error = self._pair, np.asarray(self.covariance_error)
        if not about_mean and self.mean.any():
            matrix = added(matrix, _outer_square(self.mean, self.mean_rest))
            error = error + 2.0 * self.mean_error * np.sqrt(np.sum(self.mean**2, axis=-1)) + self.mean_error**2
        return matrix, error

    def in_basis(self, vectors: FloatArray) -> tuple[Spectrum, IntArray]:
        """The covariance in a basis that is nearly its own, see `spectrum_in_basis`."""
        return spectrum_in_basis(self._pair, vectors, np.asarray(self.covariance_error))

    @property
    def _pair(self) -> Pair:
        rest = np.zeros_like(self.covariance) if self.covariance_rest is None else self.covariance_rest
        return Pair(np.asarray(self.covariance), rest)


def target_moments(
    Y: Targets | None = None, covariance: Array | None = None, mean: Array | None = None
) -> TargetMoments:
    """Moments of targets from whatever describes them.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor, or an object with ``target_covariance`` and ``target_mean``
        The latter are `nrc_fast.FeatureStatistics` and the like.
    covariance : (..., n, n) array or tensor
        Covariance of the targets (1/M), in place of Y.
    mean : (..., n) array or tensor, optional
        Mean of the targets, which goes with `covariance`; zeros if not given.

    Returns
    -------
    TargetMoments

    Raises
    ------
    ValueError
        Both or neither of Y and covariance; no samples; values that are not finite; a covariance that is not square,
        symmetric and positive semidefinite; variances that float64 cannot work with.
    TypeError, RuntimeError
        What is given is no array of real numbers, or lies on a device.

    Examples
    --------
    >>> moments = target_moments(np.array([[1.0, 0.0], [3.0, 0.0]]))
    >>> moments.mean.tolist(), moments.covariance.tolist()
    ([2.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    if (Y is None) == (covariance is None):
        msg = "give either the targets Y or their covariance="
        raise ValueError(msg)
    if Y is None:
        assert covariance is not None
        moments = _given_moments(covariance, mean)
    elif mean is not None:
        msg = "mean= goes with covariance=; targets have their own"
        raise ValueError(msg)
    elif is_measured(Y):
        moments = replace(
            _given_moments(Y.target_covariance, Y.target_mean),
            covariance_error=float(getattr(Y, "target_error", 0.0)),
            mean_error=float(getattr(Y, "target_mean_error", 0.0)),
        )
    else:
        moments = _measured_moments(Y)
    variances = np.trace(moments.covariance, axis1=-2, axis2=-1)
    if np.any((variances > LARGEST_VARIANCE) | ((variances < SMALLEST_VARIANCE) & (variances > 0.0))):
        msg = (
            f"the targets have a variance of {variances.min():.3g} to {variances.max():.3g}, outside of "
            f"{SMALLEST_VARIANCE} to {LARGEST_VARIANCE}; rescale them"
        )
        raise ValueError(msg)
    return moments


def is_measured(Y: Targets) -> TypeGuard[MeasuredTargets]:
    """Whether targets are what has added them up, and not the targets themselves."""
    return hasattr(Y, "target_covariance") and hasattr(Y, "target_mean")


def _measured_moments(Y: Targets) -> TargetMoments:
    """In two reads, the second one of what lies about the mean, found from the first row on.

    So values that are all equal have exactly zero variance.
    """
    rows = as_rows(Y, "Y", vector_is_column=True)
    if rows.count == 0:
        msg = "Y has no rows; at least one sample is expected"
        raise ValueError(msg)
    first = rows.part(0, 1).to_float64()[0]
    mean = first + calls.gram(rows, shift=first, plain=False, precision="highest").column_sums / rows.count
    is_exact = rows.backend.is_host and rows.count * rows.columns * (rows.columns + 16) <= MOST_PRODUCTS
    if is_exact:
        moments = _exact_moments(rows.to_float64(), mean)
    else:
        lower = calls.gram(rows, shift=mean, precision="highest").gram / rows.count
        rounding = block_rounding("double", CHAINED_ROWS) + addition_rounding(rows.count / CHAINED_ROWS)
        moments = _summed_moments(from_lower(lower), mean, rounding)
    if not (np.isfinite(moments.mean).all() and np.isfinite(moments.covariance).all()):
        msg = "the squares of the targets leave the range of float64; rescale them"
        raise ValueError(msg)
    if not moments.covariance.any() and np.any(rows.to_float64() != first):
        msg = "the squares of the targets' deviations are too small for float64; rescale them"
        raise ValueError(msg)
    # Outputs that depend on one another do so up to their rounding; one alone varies as it is stored.
    size = np.sqrt(np.diagonal(moments.covariance)) + np.abs(moments.mean)  # at least the root mean square
    return replace(moments, noise=(rows.columns - 1) * EPSILONS.get(rows.dtype, EPSILON) * size)


def _exact_moments(targets: FloatArray, shift: FloatArray) -> TargetMoments:
    """With twice the digits of float64: small eigenvalues of their covariance have digits too."""
    deviations = two_sum(targets, -shift)
    exponents = np.frexp(np.abs(deviations.high).max(axis=0))[1]
    scaled = [np.ldexp(part, -exponents) for part in deviations]
    # With a column of ones beside them, whose products are the sums.
    ones = np.ones((len(targets), 1))
    total = outer_squares(Pair(np.hstack([scaled[0], ones]), np.hstack([scaled[1], 0.0 * ones])))
    moments = quotient(total, float(len(targets)))
    # Of targets that differ by few roundings of their mean it is not small: its square counts with all its digits.
    off, off_rest = (part[-1, :-1] for part in moments)
    squares = Pair(*(part[:-1, :-1] for part in moments))
    about_mean = subtracted(squares, _outer_square(off, off_rest))
    both = exponents[:, np.newaxis] + exponents
    with np.errstate(over="ignore", under="ignore"):
        covariance = Pair(*(np.ldexp(part, both) for part in about_mean))
    mean = two_sum(shift, np.ldexp(off, exponents))
    return TargetMoments(
        covariance.high,
        mean.high,
        covariance_rest=covariance.low,
        mean_rest=mean.low,
        covariance_error=EXACT_ROUNDING * float(np.trace(covariance.high)),
        mean_error=EPSILON * float(np.sqrt(np.sum(np.ldexp(off, exponents) ** 2))),
    )


def _summed_moments(covariance: FloatArray, mean: FloatArray, rounding: float) -> TargetMoments:
    """Of sums in float64 with that relative rounding."""
    variance = float(np.trace(covariance))
    off = rounding * float(np.sqrt(variance)) + EPSILON * float(np.sqrt(mean @ mean))
    return TargetMoments(covariance, mean, covariance_error=3.0 * rounding * variance, mean_error=off)


def _outer_square(mean: FloatArray, rest: FloatArray | None) -> Pair:
    """``m m^T`` of vectors (..., n), exact up to the square of their rests."""
    exponents = np.frexp(np.abs(mean).max(axis=-1, keepdims=True))[1]
    scaled = np.ldexp(mean, -exponents)
    square = two_product(scaled[..., :, np.newaxis], scaled[..., np.newaxis, :])
    if rest is not None:
        cross = scaled[..., :, np.newaxis] * np.ldexp(rest, -exponents)[..., np.newaxis, :]
        square = added(square, exactly(cross + np.swapaxes(cross, -1, -2)))
    return Pair(*(np.ldexp(part, 2 * exponents[..., np.newaxis]) for part in square))


def _given_moments(covariance: Array, mean: Array | None) -> TargetMoments:
    matrix, epsilon = as_float64(covariance, "covariance")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        msg = f"covariance has shape {matrix.shape}; (n, n), or (..., n, n) for a batch, is expected"
        raise ValueError(msg)
    n = matrix.shape[-1]
    transposed = np.swapaxes(matrix, -1, -2)
    largest = np.abs(matrix).max(axis=(-2, -1), initial=0.0)
    # Products in another order differ by n roundings of the largest entry, one way and the other.
    difference = np.abs(matrix - transposed).max(axis=(-2, -1), initial=0.0)
    if np.any(difference > 4 * n * epsilon * largest):
        msg = f"covariance is not symmetric: entries differ by up to {difference.max():.3g} from their mirror images"
        raise ValueError(msg)
    symmetric = 0.5 * matrix + 0.5 * transposed
    smallest = np.linalg.eigvalsh(symmetric)[..., 0]
    if np.any(smallest < -4 * n**1.5 * epsilon * largest):
        msg = f"covariance is not positive semidefinite: it has an eigenvalue of {smallest.min():.6g}"
        raise ValueError(msg)
    means = np.zeros(matrix.shape[:-1]) if mean is None else as_float64(mean, "mean")[0]
    if means.shape[-1:] != (n,):
        msg = f"mean has shape {means.shape}; ({n},) is expected, as many values as the covariance has rows"
        raise ValueError(msg)
    try:
        batch = np.broadcast_shapes(means.shape[:-1], matrix.shape[:-2])
    except ValueError:
        msg = f"mean {means.shape} and covariance {matrix.shape} differ in their leading axes"
        raise ValueError(msg) from None
    return TargetMoments(np.broadcast_to(symmetric, (*batch, n, n)), np.broadcast_to(means, (*batch, n)), epsilon)
