"""Components of fewer rows than features, whatever their spectrum: from the N x N Gram matrix of the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON, eigh_descending, fix_signs, orthonormalize, scale_to_unit
from nrc_fast.measurement.row_components import RowComponents
from nrc_fast.metrics.grounds import DECOMPOSITION
from nrc_fast.passes.component_costs import MOST_SQUARE_BYTES
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.sums import Sums
from nrc_fast.sources import Chunk

__all__ = ["few_row_components", "has_few_rows", "held_rows"]

# Features for each row from which on the N x N matrix is the smaller work.
LEAST_FEATURES_PER_ROW = 2
# float64 arrays of N x d that are alive at the same time.
ROW_ARRAYS = 5


def has_few_rows(reading: Reading) -> bool:
    """Whether the rows are so few that all of them, in float64, are the smaller matrix, and may be held."""
    source = reading.source
    if source.count is None or reading.team is not None or source.d < LEAST_FEATURES_PER_ROW * source.count:
        return False
    limit = MOST_SQUARE_BYTES if reading.memory is None else reading.memory
    return ROW_ARRAYS * 8 * source.count * source.d <= limit


def few_row_components(reading: Reading, count: int, *, centered: bool) -> RowComponents:
    """The leading pairs of rows that are held in float64: as many as are wanted, and one more.

    With ``X X^T = U S^2 U^T`` the components are ``U^T X / S``.

    Parameters
    ----------
    reading : Reading
        Whose rows have been found finite before, or are left out where they are not.
    count : int
    centered : bool
        Whether components are those of the covariance, or of the second moment.

    Raises
    ------
    ValueError, OSError
        Rows cannot be read.
    """
    rows, exponent = scale_to_unit(held_rows(reading))
    mean = rows.mean(axis=0)
    mean += (rows - mean).mean(axis=0)  # what rounding has left of a large mean
    about = rows - mean
    pairs = _pairs(about if centered else rows, count + 1)
    variance = math.ldexp(float(np.vdot(about, about)) / len(rows), 2 * exponent)
    found = RowComponents.found(
        pairs.scaled(2 * exponent),
        np.ldexp(mean, exponent),
        variance=variance,
        square=variance,
        is_centered=centered,
    )
    return replace(found, grounds=DECOMPOSITION)


def held_rows(reading: Reading) -> FloatArray:
    """All rows, (N, d), in float64, which have been found finite before, or are left out where they are not.

    Raises
    ------
    ValueError, OSError
        Rows cannot be read.
    """
    kept = _HeldRows(reading.source.d)
    reading.run("rows", kept)
    return kept.rows()


def _pairs(rows: FloatArray, count: int) -> LeadingPairs:
    """Leading pairs of ``X^T X / N``, and how far each of them is off."""
    total = len(rows)
    values, turns = eigh_descending(rows @ rows.T / total)
    kept = np.flatnonzero(values[:count] > total * EPSILON * max(float(values[0]), 0.0))
    vectors = np.ascontiguousarray(fix_signs(orthonormalize(rows.T @ turns[:, kept])).T)
    images = (vectors @ rows.T) @ rows / total
    found = np.einsum("ij,ij->i", images, vectors)
    distances = np.linalg.norm(images - found[:, np.newaxis] * vectors, axis=1)
    return LeadingPairs(found, vectors, distances, float(np.vdot(rows, rows)) / total)


class _HeldRows(Sums):
    """All finite rows, in float64.

    Parameters
    ----------
    d : int
    """

    def __init__(self, d: int) -> None:
        self._parts: list[FloatArray] = [np.empty((0, d))]

    def add_chunk(self, chunk: Chunk) -> None:
        """Keep the rows of a chunk."""
        self._parts.append(chunk.finite().features.to_float64())

    def rows(self) -> FloatArray:
        """All of them, (N, d)."""
        self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        return {"rows": self.rows()}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state."""
        self._parts = [arrays["rows"]]

    @staticmethod
    def combined(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
        """The rows of several states, in their order."""
        return {"rows": np.concatenate([state["rows"] for state in states])}
