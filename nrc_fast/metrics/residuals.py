"""NRC1 and NRC2 from sums of residuals, and how far they can be from their definitions on the stored rows.

The bounds cover the basis (an eigenvector turns by the error of its matrix over the gap of the eigenvalues), the
rounding of the projection, and of the sums. The sums, and the subtractions of the projection, are taken at their worst;
roundings within the product of a row and a vector, and within the Gram, to grow like the square root of their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, RowSpace, orthonormalize
from nrc_fast.metrics.conventions import Convention, in_range
from nrc_fast.metrics.corrections import Correction, FirstOrder
from nrc_fast.metrics.grounds import Grounds
from nrc_fast.metrics.rounding import ProjectionRounding

__all__ = [
    "PrincipalBasis",
    "ProjectionSums",
    "between_neighbours",
    "centring_turn",
    "leading_values",
    "mixing_angle",
    "residual_bound",
    "residual_value",
    "resolved_rank",
    "subspace_residual",
    "trace_bound",
]


def _mixed_in(value: float, energy: float, angle: float) -> float:
    """What a basis turned by `angle` may add to, or take from, a mean residual."""
    return 2.0 * angle * math.sqrt(max(value, 0.0)) * math.sqrt(energy) + angle * angle * energy


def mixing_angle(angles: FloatArray, left: FloatArray, energy: float) -> float:
    """Share of the root of the energy by which the angle of k components changes what they leave.

    Components turn in what fewer of them, which are known better, leave of the rows: ``angle_k sqrt(left_j)`` for any
    j < k, and what the angle of these j does to the whole.

    Parameters
    ----------
    angles : (k,) float64 array
        Of the leading j = 1..k components.
    left : (k - 1,) float64 array
        What j = 1..k - 1 components leave of the mean energy, at most.
    energy : float

    Examples
    --------
    >>> mixing_angle(np.array([1e-16, 1e-4]), np.array([1e-12]), 1.0) < 1.1e-10
    True
    """
    last, fewer = float(angles[-1]), angles[:-1]
    if not (energy > 0.0 and len(fewer)):
        return last
    shares = np.minimum(np.maximum(left, 0.0) / energy, 1.0)
    # Bases of j components, each at most its angle off, are turned into one another first.
    found = (last + 2.0 * fewer) * np.sqrt(shares) + 3.0 * fewer
    return min(last, float(found.min()))


def residual_bound(
    value: float,
    energy: float,
    angle: float,
    rounding: ProjectionRounding,
    *,
    trailing: float = 0.0,
    expanded: float = 0.0,
    loss: float = math.inf,
) -> float:
    """Bound of a mean explicit residual of rows with mean energy `energy`, on a basis off by up to `angle`.

    Turning a subspace by a mixes at most ``a sqrt(energy)`` into a residual vector of mean size sqrt(value), in the
    mean over rows; so do the roundings of the subtractions. Those of the products with the vectors stay in the
    subspace: they count by their squares, but in what `trailing` vectors hold of the value, and in the `expanded`
    energy from which that of its projection was subtracted. On the components of the rows themselves the residual is
    least, so that it is also at most the `loss` of the basis above that of the exact ones.
    """
    mixed = rounding.outside
    added = rounding.along**2 * energy + 2.0 * rounding.along * math.sqrt(max(trailing, 0.0)) * math.sqrt(energy)
    added += 3.0 * rounding.along * expanded
    turned = min(_mixed_in(value, energy, angle + mixed), _mixed_in(value, energy, mixed) + loss)
    return min(turned + added + 2.0 * (rounding.along + rounding.sums) * value, max(energy, value))


def trace_bound(value: float, energy: float, angle: float, floor: float, loss: float = math.inf) -> float:
    """Bound of a mean residual taken from a second moment, on a basis off by up to `angle`.

    It has an absolute `floor`, the error of that moment; for `loss` see `residual_bound`.
    """
    return min(min(_mixed_in(value, energy, angle), loss) + floor, max(energy, value))


def between_neighbours(values: FloatArray, bounds: FloatArray, energy: float) -> FloatArray:
    """Bounds of values for k = 1..K, each of which also lies between those for fewer components and those for more.

    No component adds to what is left, which is at most `energy`. Where components k and k + 1 tie, neither they nor the
    value are determined, and this is the interval of all that it may be.

    Examples
    --------
    >>> values, bounds = np.array([0.5, 0.25, 0.125]), np.array([0.01, 1.0, 0.01])
    >>> between_neighbours(values, bounds, 1.0).round(12).tolist()
    [0.01, 0.26, 0.01]
    """
    highest = np.minimum(np.minimum.accumulate(values + bounds), energy)
    lowest = np.maximum(np.maximum.accumulate((values - bounds)[::-1])[::-1], 0.0)
    nearer: FloatArray = np.minimum(bounds, np.maximum(highest - values, values - lowest))
    return np.maximum(nearer, 0.0)


class ProjectionSums(Protocol):
    """Sums over rows of what is left of them with the leading k = 0, 1, ... vectors of a basis, (K + 1,) each."""

    raw: FloatArray  # of the rows as they are
    unit: FloatArray  # of the rows divided by their norm
    expanded: FloatArray  # energy of rows of which it is a difference of energies, and their number


@dataclass
class PrincipalBasis:
    """Leading principal components of the features.

    Attributes
    ----------
    vectors : (r, d) float64 array
        Orthonormal rows; the leading j of them span the leading j components. Fewer than were asked for where the
        features vary in fewer directions.
    mean : (d,) float64 array
        Mean of the features, as precise as the basis.
    mean_error : float
        Bound of the error of the mean relative to the spread of the features.
    angles : (k,) float64 array
        Bound of the angle of the leading j = 1..k components to the exact ones.
    losses : (k,) float64 array
        Bound of what the exact components hold of the trace of their matrix beyond these; no more than k times the
        error of the matrix (Ky Fan), even where they tie.
    collapsed : bool
        Whether next to nothing of the variance is outside, so that the residual must be float64.
    spread : float
        Root of the variance of the features.
    grounds : frozenset of str
        What the angles and losses rest on, by names of `nrc_fast.metrics.grounds.GROUNDS`.
    """

    vectors: FloatArray
    mean: FloatArray
    mean_error: float
    angles: FloatArray
    losses: FloatArray
    collapsed: bool
    spread: float = 0.0
    grounds: Grounds = frozenset()

    @property
    def shift_error(self) -> float:
        """Bound of the norm of the error of the mean."""
        return self.mean_error * self.spread

    def leading(self, k: int) -> PrincipalBasis:
        """The leading k of these components."""
        return replace(self, vectors=self.vectors[:k], angles=self.angles[:k], losses=self.losses[:k])

    def followed_by(self, fainter: PrincipalBasis, k: int) -> PrincipalBasis:
        """The k leading components, of which those beyond these vectors are the components of what these leave."""
        rank = len(self.vectors)
        vectors = orthonormalize(np.concatenate([self.vectors, fainter.vectors]).T).T[:k]
        angles, losses = np.ones(k), np.full(k, math.inf)
        last = min(rank + len(fainter.angles), k)
        angles[:rank], losses[:rank] = self.angles[:rank], self.losses[:rank]
        angles[rank:last] = np.minimum(self.angles[rank - 1] + fainter.angles[: last - rank], 1.0)
        losses[rank:last] = self.losses[rank - 1] + fainter.losses[: last - rank]
        return replace(
            self,
            vectors=np.ascontiguousarray(vectors),
            angles=angles,
            losses=losses,
            collapsed=True,
            grounds=self.grounds | fainter.grounds,
        )


def resolved_rank(eigenvalues: FloatArray, d: int) -> int:
    """How many components d features have: leading eigenvalues that can be told from the rounding of the largest.

    Directions beyond are arbitrary: where more components are asked for, they are those of what these leave of the
    rows, if that is more than rounding; else NRC1 with all of these is all that is known (and 0 for k = d).
    """
    return int(np.count_nonzero(eigenvalues > d * EPSILON * np.max(eigenvalues, initial=0.0)))


def residual_value(convention: Convention, sums: ProjectionSums, k: int, count: int, d: int) -> tuple[float, float]:
    """Value of a convention with the leading k vectors, and the mean energy of its rows.

    NaN where all rows are zero (or have no variance, where rows are centered); exactly 0 where k = d.

    Parameters
    ----------
    convention : Convention
    sums : ProjectionSums
        Sums of squared residuals, (K + 1,) each.
    k : int
        How many vectors; more than K count as K.
    count, d : int
        Rows and columns of the features.

    Raises
    ------
    ValueError
        The squares of the features leave the range of float64.
    """
    by_k = sums.unit if convention.unit_rows else sums.raw
    if not np.isfinite(by_k[0]) or (by_k[0] == 0.0 and sums.unit[0] > 0.0):
        msg = f"under convention {convention.name} the squares of H leave the range of float64; scale it first"
        raise ValueError(msg)
    if not by_k[0] > 0.0:
        return float("nan"), 0.0
    scale = float(by_k[0]) if convention.relative else float(count)
    value = np.array(0.0 if k >= d else by_k[min(k, len(by_k) - 1)] / scale)
    return float(in_range(convention, value)), float(by_k[0]) / scale


def _expanded(convention: Convention, sums: ProjectionSums, count: int) -> float:
    """Energy of rows whose residual is a difference of energies, in the units of a convention's value."""
    whole = float((sums.unit if convention.unit_rows else sums.raw)[0])
    scale = whole if convention.relative else float(count)
    return float(sums.expanded[int(convention.unit_rows)]) / scale if scale > 0.0 else 0.0


def centring_turn(convention: Convention, turned: float, energy: float) -> float:
    """Angle by which the error of the mean may turn rows that are divided by their norm, in their mean square.

    0 for other conventions: rows about the origin know no mean, and about their mean see `centring_excess`.

    Parameters
    ----------
    convention : Convention
    turned : float
        Mean square of the angles of single rows.
    energy : float
        Mean energy of the rows that are projected.
    """
    if not (convention.centered_rows and convention.unit_rows):
        return 0.0
    return math.sqrt(turned / energy) if energy > 0.0 else 1.0


def centring_excess(convention: Convention, mean_error: float, energy: float) -> float:
    """What the error of the mean may change a mean residual by: its square, as rows about their mean add up to 0.

    Parameters
    ----------
    convention : Convention
    mean_error : float
        Bound of the error of the mean, relative to the spread of the features.
    energy : float
        Mean energy of the rows that are projected.
    """
    is_plain = convention.centered_rows and not convention.unit_rows
    return 2.0 * mean_error**2 * energy if is_plain else 0.0


def subspace_residual(
    convention: Convention,
    space: RowSpace,
    sums: ProjectionSums,
    count: int,
    *,
    rounding: ProjectionRounding,
    mean_error: float = 0.0,
    turned: float = 0.0,
    of_mean: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """NRC2 and its bound from the sums of `count` rows on the basis of a row space; NaN where all rows are zero.

    Parameters
    ----------
    convention : Convention
    space : RowSpace
        Of W, with some basis.
    sums : ProjectionSums
    count : int
    rounding : ProjectionRounding
        Of these sums.
    mean_error, turned : float
        As in `centring_excess` and `centring_turn`.
    of_mean : two floats, optional
        What the exact mean changes in the value, and its error: taken where the bound is less with it.

    Raises
    ------
    ValueError
        The squares of the features leave the range of float64.
    """
    rank, d = space.basis.shape
    value, energy = residual_value(convention, sums, rank, count, d)
    angle = space.error + centring_turn(convention, turned, energy)
    expanded = _expanded(convention, sums, count)
    bound = residual_bound(value, energy, angle, rounding, expanded=expanded)
    bound += centring_excess(convention, mean_error, energy)
    if of_mean is not None:
        exact = min(max(value + of_mean[0], 0.0), energy)
        narrower = residual_bound(max(value, exact), energy, space.error, rounding, expanded=expanded) + of_mean[1]
        value, bound = (exact, narrower) if narrower < bound else (value, bound)
    return value, math.nan if math.isnan(value) else bound


def leading_values(
    convention: Convention,
    basis: PrincipalBasis,
    sums: ProjectionSums,
    count: int,
    *,
    rounding: ProjectionRounding,
    turned: float = 0.0,
    first_order: FirstOrder | Correction | None = None,
) -> tuple[FloatArray, FloatArray]:
    """NRC1 for k = 1..K and its bounds, (K,) each, from the sums on a basis with K angles.

    Parameters
    ----------
    convention : Convention
    basis : PrincipalBasis
    sums : ProjectionSums
        Sums of squared residuals of `count` rows on that basis.
    count : int
    rounding : ProjectionRounding
        Of these sums.
    turned : float
        Mean square of the angles by which the error of the mean turns rows about it.
    first_order : FirstOrder or Correction, optional
        Taken where the bound is less with it.

    Raises
    ------
    ValueError
        The squares of the features leave the range of float64.
    """
    rank, d = basis.vectors.shape
    least_value, energy = residual_value(convention, sums, rank, count, d)
    expanded = _expanded(convention, sums, count)
    values: list[float] = []
    bounds: list[float] = []
    for k, loss in enumerate(basis.losses, start=1):
        value, _ = residual_value(convention, sums, k, count, d)
        turn = mixing_angle(basis.angles[:k], np.add(values, bounds), energy)
        of_rows = centring_turn(convention, turned, energy)
        least = math.inf
        if convention.projects_its_matrix:
            scale = float(sums.raw[0]) / count if convention.relative else 1.0
            least = min(float(loss) / scale if scale > 0.0 else 0.0, turn**2 * energy)
        off = {"trailing": value - least_value, "expanded": expanded}
        excess = centring_excess(convention, basis.mean_error, energy)
        bound = residual_bound(value, energy, turn + of_rows, rounding, loss=least, **off) + excess
        if first_order is not None:
            exact, left, beyond = first_order.applied(k, value, energy)
            if isinstance(first_order, Correction) and first_order.has_mean:
                of_rows = excess = 0.0
            least = left**2 * energy if convention.projects_its_matrix else math.inf
            narrower = residual_bound(max(value, exact), energy, left + of_rows, rounding, loss=least, **off)
            narrower += beyond + excess
            value, bound = (exact, narrower) if narrower < bound else (value, bound)
        values.append(value)
        # Beyond the rank nothing is known but that more components only take away.
        bounds.append(math.nan if math.isnan(value) else 0.0 if k >= d else bound if k <= rank else energy)
    found, most = np.array(values), energy * (1.0 + 2.0 * (rounding.along + rounding.sums))
    return found, between_neighbours(found, np.array(bounds), most)
