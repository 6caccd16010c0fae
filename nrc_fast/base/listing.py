"""What ``dir`` of a public module shows: its public names, not what it is made with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

__all__ = ["listing"]


def listing(module: str, names: Iterable[str], modules: Iterable[str] = ()) -> Callable[[], list[str]]:
    """A ``__dir__`` for a module.

    Parameters
    ----------
    module : str
        Its name.
    names : iterable of str
        What is public, its ``__all__``.
    modules : iterable of str
        Modules below it that are public; each is shown once it is imported.

    Examples
    --------
    >>> listing("collections", ["deque"], modules=["abc", "no_such_module"])()
    ['abc', 'deque']
    """
    shown, below = tuple(names), tuple(modules)

    def names_of_module() -> list[str]:
        return sorted((*shown, *(name for name in below if f"{module}.{name}" in sys.modules)))

    return names_of_module
