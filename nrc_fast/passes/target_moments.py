"""Moments of targets that come without features."""

from __future__ import annotations

from dataclasses import replace

from nrc_fast.base.processes import Team
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.runs import require_rows
from nrc_fast.sources import Chunk

__all__ = ["gather_targets"]


class _TargetMoments(Moments):
    """Moments of which the targets are the rows that come as features, with their own sums alone.

    Parameters
    ----------
    n : int
    columns : int
        How many of their columns are added up as features besides: devices have no sums of none.
    """

    def __init__(self, n: int, columns: int) -> None:
        super().__init__(columns, n_targets=n, products=False)

    def begin(self, chunk: Chunk | None, team: Team | None) -> None:
        """Fix the shift: the mean of the first rows."""
        super().begin(None if chunk is None else self._as_targets(chunk), team)

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        super().add_chunk(self._as_targets(chunk))

    def _as_targets(self, chunk: Chunk) -> Chunk:
        rows = chunk.features.loaded()
        features = rows.holding(rows.array[:, : self.d], rows.dtype)
        return replace(chunk, features=features, targets=rows, locate_targets=chunk.locate)


def gather_targets(reading: Reading) -> Moments:
    """Moments whose targets are the rows of a reading: in pairs of float64 numbers where these are few.

    Raises
    ------
    ValueError, OSError, RuntimeError
        Rows are not finite, cannot be read, or there are none.
    """
    source = reading.source
    moments = _TargetMoments(source.d, columns=0 if source.backend.is_host else 1)
    reading.run("statistics", moments)
    require_rows(reading, moments.count)
    moments.require_scale()
    return moments
