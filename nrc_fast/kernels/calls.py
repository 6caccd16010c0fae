"""The only door to the passes over rows: each adds over them in one read, where they lie, and returns float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.base.options import require_precision
from nrc_fast.kernels.cpu import backend as cpu_backend
from nrc_fast.kernels.cuda import backend as cuda_backend
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.placement import beside
from nrc_fast.kernels.results import Basis, GramSums, ResidualSums, in_range_of_float32
from nrc_fast.kernels.rows import Rows

__all__ = ["gram", "gram_product", "prediction_error", "residual"]


def _as_float64(array: FloatArray | None, shape: tuple[int, ...], name: str) -> FloatArray | None:
    """The array as the kernels read it: contiguous float64 of the shape that they expect."""
    if array is None:
        return None
    contiguous: FloatArray = np.ascontiguousarray(array, dtype=np.float64)
    if contiguous.shape != shape:
        msg = f"{name} has shape {contiguous.shape}; {shape} is expected"
        raise ValueError(msg)
    return contiguous


def gram(
    features: Rows,
    *,
    shift: FloatArray | None = None,
    plain: bool = True,
    unit: str | None = None,
    onto: FloatArray | None = None,
    unit_onto: FloatArray | None = None,
    targets: Rows | None = None,
    target_shift: FloatArray | None = None,
    target_moments: bool = False,
    precision: str = "high",
) -> GramSums:
    """Shifted Gram, column sums, unit-row Gram and cross moments in one read; only lower triangles are filled.

    Parameters
    ----------
    features : Rows
    shift : (d,) float64 array, optional
        s in ``sum (h - s)(h - s)^T`` and ``sum (h - s)``.
    plain : bool
        Whether the shifted Gram is wanted.
    unit : {None, "raw", "shifted"}
        The unit-row Gram ``sum u u^T``, u = x/||x||, of x = h or of x = h - s.
    onto, unit_onto : (d, d) float64 arrays, optional
        What the Gram and the unit-row Gram are added to; not changed.
    targets : Rows, optional
        For the cross moments ``sum (y - t)(h - s)^T``, (n, d).
    target_shift : (n,) float64 array, optional
    target_moments : bool
        Whether the targets' own shifted Gram and sums are wanted; they are float64 whatever the precision.
    precision : {"high", "highest", "fast"}
        "high" and "fast": rows that are not float64 in float32 blocks, added up in float64. "highest": float64.
        Rows whose squares leave the range of float32 are computed in float64 in any case.

    Raises
    ------
    NonFiniteRowsError
        A row of the features or targets is not finite.
    ValueError
        The precision is unknown.
    """
    require_precision(precision)
    d, n = features.columns, 0 if targets is None else targets.columns
    shift = _as_float64(shift, (d,), "shift")
    if targets is not None:
        target_shift = _as_float64(target_shift, (n,), "target_shift")
        if targets.count != features.count:
            msg = f"features and targets differ in their rows: {features.count} and {targets.count}"
            raise ValueError(msg)
    start = _as_float64(onto, (d, d), "onto"), _as_float64(unit_onto, (d, d), "unit_onto")
    sums = _gram_once(features, shift, plain, unit, start, targets, target_shift, target_moments, precision)
    if sums.double_precision or sums.rows == 0 or in_range_of_float32(sums):
        return sums
    return _gram_once(features, shift, plain, unit, start, targets, target_shift, target_moments, "highest")


def _gram_once(
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
    placed = beside(targets, features)
    if isinstance(features, DeviceRows):
        assert placed is None or isinstance(placed, DeviceRows)
        sums = cuda_backend.gram(features, shift, plain, unit, placed, target_shift, target_moments, precision)
        for name, start in zip(("gram", "unit_gram"), onto, strict=True):
            if start is not None:
                setattr(sums, name, getattr(sums, name) + start)
        return sums
    return cpu_backend.gram(features, shift, plain, unit, onto, targets, target_shift, target_moments, precision)


def residual(features: Rows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
    """Projection residuals of the rows on several bases, in one read.

    Parameters
    ----------
    features : Rows
    bases : sequence of Basis
    double_precision : bool
        Compute in float64. Rows that are not float64 are otherwise computed in float32, whose explicit residual
        has an absolute floor of about 1e-14 of the energy.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    checked = [_checked(basis, features.columns) for basis in bases]
    if isinstance(features, DeviceRows):
        return cuda_backend.residual(features, checked, double_precision=double_precision)
    return cpu_backend.residual(features, checked, double_precision=double_precision)


def _checked(basis: Basis, d: int) -> Basis:
    vectors = _as_float64(basis.vectors, (len(basis.vectors), d), "basis")
    assert vectors is not None
    return Basis(vectors, _as_float64(basis.shift, (d,), "shift"), basis.per_row)


def gram_product(features: Rows, vectors: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``V sum (h - s)(h - s)^T`` (k, d) and ``sum (h - s)`` (d,) in float64, without forming the Gram.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    checked = _as_float64(vectors, (len(vectors), features.columns), "vectors")
    checked_shift = _as_float64(shift, (features.columns,), "shift")
    assert checked is not None
    assert checked_shift is not None
    if isinstance(features, DeviceRows):
        return cuda_backend.gram_product(features, checked, checked_shift)
    return cpu_backend.gram_product(features, checked, checked_shift)


def prediction_error(features: Rows, weights: FloatArray, bias: FloatArray, targets: Rows) -> FloatArray:
    """``sum (W h + b - y)^2`` for each output, (n,), in float64.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    outputs = targets.columns
    checked = _as_float64(weights, (outputs, features.columns), "weights")
    checked_bias = _as_float64(bias, (outputs,), "bias")
    assert checked is not None
    assert checked_bias is not None
    if isinstance(features, DeviceRows):
        placed = beside(targets, features)
        assert isinstance(placed, DeviceRows)
        return cuda_backend.prediction_error(features, checked, checked_bias, placed)
    return cpu_backend.prediction_error(features, checked, checked_bias, targets)
