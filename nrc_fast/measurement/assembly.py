"""A report from statistics, and from explicit residuals where the rows can be read again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.linalg import scale_to_unit
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.affine import affine_note, is_affine
from nrc_fast.measurement.debiased import debiased_alignment
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.extent import Extent
from nrc_fast.measurement.head import Head, require_penalties
from nrc_fast.measurement.moment_metrics import (
    cka_of_moments,
    nrc1_by_k,
    prediction_error_of_moments,
    subspace_value,
)
from nrc_fast.measurement.spectrum_metrics import leading_spectrum_metrics, readout_metric, spectrum_metrics
from nrc_fast.measurement.undefined import (
    LEAST_DEBIASED,
    notes_of_components,
    notes_of_features,
    notes_of_gamma,
    notes_of_targets,
)
from nrc_fast.metrics.alignment import HeadAlignment, head_gram
from nrc_fast.metrics.conventions import CONVENTIONS, Convention
from nrc_fast.metrics.prediction import PenaltyProduct, Prediction
from nrc_fast.metrics.residuals import leading_values, subspace_residual
from nrc_fast.metrics.targets import (
    chance_alignment,
    explicit_error_bound,
    r_squared,
    r_squared_bound,
)
from nrc_fast.passes.explicit_sums import LinearModel, PredictionErrors
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.rereading import require_same_errors
from nrc_fast.passes.residual_sums import Pairing, Residuals
from nrc_fast.reports.features import Report
from nrc_fast.ufm.closed_form import predicted_spectrum

__all__ = ["Wishes", "report_of"]

# Bound of NRC1, relative to it, from which on it is looked for components that tie.
TIE = 1e-3
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
        self.alternatives: dict[str, dict[str, float]] = {}
        self.alternative_bounds: dict[str, dict[str, float]] = {}
        self.notes = head.notes()
        self.paired: FloatArray = np.full(3, math.nan)
        self.is_paired_in_double = True
        self.model: LinearModel | None = None
        if head.weights is not None and head.bias is not None:
            self.model = LinearModel(head.weights, head.bias)
        self.errors: Residuals | PredictionErrors | None = None

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
        moments = evidence.moments
        if evidence.can_read_again:
            nrc2_value, by_k, by_k_bounds = self._explicit_metrics()
            by_k, by_k_bounds = self._with_all_k(by_k, by_k_bounds)
        else:
            numbers = self.extent.numbers(head.components, moments.d)
            by_k, by_k_bounds, _ = nrc1_by_k(evidence, self.convention, numbers)
            nrc2_value = self._moment_metrics(by_k, by_k_bounds)
        # No component adds to the residual, but values from different reads have floors of their own.
        lowest = np.minimum.accumulate(by_k)
        by_k, by_k_bounds = lowest, by_k_bounds + (by_k - lowest)
        nrc1_value = float(by_k[head.components - 1])
        self.bounds |= {"nrc1": float(by_k_bounds[head.components - 1]), "nrc1_by_k": by_k_bounds}
        spectrum = self._spectrum_metrics()
        target_metrics = self._target_metrics()
        self._note_affine_collapse(nrc1_value)
        all_zero = moments.zero_rows == moments.count
        self.notes += notes_of_features(spectrum["stable_rank"], all_zero=all_zero)
        if float(self.bounds["nrc1"]) > TIE * nrc1_value:
            pairs, error = evidence.leading(self._found, centered=self.convention.centered_basis)
            self.notes += notes_of_components(pairs, head.components, error)
        return Report(
            samples=moments.count,
            d=moments.d,
            n=head.n,
            dtype=moments.dtype,
            backend=", ".join(moments.devices) or CPU.name,
            convention=self.convention.name,
            nrc1=nrc1_value,
            nrc1_by_k=by_k,
            nrc2=nrc2_value,
            zero_rows=moments.zero_rows,
            skipped_rows=moments.skipped,
            bounds=self.bounds,
            alternatives=self.alternatives,
            alternative_bounds=self.alternative_bounds,
            notes=tuple(self.notes),
            **spectrum,
            **target_metrics,
        )

    # ---- NRC1 and NRC2 ----

    def _explicit_metrics(self) -> tuple[float, FloatArray, FloatArray]:
        """NRC2, NRC1 for the leading k and its bounds, and both under every convention that one more read gives."""
        head = self.head
        numbers = [head.components]
        basis = self.evidence.components(self._found, centered=self.convention.centered_basis, numbers=numbers)
        few = basis.leading(head.components)
        rows = [few, few]  # as they are, and about their mean
        rows[int(self.convention.centered_rows)] = basis
        bases = [Basis(rows[0].vectors), Basis(rows[1].vectors, basis.mean)]
        rank = len(head.row_space.basis)
        if rank:
            bases += [Basis(head.row_space.basis), Basis(head.row_space.basis, basis.mean)]
        model = self.model if self._moments.n_targets else None
        residuals = self.evidence.residuals(
            bases,
            collapsed=basis.collapsed,
            pairing=self._pairing(basis=1),
            model=model,
            shift_error=basis.shift_error,
        )
        turned = float(residuals.turned[0]) / residuals.count
        self.paired, self.is_paired_in_double = residuals.paired, residuals.is_double
        self.errors = None if residuals.errors is None else residuals
        nrc2_value, by_k, by_k_bounds = math.nan, np.zeros(0), np.zeros(0)
        for convention in dict.fromkeys([self.convention, *CONVENTIONS.values()]):
            if convention.centered_basis != self.convention.centered_basis:
                continue
            index = int(convention.centered_rows)
            values, errors = leading_values(
                convention,
                rows[index],
                residuals.sums[index],
                residuals.count,
                rounding=residuals.rounding(index),
                turned=turned,
            )
            last = head.components - 1
            found, found_bounds = {"nrc1": float(values[last])}, {"nrc1": float(errors[last])}
            if rank:
                found["nrc2"], found_bounds["nrc2"] = subspace_residual(
                    convention,
                    head.row_space,
                    residuals.sums[index + 2],
                    residuals.count,
                    rounding=residuals.rounding(index + 2),
                    mean_error=basis.mean_error,
                    turned=turned,
                )
            if convention == self.convention:
                nrc2_value, by_k, by_k_bounds = found.get("nrc2", math.nan), values, errors
                self.bounds |= found_bounds
            else:
                self.alternatives[convention.name], self.alternative_bounds[convention.name] = found, found_bounds
        return nrc2_value, by_k, by_k_bounds

    def _with_all_k(self, by_k: FloatArray, bounds: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Explicit values for the leading k, and those of the moments beyond, where all are wanted."""
        if not self.extent.all_k:
            return by_k, bounds
        values, errors, _ = nrc1_by_k(self.evidence, self.convention, self._moments.d)
        values[: len(by_k)], errors[: len(by_k)] = by_k, bounds
        return values, errors

    def _moment_metrics(self, by_k: FloatArray, by_k_bounds: FloatArray) -> float:
        """NRC1 and NRC2 under every convention that moments give; NRC2 under the one that was asked for."""
        nrc2_value = math.nan
        rank = len(self.head.row_space.basis)
        for convention in dict.fromkeys([self.convention, *CONVENTIONS.values()]):
            is_asked_for = convention == self.convention
            last = self.head.components - 1
            if is_asked_for:
                values, errors = by_k, by_k_bounds
            else:
                values, errors, _ = nrc1_by_k(self.evidence, convention, last + 1)
            found, found_bounds = {"nrc1": float(values[last])}, {"nrc1": float(errors[last])}
            if rank:
                found["nrc2"], found_bounds["nrc2"] = subspace_value(self.evidence, convention, self.head.row_space)
            if is_asked_for:
                nrc2_value = found.get("nrc2", math.nan)
                self.bounds |= found_bounds
            elif not math.isnan(found["nrc1"]):
                self.alternatives[convention.name], self.alternative_bounds[convention.name] = found, found_bounds
        self._note_moments()
        return nrc2_value

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

    def _note_affine_collapse(self, value: float) -> None:
        energy = self._moments.energy
        if self.convention.centered_rows or "variance" not in self.alternatives or not energy > 0.0:
            return
        raw = value if self.convention.name == "raw" else self.alternatives["raw"]["nrc1"]
        if is_affine(raw / energy, self.alternatives["variance"]["nrc1"]):
            variance, name = self.alternatives["variance"]["nrc1"], self.convention.name
            self.notes.append(affine_note(value, variance, name, self.head.components))

    # ---- the spectrum, NRC3, errors and what the targets predict ----

    def _spectrum_metrics(self) -> dict[str, Any]:
        moments = self._moments
        if self.extent.has_whole_spectrum(moments.d):
            values, bounds = spectrum_metrics(moments)
        else:
            values, bounds = leading_spectrum_metrics(self.evidence, self._found)
            if not math.isnan(values["stable_rank"]):
                self.notes.append(
                    f"The effective rank and shares beyond {self._found} components need all {moments.d:,} "
                    "eigenvalues: spectrum='full' finds them."
                )
        self.bounds |= bounds
        return values

    def _target_metrics(self) -> dict[str, Any]:
        moments = self._moments
        if not moments.n_targets:
            return {}
        sigma = moments.target_covariance
        variance = float(np.trace(sigma))
        whole = self.extent.has_whole_spectrum(moments.d)
        has_head = self.head.weights is not None
        self.notes += notes_of_targets(variance, n=self.head.n, count=moments.count, has_head=has_head)
        values: dict[str, Any] = {}
        values["cka"], self.bounds["cka"] = cka_of_moments(moments)
        if not math.isnan(values["cka"]):
            values["cka_debiased"] = self._debiased_cka(values["cka"], sigma)
        values["linear_mse"], self.bounds["linear_mse"] = readout_metric(moments, whole_spectrum=whole)
        if self.head.weights is not None:
            values |= self._shape_metrics(HeadAlignment(head_gram(scale_to_unit(self.head.weights)[0]), sigma))
        if self.model is not None:
            values["mse"] = self._prediction_error(self.model)
            values["r2"] = r_squared(values["mse"], sigma)
            self.bounds["r2"] = r_squared_bound(
                values["mse"],
                variance,
                mse_bound=float(self.bounds["mse"]),
                variance_error=moments.target_error,
            )
        values["ufm"] = self._prediction(sigma, values.get("gamma", math.nan))
        return values

    def _shape_metrics(self, alignment: HeadAlignment) -> dict[str, float]:
        moments = self._moments
        gamma = alignment.best_gamma()
        found = alignment.bounds(gamma, moments.target_error, features=moments.d)
        self.bounds["gamma"], self.bounds["nrc3"] = found
        self.notes += notes_of_gamma(alignment, gamma, found[0], covariance_error=moments.target_error)
        return {"gamma": gamma, "nrc3": alignment.nrc3(gamma)}

    def _pairing(self, *, basis: int) -> Pairing | None:
        moments = self._moments
        if not moments.n_targets:
            return None
        variances = moments.variance, float(np.trace(moments.target_covariance))
        return Pairing(basis, moments.target_mean, variances) if min(variances) > 0.0 else None

    def _debiased_cka(self, plain: float, sigma: FloatArray) -> float:
        value, bound = debiased_alignment(self._moments, self.paired, double_precision=self.is_paired_in_double)
        evidence = self.evidence
        # Without products of squares the read of an earlier version went on, and is not made again for them.
        is_paired = bool(np.isfinite(self.paired).all())
        can_be_better = evidence.can_read_again and not self._moments.is_double and is_paired
        if not math.isfinite(bound) and can_be_better and self._moments.count >= LEAST_DEBIASED:
            # Features with outliers, of which float32 blocks leave too little once the outliers are taken off.
            evidence.require_double()
            value, bound = self._paired_again()
        self.bounds["cka_debiased"] = bound
        moments = self._moments
        by_chance = chance_alignment(moments.covariance, sigma, moments.count)
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

    def _prediction_error(self, model: LinearModel) -> float:
        moments = self._moments
        value, bound, size = prediction_error_of_moments(moments, model.weights, model.bias)
        if self.errors is None and self.evidence.can_read_again and bound > self.rtol * value:
            self.errors = self.evidence.prediction_errors(model)
        if self.errors is not None:
            explicit = float(np.sum(np.asarray(self.errors.errors))) / moments.count
            require_same_errors(explicit, value, 4.0 * bound, size)
            value, bound = explicit, explicit_error_bound(explicit, size, d=moments.d, chunks=self.errors.chunks)
        self.bounds["mse"] = bound
        return value

    def _prediction(self, sigma: FloatArray, gamma: float) -> Prediction | None:
        c = math.nan if self.penalties is None else float(self.penalties.c)
        if math.isnan(c):
            c = gamma
            if self.penalties is not None:
                self.notes.append("the penalties leave c open (no feature_decay): the UFM is shown at c = gamma")
        if math.isnan(c) or not float(np.trace(sigma)) > 0.0:
            return None
        return predicted_spectrum(sigma, c, d=self._moments.d)
