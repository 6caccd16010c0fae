"""Passes over rows on a CUDA device that are launched and not waited for, and the memory of their results.

What they return lies on the device until it is fetched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.linalg import FloatArray
from nrc_fast.base.options import PRECISIONS
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.results import NonFiniteRowsError

__all__ = [
    "DeviceResults",
    "SumsMemory",
    "Totals",
    "launch_gram",
    "launch_gram_with_totals",
    "launch_residual",
    "placed_with_address",
    "totals_from",
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


def placed_with_address(device: CudaDevice, array: NDArray[Any] | None) -> tuple[Any, int]:
    """A small array on the device, and its address; both must be held until the launch."""
    if array is None or array.size == 0:
        return None, 0
    tensor = device.place(array)
    return tensor, int(tensor.data_ptr())


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


# Place of that number among the totals.
REFUSED = [field.name for field in fields(Totals)].index("refused")


class SumsMemory:
    """Sums and totals on a device in one piece, so that one copy brings them to the host; they start as zeros."""

    def __init__(self, device: CudaDevice, shapes: dict[str, tuple[int, ...]]) -> None:
        self.device = device
        self.shapes = shapes
        self.total_values = int(device.core.total_values)
        ends = np.cumsum([0, *map(math.prod, shapes.values())]).tolist()
        self.places = dict(zip(shapes, pairwise(ends), strict=True))
        self.values = device.zeros(ends[-1] + self.total_values)
        self.totals = self.values[ends[-1] :]

    def launch(self, features: DeviceRows, **arguments: Any) -> None:
        """Launch the pass over a batch, which adds to what is here."""
        core, base = self.device.core, self.values.data_ptr()
        outputs = {name: base + 8 * first if last > first else 0 for name, (first, last) in self.places.items()}
        request = core.GramRequest(features.matrix, **outputs, totals=self.totals.data_ptr(), **arguments)
        self.device.launch("gram", request, core.gram_workspace(request, self.device.index))


def launch_gram_with_totals(
    features: DeviceRows, shapes: dict[str, tuple[int, ...]], *, shift: Any, unit: str | None, precision: str
) -> tuple[dict[str, Any], Any]:
    """The sums of one batch as tensors on the device, by name, and whether it was refused, 0 or 1, as another.

    `shapes` names the sums as `GramSums` does; the shift is a float64 tensor on the device, or None.
    """
    memory = SumsMemory(features.device, shapes)
    if features.count:
        memory.launch(
            features,
            shift=0 if shift is None else shift.data_ptr(),
            unit_rows_are_shifted=unit == "shifted",
            precision=PRECISIONS.index(precision),
        )
    refused = memory.totals.view(features.device.torch.int64)[REFUSED]
    return {name: memory.values[a:b].view(shapes[name]) for name, (a, b) in memory.places.items()}, refused


def totals_from(memory: FloatArray) -> Totals:
    """The totals in memory that was brought to the host."""
    return Totals(*memory.view(np.int64).tolist())
