"""Passes over rows on a CUDA device that are launched and not waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nrc_fast.base.arrays import FloatArray, IntArray, StoredArray
from nrc_fast.base.options import PRECISIONS
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.results import DeviceResults
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.errors import NonFiniteRowsError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Totals",
    "fetch_counted",
    "gram_results",
    "launch_gram",
    "launch_product",
    "launch_residual",
    "placed_or_none",
]

COUNTS = 3  # zero rows, rows that are not finite, and the first of these


@dataclass(frozen=True)
class Totals:
    """What the batches were like; the fields of DeviceTotals in csrc/cuda/machine/rows.h, which says what they mean."""

    rows: int
    zero: int
    skipped: int
    batches: int
    added: int
    blocks: int
    exponent: int
    target_exponent: int
    refused: int
    refused_batch: int
    refused_rows: int
    refused_nonfinite: int
    refused_first: int
    refused_by_targets: int

    @classmethod
    def of(cls, counts: IntArray) -> Totals:
        """The totals that were counted beside the results of Gram passes."""
        return cls(*counts.tolist())

    @staticmethod
    def refused_of(counts: Tensor) -> Tensor:
        """The number of refused batches among counts that are still on the device."""
        return counts[[field.name for field in fields(Totals)].index("refused")]


def placed_or_none(device: CudaDevice, array: StoredArray | None) -> Tensor | None:
    """A small array on the device; None where it has no elements. Must be held until the launch."""
    return None if array is None or array.size == 0 else device.place(array)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else int(tensor.data_ptr())


# ---- the Gram pass ----


def gram_results(device: CudaDevice, shapes: dict[str, tuple[int, ...]]) -> DeviceResults:
    """Memory for Gram passes, whose counts are `Totals`."""
    return DeviceResults(device, shapes, int(device.core.total_values))


def launch_gram(
    results: DeviceResults,
    features: DeviceRows,
    *,
    shift: Tensor | None = None,
    targets: DeviceRows | None = None,
    target_shift: Tensor | None = None,
    unit_rows_are_shifted: bool = False,
    precision: str = "high",
    skips_nonfinite: bool = False,
) -> None:
    """Add the sums of a batch to results of the names that `GramSums` has; the shifts are float64 tensors.

    A batch with rows that are not finite, unless they are skipped, or whose squares leave the range of float64 adds
    nothing; the totals tell.
    """
    if features.count == 0:
        return
    device = features.device
    request = device.core.GramRequest(
        features.matrix,
        **results.addresses,
        shift=_address(shift),
        unit_rows_are_shifted=unit_rows_are_shifted,
        targets=None if targets is None else targets.matrix,
        target_shift=0 if targets is None else _address(target_shift),
        precision=PRECISIONS.index(precision),
        totals=_address(results.counts),
        skips_nonfinite=skips_nonfinite,
    )
    device.launch("gram", request, device.core.gram_workspace(request, device.index))


# ---- passes that hold rows against a few vectors ----


def _counted_results(device: CudaDevice, shapes: dict[str, tuple[int, ...]]) -> DeviceResults:
    results = DeviceResults(device, shapes, COUNTS)
    results.counts[2:] = -1
    return results


def launch_residual(
    features: DeviceRows, vectors: Tensor, shift: Tensor | None, *, per_row: bool, double_precision: bool
) -> DeviceResults:
    """A residual pass on one basis: "raw" and "unit" sums, "residuals" and "energies" of rows.

    The vectors (k, d) and the shift (d,) or None are contiguous float64 tensors on the device.
    """
    device, k = features.device, len(vectors)
    count = features.count if per_row else 0
    shapes: dict[str, tuple[int, ...]] = {
        "raw": (k + 1,),
        "unit": (k + 1,),
        "expanded": (2,),
        "residuals": (count,),
        "energies": (count,),
    }
    results = _counted_results(device, shapes)
    if features.count == 0:
        return results
    addresses = results.addresses
    request = device.core.ResidualRequest(
        features.matrix,
        vectors.data_ptr() if k else 0,
        k,
        raw_sums=addresses["raw"],
        unit_sums=addresses["unit"],
        shift=_address(shift),
        row_residuals=addresses["residuals"],
        row_energies=addresses["energies"],
        double_precision=double_precision,
        expanded=addresses["expanded"],
        counts=_address(results.counts),
    )
    device.launch("residual", request, device.core.residual_workspace(request, device.index))
    return results


def launch_product(
    name: str,
    features: DeviceRows,
    vectors: FloatArray,
    shapes: dict[str, tuple[int, ...]],
    inputs: Mapping[str, FloatArray],
    **matrices: object,
) -> DeviceResults:
    """The pass of this name with vectors of the host, into results of these shapes."""
    device = features.device
    results = _counted_results(device, shapes)
    placed = placed_or_none(device, vectors)
    held = {key: placed_or_none(device, array) for key, array in inputs.items()}
    if features.count:
        request = device.core.ProductRequest(
            features.matrix, _address(placed), len(vectors), counts=_address(results.counts)
        )
        arguments = {key: _address(tensor) for key, tensor in held.items()} | results.addresses | matrices
        workspace = getattr(device.core, f"{name}_workspace")(request, device.index)
        device.launch(name, request, workspace, **arguments)
    return results


def fetch_counted(results: DeviceResults, rows: DeviceRows) -> dict[str, FloatArray]:
    """The results of `launch_residual` or `launch_product` on the host; waits for them.

    Raises
    ------
    NonFiniteRowsError
        A row was not finite.
    """
    arrays, counts = results.fetch()
    _, nonfinite, first = counts.tolist()
    if nonfinite:
        raise NonFiniteRowsError(rows.name, nonfinite, first, rows.count)
    return arrays
