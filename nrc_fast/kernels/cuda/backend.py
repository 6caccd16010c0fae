"""The passes over rows on a CUDA device: launched on its current stream, their sums brought to the host in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda.launches import DeviceResults, launch_gram, launch_residual, placed_with_address
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.results import Basis, GramSums, NonFiniteRowsError, ResidualSums

__all__ = ["gram", "gram_product", "prediction_error", "residual"]


# ---- the Gram pass ----


def gram(
    features: DeviceRows,
    shift: FloatArray | None,
    plain: bool,
    unit: str | None,
    targets: DeviceRows | None,
    target_shift: FloatArray | None,
    target_moments: bool,
    precision: str,
) -> GramSums:
    """`calls.gram` of rows on a device, computed once, in the precision that is named.

    Raises
    ------
    NonFiniteRowsError
        A row of the features or targets is not finite.
    """
    (placed, _), (placed_target, _) = (placed_with_address(features.device, array) for array in (shift, target_shift))
    results = launch_gram(
        features,
        shift=placed,
        plain=plain,
        unit=unit,
        targets=targets,
        target_shift=placed_target,
        target_moments=target_moments,
        precision=precision,
    )
    try:
        arrays, zero = results.fetch(features)
    except NonFiniteRowsError:
        if targets is not None:
            _require_finite(targets)  # which of the two it is
        raise
    target_gram, target_sums = arrays["target_gram"], arrays["target_sums"]
    return GramSums(
        features.count,
        arrays["gram"],
        arrays["column_sums"],
        arrays["unit_gram"],
        arrays["cross"],
        zero,
        features.is_double or precision == "highest",
        float(np.trace(arrays["gram"])),
        bool(np.isfinite(arrays["column_sums"]).all()),
        target_gram if target_moments else None,
        target_sums if target_moments else None,
        float(np.trace(target_gram)),
    )


def _require_finite(rows: DeviceRows) -> None:
    bad = np.flatnonzero(~rows.finite_rows())
    if len(bad):
        raise NonFiniteRowsError(rows.name, len(bad), int(bad[0]), rows.count)


# ---- passes that hold rows against a few vectors ----


def residual(features: DeviceRows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
    """`calls.residual` of rows on a device: one read for each basis.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    device = features.device
    launched = [
        launch_residual(
            features,
            device.place(basis.vectors),
            placed_with_address(device, basis.shift)[0],
            per_row=basis.per_row,
            double_precision=double_precision,
        )
        for basis in bases
    ]
    sums = []
    for basis, results in zip(bases, launched, strict=True):
        arrays, _ = results.fetch(features)
        per_row = (arrays["residuals"], arrays["energies"]) if basis.per_row else (None, None)
        sums.append(ResidualSums(arrays["raw"], arrays["unit"], *per_row))
    return sums


def _product(
    name: str,
    features: DeviceRows,
    vectors: FloatArray,
    shapes: dict[str, tuple[int, ...]],
    inputs: dict[str, FloatArray],
    **matrices: Any,
) -> dict[str, FloatArray]:
    device = features.device
    results = DeviceResults(device, shapes)
    placed, address = placed_with_address(device, vectors)
    held = [placed]
    arguments = dict(matrices)
    for key, array in inputs.items():
        tensor, arguments[key] = placed_with_address(device, array)
        held.append(tensor)
    if features.count:
        request = device.core.ProductRequest(features.matrix, address, len(vectors), counts=results.counts_address)
        outputs = {key: results.address(key) for key in shapes}
        size = device.core.product_workspace(request, device.index)
        device.launch(name, request, size, **arguments, **outputs)
    del held
    return results.fetch(features)[0]


def gram_product(features: DeviceRows, vectors: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`calls.gram_product` of rows on a device."""
    d = features.columns
    shapes: dict[str, tuple[int, ...]] = {"image": (len(vectors), d), "column_sums": (d,)}
    arrays = _product("gram_product", features, vectors, shapes, {"shift": shift})
    return arrays["image"], arrays["column_sums"]


def prediction_error(features: DeviceRows, weights: FloatArray, bias: FloatArray, targets: DeviceRows) -> FloatArray:
    """`calls.prediction_error` of rows on a device."""
    shapes: dict[str, tuple[int, ...]] = {"errors": (len(bias),)}
    arrays = _product("prediction_error", features, weights, shapes, {"bias": bias}, targets=targets.matrix)
    return arrays["errors"]
