"""Chunks of the host copied to a CUDA device beside the computation, through buffers, pinned where they can be."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.kernels.cuda.device import CudaDevice, HostBuffer
from nrc_fast.kernels.cuda.rows import DeviceBackend, DeviceRows
from nrc_fast.kernels.interface import Rows

if TYPE_CHECKING:
    from torch import Tensor
    from torch.cuda import Event

__all__ = ["DeviceCopies"]

# Buffers: one that is filled while the other is on its way.
BUFFERS = 2


class DeviceCopies:
    """`Copies` to a device over a ring of buffers, on a stream of their own."""

    def __init__(self, backend: DeviceBackend) -> None:
        self.backend, self.device = backend, backend.device
        self.stream = self.device.copy_stream()
        # Features and targets take turns.
        self.slots = [_Slot(self.device) for _ in range(2 * BUFFERS)]
        self.turns = cycle(self.slots)

    def start(self, rows: Rows) -> DeviceRows:
        """A copy of rows that is on its way from a buffer; what is launched with it waits for it.

        Raises
        ------
        OSError
            The rows lie in a file that ends early or cannot be read.
        """
        device, torch = self.device, self.device.torch
        slot = next(self.turns)
        memory = slot.memory(rows.array.dtype.itemsize * rows.count * rows.columns)
        array = memory.numpy().view(rows.array.dtype).reshape(rows.count, rows.columns)
        rows.copy_to(array)
        values = torch.from_numpy(array.view(np.int16) if rows.dtype == "bfloat16" else array)
        copy, slot.event = device.copy_from(values, self.stream)
        if rows.dtype == "bfloat16":
            copy = copy.view(torch.bfloat16)
        return DeviceRows(rows.name, copy, rows.dtype, self.backend, partial(device.use_after, slot.event, copy))

    def close(self) -> None:
        """Wait for the copies and give the buffers back."""
        for slot in self.slots:
            slot.close()

    @staticmethod
    def way(device: CudaDevice, size: int) -> str:
        """How chunks of so many bytes get to a device, in words: found out by a buffer of this size."""
        buffer = device.host_buffer(size)
        device.free(buffer)
        if not buffer.problem:
            return f"chunks are copied to {device.name} from pinned memory, beside the computation"
        return f"chunks are copied to {device.name} from pageable memory, which takes longer: {buffer.problem}"


class _Slot:
    """A buffer, and the event of the last copy from it."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.event: Event | None = None
        self._buffer: HostBuffer | None = None

    def memory(self, size: int) -> Tensor:
        """So many bytes of the buffer, once nothing reads them any more."""
        if self._buffer is not None and len(self._buffer.memory) < size:
            self.close()
        if self.event is not None:
            self.event.synchronize()
        if self._buffer is None:
            self._buffer = self.device.host_buffer(size)
        return self._buffer.memory[:size]

    def close(self) -> None:
        """Wait for the last copy and give the buffer back."""
        if self.event is not None:
            self.event.synchronize()
        buffer, self.event, self._buffer = self._buffer, None, None
        if buffer is not None:
            self.device.free(buffer)
