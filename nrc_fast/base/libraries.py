"""Libraries that only some features need: imported on use, and an error that says what to install."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["require_library"]


def require_library(name: str, extra: str, reason: str | None = None) -> Any:
    """Import an optional library.

    Parameters
    ----------
    name : str
        Of the module, with dots.
    extra : str
        Of this package that installs it.
    reason : str, optional
        How the message begins; by default "this needs" and the library.

    Raises
    ------
    ImportError
        It is not installed; the message names the extra.

    Examples
    --------
    >>> require_library("math", "torch").pi > 3
    True
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        begin = f"this needs {name.partition('.')[0]}" if reason is None else reason
        msg = f"{begin}: pip install 'nrc-fast[{extra}]'"
        raise ImportError(msg) from error
