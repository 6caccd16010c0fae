"""The passes over rows in the memory of the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cpu.memory import address_of, kept_empty, kept_zeros
from nrc_fast.kernels.results import Basis, GramSums, NonFiniteRowsError, ResidualSums
from nrc_fast.kernels.rows import Rows, unreadable

__all__ = ["gram", "gram_product", "prediction_error", "require_good", "residual"]


def require_good(counts: _cpu.RowCounts, rows: Rows) -> None:
    """Raise for rows that could not be read or are not finite."""
    if counts.first_unread >= 0:
        raise unreadable(rows.name, counts.first_unread, counts.read_error)
    if counts.nonfinite:
        raise NonFiniteRowsError(rows.name, counts.nonfinite, counts.first_nonfinite, rows.count)


def gram(
    features: Rows,
    shift: FloatArray | None,
    plain: bool,
    unit: str | None,
    onto: tuple[FloatArray | None, FloatArray | None],
    targets: Rows | None,
    target_shift: FloatArray | None,
    target_moments: bool,
    precision: str,
) -> GramSums:
    """`calls.gram` of rows on the host, computed once, in the precision that is named.

    Raises
    ------
    NonFiniteRowsError
        A row of the features or targets is not finite.
    """
    d, double_precision = features.columns, features.is_double or precision == "highest"
    plain_gram = kept_empty(d, d) if plain else kept_zeros(0, 0)
    unit_gram = kept_empty(d, d) if unit else kept_zeros(0, 0)
    column_sums = kept_zeros(d)
    n = 0 if targets is None else targets.columns
    cross = kept_zeros(n, d)
    target_gram, target_sums = (kept_empty(n, n), kept_zeros(n)) if target_moments else (None, None)
    counts = _cpu.gram(
        features.matrix,
        gram=address_of(plain_gram),
        gram_onto=address_of(onto[0]),
        column_sums=address_of(column_sums),
        unit_gram=address_of(unit_gram),
        unit_gram_onto=address_of(onto[1]),
        shift=address_of(shift),
        unit_rows_are_shifted=unit == "shifted",
        targets=None if targets is None else targets.matrix,
        target_shift=address_of(target_shift),
        cross=address_of(cross),
        target_gram=address_of(target_gram),
        target_sums=address_of(target_sums),
        double_precision=double_precision,
    )
    if targets is not None:
        require_good(counts.targets, targets)
    require_good(counts.features, features)
    return GramSums(
        features.count,
        plain_gram,
        column_sums,
        unit_gram,
        cross,
        counts.features.zero,
        double_precision,
        counts.energy,
        counts.has_finite_sums,
        target_gram,
        target_sums,
        counts.target_energy,
    )


def residual(features: Rows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
    """`calls.residual` of rows on the host: one read for all bases.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    results = []
    jobs = []
    for basis in bases:  # they stay alive: the kernels hold addresses only
        k, vectors, shift = len(basis.vectors), basis.vectors, basis.shift
        per_row = [np.zeros(features.count) if basis.per_row else None for _ in range(2)]
        sums = ResidualSums(np.zeros(k + 1), np.zeros(k + 1), *per_row)
        results.append(sums)
        jobs.append(
            _cpu.ResidualJob(
                address_of(vectors),
                k,
                address_of(sums.raw),
                address_of(sums.unit),
                shift=address_of(shift),
                row_residuals=address_of(sums.row_residuals),
                row_energies=address_of(sums.row_energies),
            )
        )
    counts = _cpu.residual(features.matrix, jobs, double_precision)
    require_good(counts, features)
    return results


def gram_product(features: Rows, vectors: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`calls.gram_product` of rows on the host."""
    image = np.zeros((len(vectors), features.columns))
    column_sums = np.zeros(features.columns)
    counts = _cpu.gram_product(
        features.matrix,
        shift=address_of(shift),
        vectors=address_of(vectors),
        count=len(vectors),
        image=address_of(image),
        column_sums=address_of(column_sums),
    )
    require_good(counts, features)
    return image, column_sums


def prediction_error(features: Rows, weights: FloatArray, bias: FloatArray, targets: Rows) -> FloatArray:
    """`calls.prediction_error` of rows on the host."""
    errors = np.zeros(len(bias))
    counts = _cpu.prediction_error(
        features.matrix,
        weights=address_of(weights),
        bias=address_of(bias),
        targets=targets.matrix,
        errors=address_of(errors),
    )
    require_good(counts, features)
    return errors
