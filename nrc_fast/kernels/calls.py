"""The only door to the passes over rows: arguments are checked, and the backend of the rows makes the pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.options import require_precision
from nrc_fast.kernels.errors import too_large
from nrc_fast.kernels.interface import GramRequest, PredictionRequest, Rows
from nrc_fast.kernels.results import (
    Basis,
    GramSums,
    PredictionSums,
    ProductSums,
    ResidualSums,
    in_range_of_float32,
)

__all__ = [
    "beside",
    "checked_gram",
    "gram",
    "gram_product",
    "images",
    "residual",
    "residual_and_errors",
]


@overload
def beside(targets: Rows, features: Rows) -> Rows: ...


@overload
def beside(targets: Rows | None, features: Rows) -> Rows | None: ...


def beside(targets: Rows | None, features: Rows) -> Rows | None:
    """Targets in the memory that the features lie in: those of the host are copied to the device of the features.

    Raises
    ------
    RuntimeError
        The targets lie on a device, and the features elsewhere; tensors on devices are not moved.
    """
    if targets is None or targets.backend == features.backend:
        return targets
    if targets.backend.is_host:
        return features.backend.copied(targets)
    place = features.backend.place_name
    msg = (
        f"{features.name} lies on {place} and {targets.name} on {targets.backend.place_name}; put both in one place "
        f"(.to({place!r})), tensors are never moved behind your back"
    )
    raise RuntimeError(msg)


def _as_float64(array: FloatArray, shape: tuple[int, ...], name: str) -> FloatArray:
    """The array as the kernels read it: contiguous float64 of the shape that they expect.

    Raises
    ------
    ValueError
        It has another shape.
    """
    contiguous: FloatArray = np.ascontiguousarray(array, dtype=np.float64)
    if contiguous.shape != shape:
        msg = f"{name} has shape {contiguous.shape}; {shape} is expected"
        raise ValueError(msg)
    return contiguous


def _optional(array: FloatArray | None, shape: tuple[int, ...], name: str) -> FloatArray | None:
    return None if array is None else _as_float64(array, shape, name)


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
        The precision is unknown, or arrays do not fit the rows.
    """
    require_precision(precision)
    d, n = features.columns, 0 if targets is None else targets.columns
    if targets is not None and targets.count != features.count:
        msg = f"features and targets differ in their rows: {features.count} and {targets.count}"
        raise ValueError(msg)
    request = GramRequest(
        shift=_optional(shift, (d,), "shift"),
        plain=plain,
        unit=unit,
        onto=_optional(onto, (d, d), "onto"),
        unit_onto=_optional(unit_onto, (d, d), "unit_onto"),
        targets=beside(targets, features),
        target_shift=None if targets is None else _optional(target_shift, (n,), "target_shift"),
        target_moments=target_moments,
        precision=precision,
    )
    return checked_gram(features, request)


def checked_gram(features: Rows, request: GramRequest) -> GramSums:
    """The sums of `gram` where the request is known to fit the rows, as that of sums that grow is.

    Raises
    ------
    NonFiniteRowsError
        A row of the features or targets is not finite.
    """
    sums = features.backend.gram(features, request)
    if sums.double_precision or sums.rows == 0 or in_range_of_float32(sums):
        return sums
    return features.backend.gram(features, replace(request, precision="highest"))


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
    ValueError
        A basis or shift does not fit the rows, or images are wanted that are not computed in float64.
    """
    if not (double_precision or features.is_double) and any(basis.images for basis in bases):
        msg = "images of rows are computed in float64; ask for double_precision"
        raise ValueError(msg)
    return features.backend.residual(features, _checked(bases, features.columns), double_precision=double_precision)


def _checked(bases: Sequence[Basis], d: int) -> list[Basis]:
    return [
        Basis(
            _as_float64(basis.vectors, (len(basis.vectors), d), "basis"),
            _optional(basis.shift, (d,), "shift"),
            basis.per_row,
            basis.images,
            basis.imaged,
        )
        for basis in bases
    ]


def gram_product(features: Rows, vectors: FloatArray, shift: FloatArray) -> ProductSums:
    """``V sum (h - s)(h - s)^T``, ``sum (h - s)`` and ``sum |h - s|^2`` in float64, without forming the Gram.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    ValueError
        The vectors or the shift do not fit the rows.
    """
    d = features.columns
    checked = _as_float64(vectors, (len(vectors), d), "vectors")
    return features.backend.gram_product(features, checked, _as_float64(shift, (d,), "shift"))


def images(features: Rows, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``W h`` of each row, (N, n), and ``|h|^2``, (N,), in float64 and on the host, for few rows of W.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    ValueError
        The weights do not fit the rows, or squares leave the range of float64.
    UnreadableRowsError
        The file of the rows ends early or cannot be read.
    """
    checked = _as_float64(weights, (len(weights), features.columns), "weights")
    found, squares = features.backend.images(features, checked)
    if not np.isfinite(squares).all():
        features.require_finite()
        raise too_large(features.name)
    return found, squares


def residual_and_errors(
    features: Rows, bases: Sequence[Basis], prediction: PredictionRequest
) -> tuple[list[ResidualSums], PredictionSums]:
    """Projection residuals as of `residual` and sums of the errors of a model, both in float64, in one read.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    ValueError
        A basis or shift does not fit the rows, or the weights or the bias do not fit features and targets.
    """
    targets, d = prediction.targets, features.columns
    if targets.count != features.count:
        msg = f"features and targets differ in their rows: {features.count} and {targets.count}"
        raise ValueError(msg)
    checked = replace(
        prediction,
        weights=_as_float64(prediction.weights, (targets.columns, d), "weights"),
        bias=_as_float64(prediction.bias, (targets.columns,), "bias"),
        targets=beside(targets, features),
    )
    return features.backend.residual_and_errors(features, _checked(bases, d), checked)
