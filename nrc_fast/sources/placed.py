"""Sources whose rows are copied to a CUDA device chunk by chunk, while the chunks before are computed with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.interface import Backend
from nrc_fast.sources.source import Chunk, Source

__all__ = ["PlacedSource", "placed_source"]


def placed_source(source: Source, backend: Backend) -> Source:
    """A source whose chunks lie in the memory of the backend that the user ordered.

    Parameters
    ----------
    source : Source
    backend : Backend

    Raises
    ------
    RuntimeError
        The rows lie on a device, and the backend is another one or that of the host.
    """
    if source.backend == backend:
        return source
    if backend.is_host or not source.backend.is_host:
        order = "cpu" if backend.is_host else backend.place_name
        msg = (
            f"{source.name} lies on {source.backend.place_name} and device={order!r} was given; tensors are never "
            f"moved behind your back: leave device=None, or move it (.to({order!r}))"
        )
        raise RuntimeError(msg)
    return PlacedSource(source, backend)


class PlacedSource(Source):
    """The rows of a source in the memory of the host, copied to a device.

    Parameters
    ----------
    source : Source
    backend : Backend
        The backend of the device.
    """

    def __init__(self, source: Source, backend: Backend) -> None:
        self.source = source
        self.backend = backend
        self.name, self.d, self.n_targets = source.name, source.d, source.n_targets
        self.dtype, self.count, self.rereadable = source.dtype, source.count, source.rereadable
        self.chunk_bytes, self.is_stored, self.files = source.chunk_bytes, source.is_stored, source.files

    @property
    def target_row_bytes(self) -> int:
        """Bytes of a row of targets; 0 without them."""
        return self.source.target_row_bytes

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory of the host that a row of a chunk takes: where it is read, and in a pinned buffer."""
        return self.source.chunk_bytes_per_row + self.row_bytes + self.target_row_bytes

    @property
    def held_bytes(self) -> int:
        """Memory that reading takes beside the chunks."""
        return self.source.held_bytes

    @property
    def reads_ahead(self) -> bool:
        """Always true: chunks are read and copied while those before are computed with."""
        return True

    def copying(self, rows: int) -> str:
        """Whether from pinned memory, and if not why not."""
        return self.backend.copying(rows * max(self.row_bytes, self.target_row_bytes))

    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Chunks of the source, on their way to the device."""
        with closing(self.backend.copies()) as copies:
            for chunk in self.source.chunks(rows, first):
                features = copies.start(chunk.features)
                targets = None if chunk.targets is None else copies.start(chunk.targets)
                self.source.release(chunk)
                yield replace(chunk, features=features, targets=targets)
                del features, targets

    def sample(self, count: int) -> FloatArray:
        """Rows of the source, which need not be copied to the device for it."""
        return self.source.sample(count)

    def share(self, rank: int, size: int) -> Source:
        """Part `rank` of `size` of the source, on the same device."""
        return PlacedSource(self.source.share(rank, size), self.backend)

    def fingerprint(self) -> list[JSONValue]:
        """What tells the source from another one; where it is computed with does not matter."""
        return self.source.fingerprint()
