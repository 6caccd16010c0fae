"""Properties that are computed once for each state of some sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Derived"]

Value = TypeVar("Value")


class HasDerived(Protocol):
    """Sums that know what has been computed of them as they are, and forget it where rows come."""

    @property
    def derived(self) -> dict[str, Any]: ...


class Derived(Generic[Value]):
    """A property of some sums, computed when it is first asked for; arrays are not to be written to."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, sums: None, owner: type) -> Self: ...

    @overload
    def __get__(self, sums: HasDerived, owner: type) -> Value: ...

    def __get__(self, sums: HasDerived | None, owner: type) -> Value | Self:
        if sums is None:
            return self
        kept = sums.derived
        if self._name not in kept:
            kept[self._name] = self._compute(sums)
        found: Value = kept[self._name]
        return found
