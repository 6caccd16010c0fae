"""Progress of a pass or a descent: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import require_library

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Progress"]

# Seconds after which it is said how to get a bar, once.
PATIENCE = 5.0


class Progress:
    """Rows done of one pass, or steps of a descent, with their number per second and the time left.

    On a terminal without tqdm, what takes some seconds says once how to get a bar.

    Parameters
    ----------
    title : str
    total : int or None
        Rows of the pass, if they are known.
    show : bool or None
        None: only where the standard error is a terminal and tqdm is installed.
    unit : str

    Raises
    ------
    ImportError
        A bar is demanded and tqdm is not installed.
    """

    has_said = False  # how to get a bar, in this process

    def __init__(self, title: str, total: int | None, show: bool | None, unit: str = " rows") -> None:
        self._bar: Any = None
        self._hint_at = math.inf
        if show is False or (show is None and not sys.stderr.isatty()):
            return
        try:
            tqdm = require_library("tqdm", "progress", "progress=True needs tqdm; install it with")
        except ImportError:
            if show is None:
                self._hint_at = time.monotonic() + PATIENCE
                return
            raise
        self._bar = tqdm.tqdm(total=total, desc=title, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False)

    def advance(self, rows: int) -> None:
        """Some rows or steps are done."""
        if self._bar is not None:
            self._bar.update(rows)
        elif time.monotonic() > self._hint_at and not Progress.has_said:
            Progress.has_said = True
            sys.stderr.write("nrc_fast: a bar of the progress needs tqdm: pip install 'nrc-fast[progress]'\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
