"""The passes over a source, one function for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels.results import Basis, ResidualSums
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.explicit_sums import CenteredUnitGram, GramProduct, PredictionErrors
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.precisions import double_rows
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.rereading import SAME_ENERGY, SAME_ENERGY_SINGLE, require_same
from nrc_fast.passes.residual_sums import Pairing, Residuals

__all__ = [
    "ALWAYS_DOUBLE_VECTORS",
    "careful_residuals",
    "centered_unit_gram",
    "gather",
    "gram_product",
    "mean_of",
    "prediction_errors",
    "require_rows",
    "residual_pass",
]

# Mean square about the shift, as a multiple of the variance, beyond which the shift was a bad one.
FAR_SHIFT = 16.0
# A float32 residual below this share of the energy has lost digits to its floor of about 1e-14.
FLOAT32_RESIDUAL_FLOOR = 1e-6
# Up to this many vectors a float64 residual costs little beside the Gram.
ALWAYS_DOUBLE_VECTORS = 16


def gather(reading: Reading, *, unit_rows: bool = False, precision: str = "high") -> Moments:
    """Moments of a source: the first pass.

    Where the first rows, whose mean is subtracted, turn out to be unlike the others, float32 has lost digits: the
    rows are then read once more around their mean.
    """
    source = reading.source
    is_counted = source.count is not None or not reading.is_alone
    moments = Moments(
        source.d,
        n_targets=source.n_targets,
        unit_rows=unit_rows,
        precision=precision,
        double_rows=0 if is_counted else double_rows(source.d, precision),
    )
    reading.run("statistics", moments)
    require_rows(reading, moments.count)
    moments.require_scale()
    if not moments.is_double and reading.can_read_again and moments.mean_square > FAR_SHIFT * moments.variance:
        moments = moments.recentered()
        reading.run("statistics", moments)
    return moments


def require_rows(reading: Reading, count: int) -> None:
    """Check that a pass has found rows.

    Raises
    ------
    ValueError
        All were skipped, or there were none.
    """
    if count == 0:
        known = "all rows" if reading.source.count is None else f"all {reading.source.count} rows"
        reason = f"{known} hold NaN or infinite values" if reading.skips else "there are no rows"
        msg = f"{reading.source.name}: {reason}; nothing is left to measure"
        raise ValueError(msg)


def mean_of(reading: Reading) -> Moments:
    """Mean and number of the features, summed in float64: one read."""
    moments = Moments(reading.source.d, n_targets=reading.source.n_targets, precision="highest", products=False)
    reading.run("mean", moments)
    require_rows(reading, moments.count)
    return moments


def gram_product(reading: Reading, vectors: FloatArray, shift: FloatArray, *, title: str) -> GramProduct:
    """``V sum (h - s)(h - s)^T``, ``sum (h - s)`` and ``sum |h - s|^2`` in float64: one read."""
    product = GramProduct(vectors, shift)
    reading.run(title, product)
    return product


def centered_unit_gram(reading: Reading, moments: Moments, precision: str) -> tuple[SymmetricMatrix, float]:
    """``(1/N) sum u u^T`` with ``u = (h - mean)/||h - mean||``, and how far the mean turns these rows: one read.

    The latter is the sum of the squares of the angles, see `explicit_sums.turned_rows`.

    Raises
    ------
    RuntimeError
        The mean of the rows is no longer that of the moments.
    """
    total = CenteredUnitGram(moments.mean, precision, mean_error=moments.mean_error)
    reading.run("centered unit rows", total)
    rounding = SAME_ENERGY if reading.is_double or precision == "highest" else SAME_ENERGY_SINGLE
    offset, energy = total.column_sums / moments.count, moments.energy
    tolerance = 4.0 * moments.mean_error + rounding * math.sqrt(energy)
    require_same(offset, np.zeros(len(offset)), math.sqrt(energy), np.array(tolerance))
    return total.matrix(moments.count), float(total.turned[0])


def residual_pass(
    reading: Reading,
    bases: Sequence[Basis],
    *,
    double_precision: bool,
    pairing: Pairing | None = None,
    model: LinearModel | None = None,
    shift_error: float = 0.0,
    kept_rows: int = 0,
) -> Residuals:
    """Explicit residuals on several bases, products of squares and errors of a model where they are asked for.

    One read of the source.
    """
    totals = Residuals(
        bases,
        double_precision=double_precision,
        pairing=pairing,
        model=model,
        shift_error=shift_error,
        kept_rows=kept_rows,
    )
    reading.run("residuals", totals)
    return totals


def careful_residuals(
    reading: Reading,
    bases: Sequence[Basis],
    *,
    collapsed: bool,
    pairing: Pairing | None = None,
    model: LinearModel | None = None,
    shift_error: float = 0.0,
    kept_rows: int = 0,
) -> Residuals:
    """Residuals in float32 where that is faster and suffices, else in float64, with the errors of a model.

    Beside residuals in float32 there are no errors: the moments may tell enough of them, without one more product. Nor
    are there images of the rows.
    """
    plain = [replace(basis, images=frozenset(), imaged=0) for basis in bases]

    def made(*, double_precision: bool) -> Residuals:
        return residual_pass(
            reading,
            bases if double_precision else plain,
            double_precision=double_precision,
            pairing=pairing,
            model=model if double_precision else None,
            shift_error=shift_error,
            kept_rows=kept_rows,
        )

    widest = max(basis.vectors.shape[0] for basis in bases)
    if reading.is_double or collapsed or widest <= ALWAYS_DOUBLE_VECTORS:
        return made(double_precision=True)
    totals = made(double_precision=False)
    return totals if all(_is_safe_in_float32(part) for part in totals.sums) else made(double_precision=True)


def _is_safe_in_float32(sums: ResidualSums) -> bool:
    finite = bool(np.isfinite(sums.raw).all() and np.isfinite(sums.unit).all())
    return finite and bool(
        sums.raw[-1] > FLOAT32_RESIDUAL_FLOOR * sums.raw[0] and sums.unit[-1] > FLOAT32_RESIDUAL_FLOOR * sums.unit[0]
    )


def prediction_errors(reading: Reading, model: LinearModel) -> PredictionErrors:
    """``sum (W h + b - y)^2`` for each output, explicitly: one read."""
    errors = PredictionErrors(model)
    reading.run("prediction errors", errors)
    return errors
