"""Sums over rows that stay on a CUDA device: batches are launched, nothing waits, and errors come with the sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.base.options import PRECISIONS
from nrc_fast.kernels.counts import SHIFT_ROWS, SMALLEST_ENERGY, counted, magnitudes_of
from nrc_fast.kernels.cuda import spectrum as cuda_spectrum
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.launches import SumsMemory, Totals, totals_from
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.cuda.spectrum import spectrum_on_device
from nrc_fast.kernels.results import NonFiniteRowsError
from nrc_fast.kernels.rows import Rows

__all__ = ["DeviceParts", "DeviceSums", "first_mean"]

Shifts = tuple[FloatArray, FloatArray]


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
        self._memory = SumsMemory(device, shapes)
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
        return totals_from(self.device.fetch(self._memory.totals))

    def fetch(self) -> tuple[dict[str, FloatArray], Totals]:
        """The sums and totals on the host; waits for the batches."""
        values: FloatArray = self.device.fetch(self._memory.values)
        arrays = {name: values[a:b].reshape(self._memory.shapes[name]) for name, (a, b) in self._memory.places.items()}
        return arrays, totals_from(values[-self._memory.total_values :])


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


class DeviceParts:
    """One `DeviceSums` for each device and dtype.

    Parameters
    ----------
    **options
        Of `DeviceSums`: d, n_targets, products, unit_rows, precision.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._parts: dict[tuple[str, str], DeviceSums] = {}
        self._shift: tuple[CudaDevice, Any, Any] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no device knows anything that the host does not."""
        return not self._parts and self._shift is None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices that hold sums."""
        devices = [part.device for part in self._parts.values()]
        return tuple(dict.fromkeys(f"{device.name} ({device.core.device_name(device.index)})" for device in devices))

    def spectrum(self, matrix: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Eigenvalues and vectors of a large matrix, from the device; None where the host has to find them."""
        if not self._parts or len(matrix) < cuda_spectrum.LEAST_SIZE:
            return None
        return spectrum_on_device(matrix, next(iter(self._parts.values())).device)

    # ---- the shift ----

    @property
    def has_shift(self) -> bool:
        """Whether a device knows the shift and the host does not."""
        return self._shift is not None

    def place_shift(self, features: DeviceRows, targets: Rows | None) -> None:
        """Take the mean of the first rows as the shift; nothing waits.

        Raises
        ------
        RuntimeError
            A CUDA graph is being captured.
        """
        _require_no_capture(features)
        none = features.device.zeros(0)
        target_shift = first_mean(targets, SHIFT_ROWS) if isinstance(targets, DeviceRows) else none
        self._shift = (features.device, first_mean(features, SHIFT_ROWS), target_shift)

    def fetch_shift(self) -> Shifts:
        """The shifts of features and targets."""
        assert self._shift is not None
        device, shift, target_shift = self._shift
        return device.fetch(shift), device.fetch(target_shift)

    def forget_shift(self) -> None:
        """Leave the shifts to the host, which knows them now."""
        self._shift = None

    # ---- sums ----

    def add(self, features: DeviceRows, targets: Rows | None, host_shift: Callable[[], Shifts], *, skips: bool) -> None:
        """Launch the pass over a batch of at least one row; nothing waits once a batch of its kind was added."""
        assert targets is None or isinstance(targets, DeviceRows)
        key = (features.place, features.dtype)
        part = self._parts.get(key)
        if part is None:
            _require_no_capture(features)
            shift, target_shift = self._shift_on(features, host_shift)
            options = self._options | {"shift": shift, "target_shift": target_shift}
            part = self._parts[key] = DeviceSums(features.device, features.dtype, **options)
        part.add(features, targets, skips=skips)

    def _shift_on(self, features: DeviceRows, host_shift: Callable[[], Shifts]) -> tuple[Any, Any]:
        if self._shift is not None and self._shift[0].name == features.place:
            return self._shift[1:]
        shift, target_shift = map(features.device.place, host_shift())
        return shift, target_shift

    def check(self) -> None:
        """Wait for the batches.

        Raises
        ------
        NonFiniteRowsError, ValueError
            Some were refused, and no error has told of it before.
        """
        for part in self._parts.values():
            _require_added(part, part.totals())

    def fetch(self) -> list[dict[str, FloatArray]]:
        """Everything that adds up, of each part; waits for the batches. `check` afterwards tells of refused ones."""
        fetched = [(part, *part.fetch()) for part in self._parts.values()]
        return [arrays | _described(part, arrays, totals) for part, arrays, totals in fetched]


def _require_no_capture(features: DeviceRows) -> None:
    if not features.device.is_capturing():
        return
    msg = (
        f"these statistics hold no rows of {features.dtype} on {features.place} yet, and a CUDA graph is being "
        "captured, whose every replay would begin them anew. Call update once before the capture"
    )
    raise RuntimeError(msg)


def _described(part: DeviceSums, arrays: dict[str, FloatArray], totals: Totals) -> dict[str, FloatArray]:
    """Counts and magnitudes of what a device has added up."""
    kind = "double" if part.is_double else "fast" if part.precision == "fast" else "device"
    energy, target_energy = (float(np.trace(arrays[name])) for name in ("gram", "target_gram"))
    limit = SMALLEST_ENERGY * totals.rows
    counts = {"rows": totals.rows, "zero": totals.zero, "skipped": totals.skipped, part.dtype: totals.rows}
    counts |= {"blocks": totals.blocks, "parts": totals.added}
    if kind != "double":
        counts[kind] = totals.rows
    if arrays["gram"].size and energy < limit and totals.exponent:
        counts["tiny"] = totals.rows
    if target_energy < limit and totals.target_exponent:
        counts["tiny_targets"] = totals.rows
    return {"counts": counted(**counts), "magnitudes": magnitudes_of(kind, energy, target_energy)}


def _require_added(part: DeviceSums, totals: Totals) -> None:
    """Tell of refused batches, once."""
    if totals.refused == part.reported:
        return
    others = totals.refused - part.reported - 1
    part.reported = totals.refused
    where = f"batch {totals.refused_batch} of {part.device.name}" + (f" (and in {others} more)" if others else "")
    if totals.refused_nonfinite:
        name, row = "H or Y", totals.refused_first
        place = f"row {row} in {where}, which was not added"
        raise NonFiniteRowsError(name, totals.refused_nonfinite, row, totals.refused_rows, place)
    name = "Y" if totals.refused_by_targets else "H"
    msg = f"{name} is so large in {where} that squares leave the range of float64; divide it by a constant first"
    raise ValueError(msg)
