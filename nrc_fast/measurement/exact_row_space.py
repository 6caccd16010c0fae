"""What rows that are held have outside the row space of some weights, to a few roundings: NRC2.

Orthonormal vectors U, of which the leading ones span the row space as float64 finds it, leave a little of the weights,
which arithmetic of pairs tells: with ``W U^T = [S, R]`` the rows of ``U_1 + S^-1 R U_2`` span that of W. Images of rows
on the vectors that are turned by that are what these have inside and outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, ErrorBounds, Slices
from nrc_fast.base.linalg import RowSpace, scale_to_unit
from nrc_fast.measurement.exact_images import (
    ExactImages,
    ScaledRows,
    about_mean,
    images_on,
    roundness,
    turned_images,
)
from nrc_fast.metrics.conventions import Convention, in_range

__all__ = ["MOST_PROJECTED", "ExactRowSpace", "exact_row_space"]

# Numbers of the rows up to which this takes half a millisecond or so.
MOST_PROJECTED = 1 << 13
# Least share of the largest singular value of W down to which its row space is found.
LEAST_SINGULAR_VALUE = 2.0**-20


@dataclass(frozen=True, eq=False)
class ExactRowSpace:
    """Rows in the coordinates of a row space, and what is left of them without these.

    Attributes
    ----------
    images : ExactImages
        The leading coordinates are those in the row space.
    rank : int
        How many these are.
    angle : float
        Bound of the sine of the angle of the row space.
    """

    images: ExactImages
    rank: int
    angle: float

    def nrc2(self, convention: Convention) -> tuple[float, float]:
        """NRC2 and its bound; NaN where all rows are zero."""
        value, bound, energy = self.images.left_by(self.rank, convention)
        bound += 2.0 * self.angle * math.sqrt(value * energy) + self.angle**2 * energy
        found, off = self.images.unscaled(convention, np.array([value, bound]))
        return float(in_range(convention, found)), float(off)

    def narrowed(self, convention: Convention, value: float, bound: float) -> tuple[float, float, bool]:
        """A value of NRC2 that was found otherwise, or this one where it is closer; its bound, and whether it is."""
        exact, closer = self.nrc2(convention)
        return (exact, closer, True) if closer <= bound else (value, bound, False)


def exact_row_space(
    given: ScaledRows, weights: FloatArray, space: RowSpace, *, slices: Slices = 2
) -> ExactRowSpace | None:
    """Rows in the coordinates of the row space of weights; None where that is of lower rank, or all of the space.

    Parameters
    ----------
    given : ScaledRows
        About their mean.
    weights : (n, d) float64 array
        Exactly as they are stored.
    space : RowSpace
        Theirs, as float64 finds it.
    slices : {1, 2}
        Of rows and vectors in their products; one will do where NRC2 is above `ONE_SLICE` of the energy.

    Examples
    --------
    >>> from nrc_fast.base.linalg import row_space
    >>> from nrc_fast.measurement.exact_images import scaled_rows
    >>> from nrc_fast.metrics.conventions import CONVENTIONS
    >>> weights, rows = np.array([[2.0, 0.0]]), np.array([[3.0, 4.0], [6.0, 8.0]])
    >>> found = exact_row_space(scaled_rows(rows, centered=True), weights, row_space(weights))
    >>> found.nrc2(CONVENTIONS["nrc24"])[0]
    0.64
    """
    rank, d = space.basis.shape
    if rank != len(weights) or not 0 < rank < d or space.singular_values[-1] < LEAST_SINGULAR_VALUE:
        return None
    with few_blas_threads(d):
        vectors = np.ascontiguousarray(np.linalg.qr(space.basis.T, mode="complete")[0].T)
        scaled = scale_to_unit(weights)[0]
        (images, errors), others = images_on(given.rows, np.vstack([scaled, vectors]), vectors, slices=slices)
        turn, angle = _turn(*others, rank, float(space.singular_values[-1]))
        images, errors = about_mean(images, errors, centered=True)
        images, errors = turned_images(images, errors, turn, np.zeros_like(turn))
    return ExactRowSpace(ExactImages.of(images, errors, given, centered=True), rank, angle)


def _turn(images: Pair, errors: ErrorBounds, rank: int, least: float) -> tuple[FloatArray, float]:
    """What is to be added to the identity to turn leading vectors into the row space of weights, and its error.

    From the images of the weights, and of the vectors themselves. The error of lengths counts as an angle too.
    """
    inside, products = (Pair(*(part[rows] for part in images)) for rows in (slice(None, rank), slice(rank, None)))
    unknown = errors.of_rows @ errors.of_columns
    to_round, off = roundness(products, unknown[rank:])
    rounded = inside.high @ to_round.T
    left = (inside.high + (inside.low + rounded))[:, rank:]
    square = inside.high[:, :rank]
    missing = np.linalg.solve(square, left)
    size, turned = float(np.linalg.norm(square)), float(np.linalg.norm(missing))
    # Of the products with small matrices, and of what solving has left.
    wrong = float(np.linalg.norm(unknown[:rank])) + float(np.linalg.norm(off)) * size
    wrong += 4.0 * (len(off) + 4.0) * UNIT_ROUNDOFF * size * (turned + float(np.linalg.norm(to_round)))
    wrong += float(np.linalg.norm(square @ missing - left))
    turns = np.zeros_like(off)
    turns[:rank, rank:], turns[rank:, :rank] = missing, -missing.T
    turns += 0.5 * turns @ turns
    angle = 2.0 * wrong / (least * float(np.linalg.norm(square, 2))) + turned**3
    return turns + to_round + turns @ to_round, angle
