"""The passes over rows on a CUDA device: launched on its current stream, their sums brought to the host in one copy.

`launch_gram` and its like do not wait; what they return lies on the device until it is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.results import PRECISIONS, Basis, GramSums, NonFiniteRowsError, ResidualSums

__all__ = [
    "DeviceResults",
    "gram",
    "gram_product",
    "launch_gram",
    "launch_residual",
    "prediction_error",
    "residual",
]

COUNTS = 3  # zero rows, rows that are not finite, and the first of these


class DeviceResults:
    """Float64 results of a pass and the counts of its rows, side by side in device memory.

    Parameters
    ----------
    device : CudaDevice
    shapes : dict
        Of the results, by name; they start as zeros.
    """

    def __init__(self, device: CudaDevice, shapes: dict[str, tuple[int, ...]]) -> None:
        self.device = device
        self.shapes = shapes
        sizes = [math.prod(shape) for shape in shapes.values()]
        ends = np.cumsum([0, *sizes]).tolist()
        self.places = dict(zip(shapes, pairwise(ends), strict=True))
        self.memory = device.zeros(ends[-1] + COUNTS)
        self.counts = self.memory[-COUNTS:].view(device.torch.int64)
        self.counts[2:] = -1

    def tensor(self, name: str) -> Any:
        """A result on the device."""
        first, last = self.places[name]
        return self.memory[first:last].view(self.shapes[name])

    def address(self, name: str) -> int:
        """Of a result; 0 where it has no elements."""
        first, last = self.places[name]
        return int(self.memory.data_ptr()) + 8 * first if last > first else 0

    @property
    def counts_address(self) -> int:
        """Of the counts."""
        return int(self.counts.data_ptr())

    def fetch(self, rows: DeviceRows) -> tuple[dict[str, FloatArray], int]:
        """The results on the host, and how many rows were zero.

        Raises
        ------
        NonFiniteRowsError
            A row was not finite.
        """
        memory: FloatArray = self.device.fetch(self.memory)
        zero, nonfinite, first = memory[-COUNTS:].view(np.int64).tolist()
        if nonfinite:
            raise NonFiniteRowsError(rows.name, nonfinite, first, rows.count)
        arrays = {name: memory[a:b].reshape(self.shapes[name]) for name, (a, b) in self.places.items()}
        return arrays, zero


def _placed(device: CudaDevice, array: NDArray[Any] | None) -> tuple[Any, int]:
    """A small array on the device, and its address; both must be held until the launch."""
    if array is None or array.size == 0:
        return None, 0
    tensor = device.place(array)
    return tensor, int(tensor.data_ptr())


# ---- the Gram pass ----


def launch_gram(
    features: DeviceRows,
    *,
    shift: Any = None,
    plain: bool = True,
    unit: str | None = None,
    targets: DeviceRows | None = None,
    target_shift: Any = None,
    target_moments: bool = False,
    precision: str = "high",
) -> DeviceResults:
    """A Gram pass as `calls.gram`, without waiting; the shifts are contiguous float64 tensors on the device."""
    device, d = features.device, features.columns
    n = 0 if targets is None else targets.columns
    k = n if target_moments else 0
    shapes: dict[str, tuple[int, ...]] = {
        "column_sums": (d,),
        "gram": (d, d) if plain else (0, 0),
        "unit_gram": (d, d) if unit else (0, 0),
        "cross": (n, d),
        "target_gram": (k, k),
        "target_sums": (k,),
    }
    results = DeviceResults(device, shapes)
    if features.count == 0:
        return results
    request = device.core.GramRequest(
        features.matrix,
        **{name: results.address(name) for name in shapes},
        shift=0 if shift is None else shift.data_ptr(),
        unit_rows_are_shifted=unit == "shifted",
        targets=None if targets is None else targets.matrix,
        target_shift=0 if target_shift is None else target_shift.data_ptr(),
        precision=PRECISIONS.index(precision),
        counts=results.counts_address,
    )
    device.launch("gram", request, device.core.gram_workspace(request, device.index))
    return results


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
    (placed, _), (placed_target, _) = (_placed(features.device, array) for array in (shift, target_shift))
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


def launch_residual(
    features: DeviceRows, vectors: Any, shift: Any, *, per_row: bool, double_precision: bool
) -> DeviceResults:
    """A residual pass on one basis, without waiting: "raw" and "unit" sums, "residuals" and "energies" of rows.

    The vectors (k, d) and the shift (d,) or None are contiguous float64 tensors on the device.
    """
    device, k = features.device, len(vectors)
    count = features.count if per_row else 0
    results = DeviceResults(device, {"raw": (k + 1,), "unit": (k + 1,), "residuals": (count,), "energies": (count,)})
    if features.count == 0:
        return results
    request = device.core.ResidualRequest(
        features.matrix,
        vectors.data_ptr() if k else 0,
        k,
        raw_sums=results.address("raw"),
        unit_sums=results.address("unit"),
        shift=0 if shift is None else shift.data_ptr(),
        row_residuals=results.address("residuals"),
        row_energies=results.address("energies"),
        double_precision=double_precision,
        counts=results.counts_address,
    )
    device.launch("residual", request, device.core.residual_workspace(request, device.index))
    return results


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
            _placed(device, basis.shift)[0],
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
    placed, address = _placed(device, vectors)
    held = [placed]
    arguments = dict(matrices)
    for key, array in inputs.items():
        tensor, arguments[key] = _placed(device, array)
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
