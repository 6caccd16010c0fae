"""The power of Sigma that W W^T follows, with its bound: a line through logarithms in the eigenbasis of Sigma.

Bounds are certified for the covariance and its error: both matrices are those of pairs, in an eigenbasis of pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.base.double_double import exactly
from nrc_fast.base.exact_products import gram, sums_along
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.base.refined_eigenpairs import in_eigenbasis
from nrc_fast.metrics.rounding import decomposition_rounding

__all__ = ["PowerLaw"]

# Eigenvalues of Sigma that are nearer to each other than so many times their error are one.
APART = 8.0
RESOLVED = 4.0


@dataclass(frozen=True, eq=False)
class _Groups:
    """Eigenspaces of Sigma that can be told apart: sizes, eigenvalues, and squares of W along them.

    Attributes
    ----------
    sizes : (g,) float64 array
        Dimensions.
    values, strengths : (g,) float64 arrays
        Means of the eigenvalues and of ``|W^T u|^2``.
    value_errors, strength_errors : (g,) float64 arrays
        Bounds of the errors of their logarithms; inf where one may be 0.
    """

    sizes: FloatArray
    values: FloatArray
    strengths: FloatArray
    value_errors: FloatArray
    strength_errors: FloatArray

    def taken(self, which: BoolArray) -> _Groups:
        """Some of the groups."""
        return _Groups(*(part[which] for part in vars(self).values()))


class PowerLaw:
    """The exponent p of ``W W^T ~ Sigma^p``, by least squares of ``ln |W^T u_j|^2`` on ``ln lambda_j``.

    Eigenvectors u_j whose eigenvalues cannot be told apart count by their mean, which no choice of them changes.

    Parameters
    ----------
    weights : (n, d) float64 array
        W, of any scale.
    covariance : (n, n) float64 array
        Sigma; only the lower triangle is read.
    covariance_error : float
        Bound of the Frobenius norm of its error.

    Attributes
    ----------
    lowest : float
        The smallest eigenvalue of Sigma as it was computed.
    exponent, bound : float
        p and the bound of its error; NaN where `reason` says why.
    reason : str
        Empty where p is defined.
    fitted : int
        Directions that the line goes through; others have an eigenvalue or a part of W that may be 0.

    Examples
    --------
    >>> law = PowerLaw(np.diag([2.0, 1.0]), np.diag([8.0, 1.0]), 0.0)
    >>> round(law.exponent, 12), law.fitted, law.residual_share < 1e-30
    (0.666666666667, 2, True)
    """

    def __init__(self, weights: FloatArray, covariance: FloatArray, covariance_error: float) -> None:
        self.n, self.d = weights.shape
        rows = np.ascontiguousarray(scale_to_unit(weights)[0].T)
        head, of_head = gram(exactly(rows))
        found = in_eigenbasis(exactly(covariance), head)
        values = found.values.high
        self.lowest = float(values[-1])
        self._values = np.maximum(values, 0.0)
        self._error = covariance_error + found.error
        # What is closer than roundings of the covariance is not told apart, though its eigenvalues have more digits.
        self._told = covariance_error + (decomposition_rounding(self.n) + self.n * EPSILON) * float(self._values[0])
        self._gram = found.matrix.high
        size = float(np.trace(self._gram))
        self._gram = self._gram / (size if size > 0.0 else 1.0)
        off = found.matrix_error + float(np.linalg.norm(of_head))
        self._gram_error = off / size if size > 0.0 else 0.0
        self._squares = np.maximum(np.diagonal(self._gram), 0.0)
        self.exponent = self.bound = math.nan
        self.fitted = 0
        self.reason = self._why_not(size)
        if not self.reason:
            self._fit()

    def _why_not(self, size: float) -> str:
        if self.n == 1:
            return "there is one output, and one direction has no shape"
        if not size > 0.0:
            return "W is 0"
        if not self._values[0] > 0.0:
            return "the targets have no variance"
        if len(self._starts) == 1:
            return "all directions of the targets have the same variance, which every power of it fits"
        return ""

    @cached_property
    def _starts(self) -> list[int]:
        """First directions of the groups."""
        gaps = self._values[:-1] - self._values[1:]
        return [0, *(np.flatnonzero(gaps > APART * self._told) + 1).tolist()]

    @cached_property
    def _turns(self) -> FloatArray:
        """Bounds of the components of the exact eigenvectors along those of other groups, (n, n)."""
        labels = np.zeros(self.n, dtype=np.int64)
        labels[self._starts[1:]] = 1
        labels = np.cumsum(labels)
        gaps = np.abs(self._values[:, np.newaxis] - self._values) - self._error
        turns = np.full((self.n, self.n), 0.0)
        other = labels[:, np.newaxis] != labels
        turns[other] = self._error / gaps[other]
        return turns

    def _groups(self) -> _Groups:
        sizes = np.diff([*self._starts, self.n]).astype(np.float64)
        values = np.add.reduceat(self._values, self._starts) / sizes
        strengths = np.add.reduceat(self._squares, self._starts)
        # The part of W along the exact eigenvectors differs by what these have of the others, and by rounding.
        turned = self._turns @ np.sqrt(self._squares) + np.square(self._turns).sum(axis=1) * np.sqrt(self._squares)
        off = np.sqrt(np.add.reduceat(turned**2, self._starts))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(strengths > 0.0, off / np.sqrt(strengths) + sizes * self._gram_error / strengths, 1.0)
            # A strength that may be rounding of W W^T is none.
            share = np.where(strengths > sizes * ((3.0 * self.n + 4.0) * EPSILON) ** 2, share, 1.0)
            strength_errors = np.where(share < 0.5, -2.0 * np.log1p(-np.minimum(share, 0.5)), math.inf)
            ratio = np.where(values > 0.0, self._error / values + (0.5 * sizes + 1.0) * EPSILON, 1.0)
            is_resolved = values > RESOLVED * self._told
            value_errors = np.where(is_resolved, -np.log1p(-np.minimum(ratio, 0.5)), math.inf)
        strength_errors = strength_errors + (0.5 * sizes + 4.0) * EPSILON
        return _Groups(sizes, values, strengths / sizes, value_errors, strength_errors)

    def _fit(self) -> None:
        groups = self._groups()
        found = groups.taken(np.isfinite(groups.value_errors) & np.isfinite(groups.strength_errors))
        self.fitted = int(found.sizes.sum())
        if len(found.sizes) < 2:
            self.reason = "fewer than two different variances of the targets have a part of W that is not 0 to rounding"
            return
        x, y = np.log(found.values / self._values[0]), np.log(found.strengths)
        total = found.sizes.sum()
        x, y = x - (found.sizes @ x) / total, y - (found.sizes @ y) / total
        self.exponent = float((found.sizes * x) @ y / ((found.sizes * x) @ x))

        def length(part: FloatArray) -> float:
            return math.sqrt(float((found.sizes * part) @ part))

        # Of a line through points that are off in both coordinates, beside the one through those that are seen.
        rounding = 4.0 * EPSILON * (1.0 + np.abs(x)), 4.0 * EPSILON * (1.0 + np.abs(y))
        across, up = length(found.value_errors + rounding[0]), length(found.strength_errors + rounding[1])
        spread, left = length(x), length(y - self.exponent * x)
        if spread > across:
            moved = up + abs(self.exponent) * across
            self.bound = (across * left / (spread - across) + moved) / (spread - across)
            self.bound += (self.n + 4.0) * EPSILON * length(y) / spread
        else:
            self.bound = math.inf

    # ---- what it leaves ----

    @cached_property
    def residual_share(self) -> float:
        """Share of ``|W W^T|_F^2`` that is no multiple of ``Sigma^p``; NaN where p is."""
        if math.isnan(self.exponent):
            return math.nan
        shape, power = self._shape, self._power_shape
        left = shape - float(shape.diagonal() @ power) * np.diag(power)
        return float(sums_along(left.ravel() ** 2, axis=0))

    @cached_property
    def outside_share(self) -> float:
        """Share of ``|W W^T|_F^2`` that couples different eigenspaces of Sigma; NaN where p is."""
        if math.isnan(self.exponent):
            return math.nan
        return float(sums_along(np.where(self._turns > 0.0, self._shape, 0.0).ravel() ** 2, axis=0))

    @cached_property
    def _shape(self) -> FloatArray:
        shape: FloatArray = self._gram / math.sqrt(float(sums_along(self._gram.ravel() ** 2, axis=0)))
        return shape

    @property
    def _resolved(self) -> BoolArray:
        return np.asarray(self._values > RESOLVED * self._told)

    @property
    def _power_shape(self) -> FloatArray:
        """Eigenvalues of Sigma^p over its norm; 0 where those of Sigma may be."""
        with np.errstate(divide="ignore"):
            logs = np.where(self._resolved, self.exponent * np.log(self._values / self._values[0]), -np.inf)
        power = np.exp(logs - logs.max())
        shape: FloatArray = power / np.linalg.norm(power)
        return shape

    @cached_property
    def share_bounds(self) -> tuple[float, float]:
        """Bounds of the errors of `residual_share` and of `outside_share`."""
        if math.isnan(self.exponent):
            return math.nan, math.nan
        gram_error = self.n**0.5 * self._gram_error + (0.5 * self.n + 4.0) * EPSILON
        turned = 2.0 * float(np.linalg.norm(self._turns)) + self.n**0.5 * self._gram_error
        bent = self._power_error() + gram_error
        # Entries beside the diagonal are rounded in proportion to themselves.
        outside = _of_square(self.outside_share, turned) + (self.n + 8.0) * EPSILON * self.outside_share
        return _of_square(self.residual_share, bent), min(outside, 1.0)

    def _power_error(self) -> float:
        """Bound of the angle between ``Sigma^p`` and that of the exact Sigma and p."""
        p, resolved = self.exponent, self._values[self._resolved] / self._values[0]
        error = self._error / float(self._values[0])
        by_exponent = 0.5 * self.bound * -math.log(float(resolved[-1])) + 8.0 * EPSILON * (1.0 + abs(p))
        # Over the largest eigenvalue of Sigma^p, which may be no float64 number.
        largest = 1.0 if p >= 0.0 else float(resolved[-1])
        size = float(np.linalg.norm((resolved / largest) ** p))
        if len(resolved) == self.n:
            steepest = float(resolved[-1]) - error if p < 1.0 else 1.0 + error
            off = abs(p) * (steepest / largest) ** p * error / steepest
        elif 0.0 < p <= 1.0:
            off = self.n ** ((1.0 - p) / 2.0) * error**p + self.n**0.5 * ((1.0 + RESOLVED) * error) ** p
        else:
            return math.inf
        return by_exponent + (off / (size - off) if size > off else math.inf)


def _of_square(share: float, off: float) -> float:
    """Bound of the error of the square of a sine whose angle is off."""
    return min(2.0 * math.sqrt(share) * off + off**2, 1.0) if math.isfinite(off) else 1.0
