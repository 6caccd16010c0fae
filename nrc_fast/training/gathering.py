"""Rows of small batches, copied and kept until they are worth a call of the kernels."""

from __future__ import annotations

from typing import Any, TypeAlias

from nrc_fast.base.arrays import Array
from nrc_fast.base.forks import Guard
from nrc_fast.kernels.held import HeldRows
from nrc_fast.kernels.inputs import plain_kind
from nrc_fast.kernels.interface import Rows
from nrc_fast.measurement.feature_statistics import FeatureStatistics

__all__ = ["GATHERED_BYTES", "GatheredRows", "Kind", "kind_of_batch"]

# Shapes and dtypes of the plain tensors of a batch, one after the other.
Kind: TypeAlias = tuple[Any, ...]

# A call reads and writes sums of d x d numbers, and runs through code, that a training step has pushed out of the
# cache: for 256 rows of 256 features that takes longer than the products.
GATHERED_BYTES = 4 << 20


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
    >>> from nrc_fast.kernels.inputs import as_rows
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
        self._held: HeldRows | None = None
        self._kind: Kind | None = None  # of tensors like those that wait
        self._flushing: tuple[int, int] | None = None  # rows of the statistics before those that wait are added
        self._guard = Guard()  # batches may come from several threads

    def add_like(self, kind: Kind | None, H: Any, Y: Any) -> int | None:
        """Add a batch of tensors of the kind of the last one: its rows; None if it is of another kind, or of none.

        It is copied from where it lies: to look at it again, and to describe it, takes longer than to copy it.
        """
        with self._guard.lock:
            self._settle()
            if self._held is None or kind is None or kind != self._kind:
                return None
            addresses = [H.data_ptr()] if Y is None else [H.data_ptr(), Y.data_ptr()]
            if not all(addresses):  # without memory of its own, if it has values
                return None
            count = int(kind[0][0])
            if self._held.count + count > self._held.room:
                self._flush()
            self._held.append_from(count, addresses)
            return count

    def add(self, features: Rows, targets: Rows | None = None, kind: Kind | None = None) -> None:
        """Add a batch, now or with those that follow.

        Parameters
        ----------
        features, targets : Rows
        kind : tuple, optional
            `kind_of_batch` of the tensors whose values these are, if `add_like` may take others of it.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The batch does not fit the statistics, see `nrc_fast.FeatureStatistics.update`.
        """
        with self._guard.lock:
            self._settle()
            if self._held is None or not _fits(self._held, features, targets):
                self._flush()
                waits = self._can_wait(features, targets)
                self._held = HeldRows(features, targets, _room_of(features), "H") if waits else None
            elif self._held.count + features.count > self._held.room:
                self._flush()
            self._kind = None if self._held is None else kind
            if self._held is None:
                self._statistics.update(features, targets)
            else:
                self._held.append(features, targets)

    def flush(self) -> None:
        """Add what waits, and give back its memory."""
        with self._guard.lock:
            self._settle()
            self._flush()
            self._held, self._kind = None, None

    @property
    def statistics(self) -> FeatureStatistics:
        """The statistics of all rows that were given, those that wait included."""
        self.flush()
        return self._statistics

    def _flush(self) -> None:
        if self._held is None or self._held.count == 0:
            return
        features, targets = self._held.part()
        self._flushing = self._seen()
        self._statistics.update(features, targets)
        self._held.count = 0
        self._flushing = None

    def _seen(self) -> tuple[int, int]:
        return self._statistics.count, self._statistics.skipped

    def _settle(self) -> None:
        """Where an interrupt or a fork came while rows were added, see whether they were: none counts twice."""
        if self._flushing is not None and self._held is not None and self._seen() != self._flushing:
            self._held.count = 0
        self._flushing = None

    def _can_wait(self, features: Rows, targets: Rows | None) -> bool:
        statistics = self._statistics
        parts = (features,) if targets is None else (features, targets)
        return (
            statistics.nonfinite == "skip"
            and features.columns == statistics.d
            and statistics.n_targets == (0 if targets is None else targets.columns)
            and all(rows.count == features.count and rows.backend.is_host and not rows.is_double for rows in parts)
            and 2 * features.count <= _room_of(features)
        )


def kind_of_batch(H: Array, Y: Array | None) -> Kind | None:
    """What plain tensors of features and of targets are like; None where one of them is something else."""
    features = plain_kind(H)
    if features is None or Y is None:
        return features
    targets = plain_kind(Y)
    return None if targets is None else features + targets


def _fits(held: HeldRows, features: Rows, targets: Rows | None) -> bool:
    """Whether a batch is small and of the kind of those that wait."""
    if 2 * features.count > held.room or not _is_like(features, held.features):
        return False
    if targets is None or held.targets is None:
        return targets is held.targets
    return targets.count == features.count and _is_like(targets, held.targets)


def _is_like(rows: Rows, held: Rows) -> bool:
    return rows.dtype == held.dtype and rows.columns == held.columns and rows.backend.is_host


def _room_of(features: Rows) -> int:
    return GATHERED_BYTES // int(features.columns * features.array.itemsize)
