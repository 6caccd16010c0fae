"""The threads of numpy's BLAS, left asleep where they would be in the kernels' way."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np

__all__ = ["one_blas_thread"]

# As builds of OpenBLAS call what tells and what sets their number of threads.
NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


class _Hold:
    """How many are in a `one_blas_thread` block, and the number of threads before the first of them."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.holders = 0
        self.before = 0


_HOLD = _Hold()


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
    with _HOLD.lock:
        if _HOLD.holders == 0:
            _HOLD.before = count()
            choose(1)
        _HOLD.holders += 1
    try:
        yield
    finally:
        with _HOLD.lock:
            _HOLD.holders -= 1
            if _HOLD.holders == 0:
                choose(_HOLD.before)


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """What tells and what sets the threads of the OpenBLAS that numpy is linked to; None where there is none."""
    try:
        # Names are looked for in the libraries that this one needs, too.
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (AttributeError, OSError):
        return None
    for name in NAMES:
        try:
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
        except AttributeError:
            continue
    return None
