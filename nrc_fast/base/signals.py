"""Ctrl-C and SIGTERM, put off until there is something to go on from; handlers of other code are left as they are."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["postponed"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# More than any system's description of what a process does at a signal.
ACTION_BYTES = 512


@contextmanager
def postponed() -> Iterator[threading.Event]:
    """Note a first Ctrl-C or SIGTERM in an event; a second one raises KeyboardInterrupt.

    Signals that the process ignores, and those that C code handles (MPI, a JVM, a program that embeds Python), are left
    to it: Python could not put its handler back. In other threads than the main one nothing is put off.

    Examples
    --------
    >>> with postponed() as interrupt:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     interrupt.is_set()
    True
    """
    interrupt = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if interrupt.is_set():
            signal.default_int_handler(number, frame)
        interrupt.set()

    before: dict[signal.Signals, Any] = {}
    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler != signal.SIG_IGN:
                before[number] = handler
                _take(number, stop, before)
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take(number: signal.Signals, stop: Callable[[int, FrameType | None], None], before: dict[Any, Any]) -> None:
    """Handle a signal, unless it is C code that did so until now, unknown to Python."""
    action = _action(number)
    handler = signal.signal(number, stop)
    if action is None:
        return
    known = _address(action) == 0 if handler == signal.SIG_DFL else _address(action) == _address(_action(number))
    if not known:
        del before[number]
        signal.signal(number, handler)
        _restore(number, action)


def _library() -> Any:
    """The system's own functions; None where they cannot be called."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None


def _action(number: int) -> ctypes.Array[ctypes.c_char] | None:
    """What the process does at a signal, as the system tells it."""
    action = ctypes.create_string_buffer(ACTION_BYTES)
    sigaction = getattr(_library(), "sigaction", None)
    return action if sigaction is not None and sigaction(int(number), None, action) == 0 else None


def _address(action: ctypes.Array[ctypes.c_char] | None) -> int | None:
    """Of the function that is called; the first thing in the description, 0 for what the system does by itself."""
    return None if action is None else ctypes.c_void_p.from_buffer(action).value or 0


def _restore(number: int, action: ctypes.Array[ctypes.c_char]) -> None:
    _library().sigaction(int(number), action, None)
