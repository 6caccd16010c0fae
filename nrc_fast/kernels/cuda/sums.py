"""Sums over rows that stay on a CUDA device: batches are launched, nothing waits, and errors come with the sums."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.results import PRECISIONS

__all__ = ["DeviceSums", "Totals", "first_mean", "launch_gram_with_totals"]


@dataclass(frozen=True)
class Totals:
    """What the batches were like; the fields of DeviceTotals in csrc/cuda/rows.h, which says what they mean."""

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


class DeviceSums:
    """Sums over rows of one dtype about a shift, in the memory of their device.

    Parameters
    ----------
    device : CudaDevice
    dtype : str
    d, n_targets : int
    products, unit_rows : bool
        As in `ShiftedSums`.
    precision : str
    shift, target_shift : float64 tensors on the device
        (d,) and (n_targets,).
    """

    def __init__(
        self,
        device: CudaDevice,
        dtype: str,
        d: int,
        n_targets: int,
        *,
        products: bool,
        unit_rows: bool,
        precision: str,
        shift: Any,
        target_shift: Any,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.precision = precision
        self.shift, self.target_shift = shift, target_shift
        gram_size = d if products else 0
        unit_size = gram_size if unit_rows else 0
        shapes: dict[str, tuple[int, ...]] = {
            "column_sums": (d,),
            "gram": (gram_size, gram_size),
            "unit_gram": (unit_size, unit_size),
            "cross": (n_targets, d),
            "target_sums": (n_targets,),
            "target_gram": (n_targets, n_targets),
        }
        self._memory = _Memory(device, shapes)
        self.reported = 0  # refused batches that an error has told of

    @property
    def is_double(self) -> bool:
        """Whether products are float64."""
        return self.dtype == "float64" or self.precision == "highest"

    def add(self, features: DeviceRows, targets: DeviceRows | None, *, skips: bool) -> None:
        """Launch the pass over a batch of at least one row.

        A batch with rows that are not finite, unless they are skipped, or whose squares leave the range of float64
        adds nothing; `totals` tells.
        """
        self._memory.launch(
            features,
            shift=self.shift.data_ptr(),
            targets=None if targets is None else targets.matrix,
            target_shift=0 if targets is None else self.target_shift.data_ptr(),
            precision=PRECISIONS.index(self.precision),
            skips_nonfinite=skips,
        )

    def totals(self) -> Totals:
        """What the batches were like; waits for them."""
        return _totals(self.device.fetch(self._memory.totals))

    def fetch(self) -> tuple[dict[str, FloatArray], Totals]:
        """The sums and totals on the host; waits for the batches."""
        values: FloatArray = self.device.fetch(self._memory.values)
        arrays = {name: values[a:b].reshape(self._memory.shapes[name]) for name, (a, b) in self._memory.places.items()}
        return arrays, _totals(values[-self._memory.total_values :])


class _Memory:
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
    memory = _Memory(features.device, shapes)
    if features.count:
        memory.launch(
            features,
            shift=0 if shift is None else shift.data_ptr(),
            unit_rows_are_shifted=unit == "shifted",
            precision=PRECISIONS.index(precision),
        )
    refused = memory.totals.view(features.device.torch.int64)[REFUSED]
    return {name: memory.values[a:b].view(shapes[name]) for name, (a, b) in memory.places.items()}, refused


def _totals(memory: FloatArray) -> Totals:
    return Totals(*memory.view(np.int64).tolist())


def first_mean(rows: DeviceRows, most: int) -> Any:
    """Mean of the first rows, of those that are finite, as a float64 tensor on the device; nothing waits.

    Exactly representable in float32 where the rows are not float64. Zeros where no row is finite.
    """
    torch = rows.device.torch
    first: Any = rows.tensor[:most].double()
    keep = torch.isfinite(first).all(dim=1)
    # From one of the rows on, so that rows that are all equal have exactly zero variance.
    origin = first.index_select(0, keep.to(torch.int8).argmax().reshape(1))[0]
    distances = torch.where(keep[:, None], first - origin, 0.0).sum(dim=0)
    mean = origin + distances / keep.sum().clamp(min=1)
    mean = mean if rows.is_double else mean.float().double()
    return torch.where(torch.isfinite(mean).all(), mean, 0.0).contiguous()
