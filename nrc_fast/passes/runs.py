"""The passes over a source: what each adds up, and the checks that go with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels import calls
from nrc_fast.kernels.results import Basis, ResidualSums
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.sums import Sums
from nrc_fast.sources import Chunk

__all__ = [
    "ALWAYS_DOUBLE_VECTORS",
    "Residuals",
    "careful_residuals",
    "centered_unit_gram",
    "gather",
    "gram_product",
    "mean_of",
    "prediction_errors",
    "require_rows",
    "require_same_errors",
    "require_same_mean",
    "require_same_rows",
    "residuals",
]

# Mean square about the shift, as a multiple of the variance, beyond which the shift was a bad one.
FAR_SHIFT = 16.0
# Two reads of the same rows agree in their energy to this, far above the rounding of sums and far below the change
# that noise of any use makes.
SAME_ENERGY = 1e-10
SAME_ENERGY_SINGLE = 1e-5
# A float32 residual below this share of the energy has lost digits to its floor of about 1e-14.
FLOAT32_RESIDUAL_FLOOR = 1e-6
# Up to this many vectors a float64 residual costs no more than reading the rows.
ALWAYS_DOUBLE_VECTORS = 8


def gather(reading: Reading, *, unit_rows: bool = False, precision: str = "high") -> Moments:
    """Moments of a source: the first pass.

    Where the first rows, whose mean is subtracted, turn out to be unlike the others, float32 has lost digits: the
    rows are then read once more around their mean.
    """
    source = reading.source
    moments = Moments(source.d, n_targets=source.n_targets, unit_rows=unit_rows, precision=precision)
    reading.run("statistics", moments)
    require_rows(reading, moments)
    moments.require_scale()
    if not moments.is_double and reading.can_read_again and moments.mean_square > FAR_SHIFT * moments.variance:
        moments = moments.recentered()
        reading.run("statistics", moments)
    return moments


def require_rows(reading: Reading, moments: Moments) -> None:
    """Check that there are rows.

    Raises
    ------
    ValueError
        All were skipped, or there were none.
    """
    if moments.count == 0:
        reason = f"all {moments.skipped} rows hold NaN or infinite values" if moments.skipped else "there are no rows"
        msg = f"{reading.source.name}: {reason}; nothing is left to measure"
        raise ValueError(msg)


def require_same_rows(moments: Moments, residuals: Residuals) -> None:
    """Check that a second read gave the same features: their energies in the leading j directions of every basis.

    Other rows, and the same ones with their columns in another order, have other energies; the order of the rows does
    not matter.

    Raises
    ------
    RuntimeError
        They do not agree up to rounding: a loader augments at random, or dropout is on.
    """
    rounding = SAME_ENERGY if residuals.is_double else SAME_ENERGY_SINGLE
    covariance = moments.covariance
    for basis, sums in zip(residuals.bases, residuals.sums, strict=True):
        offset = moments.mean if basis.shift is None else moments.mean - basis.shift
        along = np.sum(basis.vectors * (basis.vectors @ covariance), axis=1) + (basis.vectors @ offset) ** 2
        energy = moments.variance + float(offset @ offset)
        expected = energy - np.append(0.0, np.cumsum(along))
        _require_same(sums.raw / residuals.count, expected, energy, _tolerance(moments, offset, len(along), rounding))


def _tolerance(moments: Moments, offset: FloatArray, directions: int, rounding: float) -> FloatArray:
    """How far energies without the leading 0, 1, ... directions may be off for rounding of either read."""
    of_mean = 2.0 * float(np.linalg.norm(offset)) * moments.mean_error
    energy = moments.variance + float(offset @ offset)
    return np.asarray((4.0 + np.arange(directions + 1)) * (moments.covariance_error + of_mean) + rounding * energy)


def _require_same(found: FloatArray, expected: FloatArray, scale: float, tolerance: FloatArray) -> None:
    with np.errstate(invalid="ignore"):
        change = np.where(np.isfinite(found), np.abs(found - expected), 0.0)
    if (change > tolerance).any():
        msg = (
            "the source gave other features when it was read again: their energy or mean changed by "
            f"{float(change.max()) / scale:.1e}. Switch off random augmentation and dropout, or store them"
        )
        raise RuntimeError(msg)


def require_same_mean(mean: FloatArray, residuals: Residuals) -> None:
    """Check that features were read again around their mean: the last basis has no vectors and no shift, the first it.

    Then the mean of ``|h|^2`` is that of ``|h - mean|^2`` and ``|mean|^2``.

    Raises
    ------
    RuntimeError
        As `require_same_rows`.
    """
    about, plain = (float(sums.raw[0]) / residuals.count for sums in (residuals.sums[0], residuals.sums[-1]))
    rounding = SAME_ENERGY if residuals.is_double else SAME_ENERGY_SINGLE
    _require_same(np.array([plain]), np.array([about + float(mean @ mean)]), plain, np.array([rounding * plain]))


def require_same_errors(found: float, expected: float, tolerance: float, size: float) -> None:
    """Check that errors of predictions, read again, are those of the moments, in units of the size of what cancels.

    Raises
    ------
    RuntimeError
        As `require_same_rows`: features or targets are others, or they are paired in another way.
    """
    if math.isfinite(found) and abs(found - expected) > tolerance + SAME_ENERGY * size:
        msg = (
            "the source gave other features or targets when it was read again: the error of the predictions changed "
            f"from {expected:.6g} to {found:.6g}. Switch off random augmentation and dropout, or store them"
        )
        raise RuntimeError(msg)


def mean_of(reading: Reading) -> Moments:
    """Mean and number of the features, summed in float64: one read."""
    moments = Moments(reading.source.d, n_targets=reading.source.n_targets, precision="highest", products=False)
    reading.run("mean", moments)
    require_rows(reading, moments)
    return moments


def gram_product(reading: Reading, vectors: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``V sum (h - s)(h - s)^T`` and ``sum (h - s)`` in float64: one read."""
    product = _GramProduct(vectors, shift)
    reading.run("refinement", product)
    return product.image, product.column_sums


class _GramProduct(Sums):
    """``V sum (h - s)(h - s)^T`` and ``sum (h - s)``."""

    def __init__(self, vectors: FloatArray, shift: FloatArray) -> None:
        self.vectors = vectors
        self.shift = shift
        self.image = np.zeros_like(vectors)
        self.column_sums = np.zeros(len(shift))

    def add_chunk(self, chunk: Chunk) -> None:
        image, column_sums = calls.gram_product(chunk.features, self.vectors, self.shift)
        self.image, self.column_sums = self.image + image, self.column_sums + column_sums

    def arrays(self) -> dict[str, FloatArray]:
        return {"image": self.image, "column_sums": self.column_sums}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        self.image, self.column_sums = arrays["image"], arrays["column_sums"]


def centered_unit_gram(reading: Reading, moments: Moments, precision: str) -> FloatArray:
    """``sum u u^T`` with ``u = (h - mean)/||h - mean||``: one read.

    Raises
    ------
    RuntimeError
        The mean of the rows is no longer that of the moments.
    """
    total = _CenteredUnitGram(moments.mean, precision)
    reading.run("centered unit rows", total)
    rounding = SAME_ENERGY if reading.is_double or precision == "highest" else SAME_ENERGY_SINGLE
    offset, energy = total.column_sums / moments.count, moments.energy
    tolerance = 4.0 * moments.mean_error + rounding * math.sqrt(energy)
    _require_same(offset, np.zeros(len(offset)), math.sqrt(energy), np.array(tolerance))
    full: FloatArray = total.gram + np.tril(total.gram, -1).T
    return full


class _CenteredUnitGram(Sums):
    """``sum u u^T`` with ``u = (h - mean)/||h - mean||``, the lower triangle, and ``sum (h - mean)``."""

    def __init__(self, mean: FloatArray, precision: str) -> None:
        self.mean = mean
        self.precision = precision
        self.gram = np.zeros((len(mean), len(mean)))
        self.column_sums = np.zeros(len(mean))

    def add_chunk(self, chunk: Chunk) -> None:
        sums = calls.gram(
            chunk.features,
            shift=self.mean,
            plain=False,
            unit="shifted",
            unit_onto=self.gram,
            precision=self.precision,
        )
        self.gram, self.column_sums = sums.unit_gram, self.column_sums + sums.column_sums

    def arrays(self) -> dict[str, FloatArray]:
        return {"gram": self.gram, "column_sums": self.column_sums}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        if "column_sums" not in arrays:
            msg = "the checkpoint was written by an earlier version in the middle of this pass; remove it to start anew"
            raise ValueError(msg)
        self.gram, self.column_sums = arrays["gram"], arrays["column_sums"]


class Residuals(Sums):
    """Sums of the explicit residuals on several bases.

    Attributes
    ----------
    sums : list of ResidualSums
        One for each basis.
    is_double : bool
        Whether they were computed in float64.
    """

    def __init__(self, bases: Sequence[Basis], *, double_precision: bool) -> None:
        self.bases = bases
        self.is_double = double_precision
        self.sums = [ResidualSums(*(np.zeros(len(basis.vectors) + 1) for _ in range(2))) for basis in bases]
        self._count = np.zeros(1)

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._count[0])

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the residuals of a chunk."""
        parts = calls.residual(chunk.features, self.bases, double_precision=self.is_double)
        pairs = zip(self.sums, parts, strict=True)
        self.sums, self._count = (
            [ResidualSums(total.raw + part.raw, total.unit + part.unit) for total, part in pairs],
            self._count + chunk.features.count,
        )

    def arrays(self) -> dict[str, FloatArray]:
        """The state."""
        arrays = {"count": self._count}
        for index, sums in enumerate(self.sums):
            arrays |= {f"raw {index}": sums.raw, f"unit {index}": sums.unit}
        return arrays

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state."""
        self._count = arrays["count"]
        self.sums = [ResidualSums(arrays[f"raw {i}"], arrays[f"unit {i}"]) for i in range(len(self.bases))]


def residuals(reading: Reading, bases: Sequence[Basis], *, double_precision: bool) -> Residuals:
    """Explicit residuals on several bases: one read of the source."""
    totals = Residuals(bases, double_precision=double_precision)
    reading.run("residuals", totals)
    return totals


def careful_residuals(reading: Reading, bases: Sequence[Basis], *, collapsed: bool) -> Residuals:
    """Residuals in float32 where that is faster and suffices, else in float64."""
    widest = max(basis.vectors.shape[0] for basis in bases)
    if reading.is_double or collapsed or widest <= ALWAYS_DOUBLE_VECTORS:
        return residuals(reading, bases, double_precision=True)
    totals = residuals(reading, bases, double_precision=False)
    if all(_is_safe_in_float32(part) for part in totals.sums):
        return totals
    return residuals(reading, bases, double_precision=True)


def _is_safe_in_float32(sums: ResidualSums) -> bool:
    finite = bool(np.isfinite(sums.raw).all() and np.isfinite(sums.unit).all())
    return finite and bool(
        sums.raw[-1] > FLOAT32_RESIDUAL_FLOOR * sums.raw[0] and sums.unit[-1] > FLOAT32_RESIDUAL_FLOOR * sums.unit[0]
    )


class _PredictionErrors(Sums):
    """``sum (W h + b - y)^2`` for each output."""

    def __init__(self, weights: FloatArray, bias: FloatArray) -> None:
        self.weights = weights
        self.bias = bias
        self.errors = np.zeros(len(bias))

    def add_chunk(self, chunk: Chunk) -> None:
        assert chunk.targets is not None
        self.errors = self.errors + calls.prediction_error(chunk.features, self.weights, self.bias, chunk.targets)

    def arrays(self) -> dict[str, FloatArray]:
        return {"errors": self.errors}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        self.errors = arrays["errors"]


def prediction_errors(reading: Reading, weights: FloatArray, bias: FloatArray) -> FloatArray:
    """``sum (W h + b - y)^2`` for each output, explicitly: one read."""
    errors = _PredictionErrors(weights, bias)
    reading.run("prediction errors", errors)
    return errors.errors
