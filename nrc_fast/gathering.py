"""Rows of small batches, copied and kept until they are worth a call of the kernels."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from nrc_fast.statistics import FeatureStatistics

if TYPE_CHECKING:
    from nrc_fast.kernels import Rows

__all__ = ["GATHERED_BYTES", "GatheredRows"]

# A call reads and writes sums of d x d numbers, and runs through code, that a training step has pushed out of the
# cache: for 256 rows of 256 features that takes longer than the products.
GATHERED_BYTES = 3 << 20


class GatheredRows:
    """Adds rows to statistics, those of small batches together.

    Only what cannot fail later waits: batches that fit the statistics, whose bad rows are skipped, and whose squares
    are float64 numbers whatever they hold.

    Parameters
    ----------
    statistics : FeatureStatistics

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast.kernels import as_rows
    >>> statistics = FeatureStatistics(4, nonfinite="skip")
    >>> gathered = GatheredRows(statistics)
    >>> for _ in range(3):
    ...     gathered.add(as_rows(np.ones((5, 4), dtype=np.float32), "H"))
    >>> statistics.count, gathered.statistics.count
    (0, 15)
    """

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.n_targets = statistics.n_targets
        self._statistics = statistics
        self._kept: tuple[Rows, Rows | None] | None = None
        self._count = 0
        self._lock = Lock()  # batches may come from several threads

    def add(self, features: Rows, targets: Rows | None = None) -> None:
        """Add a batch, now or with those that follow.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `FeatureStatistics.update`, of this batch.
        """
        with self._lock:
            if not self._is_alike(features, targets):
                self._flush()
                self._kept = _room_for(features, targets) if self._can_wait(features, targets) else None
            elif self._count + features.count > self._room:
                self._flush()
            if self._kept is None:
                self._statistics.update(features, targets)
            else:
                self._keep(features, targets)

    def _keep(self, features: Rows, targets: Rows | None) -> None:
        assert self._kept is not None
        first, last = self._count, self._count + features.count
        for rows, kept in zip((features, targets), self._kept, strict=True):
            if rows is not None and kept is not None:
                rows.copy_to(kept.array[first:last])
        self._count = last

    def flush(self) -> None:
        """Add what waits, and give back its memory."""
        with self._lock:
            self._flush()
            self._kept = None

    @property
    def statistics(self) -> FeatureStatistics:
        """Those of all rows that were given."""
        self.flush()
        return self._statistics

    def _flush(self) -> None:
        if self._kept is None or self._count == 0:
            return
        features, targets = (None if rows is None else rows.part(0, self._count) for rows in self._kept)
        self._count = 0  # first: after an interrupt rows may be missing, but none counts twice
        self._statistics.update(features, targets)

    @property
    def _room(self) -> int:
        """Rows that there is memory for."""
        return 0 if self._kept is None else self._kept[0].count

    def _is_alike(self, features: Rows, targets: Rows | None) -> bool:
        """Whether a batch is small and of the kind of those that wait."""
        if self._kept is None or 2 * features.count > self._room:
            return False
        kept_features, kept_targets = self._kept
        if targets is None or kept_targets is None:
            return targets is kept_targets and _is_like(features, kept_features)
        return targets.count == features.count and _is_like(features, kept_features) and _is_like(targets, kept_targets)

    def _can_wait(self, features: Rows, targets: Rows | None) -> bool:
        statistics = self._statistics
        parts = (features,) if targets is None else (features, targets)
        return (
            statistics.nonfinite == "skip"
            and features.columns == statistics.d
            and statistics.n_targets == (0 if targets is None else targets.columns)
            and all(rows.count == features.count and not rows.is_on_device and not rows.is_double for rows in parts)
            and 2 * features.count <= _room_of(features)
        )


def _is_like(rows: Rows, kept: Rows) -> bool:
    return rows.dtype == kept.dtype and rows.columns == kept.columns and not rows.is_on_device


def _room_of(features: Rows) -> int:
    return GATHERED_BYTES // (features.columns * features.array.itemsize)


def _room_for(features: Rows, targets: Rows | None) -> tuple[Rows, Rows | None]:
    count = _room_of(features)
    return features.buffer(features.name, count), None if targets is None else targets.buffer(targets.name, count)
