"""Sources whose rows are copied to a CUDA device chunk by chunk, while the chunks before are computed with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.rows import Rows
from nrc_fast.sources.source import Chunk, Source

__all__ = ["PlacedSource", "placed_source"]

# Pinned buffers: one that is filled while the other is on its way.
BUFFERS = 2


def placed_source(source: Source, device: CudaDevice | None) -> Source:
    """A source for computing where the user ordered: on a device, or on the CPU where it is None.

    Raises
    ------
    RuntimeError
        The rows lie on a device already, and on another one.
    """
    wanted = "the CPU" if device is None else device.name
    if source.place == wanted:
        return source
    if device is None or source.place != "the CPU":
        order = "cpu" if device is None else device.name
        msg = (
            f"{source.name} lies on {source.place} and device={order!r} was given; tensors are never moved behind your "
            f"back: leave device=None, or move it (.to({order!r}))"
        )
        raise RuntimeError(msg)
    return PlacedSource(source, device)


class PlacedSource(Source):
    """The rows of a source in the memory of the host, copied to a device.

    Parameters
    ----------
    source : Source
    device : CudaDevice
    """

    def __init__(self, source: Source, device: CudaDevice) -> None:
        self.source = source
        self.device = device
        self.place = device.name
        self.name, self.d, self.n_targets = source.name, source.d, source.n_targets
        self.dtype, self.count, self.rereadable = source.dtype, source.count, source.rereadable
        self.chunk_bytes = source.chunk_bytes

    @property
    def target_row_bytes(self) -> int:
        """That of the source."""
        return self.source.target_row_bytes

    @property
    def chunk_bytes_per_row(self) -> int:
        """That of the source, and of pinned memory."""
        return self.source.chunk_bytes_per_row + self.row_bytes + self.target_row_bytes

    @property
    def held_bytes(self) -> int:
        """That of the source."""
        return self.source.held_bytes

    @property
    def reads_ahead(self) -> bool:
        """Always: that is what buffers are for."""
        return True

    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Chunks of the source, on their way to the device."""
        with closing(_Copies(self.device)) as copies:
            for chunk in self.source.chunks(rows, first):
                features = copies.start(chunk.features)
                targets = None if chunk.targets is None else copies.start(chunk.targets)
                self.source.release(chunk)
                yield replace(chunk, features=features, targets=targets)
                del features, targets

    def share(self, rank: int, size: int) -> Source:
        """Part `rank` of `size` of the source, on the same device."""
        return PlacedSource(self.source.share(rank, size), self.device)

    def fingerprint(self) -> list[Any]:
        """That of the source."""
        return self.source.fingerprint()


class _Copies:
    """Copies to a device over a ring of pinned buffers, on a stream of their own."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.stream = device.copy_stream()
        # Features and targets take turns.
        self.slots = [_Slot(device) for _ in range(2 * BUFFERS)]
        self.turns = cycle(self.slots)

    def start(self, rows: Rows) -> DeviceRows:
        """Rows in a buffer and from there on their way; raises what reading them does."""
        device, torch = self.device, self.device.torch
        slot = next(self.turns)
        pinned = slot.memory(rows.array.dtype.itemsize * rows.count * rows.columns)
        array = pinned.numpy().view(rows.array.dtype).reshape(rows.count, rows.columns)
        rows.copy_to(array)
        values = torch.from_numpy(array.view(np.int16) if rows.dtype == "bfloat16" else array)
        copy, slot.event = device.copy_from(values, self.stream)
        if rows.dtype == "bfloat16":
            copy = copy.view(torch.bfloat16)
        return DeviceRows(rows.name, copy, rows.dtype, device, partial(device.use_after, copy, slot.event))

    def close(self) -> None:
        """Wait for the copies and give the buffers back."""
        for slot in self.slots:
            slot.close()


class _Slot:
    """A pinned buffer, and the event of the last copy from it."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.event: Any = None
        self._memory: Any = None

    def memory(self, size: int) -> Any:
        """So many bytes, once nothing reads them any more."""
        if self._memory is not None and len(self._memory) < size:
            self.close()
        if self.event is not None:
            self.event.synchronize()
        if self._memory is None:
            self._memory = self.device.pinned(size)
        return self._memory[:size]

    def close(self) -> None:
        """Wait for the last copy and give the buffer back."""
        if self.event is not None:
            self.event.synchronize()
        memory, self.event, self._memory = self._memory, None, None
        if memory is not None:
            self.device.unpin(memory)
