"""The threads of numpy's BLAS, left asleep where they would be in the kernels' way."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["few_blas_threads", "one_blas_thread"]

# Widths up to which two threads gain less in a decomposition (2 of 15 ms) than they cost what comes after it (12 ms).
NARROW = 384


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
