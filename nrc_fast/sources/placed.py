"""Sources whose rows are copied to a CUDA device chunk by chunk, while the chunks before are computed with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Any

from nrc_fast.kernels.cuda.copies import Copies
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.sources.source import Chunk, Source

__all__ = ["PlacedSource", "placed_source"]


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
        with closing(Copies(self.device)) as copies:
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
