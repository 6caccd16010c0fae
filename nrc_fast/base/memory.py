"""What to say where memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nrc_fast.base.options import format_bytes

__all__ = ["memory_for"]


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
