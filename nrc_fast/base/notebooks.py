"""A place in a notebook whose content is replaced; nothing where no notebook is open."""

from __future__ import annotations

import importlib
import sys
from typing import Protocol

__all__ = ["Place", "open_place"]


class Place(Protocol):
    """What IPython gives for an output that can be replaced."""

    def update(self, content: object) -> object:
        """Show something else there."""


def open_place(content: object) -> Place | None:
    """Show something in the output of the cell that runs, where it can be replaced later.

    Parameters
    ----------
    content : object
        What IPython can show, such as an object with `_repr_html_`.

    Returns
    -------
    Place or None
        None, and nothing is shown, outside a notebook: in a script or in a terminal.

    Examples
    --------
    >>> open_place("a") is None
    True
    """
    # Who runs a notebook has imported it.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    place: Place | None = importlib.import_module("IPython.display").display(content, display_id=True)
    return place
