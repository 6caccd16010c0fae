"""NRC1 and NRC2 under every convention that the same reads give, explicitly or from moments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.exact_row_space import ExactRowSpace
from nrc_fast.measurement.extent import Extent
from nrc_fast.measurement.head import Head
from nrc_fast.measurement.moment_metrics import nrc1_by_k, subspace_value
from nrc_fast.measurement.projections import projections
from nrc_fast.metrics.conventions import CONVENTIONS, Convention
from nrc_fast.metrics.grounds import ALONG_ROWS, FIRST_ORDER, FLOAT64_SUMS, Grounds, grounds_of_components
from nrc_fast.metrics.residuals import PrincipalBasis, subspace_residual
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.residual_sums import Pairing, Residuals

__all__ = ["ConventionMetrics", "explicit_metrics", "moment_metrics"]


@dataclass
class ConventionMetrics:
    """NRC1 and NRC2 by convention.

    Attributes
    ----------
    values, bounds : dict
        Under the convention that was asked for, by the name of the metric; NRC2 only for W with a row space.
    by_k, by_k_bounds : float64 arrays
        NRC1 under it for the leading k.
    alternatives, alternative_bounds : dict
        Under the others, by the name of the convention, then of the metric.
    grounds : dict
        What the bounds rest on, of those in `values`, and of others with the name of their convention: ``nrc1 raw``.
    residuals : Residuals or None
        The read that they come from, with what else it gave; None for those from moments.
    is_refined : bool
        Whether the components of collapsed features were found in float64, whatever the moments are.
    """

    values: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    by_k: FloatArray = field(default_factory=lambda: np.zeros(0))
    by_k_bounds: FloatArray = field(default_factory=lambda: np.zeros(0))
    alternatives: dict[str, dict[str, float]] = field(default_factory=dict)
    alternative_bounds: dict[str, dict[str, float]] = field(default_factory=dict)
    grounds: dict[str, Grounds] = field(default_factory=dict)
    residuals: Residuals | None = None
    is_refined: bool = False


def explicit_metrics(
    evidence: Evidence,
    head: Head,
    convention: Convention,
    extent: Extent,
    *,
    pairing: Pairing | None,
    model: LinearModel | None,
) -> ConventionMetrics:
    """All conventions that one more read gives, for rows that can be read again.

    Parameters
    ----------
    evidence : Evidence
    head : Head
    convention : Convention
        The one that was asked for; the others share its basis of NRC1.
    extent : Extent
    pairing : Pairing, optional
        What the same read gives of products of squares, of the second of its bases.
    model : LinearModel, optional
        Whose errors the same read gives.
    """
    found_components = extent.components(head.components, evidence.moments.d)
    rank, place = len(head.row_space.basis), int(convention.centered_rows)

    def bases_of(basis: PrincipalBasis) -> tuple[list[Basis], dict[bool, int]]:
        few = basis.leading(head.components)
        rows = [few, few]  # as they are, and about their mean
        rows[place] = basis
        bases = [Basis(rows[0].vectors), Basis(rows[1].vectors, basis.mean)]
        if rank:
            bases += [Basis(head.row_space.basis), Basis(head.row_space.basis, basis.mean)]
        return bases, {False: 0, True: 1}

    others = [each for each in CONVENTIONS.values() if each.centered_basis == convention.centered_basis]
    every = list(dict.fromkeys([convention, *others]))
    projected = projections(
        evidence, found_components, [head.components], every, bases_of, bounds_all=True, pairing=pairing, model=model
    )
    basis, residuals = projected.basis, projected.residuals
    exact, outside = evidence.exact_components(centered=convention.centered_basis), _outside(evidence, head, residuals)
    metrics, last = ConventionMetrics(residuals=residuals, is_refined=basis.collapsed), head.components - 1
    for other in every:
        index = int(other.centered_rows)
        values, errors = projected.nrc1(other)
        of_rows = residuals.grounds | (FLOAT64_SUMS if other.centered_rows else frozenset())
        own = {"nrc1": of_rows | basis.grounds, "nrc2": of_rows}
        if exact is not None:
            values, errors, is_closer = exact.narrowed(other, values, errors)
            own["nrc1"] = FIRST_ORDER if is_closer[last] else own["nrc1"]
        found, bounds = {"nrc1": float(values[last])}, {"nrc1": float(errors[last])}
        if rank:
            found["nrc2"], bounds["nrc2"] = subspace_residual(
                other,
                head.row_space,
                residuals.sums[index + 2],
                residuals.count,
                rounding=residuals.rounding(index + 2),
                mean_error=basis.mean_error,
                turned=projected.turned,
                of_mean=projected.mean_change(other, index + 2),
            )
        if outside is not None:
            found["nrc2"], bounds["nrc2"], is_exact = outside.narrowed(other, found["nrc2"], bounds["nrc2"])
            own["nrc2"] = frozenset() if is_exact else own["nrc2"]
        metrics.grounds |= {_name_of(metric, other, convention): own[metric] for metric in found}
        if other == convention:
            metrics.by_k, metrics.by_k_bounds = values, errors
            metrics.values, metrics.bounds = found, bounds
            every_k = own["nrc1"] if exact is not None and is_closer.all() else own["nrc1"] | of_rows | basis.grounds
        else:
            metrics.alternatives[other.name], metrics.alternative_bounds[other.name] = found, bounds
    if extent.all_k:
        values, errors, _ = nrc1_by_k(evidence, convention, evidence.moments.d)
        if exact is not None:
            values, errors, _ = exact.narrowed(convention, values, errors)
        explicit = len(metrics.by_k)
        values[:explicit], errors[:explicit] = metrics.by_k, metrics.by_k_bounds
        metrics.by_k, metrics.by_k_bounds = values, errors
    of_all = _of_moments(evidence, convention, evidence.moments.d)["nrc1"] if extent.all_k else frozenset()
    metrics.grounds["nrc1_by_k"] = every_k | of_all
    return metrics


def _outside(evidence: Evidence, head: Head, residuals: Residuals) -> ExactRowSpace | None:
    """Few rows and the row space of W, after residuals on its basis too; None where that is not to be had."""
    few, of_weights = evidence.few_rows, residuals.sums[2:]
    if few is None or not of_weights:
        return None
    shares = [float(sums.raw[-1] / sums.raw[0]) if sums.raw[0] > 0.0 else 0.0 for sums in of_weights]
    return few.row_space(head, min(shares))


def _name_of(metric: str, convention: Convention, own: Convention) -> str:
    """What grounds of a metric are kept under: under its own convention without a name for that."""
    return metric if convention == own else f"{metric} {convention.name}"


def _of_moments(evidence: Evidence, convention: Convention, count: int) -> dict[str, Grounds]:
    own = evidence.grounds_of_moments | ALONG_ROWS
    is_whole = count == evidence.moments.d or evidence.leading(count, centered=convention.centered_basis)[0].is_whole
    return {"nrc1": own | grounds_of_components(is_whole=is_whole), "nrc2": own}


def moment_metrics(evidence: Evidence, head: Head, convention: Convention, extent: Extent) -> ConventionMetrics:
    """All conventions that moments give, for rows that were read once; NaN where they do not."""
    metrics, last = ConventionMetrics(), head.components - 1
    numbers = extent.numbers(head.components, evidence.moments.d)
    metrics.by_k, metrics.by_k_bounds, _ = nrc1_by_k(evidence, convention, numbers)
    for other in dict.fromkeys([convention, *CONVENTIONS.values()]):
        if other == convention:
            values, errors = metrics.by_k, metrics.by_k_bounds
        else:
            values, errors, _ = nrc1_by_k(evidence, other, last + 1)
        found, bounds = {"nrc1": float(values[last])}, {"nrc1": float(errors[last])}
        if len(head.row_space.basis):
            found["nrc2"], bounds["nrc2"] = subspace_value(evidence, other, head.row_space)
        if other == convention:
            metrics.values, metrics.bounds = found, bounds
        elif not np.isnan(found["nrc1"]):
            metrics.alternatives[other.name], metrics.alternative_bounds[other.name] = found, bounds
        own = _of_moments(evidence, other, numbers if other == convention else last + 1)
        metrics.grounds |= {_name_of(metric, other, convention): own[metric] for metric in found}
    metrics.grounds["nrc1_by_k"] = metrics.grounds["nrc1"]
    return metrics
