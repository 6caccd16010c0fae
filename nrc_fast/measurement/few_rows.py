"""Rows that are so few that they are held, and the exact numbers which that allows."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.exact_products import Slices
from nrc_fast.measurement.exact_components import MOST_EXACT, ExactComponents, exact_components
from nrc_fast.measurement.exact_images import ONE_SLICE, scaled_rows
from nrc_fast.measurement.exact_row_space import MOST_PROJECTED, ExactRowSpace, exact_row_space
from nrc_fast.measurement.exact_turns import MOST_HELD_FEATURES
from nrc_fast.measurement.head import Head
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading

__all__ = ["FewRows", "rows_to_hold"]


class FewRows:
    """All rows of some features, exactly as they are stored.

    Parameters
    ----------
    rows : (N, d) float64 array
    """

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows
        self._components: dict[bool, ExactComponents | None] = {}

    @classmethod
    def of(cls, rows: FloatArray | None) -> FewRows | None:
        """Of rows for which exact numbers cost little; None for others, and where there are none."""
        is_few = rows is not None and rows.size <= MOST_EXACT and np.isfinite(rows).all()
        return cls(rows) if is_few and rows is not None else None

    def components(self, moments: Moments, *, centered: bool) -> ExactComponents | None:
        """Exact components of the covariance or the second moment, found from those of moments in float64."""
        if centered not in self._components:
            found = moments.pairs(centered=centered)
            vectors = found.vectors(len(found.values))[: len(found.values)]
            slices: Slices = 1 if found.values[-1] > ONE_SLICE * found.values[0] else 2
            self._components[centered] = exact_components(self._rows, vectors, centered=centered, slices=slices)
        return self._components[centered]

    def row_space(self, head: Head, share: float) -> ExactRowSpace | None:
        """These rows and the row space of weights, outside which about this share of their energy lies.

        None where that is not to be had.
        """
        if head.weights is None or self._rows.size > MOST_PROJECTED:
            return None
        exact = self._components.get(True)
        given = scaled_rows(self._rows, centered=True) if exact is None else exact.images.given
        return exact_row_space(given, head.weights, head.row_space, slices=1 if share > ONE_SLICE else 2)


def rows_to_hold(reading: Reading, count: int | None, most: int) -> int:
    """How many rows to hold: all, if they are known to have at most so many numbers and this process adds up all.

    Parameters
    ----------
    reading : Reading
    count : int or None
        Its rows but for those that are skipped, if they are known.
    most : int
        Numbers.
    """
    d = reading.source.d
    is_few = count is not None and count * d <= most and d <= MOST_HELD_FEATURES
    return count if is_few and count is not None and reading.is_alone else 0
