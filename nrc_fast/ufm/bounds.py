"""How far numbers of the UFM can be from those of the exact eigenvalues and penalties.

Most numbers rise or fall with every eigenvalue and with c, so that they are taken at both ends of what these may be.
Matrices are functions f of Sigma: an entry e of ``U^T Sigma U`` off the diagonal changes ``U^T f(Sigma) U`` by e times
the divided difference of f between both eigenvalues (Daletskii and Krein), which is bounded for each f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.eigenvalues import Spectrum

__all__ = [
    "LEAST",
    "Ends",
    "Thresholded",
    "apart",
    "around",
    "interval_of",
    "length_of",
    "matrix_error",
    "shares_error",
    "turned_entries",
]

OF_SHARES = 6.0  # roundings of shares of sums, and of the sums that they are taken beside
LEAST = 1e-320  # what products that underflow may lose, and sums of them
LARGEST = float(np.finfo(np.float64).max)


class Ends(NamedTuple):
    """The least and the largest that numbers may be."""

    low: FloatArray
    high: FloatArray

    def summed(self) -> Ends:
        """Of sums over the last axis, as float64 finds them."""
        low, high = (sums_along(part, axis=-1) for part in self)
        return Ends(low * (1.0 - EPSILON), high * (1.0 + EPSILON) + LEAST)


def around(values: FloatArray, relative: float) -> Ends:
    """What positive numbers may be that are off by some roundings.

    Examples
    --------
    >>> [part.item() for part in around(np.array(1.0), 0.25)]
    [0.75, 1.25]
    """
    high = values * (1.0 + relative) + LEAST
    return Ends(np.maximum(np.minimum(values, LARGEST) * (1.0 - relative) - LEAST, 0.0), high)


def apart(values: FloatArray, ends: Ends, rounding: float) -> FloatArray:
    """The larger distance of numbers from both ends of what they may be, and some roundings of either.

    Examples
    --------
    >>> round(apart(np.array(2.0), Ends(np.array(1.5), np.array(2.25)), 0.0).item(), 12)
    0.5
    """
    with np.errstate(invalid="ignore"):
        away = np.maximum(np.maximum(ends.high - values, values - ends.low), 0.0)
        # The ends are as rounded as the numbers, which they may be many times as large as, and so is their difference.
        away = away * (1.0 + (rounding + 2.0) * EPSILON) + rounding * EPSILON * np.abs(values) + LEAST
        return np.asarray(np.where(np.isinf(values), np.inf, away))


def interval_of(spectrum: Spectrum) -> Ends:
    """What eigenvalues may be, (..., n).

    Examples
    --------
    >>> known = Spectrum(np.ones(1), np.eye(1), np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> [part.tolist() for part in interval_of(known)]
    [[1.0], [1.0]]
    """
    values, errors = spectrum.values, spectrum.errors
    low, high = np.nextafter(values - errors, 0.0), np.nextafter(values + errors, np.inf)
    return Ends(np.where(errors > 0.0, np.maximum(low, 0.0), values), np.where(errors > 0.0, high, values))


def matrix_error(
    spectrum: Spectrum,
    values: FloatArray,
    errors: FloatArray,
    slopes: FloatArray,
    *,
    most: FloatArray | None = None,
) -> FloatArray:
    """Bound of the Frobenius norm of the error of ``U diag(f) U^T``, (...).

    Parameters
    ----------
    spectrum : Spectrum
    values, errors : (..., n) float64 arrays
        f at the eigenvalues, and bounds of its errors.
    slopes : (..., n, n) float64 array
        Bounds of the divided differences of f between pairs of eigenvalues.
    most : (..., n, n) float64 array, optional
        Bounds of what entries off the diagonal can be.

    Examples
    --------
    >>> known = Spectrum(np.ones(1), np.eye(1), np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> matrix_error(known, np.ones(1), np.array([0.5]), np.zeros((1, 1))).round(12).item()
    0.5
    """
    turned = turned_entries(spectrum, values, slopes, most)
    n = values.shape[-1]
    rounding = 0.5 * (n + 4.0) * EPSILON * values.sum(axis=-1)
    return np.asarray(length_of(errors) + length_of(turned.reshape(*turned.shape[:-2], n * n)) + rounding)


def turned_entries(spectrum: Spectrum, values: FloatArray, slopes: FloatArray, most: FloatArray | None) -> FloatArray:
    """Bounds of the entries of ``U'^T f(Sigma) U' - diag(f)`` by what U lacks of an eigenbasis U', (..., n, n).

    Parameters
    ----------
    spectrum : Spectrum
    values : (..., n) float64 array
        f at the eigenvalues.
    slopes : (..., n, n) float64 array
        Bounds of the divided differences of f between pairs of eigenvalues.
    most : (..., n, n) float64 array, optional
        Bounds of what entries off the diagonal can be.

    Examples
    --------
    >>> known = Spectrum(np.ones(1), np.eye(1), np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> turned_entries(known, np.ones(1), np.zeros((1, 1)), None).tolist()
    [[0.0]]
    """
    off = np.eye(values.shape[-1]) == 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        turned = np.where(off & (spectrum.mixing > 0.0), 2.0 * slopes * spectrum.mixing, 0.0)
    if most is not None:
        turned = np.minimum(turned, most)
    return np.asarray(turned + spectrum.skew * (values[..., :, np.newaxis] + values[..., np.newaxis, :]))


def shares_error(shares: FloatArray, parts: Ends) -> FloatArray:
    """Bounds of the errors of shares of a sum, from what each part of it may be; NaN where the shares are.

    Examples
    --------
    >>> shares_error(np.array([0.5, 0.5]), Ends(np.array([1.0, 1.0]), np.array([1.0, 2.0]))).round(3).tolist()
    [0.167, 0.167]
    """
    low, high = parts
    others = Ends(*(np.maximum(sums_along(part, axis=-1)[..., np.newaxis] - part, 0.0) for part in parts))
    with np.errstate(invalid="ignore", divide="ignore"):
        least = np.where(low > 0.0, low / (low + others.high), 0.0)
        most = np.where(high > 0.0, high / (high + others.low), 0.0)
    # The others' sums are differences of rounded sums.
    return np.asarray(apart(shares, Ends(least, most), 0.0) + OF_SHARES * EPSILON * most.clip(0, 1))


def length_of(values: FloatArray) -> FloatArray:
    """Length of vectors along the last axis, whose squares need not be float64 numbers.

    Examples
    --------
    >>> round(length_of(np.array([3e200, 4e200])).item() / 1e200, 12)
    5.0
    """
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    scale = np.where((largest > 0.0) & np.isfinite(largest), largest, 1.0)
    norm: FloatArray = scale[..., 0] * np.sqrt(np.sum((values / scale) ** 2, axis=-1))
    return norm


@dataclass(frozen=True)
class Thresholded:
    """What soft thresholding by c makes of eigenvalues, at both ends of what these and c may be.

    Attributes
    ----------
    spectrum : Spectrum
    c, root_c, scale : (...) float64 arrays
        lambda_W lambda_H, its root and sqrt(lambda_H/lambda_W), as float64 finds them from exact penalties.
    roundings : float
        Relative error of c, in units of eps.
    """

    spectrum: Spectrum
    c: FloatArray
    root_c: FloatArray
    scale: FloatArray
    roundings: float = 1.0

    @cached_property
    def threshold(self) -> Ends:
        """c, with an axis for the directions."""
        return around(self.c[..., np.newaxis], self.roundings * EPSILON)

    @cached_property
    def root(self) -> Ends:
        """The root of c, with an axis for the directions."""
        return around(self.root_c[..., np.newaxis], (1.0 + self.roundings) * EPSILON)

    @cached_property
    def values(self) -> Ends:
        """The eigenvalues."""
        return interval_of(self.spectrum)

    @cached_property
    def roots(self) -> Ends:
        """Their roots."""
        low, high = (np.sqrt(part) for part in self.values)
        return Ends(low * (1.0 - EPSILON), high * (1.0 + EPSILON))

    @property
    def is_certain(self) -> BoolArray:
        """Whether it is known which directions there is room for, (...), as it is of all."""
        return np.ones(self.kept.low.shape[:-1], dtype=bool)

    @cached_property
    def kept(self) -> Ends:
        """``sqrt(lambda) - sqrt(c)`` where it is positive."""
        roots, root = self.roots, self.root
        low, high = np.maximum(roots.low - root.high, 0.0), np.maximum(roots.high - root.low, 0.0)
        return Ends(low * (1.0 - EPSILON), high * (1.0 + EPSILON))

    @cached_property
    def residuals(self) -> Ends:
        """``min(lambda, c)``."""
        return Ends(*(np.minimum(value, c) for value, c in zip(self.values, self.threshold, strict=True)))

    @property
    def captured(self) -> Ends:
        """``lambda - c`` where it is positive."""
        values, c = self.values, self.threshold
        low, high = np.maximum(values.low - c.high, 0.0), np.maximum(values.high - c.low, 0.0)
        return Ends(low * (1.0 - EPSILON), high * (1.0 + EPSILON))

    @property
    def losses(self) -> Ends:
        """``sqrt(c lambda) - c/2`` of directions that are kept, and ``lambda/2`` of others: it rises with both."""
        ends = []
        for value, root_value, root in zip(self.values, self.roots, self.root, strict=True):
            with np.errstate(invalid="ignore", over="ignore"):
                ends.append(np.where(root_value > root, root * (root_value - 0.5 * root), 0.5 * value))
        return Ends(ends[0] * (1.0 - 4.0 * EPSILON), ends[1] * (1.0 + 4.0 * EPSILON))

    @property
    def rank(self) -> tuple[FloatArray, FloatArray]:
        """How many directions are kept for sure, and how many may be."""
        values, c = self.values, self.threshold
        least, most = values.low > c.high, values.high > c.low
        return np.asarray(np.count_nonzero(least, axis=-1)), np.asarray(np.count_nonzero(most, axis=-1))

    @property
    def scales(self) -> Ends:
        """The ratio of weights to features, with an axis for the directions."""
        return around(self.scale[..., np.newaxis], 2.0 * EPSILON)

    @property
    def _root_slopes(self) -> FloatArray:
        """Of ``[Sigma^(1/2) - sqrt(c)]_+``, whose values differ by no more than the roots; 0 where both are 0."""
        low, high, root = self.roots.low, self.roots.high, self.root.low
        total = low[..., :, np.newaxis] + low[..., np.newaxis, :]
        is_on = np.maximum(high[..., :, np.newaxis], high[..., np.newaxis, :]) > root[..., np.newaxis]
        with np.errstate(divide="ignore"):
            return np.where(is_on, 1.0 / total, 0.0)

    @property
    def _root_caps(self) -> FloatArray:
        """Bounds of what its entries off the diagonal can be: roots are no further apart than the root of E."""
        return np.asarray(np.sqrt(self.spectrum.mixing))

    def gram_error(self, kept: FloatArray) -> FloatArray:
        """Bound of the norm of the error of ``[Sigma^(1/2) - sqrt(c)]_+``."""
        errors = apart(kept, self.kept, 0.0)
        return matrix_error(self.spectrum, kept, errors, self._root_slopes, most=self._root_caps)

    def gram_entries_error(self, kept: FloatArray) -> FloatArray:
        """Bounds of the errors of its entries, (..., n, n)."""
        errors = apart(kept, self.kept, 0.0) + 0.5 * (kept.shape[-1] + 4.0) * EPSILON * kept
        turned = turned_entries(self.spectrum, kept, self._root_slopes, self._root_caps)
        turned = turned + errors[..., np.newaxis] * np.eye(kept.shape[-1])
        sizes = np.abs(self.spectrum.vectors)
        sizes = sizes + sizes @ self.spectrum.skew
        return np.asarray(sizes @ turned @ np.swapaxes(sizes, -1, -2))

    @property
    def _residual_slopes(self) -> FloatArray:
        """Of ``min(Sigma, c)``: c over the larger eigenvalue, 1 where that is below c, and 0 where both are above."""
        low, c = self.values.low, self.threshold.high[..., np.newaxis]
        larger = np.maximum(low[..., :, np.newaxis], low[..., np.newaxis, :])
        smaller = np.minimum(low[..., :, np.newaxis], low[..., np.newaxis, :])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(smaller > c, 0.0, np.where(larger > c, c / larger, 1.0))

    def residual_error(self, residuals: FloatArray) -> FloatArray:
        """Bound of the norm of the error of ``min(Sigma, c)``."""
        return matrix_error(self.spectrum, residuals, apart(residuals, self.residuals, 0.0), self._residual_slopes)

    def residual_trace_error(self, residuals: FloatArray, loads: FloatArray) -> FloatArray:
        """Bound of the error of ``tr D min(Sigma, c)`` from the diagonal ``loads`` of ``U^T D U``, D not negative."""
        errors = apart(residuals, self.residuals, 0.0)
        turned = turned_entries(self.spectrum, residuals, self._residual_slopes, None)
        roots = np.sqrt(loads)[..., np.newaxis]
        mixed = (np.swapaxes(roots, -1, -2) @ turned @ roots)[..., 0, 0]
        return np.asarray(np.sum((errors + 4.0 * EPSILON * residuals) * loads, axis=-1) + mixed)

    @property
    def inverse_slopes(self) -> FloatArray:
        """Of ``[S^(1/2) - sqrt(c)]_+ S^-1``, which makes features of targets with the second moment S.

        With x and x' the roots of two eigenvalues, or that of c where it is more, divided differences of this function
        are at most ``2/(x x' (x + x'))``.
        """
        high, root = self.roots.high, self.root
        least = np.maximum(self.roots.low, root.low)
        first, second = least[..., :, np.newaxis], least[..., np.newaxis, :]
        is_on = np.maximum(high[..., :, np.newaxis], high[..., np.newaxis, :]) > root.low[..., np.newaxis]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(is_on, 2.0 / first / second / (first + second), 0.0)
