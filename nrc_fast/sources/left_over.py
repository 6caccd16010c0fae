"""What is left of the rows of a source without their mean and some directions."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.source import Chunk, Source

__all__ = ["LeftOver"]

# float64 arrays of the size of a chunk that are alive at the same time.
COPIES = 3


class LeftOver(Source):
    """The rows ``x - V^T V x`` with ``x = h - s``, in float64, in the memory of the host; without targets.

    Each is projected twice, so that it keeps its own digits where it is far smaller than x.

    Parameters
    ----------
    source : Source
        Whose rows can be read again.
    vectors : (k, d) float64 array
        V, orthonormal rows.
    shift : (d,) float64 array
        s.
    skips : bool
        Whether rows that are not finite, or whose targets are not, are left out: nobody sees these targets later.
    """

    def __init__(self, source: Source, vectors: FloatArray, shift: FloatArray, *, skips: bool = False) -> None:
        self.source, self.vectors, self.shift, self.skips = source, vectors, shift, skips
        self.name, self.d, self.n_targets, self.dtype = source.name, source.d, 0, "float64"
        self.count, self.rereadable, self.is_stored = source.count, source.rereadable, source.is_stored

    @property
    def target_row_bytes(self) -> int:
        """There are no targets."""
        return 0

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row of a chunk takes, and one of the source that it is made from."""
        return self.source.chunk_bytes_per_row + COPIES * self.row_bytes

    @property
    def held_bytes(self) -> int:
        """Memory that reading takes beside the chunks."""
        return self.source.held_bytes

    @property
    def reads_ahead(self) -> bool:
        """As the source."""
        return self.source.reads_ahead

    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Chunks of the source, without what is taken off."""
        for chunk in self.source.chunks(rows, first):
            kept = chunk.finite() if self.skips else chunk
            features = self._without(kept.features)
            self.source.release(chunk)
            yield replace(kept, features=features, targets=None)

    def sample(self, count: int) -> FloatArray:
        """Rows of the source, without what is taken off."""
        return self._left(self.source.sample(count))

    def _without(self, rows: Rows) -> Rows:
        left = self._left(rows.to_float64())
        return as_rows(left, self.name)

    def _left(self, rows: FloatArray) -> FloatArray:
        rows = rows - self.shift
        # Rows that are not finite stay so, and whoever reads them says which.
        with np.errstate(invalid="ignore", over="ignore"):
            for _ in range(2):
                rows -= (rows @ self.vectors.T) @ self.vectors
        return rows
