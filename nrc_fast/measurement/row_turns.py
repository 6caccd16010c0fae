"""Components beside the exact ones where rows are many: their turns, and what the exact mean changes, from images.

The read that gives the residuals gives the image of the components too, in float64. That tells to first order and
beyond how the exact components are turned from those found, which a Gram with float32 blocks leaves a little off, and
what NRC1 on the exact ones is, so that collapsed features need not be read once more for a better basis. Where a device
has no image of unit rows, nothing is changed under conventions that project these.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON, orthonormalize
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels.results import Basis, ResidualSums
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.corrections import Correction
from nrc_fast.metrics.residuals import PrincipalBasis
from nrc_fast.metrics.rounding import addition_rounding, projection_rounding
from nrc_fast.metrics.turns import MeasuredTurns, measured_turns
from nrc_fast.passes.residual_sums import Residuals

__all__ = ["MOST_IMAGED", "MOST_IMAGED_NUMBERS", "ImagedBases", "RowTurns", "row_turns", "with_images"]

# Vectors, and numbers of them, whose images stay in the caches beside the rows.
MOST_IMAGED = 16
MOST_IMAGED_NUMBERS = 1 << 15
# Square of the mean, in variances, up to which rows about the origin serve for the covariance without a loss.
NEAR_ORIGIN = 4.0
# Rows whose products the kernels add up before these sums are added without loss, a group after the other, and how many
# numbers a group has: csrc/cpu/residual/job_images.h and projection.h.
SEGMENT_ROWS = 512
GROUP_NUMBERS = 2048


@dataclass(frozen=True)
class ImagedBases:
    """Bases of a residual pass with the images that tell how components are turned.

    Attributes
    ----------
    bases : list of Basis
    raw : int
        Which of them has the image of the rows.
    places : dict
        Which of them projects rows as they are (False) or about their mean (True).
    """

    bases: list[Basis]
    raw: int
    places: dict[bool, int]


def with_images(
    bases: Sequence[Basis],
    places: dict[bool, int],
    conventions: Collection[Convention],
    count: int,
    *,
    basis: PrincipalBasis,
) -> ImagedBases:
    """Ask for images of the leading `count` components beside the residuals on some bases.

    Images of unit rows, and what the exact mean changes, are asked for where features are collapsed: elsewhere the
    bounds of what these tell are a small share of NRC1, and the read would take more than a tenth longer.

    Parameters
    ----------
    bases : sequence of Basis
        Of a residual pass.
    places : dict
        Which of them has the components, for rows as they are (False) and about their mean (True).
    conventions : collection of Convention
        Those that are wanted, all with the same basis.
    count : int
    basis : PrincipalBasis
        The components.
    """
    asked = list(bases)
    centered = next(iter(conventions)).centered_basis
    raw = places.get(centered)
    if raw is None and not (centered and float(basis.mean @ basis.mean) > NEAR_ORIGIN * basis.spread**2):
        raw = places.get(not centered)
    if raw is None:
        raw = len(asked)
        asked.append(Basis(basis.vectors[:count], basis.mean))
    wanted: list[set[str]] = [set() for _ in asked]
    wanted[raw].add("raw")
    for convention in conventions:
        if basis.collapsed and convention.unit_rows and convention.centered_rows in places:
            wanted[places[convention.centered_rows]].add("unit")
    if basis.collapsed and any(each.unit_rows and each.centered_rows for each in conventions):
        for index, each in enumerate(bases):
            if each.shift is not None:
                wanted[index].add("shift")
    imaged = [
        replace(each, images=frozenset(names), imaged=count if index in {raw, *places.values()} else len(each.vectors))
        if names
        else each
        for index, (each, names) in enumerate(zip(asked, wanted, strict=True))
    ]
    return ImagedBases(imaged, raw, places)


@dataclass(frozen=True, eq=False)
class RowTurns:
    """How the exact components and the exact mean differ from those that rows were projected on and about.

    Attributes
    ----------
    turns : MeasuredTurns
    residuals : Residuals
        With images.
    imaged : ImagedBases
    covariance, mean : (K, d) and (d,) float64 arrays
        Image of the components under the exact covariance, and the exact mean.
    offset : (d,) float64 array
        Of the exact mean from the one of the bases.
    rounding : float
        Bound of the error of images of rows, relative to their mean energy.
    """

    turns: MeasuredTurns
    residuals: Residuals
    imaged: ImagedBases
    covariance: FloatArray
    mean: FloatArray
    offset: FloatArray
    rounding: float

    @property
    def offset_error(self) -> float:
        """Bound of the norm of the error of the offset."""
        return self.rounding * math.sqrt(float(self.residuals.sums[self.imaged.raw].raw[0]) / self.residuals.count)

    @property
    def offset_size(self) -> float:
        """Bound of the norm of the exact offset."""
        return float(np.linalg.norm(self.offset)) + self.offset_error

    def narrowed(self, basis: PrincipalBasis) -> PrincipalBasis:
        """The basis with the bounds of its angles and of its mean that are known now."""
        angles, count = basis.angles.copy(), len(self.turns.angles)
        angles[:count] = np.minimum(angles[:count], self.turns.angles)
        off = self.offset_size / basis.spread if basis.spread > 0.0 else basis.mean_error
        return replace(basis, angles=angles, mean_error=min(basis.mean_error, off))

    def first_order(self, convention: Convention) -> Correction | None:
        """What exact components and the exact mean change in NRC1; None where there is no image of these rows."""
        place = self.imaged.places.get(convention.centered_rows)
        if place is None:
            return None
        sums, count = self.residuals.sums[place], self.residuals.count
        energy = float((sums.unit if convention.unit_rows else sums.raw)[0]) / count
        scale = energy if convention.relative else 1.0
        if not scale > 0.0:
            return None
        image = self._image(convention, sums)
        if image is None:
            return None
        correction = self.turns.correction(image / scale, self.rounding * energy / scale)
        has_sums = sums.images is not None and sums.images.shift.size > 0
        if convention.centered_rows and (has_sums or not convention.unit_rows):
            size = len(self.turns.parts)
            found = [self.of_mean(convention, place, k, scale) for k in range(1, size + 1)]
            changes, errors = np.array(found).T
            correction = correction.moved(changes, errors)
        return correction if correction.is_finite else None

    def _image(self, convention: Convention, sums: ResidualSums) -> FloatArray | None:
        if convention.unit_rows:
            unit = None if sums.images is None else sums.images.unit
            return unit / self.residuals.count if unit is not None and unit.size else None
        if convention.centered_rows:
            return self.covariance
        return self.covariance + np.outer(self.turns.vectors @ self.mean, self.mean)

    def of_mean(self, convention: Convention, place: int, k: int, scale: float) -> tuple[float, float]:
        """What the exact mean changes in the mean residual of one of the bases with k vectors, and its error.

        With e the offset of the mean over ``|x|``, u = x/``|x|`` and Q what is outside of the vectors, the residual
        f = ``|Q u|^2`` of a unit row changes by ``2 f u e - 2 u Q e + |Q e|^2``, by no more than
        ``(4 sqrt(f) + 3 f) |e|^2 + 40 |e|^3`` beside if ``|e| < 1/8``, and by no more than ``6700 |e|^4`` else.
        """
        basis, sums, count = self.residuals.bases[place], self.residuals.sums[place], self.residuals.count
        offset, (vectors, unknown) = self.offset, self._exact(basis, place, k)
        outside = offset - (offset @ vectors.T) @ vectors
        size, off = self.offset_size, self.offset_error
        if not convention.unit_rows:
            change, error = -float(outside @ outside), 2.0 * (2.0 * size + off) * off
            if convention.relative:  # the energy is less too
                value = float(sums.raw[min(k, len(sums.raw) - 1)]) / count / scale
                change, error = change + value * float(offset @ offset), error + 2.0 * size**4 / scale
            return change / scale, error / scale
        images, d = sums.images, len(offset)
        if images is None or not images.shift.size:
            return math.nan, math.nan
        along, weighted = images.shift[:d] / count, images.shift[d : 2 * d] / count
        squares, fourths, zeros = (float(number) / count for number in images.shift[2 * d :])
        left = float(sums.unit[min(k, len(sums.unit) - 1)]) / count
        turned = float(np.linalg.norm(vectors - basis.vectors[:k], 2)) + unknown
        change = float(outside @ outside) * squares - 2.0 * float(along @ outside)
        error = 2.0 * (self.rounding + 2.0 * unknown) * size * math.sqrt(squares) + zeros
        error += 4.0 * off * math.sqrt(left * squares)
        error += 4.0 * turned * size * (2.0 * math.sqrt(left * squares) + turned * math.sqrt(squares))
        error += size**2 * (7.0 * math.sqrt(left * fourths) + 40.0 * size * math.sqrt(squares * fourths))
        error += 6700.0 * size**4 * fourths
        if k == basis.imaged:
            change += 2.0 * float(weighted @ offset)
        else:
            error += 2.0 * size * math.sqrt(left * squares)
        return change / scale, error / scale

    def _exact(self, basis: Basis, place: int, k: int) -> tuple[FloatArray, float]:
        """Vectors of one of the bases with their turn, and the angle by which they are off."""
        if place not in self.imaged.places.values():
            return basis.vectors[:k], 0.0
        turned: FloatArray = orthonormalize((basis.vectors[:k] + self.turns.parts[k - 1]).T).T
        return turned, float(self.turns.unknown[k - 1])


def row_turns(
    basis: PrincipalBasis,
    residuals: Residuals,
    imaged: ImagedBases,
    found: LeadingPairs,
    *,
    error: float,
    matrix: SymmetricMatrix,
    centered: bool,
) -> RowTurns | None:
    """The turns of leading components from a residual pass with images; None where squares leave the range of float64.

    Parameters
    ----------
    basis : PrincipalBasis
    residuals : Residuals
    imaged : ImagedBases
        What was asked for.
    found : LeadingPairs
        Of the matrix of the basis.
    error : float
        Bound of the norm of the error of these and of the matrix.
    matrix : SymmetricMatrix
        That the components are those of.
    centered : bool
        Whether it is the covariance.
    """
    asked, sums, count = residuals.bases[imaged.raw], residuals.sums[imaged.raw], residuals.count
    if sums.images is None or not np.isfinite(sums.images.raw).all():
        return None
    vectors, energy = asked.vectors[: asked.imaged], float(sums.raw[0]) / count
    added = _added(found.d, residuals.chunks)
    relative = projection_rounding(found.d, 1, double_precision=True, chunks=residuals.chunks).along + added
    about = sums.images.raw[0] / count  # the mean, about the shift
    mean = about if asked.shift is None else asked.shift + about
    offset = mean - basis.mean if asked.shift is None else about
    image = sums.images.raw[1:] / count
    covariance = image - np.outer(vectors @ about, about)
    own, moved = covariance, about
    if not centered:
        plain = asked.shift is None
        own = image if plain else covariance + np.outer(vectors @ mean, mean)
        moved = np.zeros(found.d) if plain else mean
    # The mean that is taken off, or added, is off too.
    size = float(np.linalg.norm(moved))
    rounding = relative * energy + 2.0 * size * (added * energy**0.5 + EPSILON * size)
    left = np.array([_left(sums, k, vectors, moved, count, plus=not centered) for k in range(1, len(vectors) + 1)])
    outside = residuals.rounding(imaged.raw).outside
    left += outside * (2.0 * np.sqrt(left * energy) + outside * energy) + 4.0 * added * size * (energy**0.5 + size)
    turns = measured_turns(
        own,
        found,
        len(vectors),
        left=left,
        rounding=rounding,
        matrix_error=error,
        products=matrix.products,
    )
    return RowTurns(
        turns=turns,
        residuals=residuals,
        imaged=imaged,
        covariance=covariance,
        mean=mean,
        offset=offset,
        rounding=relative,
    )


def _left(sums: ResidualSums, k: int, vectors: FloatArray, moved: FloatArray, count: int, *, plus: bool) -> float:
    """What k vectors leave of the trace of the matrix: of the rows, less or plus what they leave of the mean."""
    outside = moved - (moved @ vectors[:k].T) @ vectors[:k]
    square = float(outside @ outside)
    place = min(k, len(sums.raw) - 1)
    return max(float(sums.raw[place]) / count + (square if plus else -square), 0.0)


def _added(d: int, chunks: int) -> float:
    """Rounding of sums over rows, relative to what is added up: within a group, over groups, and over chunks."""
    rows = min(max(GROUP_NUMBERS // d, 4), 64)
    return addition_rounding(rows) + addition_rounding(SEGMENT_ROWS / rows) + EPSILON * (1.0 + 0.5 * chunks)
