"""What to say where memory does not suffice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from nrc_fast.base.options import format_bytes

__all__ = ["memory_for", "require_memory"]


@contextmanager
def memory_for(what: str, size: int, advice: str) -> Iterator[None]:
    """Say in a MemoryError what the memory was for, and what to do.

    Parameters
    ----------
    what : str
        How the message begins.
    size : int
        Bytes that are asked for in the block.
    advice : str
        How it ends.

    Raises
    ------
    MemoryError
        The system does not give as much.

    Examples
    --------
    >>> with memory_for("a list", 24 << 30, "give fewer numbers"):
    ...     raise MemoryError
    Traceback (most recent call last):
    MemoryError: a list needs 24.0 GiB, which this machine does not give; give fewer numbers
    """
    try:
        yield
    except MemoryError as error:
        msg = f"{what} needs {format_bytes(size)}, which this machine does not give; {advice}"
        raise MemoryError(msg) from error


def require_memory(what: str, size: int, advice: str) -> None:
    """Say in a MemoryError, before it is begun, that something needs more memory than the machine has.

    Systems promise memory that they do not have, and end who uses it. Where the machine does not say how much it has,
    nothing is refused.

    Parameters
    ----------
    what : str
        How the message begins.
    size : int
        Bytes that it needs.
    advice : str
        How the message ends.

    Raises
    ------
    MemoryError
        The machine has less.

    Examples
    --------
    >>> require_memory("a list", 24, "give fewer numbers")
    """
    if not hasattr(os, "sysconf"):
        return
    has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 0 < has < size:
        msg = f"{what} needs {format_bytes(size)}, and this machine has {format_bytes(has)}; {advice}"
        raise MemoryError(msg)
