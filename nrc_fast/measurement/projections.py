"""Residuals on the leading components with what is known of these: refined where the turns leave too few digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.exact_turns import ExactTurns
from nrc_fast.measurement.row_turns import ImagedBases, RowTurns, with_images
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.corrections import Correction, FirstOrder
from nrc_fast.metrics.residuals import PrincipalBasis, leading_values
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.residual_sums import Pairing, Residuals

__all__ = ["Projections", "projections"]

# Bound of a number, relative to it, up to which no better basis is asked for.
KNOWN = 1e-8
# How far a bound may be above that of components that are only turned by rounding.
ABOVE_ROUNDING = 4.0


@dataclass(frozen=True, eq=False)
class Projections:
    """Residuals on several bases, and the components that the first ones are of.

    Attributes
    ----------
    basis : PrincipalBasis
    residuals : Residuals
    places : dict
        Which basis has the components, for rows as they are (False) and about their mean (True).
    turns : ExactTurns, RowTurns or None
        How the exact components are turned.
    """

    basis: PrincipalBasis
    residuals: Residuals
    places: dict[bool, int]
    turns: ExactTurns | RowTurns | None

    @property
    def turned(self) -> float:
        """Mean square of the angles by which the error of the mean turns rows about it."""
        return float(self.residuals.turned[0]) / self.residuals.count

    def nrc1(self, convention: Convention) -> tuple[FloatArray, FloatArray]:
        """NRC1 for k = 1, 2, ... and its bounds."""
        place = self.places[convention.centered_rows]
        few = self.basis.leading(len(self.residuals.sums[place].raw) - 1)
        basis = self.basis if len(few.vectors) == len(self.basis.vectors) else few
        first_order: FirstOrder | Correction | None = None
        if self.turns is not None:
            first_order = self.turns.first_order(convention)
        return leading_values(
            convention,
            basis,
            self.residuals.sums[place],
            self.residuals.count,
            rounding=self.residuals.rounding(place),
            turned=self.turned,
            first_order=first_order,
        )

    def mean_change(self, convention: Convention, place: int) -> tuple[float, float] | None:
        """What the exact mean changes in the residual on one of the bases, and its error; None if it is not known."""
        if not isinstance(self.turns, RowTurns) or not convention.centered_rows:
            return None
        k = len(self.residuals.sums[place].raw) - 1
        raw = float(self.residuals.sums[place].raw[0]) / self.residuals.count
        found = self.turns.of_mean(convention, place, k, raw if convention.relative else 1.0)
        return found if np.isfinite(found).all() else None


def projections(
    evidence: Evidence,
    k: int,
    numbers: Sequence[int],
    conventions: Collection[Convention],
    bases_of: Callable[[PrincipalBasis], tuple[list[Basis], dict[bool, int]]],
    *,
    bounds_all: bool,
    pairing: Pairing | None = None,
    model: LinearModel | None = None,
) -> Projections:
    """Project the rows on their leading components.

    Parameters
    ----------
    evidence : Evidence
    k : int
        How many components are wanted.
    numbers : sequence of int
        Those that matter.
    conventions : collection of Convention
        All with the same basis; the bounds under each count.
    bases_of : callable
        Bases for a residual pass, and which of them have the components.
    bounds_all : bool
        Whether images are to narrow the bounds of features that are not collapsed too, where all that they save is
        digits of bounds: the read takes a fifth longer.
    pairing, model : optional
        What the same read gives beside.

    Raises
    ------
    RuntimeError
        The rows are no longer those of the moments.
    """
    last, centered = max(numbers), next(iter(conventions)).centered_basis
    # Without images of unit rows another basis would be needed for these.
    has_unit_rows = any(convention.unit_rows for convention in conventions)
    images = evidence.agreed(float(evidence.is_on_host or not has_unit_rows))

    def projected(*, refines: bool) -> Projections:
        basis = evidence.components(k, centered=centered, numbers=numbers, refines=refines)
        bases, places = bases_of(basis)
        imaged: ImagedBases | None = None
        is_imaged = (bounds_all or basis.collapsed) and evidence.tells_turns(last) and len(basis.vectors) >= last
        if not refines and images and is_imaged:
            imaged = with_images(bases, places, conventions, last, basis=basis)
        residuals = evidence.residuals(
            bases if imaged is None else imaged.bases,
            collapsed=basis.collapsed,
            pairing=pairing,
            model=model,
            shift_error=basis.shift_error,
        )
        turns = evidence.turns(basis, residuals, centered=centered, imaged=imaged)
        if isinstance(turns, RowTurns):
            basis = turns.narrowed(basis)
        return Projections(basis, residuals, places, turns)

    found = projected(refines=not images)
    if not images or not evidence.has_coarse(found.basis, last):
        return found
    return projected(refines=True) if evidence.agreed(_missing(found, numbers, conventions)) else found


def _missing(found: Projections, numbers: Sequence[int], conventions: Collection[Convention]) -> float:
    """How far bounds are above those that suffice: a small share of the number, or a few times those of rounding."""
    turns, last = found.turns, max(numbers)
    if not isinstance(turns, RowTurns):
        return math.inf
    rounded = replace(found.basis.leading(last), angles=np.minimum(turns.turns.floors, 1.0), mean_error=EPSILON)
    missing = 0.0
    for convention in conventions:
        values, bounds = found.nrc1(convention)
        place = found.places[convention.centered_rows]
        sums, rounding = found.residuals.sums[place], found.residuals.rounding(place)
        least = leading_values(convention, rounded, sums, found.residuals.count, rounding=rounding)[1]
        places = np.array(numbers) - 1
        enough = np.maximum(KNOWN * values[places], ABOVE_ROUNDING * least[places])
        missing = max(missing, float(np.max(bounds[places] - enough)))
    return missing
