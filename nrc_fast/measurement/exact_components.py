"""Components of rows that are held, to about twice the digits of float64, and NRC1 on these to a few roundings.

The images ``Z = X V^T`` of the rows on vectors from a float64 Gram are found in arithmetic of pairs, and with them
``B = Z^T Z / N``, which is diagonal but for the roundings of the vectors. What is left beside its diagonal turns the
vectors by ``B_ij / (B_ii - B_jj)``; that is taken off, and what remains is of second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, added, quotient
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, ErrorBounds, Slices, gram
from nrc_fast.base.linalg import eigh_descending
from nrc_fast.measurement.exact_images import (
    ROUNDINGS,
    ExactImages,
    about_mean,
    images_on,
    roundness,
    scaled_rows,
    turned_images,
)
from nrc_fast.metrics.conventions import Convention, in_range
from nrc_fast.metrics.corrections import sums_across
from nrc_fast.metrics.residuals import between_neighbours

__all__ = ["MOST_EXACT", "ExactComponents", "exact_components"]

# Numbers of the rows up to which this takes a millisecond or so.
MOST_EXACT = 5 << 12
# Turns up to which higher orders than those that are taken off are far below the first that is not.
CLEAR = 2.0**-14
# Turns within faint components beyond which their vectors are found again, from what these leave of the rows.
ROUGH = 2.0**-30
# Share of the largest eigenvalue that is the rounding of a vector.
FAINTEST = 2.0**-96
# Shares of the variance that are faint, and how often their vectors may be found again.
SHARP = 1e-2
MOST_REPEATS = 2
# More than any part of a component in another.
TIED = 1e100
# Share of an eigenvalue by which the next one is to be less, not to tie with it.
ALIKE = 2.0**-44


@dataclass(frozen=True, eq=False)
class ExactComponents:
    """Rows in the coordinates of their exact components.

    Attributes
    ----------
    images : ExactImages
        Of rows about their mean for components of the covariance, about 0 for those of the second moment.
    values : pair of (d,) float64 arrays
        Eigenvalues, descending, of the scaled rows.
    value_errors : (d,) float64 array
        Bounds of their errors.
    ratios : (d, d) float64 array
        Bounds of the parts that exact components have in each other of those found; very large where these tie.
    """

    images: ExactImages
    values: Pair
    value_errors: FloatArray
    ratios: FloatArray

    def nrc1(self, convention: Convention) -> tuple[FloatArray, FloatArray]:
        """NRC1 with k = 1..d components, and its bounds: those of all k where component k and the next tie.

        NaN where the rows are all zero, or have no variance where they are centered.
        """
        values, bounds, parts = self.images.left(convention)
        most = float(values[0] * (1.0 + ROUNDINGS * UNIT_ROUNDOFF) + bounds[0])
        values, bounds = values[1:], bounds[1:]
        bounds[:-1] += self._mixed(parts)
        bounds[-1] = 0.0
        values, bounds = values.copy(), between_neighbours(values, bounds, most)
        return in_range(convention, self.images.unscaled(convention, values)), self.images.unscaled(convention, bounds)

    def narrowed(
        self, convention: Convention, values: FloatArray, bounds: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Values of NRC1 with k = 1, 2, ... components that were found otherwise, or these where they are closer.

        With their bounds, and where they are these. Where component k and the next tie they are left as they are.
        """
        exact, closer = (part[: len(values)] for part in self.nrc1(convention))
        tied = sums_across((self.ratios >= TIED)[:, :-1].astype(np.float64)) > 0.0
        # The rounding with which rows were stored tells such apart, which says nothing of what they were.
        tied |= self.values.high[:-1] - self.values.high[1:] < ALIKE * self.values.high[:-1]
        is_closer = (closer <= bounds) & ~np.append(tied, False)[: len(values)]
        found, bounds = np.where(is_closer, exact, values), np.where(is_closer, closer, bounds)
        for place in np.flatnonzero(~is_closer[1:] & (values[1:] == values[:-1])) + 1:
            # Where components beyond those that there are leave what these do, they leave what these do now.
            found[place] = found[place - 1]
            farthest = bounds[place] + abs(values[place] - found[place])
            bounds[place] = min(farthest, max(found[place], bounds[place - 1]))
        return found, bounds, is_closer

    def _mixed(self, parts: FloatArray) -> FloatArray:
        """What the parts of the leading k components in others change in what these hold, k = 1..d - 1."""
        roots = np.sqrt(parts)
        changes = 2.0 * self.ratios * np.outer(roots, roots) + self.ratios**2 * np.add.outer(parts, parts)
        return sums_across(changes[:, :-1])


def exact_components(
    rows: FloatArray, vectors: FloatArray, *, centered: bool, slices: Slices = 2
) -> ExactComponents | None:
    """The exact components of some rows from those that float64 has found; None for rows without variance.

    Parameters
    ----------
    rows : (N, d) float64 array
        Exactly as they are stored.
    vectors : (d, d) float64 array
        All eigenvectors of the covariance, or of the second moment, as they were found, as rows.
    centered : bool
        Whether they are of the covariance.
    slices : {1, 2}
        Of rows and vectors in their products; one will do where the least eigenvalue is above `ONE_SLICE` of the
        largest.

    Examples
    --------
    >>> rows = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> turned = np.array([[1.0, 1e-9], [-1e-9, 1.0]])
    >>> found = exact_components(rows, turned, centered=True)
    >>> (4.0**found.images.given.exponent * found.values.high).tolist(), bool((found.value_errors < 1e-20).all())
    ([2.0, 0.5], True)
    """
    given = scaled_rows(rows, centered=centered)
    with few_blas_threads(rows.shape[1]):
        turned = _turned(given.rows, vectors, slices, centered=centered)
        for _ in range(MOST_REPEATS):
            fainter = turned.fainter_vectors()
            if fainter is None:
                break
            turned = _turned(given.rows, fainter, slices, centered=centered)
        if not float(turned.values.high.sum()) > 0.0:
            return None
        images, errors = turned_images(turned.images, turned.image_errors, turned.turn, turned.truncated)
    values, value_errors = _in_order(turned.values, turned.errors)
    return ExactComponents(
        ExactImages.of(images, errors, given, centered=centered), values, value_errors, turned.ratios
    )


def _in_order(values: Pair, errors: FloatArray) -> tuple[Pair, FloatArray]:
    """Eigenvalues in descending order: each exact one is between the least and the largest that it may be there."""
    order = np.argsort(-values.high, kind="stable")
    values, errors = Pair(*(part[order] for part in values)), errors[order]
    wider = errors
    for sign in (1.0, -1.0):
        ends = np.argsort(-(values.high + sign * errors), kind="stable")
        wider = np.maximum(wider, sign * (values.high[ends] - values.high) + errors[ends])
    return values, wider


@dataclass(frozen=True, eq=False)
class _Turned:
    """What turns vectors to exact components.

    Attributes
    ----------
    vectors : (d, d) float64 array
        In the order of the energies of rows along them.
    images, image_errors : pair of (N + 1, d) float64 arrays, ErrorBounds
        Of the rows on these vectors, and of their mean in the last place.
    values, errors : pair of (d,) float64 arrays, (d,) float64 array
        Eigenvalues and bounds of their errors.
    turn : (d, d) float64 array
        What is to be added to the identity.
    truncated : (d, d) float64 array
        Bound of what is left out of it.
    matrix, turns : (d, d) float64 arrays
        What is made diagonal, and the turn to first order, which is 1 where eigenvalues tie.
    ratios : (d, d) float64 array
        Bounds of what of the turn is not known; infinite where eigenvalues tie.
    """

    vectors: FloatArray
    images: Pair
    image_errors: ErrorBounds
    values: Pair
    errors: FloatArray
    turn: FloatArray
    truncated: FloatArray
    matrix: FloatArray
    turns: FloatArray
    ratios: FloatArray

    def fainter_vectors(self) -> FloatArray | None:
        """Vectors of which faint ones are found again in the space of these; None if they are well known."""
        variances = np.maximum(self.matrix.diagonal(), 0.0)
        floor = FAINTEST * variances[0]
        if not variances[-1] < SHARP * variances[0]:
            return None
        first = int(np.argmin((variances[1:] + floor) / (variances[:-1] + floor))) + 1
        faint = slice(first, None)
        if variances[first] <= floor or not np.abs(self.turns[faint, faint]).max() > ROUGH:
            return None
        _, columns = eigh_descending(self.matrix[faint, faint] / variances[first])
        return np.concatenate([self.vectors[:first], columns.T @ self.vectors[faint]])


def _turned(about: Pair, vectors: FloatArray, slices: Slices, *, centered: bool) -> _Turned:
    """The second moment of images of rows on vectors, made diagonal to second order.

    With V V^T = 1 + 2 H and ``exp(E)`` the turn that takes what is beside the diagonal off to first order,
    ``exp(E) (1 - H + ...) B (1 - H + ...) exp(-E)`` has its commutator with half of E left.
    """
    (images, errors), (products, of_products) = images_on(about, vectors, vectors, slices=slices)
    images, errors = about_mean(images, errors, centered=centered)
    rounding = roundness(products, of_products.of_rows @ of_products.of_columns)
    energies = np.einsum("ij,ij->j", images.high[:-1], images.high[:-1])
    if (energies[1:] > energies[:-1]).any():
        order = np.argsort(-energies, kind="stable")
        images, vectors = Pair(*(part[:, order] for part in images)), vectors[order]
        errors = ErrorBounds(errors.of_rows, errors.of_columns[:, order])
        to_round, of_rounding = (part[np.ix_(order, order)] for part in rounding)
        rounding = to_round, of_rounding
    matrix, off = _second_moment(images, errors, rounding)
    diagonal = Pair(*(part.diagonal() for part in matrix))
    beside = matrix.high - np.diag(diagonal.high)
    apart = np.subtract.outer(diagonal.high, diagonal.high) + np.subtract.outer(diagonal.low, diagonal.low)
    gaps = np.abs(apart)
    is_clear = (np.abs(beside) < CLEAR * gaps) & (gaps > 0.0)
    turns = np.divide(beside, apart, out=np.zeros_like(beside), where=is_clear)
    unclear = np.where(is_clear, 0.0, beside)
    halved = 0.5 * (beside + unclear)
    left = turns @ halved - halved @ turns
    sizes, parts = np.abs(turns), np.abs(beside)
    both = sizes @ parts
    both = both + both.T
    # Of third order, roundings, and what was not known before.
    unknown = 0.6 * (sizes @ both + both @ sizes) + (len(turns) + 4.0) * UNIT_ROUNDOFF * both
    spread = sizes @ off
    unknown += off + spread + spread.T
    rest = np.abs(unclear + left) + unknown
    np.fill_diagonal(rest, 0.0)
    values, reach = added(diagonal, Pair(left.diagonal(), np.zeros(len(left)))), unknown.diagonal()
    # What is left is beside another diagonal, whose order is to be that of the vectors.
    apart = (np.subtract.outer(values.high, values.high) + np.subtract.outer(values.low, values.low)) * np.where(
        np.tri(len(rest)) > 0.0, -1.0, 1.0
    )
    gaps = apart - np.add.outer(reach, reach)
    ratios = np.divide(rest, gaps, out=np.full_like(rest, TIED), where=gaps > 0.0)
    pushed = np.minimum(rest, 2.0 * ratios * rest)
    square, of_second = turns @ turns, sizes @ sizes
    turn = turns + 0.5 * square + turns @ square / 6.0
    return _Turned(
        vectors=vectors,
        images=images,
        image_errors=errors,
        values=values,
        errors=reach + pushed.sum(axis=1),
        turn=turn + rounding[0] + turn @ rounding[0],
        truncated=of_second @ of_second / 20.0,
        matrix=matrix.high,
        turns=np.where(is_clear, turns, np.sign(beside)),
        ratios=np.where(ratios < CLEAR, 2.0 * ratios, TIED),
    )


def _second_moment(
    images: Pair, errors: ErrorBounds, rounding: tuple[FloatArray, FloatArray]
) -> tuple[Pair, FloatArray]:
    """Second moment of images on the orthonormal vectors nearest to some, with `roundness`; and its errors."""
    count, d = len(images.high) - 1, images.high.shape[1]
    squares, off = gram(Pair(*(part[:-1] for part in images)))
    matrix = quotient(squares, float(count))
    sizes = np.sqrt(np.maximum(matrix.high.diagonal(), 0.0))
    wrong = np.sqrt(ErrorBounds(errors.of_rows[:-1], errors.of_columns).mean_squares())
    crossed = np.outer(sizes, wrong)
    to_round, of_rounding = rounding
    first = to_round @ matrix.high
    second = first @ to_round.T
    sized = ((d + 4.0) * UNIT_ROUNDOFF * np.abs(to_round) + of_rounding) @ np.abs(matrix.high)
    off = off / count + crossed + crossed.T + np.outer(wrong, wrong) + sized + sized.T
    return added(matrix, Pair(first + first.T + second, np.zeros((d, d)))), off
