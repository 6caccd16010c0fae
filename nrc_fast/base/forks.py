"""Locks that a forked child finds free: the threads that held them are not in it, and would never give them back."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any
from weakref import WeakSet

__all__ = ["Guard"]


class Guard:
    """A lock for threads, in an object that has a new one in every child that is forked.

    What it guards must be whole at any moment, by single assignments, or be forgotten where `was_forked` says so.

    Parameters
    ----------
    reentrant : bool
        Whether the thread that has the lock may take it again, as a handler of signals does that runs in it.

    Attributes
    ----------
    lock : Lock
        To be asked for anew at every use: ``with guard.lock:``.

    Examples
    --------
    >>> guard = Guard()
    >>> with guard.lock:
    ...     guard.lock.locked(), guard.was_forked()
    (True, False)
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        new: Any = RLock if reentrant else Lock  # used alike
        self._new: Callable[[], Lock] = new
        self._is_inherited = False
        self.lock: Lock = self._new()
        _GUARDS.add(self)

    def was_forked(self) -> bool:
        """Whether this process was forked since the last question: what another thread had in hand is half done."""
        answer, self._is_inherited = self._is_inherited, False
        return answer

    def renew(self) -> None:
        """Begin anew, in a forked child."""
        # Not released: where the thread that forks holds it, it still gives back the one that it took.
        self.lock = self._new()
        self._is_inherited = True


_GUARDS: WeakSet[Guard] = WeakSet()


def _renew() -> None:
    for guard in _GUARDS:
        guard.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
