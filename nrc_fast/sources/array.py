"""Features and targets in arrays: one chunk, or the finite rows of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nrc_fast.kernels import Rows, as_rows

__all__ = ["ArraySource", "Chunk"]

CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class Chunk:
    """Some rows of the features, and of the targets where there are any."""

    features: Rows
    targets: Rows | None


class ArraySource:
    """Features (N, d) and targets (N, n) in arrays.

    Parameters
    ----------
    features : array, tensor or Rows
    targets : array or tensor, optional
    nonfinite : {"raise", "skip"}
        "skip" leaves out rows with NaN or infinite values, counts them in `skipped`, and copies the others chunk
        by chunk. With "raise" nothing is copied and the kernels complain.

    Raises
    ------
    ValueError
        No rows, features and targets of different length, or an unknown `nonfinite`.
    """

    def __init__(self, features: Any, targets: Any = None, *, nonfinite: str = "raise") -> None:
        if nonfinite not in ("raise", "skip"):
            msg = f"nonfinite is {nonfinite!r}; 'raise' or 'skip' is expected"
            raise ValueError(msg)
        self.features = features if isinstance(features, Rows) else as_rows(features, "H")
        self.targets = None if targets is None else as_rows(targets, "Y", vector_is_column=True)
        if self.features.count == 0:
            msg = f"{self.features.name} has shape (0, {self.features.columns}): no samples to measure"
            raise ValueError(msg)
        if self.targets is not None and self.targets.count != self.features.count:
            msg = f"H has {self.features.count} rows and Y has {self.targets.count}; one per sample is expected in both"
            raise ValueError(msg)
        self.skipped = 0
        self._keep: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        if nonfinite == "skip":
            self._find_finite_rows()

    @property
    def count(self) -> int:
        """Rows that are measured."""
        return self.features.count - self.skipped

    def chunks(self) -> Iterator[Chunk]:
        """All rows that are measured, in order. Can be asked for again."""
        if self._keep is None:
            yield Chunk(self.features, self.targets)
            return
        for first, last in self._ranges():
            keep = self._keep[first:last]
            if keep.any():
                targets = None if self.targets is None else self.targets.take(keep, first)
                yield Chunk(self.features.take(keep, first), targets)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        # Several times as many rows as columns, else adding up the d x d sums would cost more than the rows.
        step = max(CHUNK_BYTES // (8 * self.features.columns), 4 * self.features.columns)
        for first in range(0, self.features.count, step):
            yield first, min(first + step, self.features.count)

    def _find_finite_rows(self) -> None:
        keep = np.ones(self.features.count, dtype=bool)
        for first, last in self._ranges():
            for rows in (self.features, self.targets):
                if rows is not None:
                    keep[first:last] &= np.isfinite(rows.to_float64(first, last)).all(axis=1)
        self.skipped = int(np.count_nonzero(~keep))
        if self.skipped == len(keep):
            msg = f"all {len(keep)} rows hold NaN or infinite values; nothing is left to measure"
            raise ValueError(msg)
        if self.skipped:
            self._keep = keep
