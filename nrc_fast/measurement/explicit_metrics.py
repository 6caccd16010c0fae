"""NRC1 and NRC2 of a reading with their bounds, from explicit residuals where its rows can be read again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nrc_fast.base.arrays import FloatArray, WholeNumbers
from nrc_fast.base.exact_products import Slices
from nrc_fast.base.linalg import RowSpace
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.exact_images import ONE_SLICE, scaled_rows
from nrc_fast.measurement.exact_row_space import MOST_PROJECTED, exact_row_space
from nrc_fast.measurement.few_rows import rows_to_hold
from nrc_fast.measurement.head import component_numbers
from nrc_fast.measurement.moment_metrics import careful_nrc1_by_k
from nrc_fast.measurement.projections import projections
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.residuals import PrincipalBasis, residual_value, subspace_residual
from nrc_fast.passes.precisions import working_precision
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.rereading import require_same_mean
from nrc_fast.passes.runs import careful_residuals, mean_of, require_rows

__all__ = ["explicit_nrc2", "nrc1_of_reading"]


def nrc1_of_reading(
    reading: Reading, n: int | WholeNumbers | None, convention: Convention, *, precision: str, rtol: float
) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for each number of components, its bounds, and the mean energy of the rows, however these are read.

    Parameters
    ----------
    reading : Reading
    n : int, sequence of ints, or None
    convention : Convention
    precision : {"high", "highest", "fast"}
    rtol : float

    Raises
    ------
    TypeError, ValueError, OSError, RuntimeError
        n is not in 1..d, or rows cannot be read.
    """
    d, precision = reading.source.d, working_precision(reading, precision)
    numbers = list(range(1, d + 1)) if n is None else component_numbers(n, d)
    if n is not None and reading.rereadable:
        values, bounds, energy = _explicit_nrc1(reading, numbers, convention, precision)
    else:
        values, bounds, energy = careful_nrc1_by_k(reading, convention, max(numbers), precision=precision, rtol=rtol)
    places = np.array(numbers) - 1
    return values[places], bounds[places], energy


def _explicit_nrc1(
    reading: Reading, numbers: Sequence[int], convention: Convention, precision: str
) -> tuple[FloatArray, FloatArray, float]:
    """NRC1 for k = 1 up to the largest number, bounds that hold for the numbers, and the mean energy of the rows."""
    evidence = Evidence(reading=reading, precision=precision)

    def bases_of(basis: PrincipalBasis) -> tuple[list[Basis], dict[bool, int]]:
        shift = basis.mean if convention.centered_rows else None
        return [Basis(basis.vectors, shift)], {convention.centered_rows: 0}

    found = projections(evidence, max(numbers), numbers, [convention], bases_of, bounds_all=False)
    values, bounds = found.nrc1(convention)
    sums, count = found.residuals.sums[0], found.residuals.count
    exact = evidence.exact_components(centered=convention.centered_basis)
    if exact is not None:
        values, bounds, _ = exact.narrowed(convention, values, bounds)
    return values, bounds, residual_value(convention, sums, 0, count, reading.source.d)[1]


def explicit_nrc2(
    reading: Reading, weights: FloatArray, space: RowSpace, convention: Convention
) -> tuple[float, float, float]:
    """NRC2, its bound and the mean energy of the rows."""
    bases, mean, mean_error = [Basis(space.basis)], np.zeros(0), 0.0
    if convention.centered_rows:
        moments = mean_of(reading)
        mean, mean_error = moments.mean, moments.mean_error
        bases = [Basis(space.basis, mean), Basis(np.zeros((0, len(mean))))]
    held = rows_to_hold(reading, None if reading.skips else reading.source.count, MOST_PROJECTED)
    residuals = careful_residuals(reading, bases, collapsed=False, shift_error=mean_error, kept_rows=held)
    require_rows(reading, residuals.count)
    sums, count = residuals.sums[0], residuals.count
    spread, turned = math.sqrt(sums.raw[0] / count), float(residuals.turned[0]) / count
    if mean_error > 0.0:
        # The sum of the rows has roundings too, in proportion to their spread, which was not known before.
        excess = moments.mean_error_of(spread) / mean_error
        mean_error, turned = mean_error * excess, min(turned * excess**2, 1.0)
    value, bound = subspace_residual(
        convention,
        space,
        sums,
        count,
        rounding=residuals.rounding(0),
        mean_error=mean_error / spread if spread > 0.0 else 0.0,
        turned=turned,
    )
    if convention.centered_rows:
        require_same_mean(mean, residuals)
    if residuals.rows is not None and np.isfinite(residuals.rows).all():
        slices: Slices = 1 if sums.raw[-1] > ONE_SLICE * sums.raw[0] else 2
        outside = exact_row_space(scaled_rows(residuals.rows, centered=True), weights, space, slices=slices)
        if outside is not None:
            value, bound, _ = outside.narrowed(convention, value, bound)
    return value, bound, residual_value(convention, sums, 0, count, reading.source.d)[1]
