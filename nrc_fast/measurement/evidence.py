"""What a reading tells of features: their moments, components and residuals, read again where that is needed.

Moments are summed when they are first asked for. Leading components alone may come without them, from products of the
rows with a few vectors; `passes.component_costs` says when. From moments, features that can be read again are read
twice: the read for the residuals gives images of the components too, in float64, which tell how the exact ones are
turned from those of a Gram with float32 blocks. Where that leaves fewer digits than a better basis would, collapsed
features are read a third time, for one step of subspace iteration in float64. Where float32 blocks leave too little,
the moments are read once more in float64, and serve everything that comes after.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON, orthonormalize
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.exact_components import ExactComponents
from nrc_fast.measurement.exact_turns import MOST_HELD, ExactTurns, exact_turns
from nrc_fast.measurement.few_row_components import few_row_components, has_few_rows
from nrc_fast.measurement.few_rows import FewRows, rows_to_hold
from nrc_fast.measurement.found_basis import COLLAPSED, angles_of, basis_of_rows, losses_of, rounding_of_mean
from nrc_fast.measurement.row_components import RowComponents, row_components
from nrc_fast.measurement.row_turns import MOST_IMAGED, MOST_IMAGED_NUMBERS, ImagedBases, RowTurns, row_turns
from nrc_fast.metrics.angles import refined_angle_bounds
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.grounds import Grounds, grounds_of_components
from nrc_fast.metrics.residuals import PrincipalBasis, resolved_rank
from nrc_fast.metrics.rounding import decomposition_rounding, projection_rounding
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.component_costs import component_costs
from nrc_fast.passes.explicit_sums import PredictionErrors
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.rereading import require_same_rows
from nrc_fast.passes.residual_sums import Pairing, Residuals
from nrc_fast.passes.runs import careful_residuals, centered_unit_gram, gather, gram_product, prediction_errors
from nrc_fast.sources.left_over import LeftOver

__all__ = ["Evidence", "gathered"]

# Eigenvalues up to this multiple of the error of their matrix cannot be told from it.
UNRESOLVED = 4.0
# Energy of rows without their leading components, in roundings of these, that is more than rounding.
FAINT = 4.0


class Evidence:
    """Moments of features and, where their rows can be read again, components and residuals.

    Parameters
    ----------
    moments : Moments, optional
        Of all rows, at least one; summed when they are first asked for, if not given.
    reading : Reading, optional
        Of these rows. Beside moments, one that cannot read them again is not asked.
    unit_rows : bool
        Whether moments that are not given are to have the Gram of the unit rows.
    precision : {"high", "highest", "fast"}
        Of moments that are not given.

    Attributes
    ----------
    needs_whole_spectrum : bool
        Whether every eigenvector is wanted anyway, so that components are taken from them; to be set before the first
        question.
    turn_of_unit_rows : float
        Root mean square of the angles by which the error of the mean turns rows about it, once their second moment was
        asked for.
    few_rows : FewRows or None
        All rows, once residuals have held them, where they are few.
    """

    def __init__(
        self,
        moments: Moments | None = None,
        reading: Reading | None = None,
        *,
        unit_rows: bool = False,
        precision: str = "high",
    ) -> None:
        self._moments = moments
        self._reading = reading if reading is not None and reading.can_read_again else None
        self._unit_rows = unit_rows
        self._precision = precision
        self._found: RowComponents | None = None
        self._disturbance = 0.0  # norm of what the matrix of these rows may be off by, besides
        self._faintest = 0.0  # energy of rows that is rounding
        self._grounds_before: Grounds = frozenset()
        self.turn_of_unit_rows = 0.0
        self.few_rows: FewRows | None = None
        self.needs_whole_spectrum = False

    @property
    def moments(self) -> Moments:
        """Of all rows; in float64 from the first time on that float32 blocks did not suffice."""
        if self._moments is None:
            self._moments = gather(self._rows, unit_rows=self._unit_rows, precision=self._precision)
            self._forget_rows_read_once()
        return self._moments

    @property
    def grounds_of_moments(self) -> Grounds:
        """What numbers of the moments rest on: of these, and of those before they were read again in float64."""
        return self._grounds_before | self.moments.grounds

    def _forget_rows_read_once(self) -> None:
        if self._reading is not None and not self._reading.can_read_again:
            self._reading = None

    @property
    def can_read_again(self) -> bool:
        """Whether there are rows to read again; `components` and `residuals` need them."""
        return self._reading is not None

    @property
    def _rows(self) -> Reading:
        assert self._reading is not None
        return self._reading

    # ---- moments ----

    def require_double(self) -> None:
        """Read the moments again in float64, unless they are."""
        if not self.moments.is_double:
            self._grounds_before = self.grounds_of_moments
            self._moments = gather(self._rows, unit_rows=self.moments.unit_rows, precision="highest")

    def resolve(self, k: int, found: int, *, centered: bool) -> None:
        """Read the moments again in float64 if the k-th of the components found cannot be told from rounding."""
        values = self.leading(found, centered=centered)[0].values
        is_resolved = len(values) < k or values[k - 1] > UNRESOLVED * self.moments.covariance_error
        if values.size and values[0] > 0.0 and not is_resolved:
            self.require_double()

    def leading(self, k: int, *, centered: bool, vectors: int | None = None) -> tuple[LeadingPairs, float]:
        """Leading pairs of the covariance, or of the second moment, and the bound of that matrix's error.

        With so many vectors, k if it is not said, where all pairs are found.
        """
        pairs = self.moments.leading(k, centered=centered, whole=self.needs_whole_spectrum, vectors=vectors)
        if self._reading is not None:
            self._reading.same(pairs.values, pairs.vectors, pairs.distances)
        return pairs, self.moments.covariance_error + self._disturbance + EPSILON * pairs.trace

    def second_moment_of_rows(self, convention: Convention) -> SymmetricMatrix | None:
        """Second moment of the rows that a convention projects; None where they would have to be read again for it."""
        moments = self.moments
        if not convention.unit_rows:
            return moments.matrix("covariance" if convention.centered_rows else "second_moment")
        if not convention.centered_rows:
            return moments.matrix("unit_second_moment") if moments.unit_rows else None
        if self._reading is None:
            return None
        precision = "highest" if moments.is_double else moments.precision
        matrix, turned = centered_unit_gram(self._reading, moments, precision)
        self.turn_of_unit_rows = (turned / moments.count) ** 0.5
        return matrix

    # ---- what is read again ----

    def components(
        self, k: int, *, centered: bool, numbers: Sequence[int] = (), refines: bool = True
    ) -> PrincipalBasis:
        """The leading k components, for some numbers of them that matter, k if none is named.

        Without moments, the rows are multiplied with some vectors until those of each such number span what they
        should, where that is likely to cost less than moments. From moments, these are read again in float64 if the
        last component that matters cannot be told from rounding; and the rows once, for a step of subspace iteration,
        if the features are collapsed, unless `refines` is False, as images will tell how the components are turned.
        """
        numbers = list(numbers) or [k]
        basis = self._components(k, numbers, centered=centered, refines=refines)
        if len(basis.vectors) < max(numbers) and self._reading is not None:
            return self._with_fainter(basis, k, numbers, centered=centered)
        return basis

    def _components(self, k: int, numbers: Sequence[int], *, centered: bool, refines: bool) -> PrincipalBasis:
        if self._moments is None and self._reading is not None:
            self._found = self._components_of_rows(numbers, centered=centered)
            if self._found is not None:
                return basis_of_rows(self._found, k, self._disturbance)
        return self._components_of_moments(k, max(numbers), centered=centered, refines=refines)

    def _with_fainter(self, basis: PrincipalBasis, k: int, numbers: Sequence[int], *, centered: bool) -> PrincipalBasis:
        """Components beyond those that can be told from the rounding of the first: of what these leave of the rows."""
        first, d = basis.vectors.shape
        mean = basis.mean if centered else np.zeros(d)
        rows = self._rows
        reading = rows.of(LeftOver(rows.source, basis.vectors, mean, skips=rows.skips))
        if reading is None or first == 0:
            return basis
        residuals = self.residuals([Basis(basis.vectors, mean)], collapsed=True)
        left, whole = (float(residuals.sums[0].raw[place]) / residuals.count for place in (-1, 0))
        size = whole + float(mean @ mean)
        rounding = projection_rounding(d, first, double_precision=True, chunks=1).along
        faintest = max(self._faintest, rounding**2 * size)
        if not left > FAINT * faintest:
            return basis
        fainter, turned = Evidence(reading=reading, precision="highest"), float(basis.angles[first - 1])
        fainter._faintest = faintest
        # What the leading ones, which are a little off, leave of themselves, and what rounding does to rows as small.
        fainter._disturbance = 2.0 * (turned + (faintest / left) ** 0.5) * left + turned**2 * whole + faintest
        beyond = [number - first for number in numbers if number > first]
        return basis.followed_by(fainter.components(max(beyond), centered=centered, numbers=beyond), k)

    def _components_of_rows(self, numbers: Sequence[int], *, centered: bool) -> RowComponents | None:
        reading = self._rows
        if not reading.rereadable:
            return None
        costs = component_costs(reading.source, max(numbers), reading.memory).agreed(reading.team)
        if not costs.prefers_rows:
            return None
        is_double = reading.is_double or self._precision == "highest"
        found = row_components(reading, numbers, costs, centered=centered, double_precision=is_double)
        if found is None and has_few_rows(reading):
            found = few_row_components(reading, max(numbers), centered=centered)
        return found

    def _components_of_moments(self, k: int, last: int, *, centered: bool, refines: bool) -> PrincipalBasis:
        self.resolve(last, k, centered=centered)
        moments = self.moments
        pairs, error = self.leading(k, centered=centered)
        total, d = pairs.trace, moments.d
        collapsed = last < d and pairs.outside(last) <= COLLAPSED * total
        rank = min(k, resolved_rank(pairs.values, d))
        vectors = np.ascontiguousarray(pairs.vectors[:rank])
        angles = angles_of(pairs, k, error)
        if not collapsed or moments.is_double or rank == 0 or (rank >= last and not refines and self.tells_turns(last)):
            mean, mean_error = moments.mean, moments.mean_error / total**0.5 if total > 0.0 else 0.0
        else:
            beyond = np.array([pairs.next_value(j) + error for j in range(1, rank + 1)])
            vectors, mean, angles[:rank] = self._refined(vectors, beyond, centered=centered)
            mean_error = EPSILON + rounding_of_mean(mean, total)
        return PrincipalBasis(
            vectors=vectors,
            mean=mean,
            mean_error=mean_error,
            angles=angles,
            losses=losses_of(pairs, k, error),
            collapsed=collapsed,
            spread=max(moments.variance, 0.0) ** 0.5,
            grounds=moments.grounds | grounds_of_components(is_whole=pairs.is_whole),
        )

    def _refined(
        self, vectors: FloatArray, beyond: FloatArray, *, centered: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """V <- qr(X^T (X V)) in float64, the mean in float64, and the angles of V: one read."""
        moments = self.moments
        shift = moments.mean if centered else np.zeros(moments.d)
        product = gram_product(self._rows, vectors, shift, title="refinement")
        image, trace = product.image / moments.count, float(product.energy[0]) / moments.count
        offset = product.column_sums / moments.count
        if centered:
            # The rows were shifted by a mean that float32 blocks had left a little off.
            image = image - np.outer(vectors @ offset, offset)
            trace -= float(offset @ offset)
        error = 2.0 * EPSILON * moments.d**0.5 * trace
        angles = refined_angle_bounds(vectors, image, trace=trace, beyond=beyond, error=error)
        refined = np.ascontiguousarray(orthonormalize(image.T).T)
        self._rows.same(refined, angles)
        return refined, shift + offset, angles

    def residuals(
        self,
        bases: Sequence[Basis],
        *,
        collapsed: bool,
        pairing: Pairing | None = None,
        model: LinearModel | None = None,
        shift_error: float = 0.0,
    ) -> Residuals:
        """Explicit residuals on several bases: in float32 where that is faster and suffices, else in float64.

        With a pairing the same read gives products of the squares of rows and of their targets, in float64 the errors
        of a model, and with the error of the shifts how far that turns the rows.

        Raises
        ------
        RuntimeError
            The rows are no longer those of the moments.
        """
        residuals = careful_residuals(
            self._rows,
            bases,
            collapsed=collapsed,
            pairing=pairing,
            model=model,
            shift_error=shift_error,
            kept_rows=self._held_rows,
        )
        require_same_rows(self._found or self.moments, residuals)
        self.few_rows = self.few_rows or FewRows.of(residuals.rows)
        return residuals

    def exact_components(self, *, centered: bool) -> ExactComponents | None:
        """Exact components of few rows, once residuals have held them; None where they are not to be had."""
        return None if self.few_rows is None else self.few_rows.components(self.moments, centered=centered)

    @property
    def holds_rows(self) -> bool:
        """Whether residuals hold all rows, which are few."""
        return self.can_read_again and self._held_rows > 0

    @property
    def is_on_host(self) -> bool:
        """Whether the rows lie on the host, where kernels give images of unit rows too."""
        return self._rows.source.backend.is_host

    def tells_turns(self, count: int) -> bool:
        """Whether images of so many components tell more of their turns than moments do: those from float32 blocks."""
        moments = self._moments
        if moments is None or moments.is_double or not 0 < count < moments.d:
            return False
        return count <= MOST_IMAGED and count * moments.d <= MOST_IMAGED_NUMBERS

    def has_coarse(self, basis: PrincipalBasis, last: int) -> bool:
        """Whether a basis is of collapsed features from float32 blocks and was not refined, as images were to tell."""
        return basis.collapsed and len(basis.vectors) >= last and self.tells_turns(last)

    def agreed(self, answer: float) -> bool:
        """Whether a number that every process has computed is above 0, as the first one found it."""
        found = np.array([answer])
        self._rows.same(found)
        return bool(found[0] > 0.0)

    @property
    def _held_rows(self) -> int:
        """How many rows there are, where all are held; 0 where they are too many."""
        moments = self._moments
        return 0 if moments is None or not moments.is_double else rows_to_hold(self._rows, moments.count, MOST_HELD)

    def turns(
        self, basis: PrincipalBasis, residuals: Residuals, *, centered: bool, imaged: ImagedBases | None = None
    ) -> ExactTurns | RowTurns | None:
        """How the exact components are turned from those of a basis; None where that is not to be had.

        Of rows that are held, and more than `few_rows`, from these; of many from images, where some were asked for.
        """
        rows, rank = residuals.rows, len(basis.vectors)
        if self.few_rows is not None or not rank > 0 or self._moments is None:
            return None
        pairs, error = self.leading(len(basis.angles), centered=centered)
        if not np.array_equal(pairs.vectors[:rank], basis.vectors):
            return None  # a later read has refined it
        if rows is not None:
            is_known = pairs.is_whole and bool(np.isfinite(rows).all())
            return self._turns_of_held(rows, rank, error, centered=centered) if is_known else None
        if imaged is None:
            return None
        matrix = self.moments.matrix("covariance" if centered else "second_moment")
        return row_turns(basis, residuals, imaged, pairs, error=error, matrix=matrix, centered=centered)

    def _turns_of_held(self, rows: FloatArray, rank: int, error: float, *, centered: bool) -> ExactTurns | None:
        found = self.moments.pairs(centered=centered)
        vectors = np.ascontiguousarray(found.vectors(len(found.values))[: len(found.values)])
        error += decomposition_rounding(len(vectors)) * max(float(found.values[0]), 0.0)
        count = min(rank, len(vectors) - 1)
        return exact_turns(rows, found.values, vectors, count, error=error, centered=centered) if count else None

    def prediction_errors(self, model: LinearModel) -> PredictionErrors:
        """Explicit ``sum (W h + b - y)^2`` of each output of a model: one read."""
        return prediction_errors(self._rows, model)


def gathered(reading: Reading, *, unit_rows: bool = False, precision: str = "high") -> Evidence:
    """Evidence from a first read of the rows.

    Raises
    ------
    ValueError, OSError, RuntimeError
        Rows are not finite, cannot be read, or there are none.
    """
    return Evidence(gather(reading, unit_rows=unit_rows, precision=precision), reading)
