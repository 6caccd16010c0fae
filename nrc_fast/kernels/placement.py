"""Where rows lie: those of users described in place, and targets brought beside their features."""

from __future__ import annotations

from typing import Any

import numpy as np

from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.devices import is_on_device, tensor_device
from nrc_fast.kernels.inputs import as_rows, checked_tensor
from nrc_fast.kernels.rows import Rows

__all__ = ["beside", "rows_in_place"]


def rows_in_place(values: Any, name: str, *, vector_is_column: bool = False) -> Rows:
    """`as_rows`, and also tensors on a CUDA device: as `DeviceRows`, not copied.

    Raises
    ------
    TypeError, ValueError
        As `as_rows`.
    RuntimeError
        This build or this machine cannot use the device.
    """
    if not is_on_device(values):
        return as_rows(values, name, vector_is_column=vector_is_column)
    device = tensor_device(values)
    tensor, dtype = checked_tensor(values, name, vector_is_column)
    return DeviceRows(name, tensor, dtype, device)


def beside(targets: Rows | None, features: Rows) -> Rows | None:
    """Targets in the memory that the features lie in: those of the host are copied to the device of the features.

    Raises
    ------
    RuntimeError
        The targets lie on another device; they are not moved.
    """
    if targets is None or targets.place == features.place:
        return targets
    if isinstance(targets, DeviceRows) or not isinstance(features, DeviceRows):
        msg = (
            f"{features.name} lies on {features.place} and {targets.name} on {targets.place}; put both in one place "
            f"(.to({features.place!r})), tensors are never moved behind your back"
        )
        raise RuntimeError(msg)
    device = features.device
    bits = targets.loaded().array
    placed = device.place(bits.view(np.int16) if targets.dtype == "bfloat16" else bits)
    tensor = placed.view(device.torch.bfloat16) if targets.dtype == "bfloat16" else placed
    return DeviceRows(targets.name, tensor, targets.dtype, device)
