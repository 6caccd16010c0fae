"""Classes whose base belongs to an optional library: made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["made_on_use"]


def made_on_use(
    namespace: dict[str, Any], name: str, methods: type, base: Callable[[], type], documentation: str
) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that makes its class at the first use.

    Parameters
    ----------
    namespace : dict
        The module's ``globals()``, where the class is kept.
    name : str
        Of the class.
    methods : type
        What the class adds to its base.
    base : callable
        Imports the base.
    documentation : str
        Docstring of the class.
    """

    def find(wanted: str) -> Any:
        if wanted != name:
            msg = f"module {namespace['__name__']!r} has no attribute {wanted!r}"
            raise AttributeError(msg)
        # Libraries look for some methods in the class itself, not in its bases.
        own = {key: value for key, value in vars(methods).items() if not key.startswith("__")}
        own |= {"__doc__": documentation, "__module__": namespace["__name__"]}
        made = type(name, (methods, base()), own)
        namespace[name] = made
        return made

    return find
