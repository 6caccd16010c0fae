"""A report from statistics, and from explicit residuals where the rows can be read again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.linalg import covariance_spectrum
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.balance_metrics import balance_metrics
from nrc_fast.measurement.bound_grounds import grounds_of_report
from nrc_fast.measurement.convention_metrics import ConventionMetrics, explicit_metrics, moment_metrics
from nrc_fast.measurement.debiased import RowAlignments, debiased_alignment
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.exact_readout import exact_readout
from nrc_fast.measurement.exact_targets import TargetCovariance
from nrc_fast.measurement.extent import Extent
from nrc_fast.measurement.head import Head, require_penalties
from nrc_fast.measurement.model_errors import ModelErrors
from nrc_fast.measurement.moment_metrics import cka_of_moments
from nrc_fast.measurement.spectrum_metrics import leading_spectrum_metrics, readout_metric, spectrum_metrics
from nrc_fast.measurement.suspicions import notes_on_call
from nrc_fast.measurement.undefined import (
    LEAST_DEBIASED,
    notes_of_components,
    notes_of_features,
    notes_of_gamma,
    notes_of_targets,
)
from nrc_fast.metrics.alignment import HeadAlignment, HeadShape, long_head_shape
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.head_context import head_context
from nrc_fast.metrics.prediction import PenaltyProduct, Prediction
from nrc_fast.metrics.random_heads import typical_nrc3
from nrc_fast.metrics.targets import (
    chance_alignment,
    r_squared,
    r_squared_bound,
)
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.residual_sums import Pairing
from nrc_fast.reports.affine import affine_note, is_affine
from nrc_fast.reports.bound_kinds import sorted_grounds
from nrc_fast.reports.features import Report
from nrc_fast.ufm.closed_form import predicted_spectrum

__all__ = ["Wishes", "report_of"]

# Bound of NRC1, relative to it, from which on it is looked for components that tie.
TIE = 1e-3
# Bound of a number, relative to it, from which on moments in float32 blocks are read again in float64 for it: about a
# digit is left.
COARSE = 0.1
# Numbers that come from the moments alone.
OF_MOMENTS = ("linear_mse", "cka", "effective_rank", "stable_rank")
# When to say that CKA is chance: independent features and targets would have this share of it.
CHANCE = 0.1


@dataclass(frozen=True)
class Wishes:
    """What a report is to tell, and how.

    Attributes
    ----------
    convention : Convention
    rtol : float
        Where the bound of the MSE exceeds `rtol` of it, the rows are read for it, if they can be read again and no
        other read has given it.
    extent : Extent
    penalties : object with an attribute ``c``, optional
    """

    convention: Convention
    rtol: float
    extent: Extent = Extent()  # noqa: RUF009 - frozen
    penalties: PenaltyProduct | None = None


def report_of(evidence: Evidence, head: Head, wishes: Wishes) -> Report:
    """Every metric that the evidence allows, each with its bound.

    Parameters
    ----------
    evidence : Evidence
    head : Head
    wishes : Wishes

    Returns
    -------
    Report

    Raises
    ------
    TypeError, ValueError
        The penalties have no single c.
    OSError, RuntimeError
        Rows cannot be read again, or have changed.
    """
    # Threads of numpy would wait actively beside the passes that come after small products.
    with few_blas_threads(evidence.moments.d):
        return _Assembly(evidence, head, wishes).report()


class _Assembly:
    """The steps of a report, in the order in which they read the rows."""

    def __init__(self, evidence: Evidence, head: Head, wishes: Wishes) -> None:
        require_penalties(wishes.penalties)
        evidence.needs_whole_spectrum = wishes.extent.has_whole_spectrum(evidence.moments.d)
        self.evidence = evidence
        self.head = head
        self.convention = wishes.convention
        self.rtol = wishes.rtol
        self.extent = wishes.extent
        self.penalties = wishes.penalties
        self.bounds: dict[str, float | FloatArray] = {}
        self.notes = head.notes() + notes_on_call(evidence.moments, head)
        self.paired: FloatArray = np.full(3, math.nan)
        self.is_paired_in_double = True
        self.held: tuple[FloatArray, FloatArray] | None = None  # few rows and their targets
        self.readout_is_exact = False
        self.errors: ModelErrors | None = None
        if head.weights is not None and head.bias is not None and evidence.moments.n_targets:
            self.errors = ModelErrors(evidence, LinearModel(head.weights, head.bias), wishes.rtol)

    @property
    def _moments(self) -> Moments:
        return self.evidence.moments

    @property
    def _found(self) -> int:
        """How many components are found."""
        return self.extent.components(self.head.components, self._moments.d)

    def report(self) -> Report:
        """Everything that is known."""
        evidence, head = self.evidence, self.head
        if evidence.can_read_again:
            evidence.resolve(head.components, self._found, centered=self.convention.centered_basis)
        found = self._convention_metrics()
        is_trivial = head.components == self._moments.d
        if not found.is_refined and not is_trivial and self._is_coarse(found.values, found.bounds, "nrc1"):
            evidence.require_double()
            found = self._convention_metrics()
        if found.residuals is None:
            self._note_moments()
        else:
            self.paired, self.is_paired_in_double = found.residuals.paired, found.residuals.is_double
            rows, targets = found.residuals.rows, found.residuals.targets
            if rows is not None and targets is not None and targets.size <= rows.size:
                # Those of a damaged checkpoint may not be.
                self.held = (rows, targets) if np.isfinite(rows).all() and np.isfinite(targets).all() else None
            if self.errors is not None:
                self.errors.take(found.residuals, self.held)
        self.bounds |= found.bounds
        by_k, by_k_bounds = found.by_k, found.by_k_bounds
        # No component adds to the residual, but values from different reads have floors of their own.
        lowest = np.minimum.accumulate(by_k)
        by_k, by_k_bounds = lowest, by_k_bounds + (by_k - lowest)
        nrc1_value = float(by_k[head.components - 1])
        self.bounds |= {"nrc1": float(by_k_bounds[head.components - 1]), "nrc1_by_k": by_k_bounds}
        of_components = []
        if float(self.bounds["nrc1"]) > TIE * nrc1_value:
            pairs, error = evidence.leading(self._found, centered=self.convention.centered_basis)
            of_components = notes_of_components(pairs, head.components, error)
        numbers = self._numbers_of_moments()
        moments = self._moments
        self._note_affine_collapse(nrc1_value, found)
        all_zero = moments.zero_rows == moments.count
        self.notes += notes_of_features(numbers["stable_rank"], all_zero=all_zero)
        self.notes += of_components
        has_spectrum = self.extent.has_whole_spectrum(moments.d)
        are_held = self.held is not None
        grounds = grounds_of_report(
            evidence,
            found,
            self.bounds,
            errors=self.errors,
            rows_are_held=are_held,
            readout_is_exact=self.readout_is_exact,
            whole_spectrum=has_spectrum,
        )
        return Report(
            samples=moments.count,
            d=moments.d,
            n=head.n,
            dtype=moments.dtype,
            backend=", ".join(moments.devices) or CPU.name,
            convention=self.convention.name,
            nrc1=nrc1_value,
            nrc1_by_k=by_k,
            nrc2=found.values.get("nrc2", math.nan),
            zero_rows=moments.zero_rows,
            skipped_rows=moments.skipped,
            bounds=self.bounds,
            alternatives=found.alternatives,
            alternative_bounds=found.alternative_bounds,
            bound_grounds=sorted_grounds(grounds),
            energy=moments.energy,
            notes=tuple(self.notes),
            **numbers,
        )

    def _is_coarse(self, values: Mapping[str, Any], bounds: Mapping[str, float | FloatArray], name: str) -> bool:
        """Whether a bound reaches a tenth of its number, and moments in float64 can be had, and are wanted."""
        moments = self._moments
        if moments.is_double or moments.precision == "fast" or not self.evidence.can_read_again:
            return False
        return bool(float(bounds.get(name, 0.0)) > COARSE * abs(values.get(name, math.nan)))

    def _numbers_of_moments(self) -> dict[str, Any]:
        """What the moments tell; those numbers that are coarse of moments that are read again in float64."""
        numbers = self._spectrum_metrics() | self._target_metrics()
        coarse = [name for name in OF_MOMENTS if self._is_coarse(numbers, self.bounds, name)]
        if not coarse:
            return numbers
        self.evidence.require_double()
        if "linear_mse" in coarse:
            numbers["linear_mse"], self.bounds["linear_mse"] = self._readout()
        if "cka" in coarse:
            numbers["cka"], self.bounds["cka"] = cka_of_moments(self._moments)
        if "effective_rank" in coarse or "stable_rank" in coarse:
            values, bounds = self._spectrum()
            numbers |= values
            self.bounds |= bounds
        return numbers

    # ---- NRC1 and NRC2 ----

    def _convention_metrics(self) -> ConventionMetrics:
        evidence, head = self.evidence, self.head
        if not evidence.can_read_again:
            return moment_metrics(evidence, head, self.convention, self.extent)
        model = None if self.errors is None else self.errors.wanted()
        pairing = self._pairing(basis=1)
        return explicit_metrics(evidence, head, self.convention, self.extent, pairing=pairing, model=model)

    def _note_moments(self) -> None:
        self.notes.append(
            "The rows were read once: what lies below its bound is only known to be no larger. Features in arrays or "
            "files are read again where that matters."
        )
        if self.convention.unit_rows and self.convention.centered_rows:
            self.notes.append(
                f"{self.convention.name} needs the mean before the rows: NaN for rows that are read once."
            )
        elif self.convention.unit_rows and not self._moments.unit_rows:
            self.notes.append(f"{self.convention.name} needs statistics with unit_rows=True: NaN without them.")

    def _note_affine_collapse(self, value: float, found: ConventionMetrics) -> None:
        energy, others = self._moments.energy, found.alternatives
        if self.convention.centered_rows or "variance" not in others or not energy > 0.0:
            return
        raw = value if self.convention.name == "raw" else others["raw"]["nrc1"]
        variance, about_mean = others["variance"]["nrc1"], others.get("id25", {})
        if is_affine(raw / energy, variance):
            origin = value, found.values.get("nrc2", math.nan)
            mean = about_mean.get("nrc1", math.nan), about_mean.get("nrc2", math.nan)
            name, components = self.convention.name, self.head.components
            self.notes.append(affine_note(name, components, origin=origin, mean=mean, variance=variance))

    # ---- the spectrum, NRC3, errors and what the targets predict ----

    def _spectrum_metrics(self) -> dict[str, Any]:
        moments = self._moments
        values, bounds = self._spectrum()
        if not self.extent.has_whole_spectrum(moments.d) and not math.isnan(values["stable_rank"]):
            self.notes.append(
                f"The effective rank and shares beyond {self._found} components need all {moments.d:,} "
                "eigenvalues: spectrum='full' finds them."
            )
        self.bounds |= bounds
        return values

    def _spectrum(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.extent.has_whole_spectrum(self._moments.d):
            return spectrum_metrics(self.evidence)
        return leading_spectrum_metrics(self.evidence, self._found)

    def _readout(self) -> tuple[float, float]:
        found = self._exact_readout()
        self.readout_is_exact = found is not None
        if found is not None:
            return found
        return readout_metric(self._moments, whole_spectrum=self.extent.has_whole_spectrum(self._moments.d))

    def _exact_readout(self) -> tuple[float, float] | None:
        if self.held is None:
            return None
        components = self.evidence.exact_components(centered=True)
        return None if components is None else exact_readout(components, self.held[1])

    def _target_metrics(self) -> dict[str, Any]:
        moments = self._moments
        if not moments.n_targets:
            return {}
        if self.held is None or moments.long_targets is not None:
            targets = TargetCovariance.of_moments(moments)
        else:
            targets = TargetCovariance.of_rows(self.held[1])
        sigma = targets.matrix
        has_head = self.head.weights is not None
        self.notes += notes_of_targets(targets.variance, n=self.head.n, count=moments.count, has_head=has_head)
        values: dict[str, Any] = {}
        exact = None if self.held is None else RowAlignments.of(*self.held)
        values["cka"], self.bounds["cka"] = cka_of_moments(moments) if exact is None else exact.cka()
        if not math.isnan(values["cka"]):
            values["cka_debiased"] = self._debiased_cka(values["cka"], sigma, exact)
        values["linear_mse"], self.bounds["linear_mse"] = self._readout()
        if self.head.weights is not None:
            values |= self._shape_metrics(long_head_shape(self.head.weights), targets)
        values["nrc3_untrained"], self.bounds["nrc3_untrained"] = typical_nrc3(covariance_spectrum(sigma)[0], moments.d)
        if self.errors is not None:
            values |= self._error_metrics(self.errors, targets)
        values["ufm"] = self._prediction(targets, values.get("gamma", math.nan))
        return values

    def _shape_metrics(self, shape: HeadShape, targets: TargetCovariance) -> dict[str, float]:
        alignment, error = HeadAlignment(shape, targets.long), targets.long_error
        values, bounds = head_context(alignment, error, features=self._moments.d)
        self.bounds |= bounds
        self.notes += notes_of_gamma(alignment, values["gamma"], bounds["gamma"], covariance_error=error)
        return values

    def _pairing(self, *, basis: int) -> Pairing | None:
        moments = self._moments
        if not moments.n_targets:
            return None
        variances = moments.variance, float(np.trace(moments.target_covariance))
        return Pairing(basis, moments.target_mean, variances) if min(variances) > 0.0 else None

    def _debiased_cka(self, plain: float, sigma: FloatArray, exact: RowAlignments | None) -> float:
        evidence = self.evidence
        if exact is not None:
            value, bound = exact.debiased()
        else:
            value, bound = debiased_alignment(self._moments, self.paired, double_precision=self.is_paired_in_double)
        # Without products of squares the read of an earlier version went on, and is not made again for them.
        is_paired = bool(np.isfinite(self.paired).all())
        can_be_better = evidence.can_read_again and not self._moments.is_double and is_paired
        if not math.isfinite(bound) and can_be_better and self._moments.count >= LEAST_DEBIASED:
            # Features with outliers, of which float32 blocks leave too little once the outliers are taken off.
            evidence.require_double()
            value, bound = self._paired_again()
        self.bounds["cka_debiased"] = bound
        moments = self._moments
        by_chance = chance_alignment(moments.matrix("covariance"), sigma, moments.count)
        if by_chance > CHANCE * plain:
            if math.isfinite(bound):
                instead = "; cka_debiased is free of that"
            else:
                instead = "" if evidence.can_read_again else "; rows that are read again have cka_debiased"
            self.notes.append(
                f"With {moments.count:,} samples of {moments.d} features, CKA of independent features and targets "
                f"would be about {by_chance:.2g}{instead}."
            )
        return value

    def _paired_again(self) -> tuple[float, float]:
        none = np.zeros((0, self._moments.d))
        pairing = self._pairing(basis=0)
        residuals = self.evidence.residuals([Basis(none, self._moments.mean)], collapsed=True, pairing=pairing)
        return debiased_alignment(self._moments, residuals.paired, double_precision=True)

    def _error_metrics(self, errors: ModelErrors, targets: TargetCovariance) -> dict[str, float]:
        mse, mse_bound = errors.mse()
        values, bounds, notes = balance_metrics(errors.balance(), errors.model.weights)
        self.notes += notes
        r2_bound = r_squared_bound(mse, targets.variance, mse_bound=mse_bound, variance_error=targets.variance_error)
        self.bounds |= {"mse": mse_bound, **bounds, "r2": r2_bound}
        return {"mse": mse, **values, "r2": r_squared(mse, targets.matrix)}

    def _prediction(self, targets: TargetCovariance, gamma: float) -> Prediction | None:
        c = math.nan if self.penalties is None else float(self.penalties.c)
        if math.isnan(c):
            # W W^T of fewer features than outputs has another shape, whose best gamma says nothing of c.
            c = gamma if self._moments.d >= len(targets.matrix) else math.nan
            if self.penalties is not None and not math.isnan(c):
                self.notes.append("the penalties leave c open (no feature_decay): the UFM is shown at c = gamma")
        if math.isnan(c) or not targets.variance > 0.0:
            return None
        return predicted_spectrum(targets.matrix, c, d=self._moments.d, covariance_error=targets.error)
