"""Progress of a pass or a descent: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import require_library

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Progress"]


class Progress:
    """Rows done of one pass, or steps of a descent, with their number per second and the time left.

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

    def __init__(self, title: str, total: int | None, show: bool | None, unit: str = " rows") -> None:
        self._bar: Any = None
        if show is False or (show is None and not sys.stderr.isatty()):
            return
        try:
            tqdm = require_library("tqdm", "progress", "progress=True needs tqdm; install it with")
        except ImportError:
            if show is None:
                return
            raise
        self._bar = tqdm.tqdm(total=total, desc=title, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False)

    def advance(self, rows: int) -> None:
        """Some rows or steps are done."""
        if self._bar is not None:
            self._bar.update(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
