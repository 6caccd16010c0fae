"""Errors of a minimum of the UFM with fewer features than outputs, which keeps the leading directions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.ufm.bounds import Ends, Thresholded, length_of
from nrc_fast.ufm.eigenvalues import Spectrum

__all__ = ["NarrowThresholded", "thresholded"]

# How many times as far apart as they are mixed two directions are for the first order of what mixes them to hold.
APART = 8.0


@dataclass(frozen=True)
class NarrowThresholded(Thresholded):
    """Soft thresholding of the leading eigenvalues, and nothing kept of the others.

    Which directions lead depends on the gap behind the last of them. Where that is no wider than what mixes the
    directions on both sides, nothing is known of matrices, and their bounds are as large as they can be; sums over
    directions do not mind which of two equal ones is kept.

    Attributes
    ----------
    width : int
        How many directions there is room for, below n.

    Examples
    --------
    >>> known = Spectrum(np.array([4.0, 1.0]), np.eye(2), np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)))
    >>> narrow = NarrowThresholded(known, np.array(0.25), np.array(0.5), np.ones(()), 0.0, width=1)
    >>> narrow.residuals.high.round(12).tolist(), [count.item() for count in narrow.rank]
    ([0.25, 1.0], [1, 1])
    """

    width: int = 0

    @property
    def _inside(self) -> BoolArray:
        return np.arange(self.spectrum.values.shape[-1]) < self.width

    @property
    def _crossing(self) -> BoolArray:
        """Pairs of a leading direction and one of the others."""
        return np.asarray(self._inside[:, np.newaxis] != self._inside)

    def _masked(self, ends: Ends, others: Ends | None = None) -> Ends:
        outside = Ends(*map(np.zeros_like, ends)) if others is None else others
        return Ends(*(np.where(self._inside, part, other) for part, other in zip(ends, outside, strict=True)))

    @property
    def kept(self) -> Ends:
        """``sqrt(lambda) - sqrt(c)`` of the leading directions, where it is positive."""
        return self._masked(super().kept)

    @property
    def residuals(self) -> Ends:
        """``min(lambda, c)`` of the leading directions, and all of the others."""
        return self._masked(super().residuals, self.values)

    @property
    def captured(self) -> Ends:
        """``lambda - c`` of the leading directions, where it is positive."""
        return self._masked(super().captured)

    @property
    def losses(self) -> Ends:
        """Those of the leading directions, and ``lambda/2`` of the others."""
        return self._masked(super().losses, Ends(*(0.5 * part for part in self.values)))

    @property
    def rank(self) -> tuple[FloatArray, FloatArray]:
        """How many directions are kept for sure, and how many may be."""
        least, most = super().rank
        return np.minimum(least, self.width), np.minimum(most, self.width)

    @property
    def is_certain(self) -> BoolArray:
        """Whether the directions that are kept are known from those that are not, (...); also where none is kept."""
        values = self.values
        gap = values.low[..., self.width - 1] - values.high[..., self.width]
        mixed = np.where(self._crossing, self.spectrum.mixing, 0.0)
        size = length_of(mixed.reshape(*mixed.shape[:-2], mixed.shape[-1] ** 2))
        return np.asarray((gap > APART * size) | (self.kept.high[..., self.width - 1] == 0.0))

    def _across(self, slopes: FloatArray, drops: FloatArray) -> FloatArray:
        """Divided differences: as they are between leading directions, by the gap to the others, and 0 among these.

        Drops (..., n, n) are what the function may differ by between a leading direction and another.
        """
        values = self.values
        gaps = values.low[..., :, np.newaxis] - values.high[..., np.newaxis, :]
        # Without a gap nothing is known, which `is_certain` says.
        with np.errstate(invalid="ignore"):
            beyond = drops / np.where(gaps > 0.0, gaps, np.inf)
        leading = self._inside[:, np.newaxis]
        crossing = np.where(leading & ~self._inside, beyond, 0.0)
        return np.where(leading & self._inside, slopes, crossing + np.swapaxes(crossing, -1, -2))

    @property
    def _root_slopes(self) -> FloatArray:
        return self._across(super()._root_slopes, self.kept.high[..., :, np.newaxis])

    @property
    def _root_caps(self) -> FloatArray:
        # Across the gap the function jumps, and is no root.
        return np.where(self._crossing, np.inf, super()._root_caps)

    def gram_error(self, kept: FloatArray) -> FloatArray:
        """Bound of the norm of the error of the leading part of ``[Sigma^(1/2) - sqrt(c)]_+``."""
        return self._known(super().gram_error(kept), 2.0 * length_of(self.kept.high))

    def gram_entries_error(self, kept: FloatArray) -> FloatArray:
        """Bounds of the errors of its entries, (..., n, n)."""
        most = 2.0 * length_of(self.kept.high)[..., np.newaxis, np.newaxis]
        certain = self.is_certain[..., np.newaxis, np.newaxis]
        return np.where(certain, super().gram_entries_error(kept), most)

    @property
    def _residual_slopes(self) -> FloatArray:
        # Of others it is the identity.
        most = self.residuals.high
        slopes = self._across(super()._residual_slopes, np.maximum(most[..., :, np.newaxis], most[..., np.newaxis, :]))
        is_other = ~self._inside[:, np.newaxis] & ~self._inside
        return np.where(is_other, 1.0, slopes)

    def residual_error(self, residuals: FloatArray) -> FloatArray:
        """Bound of the norm of the error of the residuals' second moment."""
        return self._known(super().residual_error(residuals), 2.0 * length_of(self.values.high))

    def residual_trace_error(self, residuals: FloatArray, loads: FloatArray) -> FloatArray:
        """Bound of the error of ``tr D R`` with R the second moment of the residuals."""
        most = loads.sum(axis=-1) * self.values.high.max(axis=-1)
        return self._known(super().residual_trace_error(residuals, loads), np.asarray(most))

    @property
    def inverse_slopes(self) -> FloatArray:
        """Of the leading part of ``[S^(1/2) - sqrt(c)]_+ S^-1``."""
        values = np.where(self._inside, self.values.low, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.where(self.kept.high > 0.0, self.kept.high / values, 0.0)
        return self._across(super().inverse_slopes, factors[..., :, np.newaxis])

    def _known(self, bound: FloatArray, most: FloatArray) -> FloatArray:
        return np.where(self.is_certain, np.fmin(bound, most), most)


def thresholded(
    spectrum: Spectrum,
    c: FloatArray,
    root_c: FloatArray,
    scale: FloatArray,
    *,
    roundings: float = 1.0,
    width: int | None = None,
) -> Thresholded:
    """Soft thresholding of all eigenvalues, or of the leading ones where there is room for fewer.

    Examples
    --------
    >>> known = Spectrum(np.ones(2), np.eye(2), np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)))
    >>> [len(thresholded(known, np.ones(()), np.ones(()), np.ones(()), width=width).values.low) for width in (None, 1)]
    [2, 2]
    """
    if width is None or width >= spectrum.values.shape[-1]:
        return Thresholded(spectrum, c, root_c, scale, roundings)
    return NarrowThresholded(spectrum, c, root_c, scale, roundings, width=width)
