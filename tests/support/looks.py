"""Looks of another thread at what is growing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Look = TypeVar("Look")


def looks_beside(look: Callable[[], Look], steps: Iterable[Callable[[], object]]) -> list[Look]:
    """What another thread sees, time and again, while steps are taken."""
    found: list[Look] = []
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.is_set():
            found.append(look())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        watcher = threading.Thread(target=watch)
        watcher.start()
        for step in steps:
            step()
        is_done.set()
        watcher.join()
    finally:
        sys.setswitchinterval(interval)
    return found
