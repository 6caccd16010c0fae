"""The threads of numpy's BLAS, left asleep where they would be in the kernels' way."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import get_ident

import numpy as np
from threadpoolctl import ThreadpoolController

from nrc_fast.base.forks import Guard

__all__ = ["few_blas_threads", "one_blas_thread"]

# Widths up to which two threads gain less in a decomposition (2 of 15 ms) than they cost what comes after it (12 ms).
NARROW = 384
# Seconds that a fork waits for a thread that changes the number.
LONGEST_PAUSE = 1.0


class _Hold:
    """Who is in a `one_blas_thread` block, and the number of threads before the first of them.

    At any moment in which a thread or a fork may come between, whoever keeps BLAS at one thread is among the holders.
    """

    def __init__(self) -> None:
        self.guard = Guard()
        self.holders: dict[object, int] = {}  # the thread of each block
        self.before = 0
        self.forking = 0  # the thread that waits for its fork with the lock in hand

    def enter(self, block: object, count: Callable[[], int], choose: Callable[[int], None]) -> None:
        with self.guard.lock:
            if not self.holders:
                self.before = count()
            self.holders[block] = get_ident()
            choose(1)

    def leave(self, block: object, choose: Callable[[int], None]) -> None:
        with self.guard.lock:
            if self.holders.keys() == {block}:
                choose(self.before)
            self.holders.pop(block, None)  # it is not there where an interrupt came first

    def pause(self) -> None:
        """Before a fork: let nobody be inside of the library, whose own locks its child would inherit."""
        # A thread that forks with the lock in hand, in a handler of signals, waits in vain.
        if self.guard.lock.acquire(timeout=LONGEST_PAUSE):
            self.forking = get_ident()

    def go_on(self) -> None:
        """After a fork, in the parent."""
        if self.forking == get_ident():
            self.forking = 0
            self.guard.lock.release()

    def forget_other_threads(self) -> None:
        """In a forked child: the other threads are not there to give back what they took."""
        self.forking = 0
        others = [block for block, thread in self.holders.items() if thread != get_ident()]
        for block in others:
            del self.holders[block]
        functions = _openblas() if others and not self.holders else None
        if functions is not None:
            functions[1](self.before)


_HOLD = _Hold()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_HOLD.pause, after_in_parent=_HOLD.go_on, after_in_child=_HOLD.forget_other_threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy's OpenBLAS use one thread, in the whole process; another BLAS is left as it is.

    Its threads wait actively for tens of milliseconds after a call, and take that time from the kernels that come
    next. For a decomposition that takes a few milliseconds they are no gain.

    Examples
    --------
    >>> with one_blas_thread():
    ...     values = np.linalg.eigvalsh(np.eye(3))
    """
    functions = _openblas()
    if functions is None:
        yield
        return
    count, choose = functions
    block = object()
    try:
        _HOLD.enter(block, count, choose)
        yield
    finally:
        _HOLD.leave(block, choose)


def few_blas_threads(width: int) -> AbstractContextManager[None]:
    """One thread for matrices that are so narrow, and all that there are for others.

    Examples
    --------
    >>> with few_blas_threads(16):
    ...     square = np.eye(16) @ np.eye(16)
    """
    return one_blas_thread() if width <= NARROW else nullcontext()


# Finding the libraries costs milliseconds. numpy's is there from the start, and stays.
@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """What tells and what sets the threads of numpy's OpenBLAS; None where numpy has another BLAS."""
    found = {
        controller.filepath: controller
        for controller in ThreadpoolController().select(internal_api="openblas").lib_controllers
    }
    path = _of_numpy(list(found), Path(np.__file__).resolve().parent)
    if path is None:
        return None
    # The library's own functions: a controller's `set_num_threads` does nothing but in the thread that called it first.
    library, names = found[path].dynlib, found[path].check_symbols
    name = next(name for name in names if hasattr(library, name))
    return getattr(library, name), getattr(library, name.replace("_get_", "_set_"))


def _of_numpy(paths: list[str], numpy: Path) -> str | None:
    """The library that numpy uses, of those that are loaded: scipy and torch bring their own.

    A wheel has it in its folder or in `numpy.libs` beside it; otherwise it is the environment's, in no package's.
    """
    for path in paths:
        if Path(path).is_relative_to(numpy) or Path(path).parent == numpy.with_name("numpy.libs"):
            return path
    return next((path for path in paths if not {"site-packages", "dist-packages"} & set(Path(path).parts)), None)
