"""A mapping that is computed when it is first looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["DeferredMapping"]

Value = TypeVar("Value")


class DeferredMapping(Mapping[str, Value]):
    """What a function gives, from the first look on; a pickle or a copy of it is a dictionary.

    Parameters
    ----------
    compute : callable
        Called once, without arguments (by two threads that look first at the same time, once each).

    Examples
    --------
    >>> squares = DeferredMapping(lambda: {"four": 16})
    >>> squares["four"], dict(squares), squares
    (16, {'four': 16}, {'four': 16})
    """

    def __init__(self, compute: Callable[[], Mapping[str, Value]]) -> None:
        self._compute: Callable[[], Mapping[str, Value]] | None = compute
        self._values: Mapping[str, Value] = {}

    def _known(self) -> Mapping[str, Value]:
        compute = self._compute
        if compute is not None:
            self._values = compute()
            self._compute = None  # and what it holds
        return self._values

    def __getitem__(self, name: str) -> Value:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __repr__(self) -> str:
        return repr(dict(self._known()))

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self._known()),)
