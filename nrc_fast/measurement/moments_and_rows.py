"""Moments that grow, with their rows as long as these are few: what looks at them see is of one state."""

from __future__ import annotations

from nrc_fast.base.forks import Guard
from nrc_fast.measurement.kept_rows import KeptRows
from nrc_fast.measurement.moments_view import MomentsView
from nrc_fast.passes.moments import Moments

__all__ = ["MomentsAndRows"]

# Seconds that a look waits for another thread to add a batch; a handler of signals would wait for its own for ever.
LONGEST_UPDATE = 2.0


class MomentsAndRows(MomentsView):
    """Moments as read-only properties, and rows that are kept beside them.

    Whoever adds rows has the lock of the guard, forgets the snapshot, asks for the rows before, adds to the moments,
    then keeps what all rows are. Whoever replaces them drops what was kept before.

    Parameters
    ----------
    moments : Moments
        Without rows yet.
    """

    def __init__(self, moments: Moments) -> None:
        super().__init__(moments)
        self._guard = Guard()
        self._snapshot: Moments | None = None
        self._kept: tuple[object, KeptRows] | None = None  # and the state of the moments that they are all rows of
        self._keep(KeptRows(moments.d, moments.n_targets))

    @property
    def moments(self) -> Moments:
        """Means, covariances and bounds of their errors as they are now; what is added later does not change them.

        Kept, with its spectrum, until rows are added: looks at one state share their work.
        """
        # No lock: a handler of signals may look while this thread adds rows.
        snapshot = self._snapshot
        if snapshot is None or not snapshot.is_of(self._moments.state):
            snapshot = self._snapshot = self._moments.snapshot()
        return snapshot

    def _moments_and_rows(self) -> tuple[Moments, KeptRows | None]:
        """Both of one state: the moments, and all of their rows where these are kept."""
        moments, kept = self.moments, self._kept
        if kept is None or _are_one(moments, kept):
            return moments, kept and kept[1]
        # Another thread was adding rows, or a batch was refused.
        if self._guard.lock.acquire(timeout=LONGEST_UPDATE):
            try:
                self._keep(self._rows_before())
                moments, kept = self.moments, self._kept
            finally:
                self._guard.lock.release()
        return moments, kept[1] if kept is not None and _are_one(moments, kept) else None

    def _rows_before(self) -> KeptRows | None:
        """All rows, before others are added; None if they are not kept, or an interrupt came before all of them were.

        Where a batch was refused, or an interrupt came before it was added, there are as many as before.
        """
        kept = self._kept
        if kept is None or kept[0] is self._moments.state:
            return kept and kept[1]
        return kept[1] if kept[1].count == self._moments.snapshot().count else None

    def _keep(self, rows: KeptRows | None) -> None:
        """Keep all rows of the moments as they are now, or drop them."""
        self._kept = None if rows is None else (self._moments.state, rows)


def _are_one(moments: Moments, kept: tuple[object, KeptRows]) -> bool:
    state, rows = kept
    return moments.is_of(state) and moments.count == rows.count
