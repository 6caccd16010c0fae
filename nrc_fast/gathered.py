"""Statistics of small batches: gathered until there are enough rows to be added up at once."""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np

from nrc_fast import kernels
from nrc_fast.kernels import Rows
from nrc_fast.linalg import FloatArray
from nrc_fast.shifted_sums import ShiftedSums
from nrc_fast.statistics import FeatureStatistics

__all__ = ["GATHERED_BYTES", "GatheredStatistics"]

# Features that wait, at most: beside them the sums that every addition reads and writes cost little.
GATHERED_BYTES = 1 << 20


class GatheredStatistics(FeatureStatistics):
    """`FeatureStatistics` that copy small batches and add them up when there is a megabyte, or when they are looked at.

    What a batch costs is then mostly its copy. In return its errors come late: rows whose squares leave the range of
    float64 are reported when they are added up, and all that wait with them are lost. Rows that are not finite are
    left out as ever, so that ``nonfinite="skip"`` is required.

    Parameters
    ----------
    d, **options
        As of `FeatureStatistics`.

    Raises
    ------
    ValueError
        `nonfinite` is not "skip", or as of `FeatureStatistics`.

    Examples
    --------
    >>> statistics = GatheredStatistics(3, nonfinite="skip")
    >>> for row in np.eye(3):
    ...     statistics.update(row[np.newaxis]).waiting
    1
    2
    3
    >>> statistics.count, statistics.waiting
    (3, 0)
    """

    def __init__(self, d: int, **options: Any) -> None:
        self._features: np.ndarray[Any, Any] | None = None
        self._targets: FloatArray | None = None
        self.waiting = 0
        self._dtype = ""
        # Looking adds up what waits, and adding up looks.
        self._gate = RLock()
        super().__init__(d, **options)
        if self.nonfinite != "skip":
            msg = f"nonfinite is {self.nonfinite!r}; batches that wait need 'skip', as nobody is there to be told"
            raise ValueError(msg)

    def update(self, H: Any, Y: Any = None) -> FeatureStatistics:
        """Take a batch; as `FeatureStatistics.update`, but for the errors that come late."""
        features = kernels.rows_in_place(H, "H")
        targets = None if Y is None else kernels.rows_in_place(Y, "Y", vector_is_column=True)
        with self._gate:
            if not self._may_wait(features, targets):
                self._add_up()
                return super().update(features, targets)
            if self._features is None or features.dtype != self._dtype or not self._has_room(features.count):
                self._add_up()
                self._make_room(features)
            self._copy(features, targets)
        return self

    # ---- batches that wait ----

    def _may_wait(self, features: Rows, targets: Rows | None) -> bool:
        """Whether a batch is a small one of the host that fits the others; what does not fit is refused at once."""
        n_targets = 0 if targets is None else targets.columns
        if features.is_on_device or (targets is not None and targets.is_on_device):
            return False
        fits = (features.columns, n_targets) == (self.d, self.n_targets)
        same_rows = targets is None or targets.count == features.count
        return fits and same_rows and 0 < 2 * features.array.nbytes <= GATHERED_BYTES

    def _has_room(self, rows: int) -> bool:
        return self._features is not None and self.waiting + rows <= len(self._features)

    def _make_room(self, features: Rows) -> None:
        if self._features is not None and features.dtype == self._dtype:
            return
        capacity = GATHERED_BYTES // (self.d * features.array.itemsize)
        self._features = np.empty((capacity, self.d), features.array.dtype)
        self._targets = np.empty((capacity, self.n_targets)) if self.n_targets else None
        self._dtype = features.dtype

    def _copy(self, features: Rows, targets: Rows | None) -> None:
        assert self._features is not None
        last = self.waiting + features.count
        self._features[self.waiting : last] = features.array
        if targets is not None and self._targets is not None:
            self._targets[self.waiting : last] = targets.to_float64()
        self.waiting = last
        self._changed()

    def _add_up(self) -> None:
        """Add what waits; an error loses it."""
        with self._gate:
            count, self.waiting = self.waiting, 0
            if count == 0 or self._features is None:
                return
            targets = None if self._targets is None else Rows("Y", self._targets[:count], "float64")
            super().update(Rows("H", self._features[:count], self._dtype), targets)

    # ---- whatever looks at the sums ----

    @property
    def _settled(self) -> dict[str, FloatArray]:
        self._add_up()
        return super()._settled

    def merge(self, other: ShiftedSums) -> FeatureStatistics:  # type: ignore[override]
        """As `FeatureStatistics.merge`."""
        self._add_up()
        return super().merge(other)

    def all_reduce(self, group: Any = None) -> FeatureStatistics:
        """As `FeatureStatistics.all_reduce`."""
        self._add_up()
        return super().all_reduce(group)

    def check(self) -> None:
        """As `FeatureStatistics.check`."""
        self._add_up()
        super().check()

    def clear(self) -> None:
        """Forget all rows."""
        self.waiting = 0
        super().clear()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__() | {"_features": None, "_targets": None}
        return {name: value for name, value in state.items() if name != "_gate"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._gate = RLock()
