"""Rows that are held, in coordinates of twice the digits: what lies beyond the leading ones, to a few roundings.

With k leading coordinates the residual of a row is what it has in the others: a sum of squares, none of which is
negative, so that its error is relative to itself, however small it is beside the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.base.double_double import Pair, added, exactly, two_sum
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, ErrorBounds, Slices, column_means, product, sums_along
from nrc_fast.base.linalg import scale_to_unit
from nrc_fast.metrics.conventions import Convention

__all__ = [
    "ONE_SLICE",
    "ROUNDINGS",
    "ExactImages",
    "ScaledRows",
    "about_mean",
    "images_on",
    "roundness",
    "scaled_rows",
    "turned_images",
]

# Half units in the last place of a sum of squares of images that are divided by squares of their rows: twice those of
# images, then of squares, weights, sums and quotients.
ROUNDINGS = 12.0
# Share of the energy from which on what is left of rows is known well enough from images of one slice.
ONE_SLICE = 1e-8


@dataclass(frozen=True, eq=False)
class ScaledRows:
    """Rows about a shift, without loss.

    Attributes
    ----------
    rows : pair of (N + 1, d) float64 arrays
        Rows less the shift, and the shift, which is near their mean.
    exponent : int
        They are those that were given times ``2^-exponent``.
    is_zero : (N,) bool array
        Rows of zeros.
    """

    rows: Pair
    exponent: int
    is_zero: BoolArray


def scaled_rows(rows: FloatArray, *, centered: bool) -> ScaledRows:
    """Rows (N, d) about their mean, or about 0.

    Examples
    --------
    >>> scaled_rows(np.array([[1.0], [3.0]]), centered=True).rows.high.tolist()
    [[-0.25], [0.25], [0.5]]
    """
    scaled, exponent = scale_to_unit(rows)
    shift = scaled.mean(axis=0) if centered else np.zeros(rows.shape[1])
    about = two_sum(scaled, np.broadcast_to(-shift, scaled.shape))
    whole = Pair(np.vstack([about.high, shift]), np.vstack([about.low, np.zeros_like(shift)]))
    return ScaledRows(whole, exponent, np.logical_not(rows.any(axis=1)))


def images_on(
    given: Pair, others: FloatArray, vectors: FloatArray, *, slices: Slices
) -> tuple[tuple[Pair, ErrorBounds], tuple[Pair, ErrorBounds]]:
    """Images of rows and, with them, of a few others, on the same vectors (p, d)."""
    rows = Pair(np.vstack([given.high, others]), np.vstack([given.low, np.zeros_like(others)]))
    images, errors = product(rows, exactly(np.ascontiguousarray(vectors.T)), slices=slices)
    parts = slice(None, len(given.high)), slice(len(given.high), None)
    first, second = (
        (Pair(*(pair[part] for pair in images)), ErrorBounds(errors.of_rows[part], errors.of_columns)) for part in parts
    )
    return first, second


def about_mean(images: Pair, errors: ErrorBounds, *, centered: bool) -> tuple[Pair, ErrorBounds]:
    """Images of rows, and of their mean in the last place, from those of rows about a shift, and of the shift there.

    Without `centered` the shift is 0 and the rows stay as they are.
    """
    means, off = column_means(Pair(*(part[:-1] for part in images)))
    whole = added(Pair(*(part[-1] for part in images)), means)
    if centered:  # the shift has left next to nothing of the mean
        images = two_sum(images.high, images.low - means.high)
        off = off + UNIT_ROUNDOFF * np.abs(means.high)
    for image, mean in zip(images, whole, strict=True):
        image[-1] = mean
    off += errors.of_rows[:-1].mean(axis=0) @ errors.of_columns
    return images, errors.followed_by(np.ones(len(errors.of_rows)), off)


@dataclass(frozen=True, eq=False)
class ExactImages:
    """Rows in some coordinates.

    Attributes
    ----------
    images : pair of (N, p) float64 arrays
        Of rows about their mean or about 0.
    mean : pair of (p,) float64 arrays
        Image of the mean of the rows.
    errors : ErrorBounds
        Of images.
    mean_errors : (p,) float64 array
        Bounds of the errors of the mean.
    centered : bool
        Whether the rows are about their mean.
    given : ScaledRows
    """

    images: Pair
    mean: Pair
    errors: ErrorBounds
    mean_errors: FloatArray
    centered: bool
    given: ScaledRows
    _kept: dict[bool, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    _rows_kept: dict[bool, tuple[FloatArray, FloatArray, FloatArray, FloatArray]] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Pair, errors: ErrorBounds, given: ScaledRows, *, centered: bool) -> ExactImages:
        """From images of which the last is that of the mean, as `about_mean` gives them."""
        return cls(
            images=Pair(*(part[:-1] for part in images)),
            mean=Pair(*(part[-1] for part in images)),
            errors=ErrorBounds(errors.of_rows[:-1], errors.of_columns),
            mean_errors=errors.of_rows[-1] @ errors.of_columns,
            centered=centered,
            given=given,
        )

    def left(self, convention: Convention) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean residual of the rows of a convention beyond 0..p coordinates, its bounds, and parts of coordinates.

        Of rows scaled as these are. NaN where all rows of the convention are zero.
        """
        if convention.centered_rows not in self._kept:
            self._kept[convention.centered_rows] = self._sums(is_about_mean=convention.centered_rows)
        sums, off = (part[int(convention.unit_rows)] for part in self._kept[convention.centered_rows])
        if not sums[0] > 0.0:
            return np.full(len(sums), np.nan), np.full(len(sums), np.nan), np.zeros(len(sums) - 1)
        scale = float(sums[0]) if convention.relative else float(len(self.images.high))
        values, turned = sums / scale, np.sqrt(off / scale)
        # Errors of images beyond the leading ones, and of the norms of their rows.
        bounds = ROUNDINGS * UNIT_ROUNDOFF * values + 2.0 * (turned + turned[0]) * np.sqrt(values * values[0])
        bounds += turned**2 * values[0] + turned[0] ** 2 * values
        # Differences of sums, and their roundings.
        return values, bounds, values[:-1] - values[1:] + 4.0 * UNIT_ROUNDOFF * values[:-1]

    def left_by(self, first: int, convention: Convention) -> tuple[float, float, float]:
        """Mean residual of the rows of a convention beyond the first coordinates, its bound, and their mean energy.

        As `left` for one number of coordinates; NaN where all rows of the convention are zero.
        """
        if convention.centered_rows not in self._rows_kept:
            self._rows_kept[convention.centered_rows] = self._by_row(first, is_about_mean=convention.centered_rows)
        outside, energies, off, off_in_all = self._rows_kept[convention.centered_rows]
        lost = 0.0
        if convention.unit_rows:
            is_lost = energies <= off_in_all
            lost = float(np.count_nonzero(is_lost & (off_in_all > 0.0)))
            weights = np.divide(1.0, energies, out=np.zeros_like(energies), where=energies > 0.0)
            outside, energies = outside * weights, np.minimum(energies * weights, 1.0)
            weights[is_lost] = 0.0
            off, off_in_all = off * weights, off_in_all * weights
        whole = math.fsum(energies.tolist())
        if not whole > 0.0:
            return math.nan, math.nan, 0.0
        scale = whole if convention.relative else float(len(energies))
        value, energy = math.fsum(outside.tolist()) / scale, whole / scale
        turned, turned_in_all = (math.sqrt((float(part.sum()) + lost) / scale) for part in (off, off_in_all))
        bound = ROUNDINGS * UNIT_ROUNDOFF * value + 2.0 * (turned + turned_in_all) * math.sqrt(value * energy)
        return value, bound + turned**2 * energy + turned_in_all**2 * value, energy

    def _by_row(self, first: int, *, is_about_mean: bool) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Energies of rows beyond the first coordinates and in all, and of the errors of both."""
        images, errors = self._about(is_about_mean=is_about_mean)
        squares, sizes = images**2, errors.of_columns**2
        outside = sums_along(squares[:, first:], axis=1)
        off = (errors.of_rows @ np.sqrt(sizes[:, first:].sum(axis=1))) ** 2
        off_in_all = (errors.of_rows @ np.sqrt(sizes.sum(axis=1))) ** 2
        return outside, outside + sums_along(squares[:, :first], axis=1), off, off_in_all

    def _sums(self, *, is_about_mean: bool) -> tuple[FloatArray, FloatArray]:
        """Sums of squares beyond 0..p coordinates, and of squares of errors: of rows, and of these over their norms."""
        images, errors = self._about(is_about_mean=is_about_mean)
        squares = images**2
        energies = sums_along(squares, axis=1)
        largest = (errors.of_rows @ errors.of_columns.sum(axis=1)) ** 2
        weights = np.divide(1.0, energies, out=np.zeros_like(energies), where=energies > 0.0)
        is_lost = energies <= largest  # whatever such rows are, over their norms they count for one
        both = np.stack([squares, squares * weights[:, np.newaxis]])
        parts, p = sums_along(both, axis=1), squares.shape[1]
        sums = np.zeros((2, p + 1))
        sums[:, :-1] = sums_along(parts[:, np.newaxis] * np.tri(p).T, axis=2)
        off = np.zeros((2, p + 1))
        for place, chosen in enumerate((None, np.where(is_lost, 0.0, weights))):
            off[place, :-1] = np.cumsum(errors.mean_squares(chosen)[::-1])[::-1] * len(images)
        off[1] += np.count_nonzero(is_lost & (largest > 0.0))
        return sums, off

    def _about(self, *, is_about_mean: bool) -> tuple[FloatArray, ErrorBounds]:
        """Images of the rows about their mean, or about 0, and bounds of their errors."""
        images, errors = self.images.high, self.errors
        if is_about_mean != self.centered:
            sign = 1.0 if self.centered else -1.0
            moved = two_sum(images, np.broadcast_to(sign * self.mean.high, images.shape))
            images = moved.high + (moved.low + (self.images.low + sign * self.mean.low))
            errors = errors.followed_by(np.ones(len(images)), self.mean_errors)
        if not is_about_mean and self.given.is_zero.any():
            images = np.where(self.given.is_zero[:, np.newaxis], 0.0, images)
            errors = ErrorBounds(errors.of_rows * ~self.given.is_zero[:, np.newaxis], errors.of_columns)
        return images, errors

    def unscaled(self, convention: Convention, mean_squares: FloatArray) -> FloatArray:
        """Mean squares under a convention, of the rows as they were given."""
        is_free_of_scale = convention.unit_rows or convention.relative
        return mean_squares if is_free_of_scale else np.ldexp(mean_squares, 2 * self.given.exponent)


def turned_images(
    images: Pair, errors: ErrorBounds, turn: FloatArray, truncated: FloatArray
) -> tuple[Pair, ErrorBounds]:
    """Images on vectors that are turned a little: ``Z + Z T^T``, with bounds (p, p) of what T leaves out."""
    sizes, lengths = np.abs(turn), np.sqrt(np.einsum("ij,ij->i", images.high, images.high))
    slack = (len(turn) + 4.0) * UNIT_ROUNDOFF * sizes + truncated
    errors = ErrorBounds(errors.of_rows, errors.of_columns @ (np.eye(len(sizes)) + sizes).T)
    errors = errors.followed_by(lengths, np.sqrt((slack**2).sum(axis=1)))
    return two_sum(images.high, images.low + images.high @ turn.T), errors


def roundness(products: Pair, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is to be added to the identity to make rows that nearly are so orthonormal, and its error, both (p, p).

    Parameters
    ----------
    products : pair of (p, p) float64 arrays
        ``V V^T``. With ``V V^T = 1 + 2 H`` it is ``-H + 3/2 H^2``; what is left out is the cube.
    errors : (p, p) float64 array
    """
    skew = 0.5 * ((products.high - np.eye(len(errors))) + products.low)
    size = float(np.linalg.norm(skew))
    return 1.5 * skew @ skew - skew, errors + 4.0 * size**3
