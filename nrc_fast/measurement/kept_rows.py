"""Rows of statistics, kept for as long as they are few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.processes import Team
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import Rows
from nrc_fast.measurement.assembly import Wishes
from nrc_fast.measurement.evidence import Evidence, gathered
from nrc_fast.measurement.exact_turns import MOST_HELD
from nrc_fast.metrics.conventions import needs_unit_rows
from nrc_fast.passes.precisions import working_precision
from nrc_fast.passes.reading import Reading
from nrc_fast.sources import Chunk, TableSource
from nrc_fast.sources.table import ArrayTable

__all__ = ["KeptRows", "restored_rows", "rows_of_all"]

# Features up to which one more matrix of d x d, of the rows that are kept, is small.
MOST_FEATURES = 1024
# Names of the rows and their targets among arrays.
KEPT = ("kept_features", "kept_targets")

Pairs = tuple[tuple[FloatArray, FloatArray], ...]


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Some rows with their targets, in float64, in which every dtype is exact; never changed.

    Attributes
    ----------
    d, n_targets : int
    count : int
    parts : tuple of pairs of (B, d) and (B, n_targets) float64 arrays
        In the order in which they were added.
    """

    d: int
    n_targets: int
    count: int = 0
    parts: Pairs = ()

    def with_rows(self, chunk: Chunk, *, skips: bool) -> KeptRows | None:
        """These and those of a chunk, which are finite or skipped; None if the chunk makes them too many."""
        if not self.has_room(chunk.features.count):
            return None
        chunk = chunk.finite() if skips else chunk
        features = chunk.features.to_float64()
        targets = np.empty((len(features), 0)) if chunk.targets is None else chunk.targets.to_float64()
        return self._followed(len(features), ((features, targets),))

    def followed_by(self, others: KeptRows | None) -> KeptRows | None:
        """These and others; None if there are too many, or the others are not kept."""
        if others is None or not self.has_room(others.count):
            return None
        return self._followed(others.count, others.parts)

    def has_room(self, count: int) -> bool:
        """Whether so many rows more are few still."""
        return count == 0 or (
            self.d <= MOST_FEATURES and (self.count + count) * max(self.d, self.n_targets) <= MOST_HELD
        )

    def _followed(self, count: int, parts: Pairs) -> KeptRows:
        return KeptRows(self.d, self.n_targets, self.count + count, self.parts + parts) if count else self

    def arrays(self) -> dict[str, FloatArray]:
        """Features and targets of all rows, by the names of `KEPT`."""
        columns = self.d, self.n_targets
        return {
            name: np.concatenate([np.empty((0, columns[place])), *(part[place] for part in self.parts)])
            for place, name in enumerate(KEPT)
        }

    def with_arrays(self, features: FloatArray, targets: FloatArray) -> KeptRows | None:
        """These and other rows, which must be finite, with their targets; None if there are too many.

        Raises
        ------
        ValueError
            Their shapes are others, or they are not finite.
        """
        count = len(features)
        for name, array, columns in zip(KEPT, (features, targets), (self.d, self.n_targets), strict=True):
            if array.shape != (count, columns) or not np.isfinite(array).all():
                msg = (
                    f"the {name} are {array.shape} or not finite; finite values of shape {count, columns} are expected"
                )
                raise ValueError(msg)
        return self._followed(count, ((features, targets),)) if self.has_room(count) else None

    def evidence(self, dtype: str, precision: str, wishes: Wishes) -> Evidence:
        """What `measure` finds of these rows, in the dtype that they came in, with a precision."""
        features, targets = self.arrays().values()
        table = ArrayTable(as_rows(targets, "Y")) if self.n_targets else None
        reading = Reading(TableSource(ArrayTable(_in_dtype(features, dtype)), table), self.count, progress=False)
        unit_rows = wishes.extent.all_k and needs_unit_rows(wishes.convention)
        return gathered(reading, unit_rows=unit_rows, precision=working_precision(reading, precision))


def _in_dtype(features: FloatArray, dtype: str) -> Rows:
    """Features as they were given; those of several dtypes in float64."""
    if dtype == "bfloat16":
        bits = (features.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return as_rows(features, "H").holding(bits, dtype)
    return as_rows(features if dtype == "mixed" else features.astype(dtype), "H")


def restored_rows(arrays: Mapping[str, FloatArray], d: int, n_targets: int) -> KeptRows | None:
    """The rows of a state; None where they are not in it, or are too many.

    Raises
    ------
    ValueError
        They are others than so many finite rows as the state counts.
    """
    counts, none = arrays.get("counts", np.zeros(0)).ravel()[:1], KeptRows(d, n_targets)
    if not set(KEPT) <= arrays.keys():
        return none if np.array_equal(counts, [0.0]) else None
    features, targets = (np.array(arrays[name], dtype=np.float64, order="C") for name in KEPT)
    if features.ndim != 2 or not np.array_equal(counts, [len(features)]):
        msg = f"the kept_features are {features.shape} beside sums of {counts} rows; all of these are expected"
        raise ValueError(msg)
    return none.with_arrays(features, targets)


def rows_of_all(kept: KeptRows | None, team: Team) -> KeptRows | None:
    """The rows of all processes; None where one does not keep its own, or all together are too many."""
    counts = team.gather([-1.0 if kept is None else float(kept.count)])
    if kept is None or (counts < 0.0).any():
        return None
    none = KeptRows(kept.d, kept.n_targets)
    if not none.has_room(int(counts.sum())):
        return None
    features, targets = (team.concatenated(array) for array in kept.arrays().values())
    return none.with_arrays(features, targets)
