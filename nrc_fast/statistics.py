"""Sufficient statistics of features and targets: additive float64 sums, one read of the rows."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast import kernels
from nrc_fast.bounds import SINGLE_EPSILON
from nrc_fast.kernels import Rows
from nrc_fast.linalg import EPSILON, FloatArray, eigh_descending
from nrc_fast.sources import Chunk

__all__ = ["FeatureStatistics"]

SHIFT_ROWS = 1024
# Sums of squares of float64 numbers beyond these limits have over- or underflowed, or their squares will.
SMALLEST_ENERGY = 1e-150
LARGEST_ENERGY = 1e150


class FeatureStatistics:
    """Counts, shifted sums, Gram matrices and cross moments of the rows seen so far.

    The sums are of h - s with s the mean of the first rows, so that a large mean costs no digits. Precision: rows
    that are not float64 are multiplied in float32 blocks of a few hundred rows that are added up in float64, unless
    `precision` is "highest".

    Parameters
    ----------
    d : int
        Number of features.
    n_targets : int
        Number of target outputs; 0 for no targets.
    unit_rows : bool
        Whether the unit-row Gram is summed too, at the cost of a second product.
    precision : {"high", "highest", "fast"}
    """

    def __init__(self, d: int, *, n_targets: int = 0, unit_rows: bool = False, precision: str = "high") -> None:
        self.d = d
        self.n_targets = n_targets
        self.unit_rows = unit_rows
        self.precision = precision
        self.count = 0
        self.zero_rows = 0
        self.is_double = True
        self.shift: FloatArray | None = None
        self.target_shift: FloatArray = np.zeros(n_targets)
        self._gram = np.zeros((d, d))
        self._unit_gram = np.zeros((d, d))
        self._sums = np.zeros(d)
        self._cross = np.zeros((n_targets, d))
        self._target_gram = np.zeros((n_targets, n_targets))
        self._target_sums = np.zeros(n_targets)
        self._spectra: dict[bool, tuple[FloatArray, FloatArray]] = {}

    def update(self, chunk: Chunk, *, products: bool = True) -> FeatureStatistics:
        """Add the rows of a chunk; when it raises, nothing was added.

        Without `products` only counts and sums are added, which is all that means need.

        Raises
        ------
        kernels.NonFiniteRowsError
            A row of the chunk is not finite.
        ValueError
            The values are so large or small that their squares are no float64 numbers.
        """
        features, targets = chunk.features, chunk.targets
        self._check_widths(features, targets)
        if features.count == 0:
            return self
        shift, target_shift = self._shifts(features, targets)
        target_sums = None
        if targets is not None:
            # The targets' own moments come from the same kernel, in float64 whatever their dtype.
            target_sums = kernels.gram(targets, shift=target_shift, precision="highest")
            _check_range(target_sums, targets, target_shift)
        sums = kernels.gram(
            features,
            shift=shift,
            plain=products,
            unit="raw" if self.unit_rows and products else None,
            targets=targets,
            target_shift=target_shift if targets is not None else None,
            precision=self.precision,
        )
        if products:
            _check_range(sums, features, shift)
        self.shift, self.target_shift = shift, target_shift
        self._add(sums, target_sums)
        return self

    def _check_widths(self, features: Rows, targets: Rows | None) -> None:
        n_targets = 0 if targets is None else targets.columns
        if features.columns != self.d or n_targets != self.n_targets:
            msg = (
                f"the chunk has {features.columns} features and {n_targets} targets; "
                f"these statistics are of {self.d} and {self.n_targets}"
            )
            raise ValueError(msg)

    def _shifts(self, features: Rows, targets: Rows | None) -> tuple[FloatArray, FloatArray]:
        """Those of the rows before, or the mean of the first rows."""
        if self.shift is not None:
            return self.shift, self.target_shift
        shift = _first_mean(features)
        if not features.is_double:
            # Exactly representable where the kernels subtract it in float32.
            shift = shift.astype(np.float32).astype(np.float64)
        return shift, self.target_shift if targets is None else _first_mean(targets)

    def _add(self, sums: kernels.GramSums, target_sums: kernels.GramSums | None) -> None:
        self._spectra.clear()
        self.count += sums.rows
        self.zero_rows += sums.zero_rows
        self.is_double = self.is_double and sums.double_precision
        self._sums += sums.column_sums
        if sums.gram.size:
            self._gram += sums.gram
        if sums.unit_gram.size:
            self._unit_gram += sums.unit_gram
        if target_sums is not None:
            self._cross += sums.cross
            self._target_gram += target_sums.gram
            self._target_sums += target_sums.column_sums

    # ---- moments ----

    @property
    def mean_offset(self) -> FloatArray:
        """Mean of h - s, (d,)."""
        return self._sums / self.count

    @property
    def mean(self) -> FloatArray:
        """Mean of the features, (d,)."""
        assert self.shift is not None
        return self.shift + self.mean_offset

    @property
    def covariance(self) -> FloatArray:
        """Population covariance of the features, (d, d): ``(1/N) sum (h - mean)(h - mean)^T``."""
        offset = self.mean_offset
        return _symmetric(self._gram) / self.count - np.outer(offset, offset)

    @property
    def second_moment(self) -> FloatArray:
        """``(1/N) sum h h^T``, (d, d): the covariance with the shift undone."""
        return self.covariance + np.outer(self.mean, self.mean)

    def spectrum(self, *, centered: bool = True) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues, descending, and eigenvectors (columns) of `covariance`, or of `second_moment`.

        Kept until more rows come: at a large d nothing else takes as long.
        """
        if centered not in self._spectra:
            self._spectra[centered] = eigh_descending(self.covariance if centered else self.second_moment)
        return self._spectra[centered]

    @property
    def unit_second_moment(self) -> FloatArray:
        """``(1/N) sum u u^T`` with u = h/||h||, (d, d); zero rows add nothing."""
        if not self.unit_rows:
            msg = "these statistics were made without unit_rows=True"
            raise ValueError(msg)
        return _symmetric(self._unit_gram) / self.count

    @property
    def target_mean(self) -> FloatArray:
        """Mean of the targets, (n,)."""
        return self.target_shift + self._target_sums / self.count

    @property
    def target_covariance(self) -> FloatArray:
        """Population covariance of the targets, (n, n)."""
        offset = self._target_sums / self.count
        return _symmetric(self._target_gram) / self.count - np.outer(offset, offset)

    @property
    def cross_covariance(self) -> FloatArray:
        """``(1/N) sum (h - mean_h)(y - mean_y)^T``, (d, n)."""
        offsets = np.outer(self.mean_offset, self._target_sums / self.count)
        covariance: FloatArray = self._cross.T / self.count - offsets
        return covariance

    # ---- accuracy ----

    @property
    def relative_error(self) -> float:
        """Statistical bound of the rounding of a sum of products, relative to the sum of their magnitudes.

        Within a block of B rows errors of one unit add up like sqrt(B), and over blocks, in float64, like the
        square root of their number.
        """
        block_rows = _block_rows()
        unit = EPSILON / 2 if self.is_double else SINGLE_EPSILON
        return unit * math.sqrt(block_rows) + EPSILON / 2 * math.sqrt(self.count / block_rows)

    @property
    def covariance_error(self) -> float:
        """Bound of the spectral norm of the error of `covariance`: of the Gram, and twice of the mean's square."""
        return 3.0 * self.relative_error * float(np.trace(self._gram)) / self.count


def _check_range(sums: kernels.GramSums, rows: Rows, shift: FloatArray) -> None:
    """Refuse rows whose squares, or those of their covariance, are no float64 numbers."""
    energy = float(np.trace(sums.gram)) / sums.rows
    if not energy < LARGEST_ENERGY:
        msg = f"{rows.name} is so large that squares leave the range of float64; divide it by a constant first"
        raise ValueError(msg)
    if energy < SMALLEST_ENERGY and np.any(rows.to_float64(0, SHIFT_ROWS) != shift):
        msg = f"{rows.name} is so small that squares leave the range of float64; multiply it by a constant first"
        raise ValueError(msg)


def _block_rows() -> int:
    rows = kernels.build_config()["gram_block_rows"]
    assert isinstance(rows, int)
    return rows


def _first_mean(rows: Rows) -> FloatArray:
    """Mean of the first rows, of those that are finite."""
    first: FloatArray = rows.to_float64(0, SHIFT_ROWS)
    first = first[np.isfinite(first).all(axis=1)]
    if len(first) == 0:
        return np.zeros(rows.columns)
    # Taken from the first row on, so that rows that are all equal have exactly zero variance.
    with np.errstate(over="ignore", invalid="ignore"):
        mean: FloatArray = first[0] + (first - first[0]).mean(axis=0)
    if not np.isfinite(mean).all():
        return np.zeros(rows.columns)
    return mean


def _symmetric(lower: FloatArray) -> FloatArray:
    strict = np.tril(lower, -1)
    full: FloatArray = lower + strict.T
    return full
