"""Properties that are computed once for each object, without a lock."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["cached_property"]

Value = TypeVar("Value")


class cached_property(functools.cached_property[Value]):  # noqa: N801 - as the one of functools
    """The one of functools, whose lock up to Python 3.11 is one for all objects of a class.

    A child that is forked while another thread has that lock waits for it for ever. Here two threads that ask first at
    the same time compute the value once each, and the last one stays: it must be the same both times.

    Examples
    --------
    >>> class Rows:
    ...     @cached_property
    ...     def count(self) -> int:
    ...         print("counted")
    ...         return 3
    >>> rows = Rows()
    >>> rows.count + rows.count
    counted
    6
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Value: ...

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self | Value:
        if instance is None:
            return self
        assert self.attrname is not None
        values = instance.__dict__
        if self.attrname not in values:
            values[self.attrname] = self.func(instance)
        found: Value = values[self.attrname]
        return found
