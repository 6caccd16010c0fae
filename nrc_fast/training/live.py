"""A live figure of a training in a notebook, which no failure of the notebook can end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from nrc_fast.base.notebooks import Place, open_place

__all__ = ["LiveFigure"]

# A figure that is drawn in less time, in seconds, is drawn for every record; a slower one takes a tenth of the time.
QUICK, SHARE = 0.1, 0.1


class LiveFigure:
    """What a cell of a notebook shows, drawn again for every record; a logger of a `nrc_fast.Monitor`.

    Where drawing takes long, as for thousands of records, some are passed over, so that the training does not wait.

    Parameters
    ----------
    draw : callable
        Returns the HTML of what was measured so far.
    name : str
        What stands there where HTML is not shown.
    """

    def __init__(self, draw: Callable[[], str], name: str) -> None:
        self._draw, self._name = draw, name
        self._place: Place | None = None
        self._rests_until = 0.0

    def open(self) -> None:
        """Take a place in the output of the cell that runs; nothing happens outside a notebook."""
        self._place = open_place(self)

    def __call__(self, _step: int, _values: object) -> None:
        """Show what was measured so far. Where that fails it is told once, and the training goes on without."""
        begin = monotonic()
        if self._place is None or begin < self._rests_until:
            return
        try:
            self._place.update(self)
            end = monotonic()
            self._rests_until = end + (end - begin) * (1.0 / SHARE - 1.0) if end - begin > QUICK else 0.0
        except Exception as error:
            self._place = None
            logging.getLogger("nrc_fast").warning("the live figure of %s has stopped: %s", self._name, error)

    def __repr__(self) -> str:
        return f"<live figure of {self._name}>"

    def _repr_html_(self) -> str:
        return self._draw()
