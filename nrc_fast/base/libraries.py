"""Libraries that only some features need: imported on use, and an error that says what to install."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["needs_library", "require_library"]


def require_library(name: str, extra: str, reason: str | None = None) -> ModuleType:
    """Import an optional library.

    Parameters
    ----------
    name : str
        Name of the module, with dots.
    extra : str
        The extra of this package that installs the library.
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
    with needs_library(extra, f"this needs {name.partition('.')[0]}" if reason is None else reason):
        return importlib.import_module(name)


@contextmanager
def needs_library(extra: str, reason: str) -> Iterator[None]:
    """Import statements of an optional library, in modules that are of no use without it.

    Parameters
    ----------
    extra : str
        The extra of this package that installs the library.
    reason : str
        How the message begins, such as "this needs torchmetrics".

    Raises
    ------
    ImportError
        It is not installed; the message names the extra.

    Examples
    --------
    >>> with needs_library("torch", "this needs no_such_library"):
    ...     import no_such_library
    Traceback (most recent call last):
    ImportError: this needs no_such_library: pip install 'nrc-fast[torch]'
    """
    try:
        yield
    except ImportError as error:
        msg = f"{reason}: pip install 'nrc-fast[{extra}]'"
        raise ImportError(msg) from error
