"""Fields of results from what JSON held of them: each is checked against the type that it is declared with."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray

__all__ = ["declared_fields", "restored_bounds", "restored_fields", "restored_value"]

# Whole numbers are shown with all their digits.
MOST_WHOLE = 2**63


def declared_fields(kind: type[Any]) -> dict[str, str]:
    """The fields of a dataclass and how they are declared."""
    return {field.name: str(field.type) for field in fields(kind)}


def restored_fields(
    declared: Mapping[str, str], values: object, optional: Iterable[str] = (), others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What fields held before `plain_value`, from a mapping that JSON held; other entries of it are left out.

    Parameters
    ----------
    declared : mapping of str to str
        Names of fields and their types, as `declared_fields` gives them.
    values : object
        What should be a mapping.
    optional : iterable of str
        Fields that may be missing.
    others : mapping of str to callable, optional
        How fields come back whose types are results themselves.

    Raises
    ------
    ValueError
        Something else than a mapping was given, or a field is missing or is none of its type.
    """
    missing = set(declared) - set(optional) - set(values if isinstance(values, Mapping) else ())
    if not isinstance(values, Mapping) or missing:
        msg = f"{', '.join(sorted(missing))} are missing"
        raise ValueError(msg)
    return {
        name: (others or {})[name](values[name]) if name in (others or {}) else restored_value(kind, values[name], name)
        for name, kind in declared.items()
        if name in values
    }


def restored_value(kind: str, value: Any, name: str) -> Any:
    """A value of a declared type from what JSON held of it; None is NaN.

    Raises
    ------
    ValueError
        It is none of that type; the message has its name.
    """
    return READERS[kind](value, name)


def restored_bounds(values: Any, name: str = "bounds") -> dict[str, float]:
    """Bounds from what JSON held of them: one that it cannot hold is infinite.

    Raises
    ------
    ValueError
        They are no mapping of numbers; the message has their name.
    """
    known: dict[str, float] = restored_value("Mapping[str, float]", values, name)
    return {key: math.inf if values[key] is None else bound for key, bound in known.items()}


def _refused(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name} is {reprlib.repr(value)} ({type(value).__name__}); {expected} is expected")


def _whole(value: Any, name: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or abs(int(value)) >= MOST_WHOLE:
        raise _refused(name, value, "a whole number")
    return int(value)


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise _refused(name, value, "a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise _refused(name, value, "a number in the range of float64") from error
    return math.nan if math.isnan(number) else number


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _refused(name, value, "a text")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refused(name, value, "a list of texts")
    return tuple(_text(part, name) for part in value)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refused(name, value, "a list of numbers")
    return tuple(_number(part, name) for part in value)


def _array(value: Any, name: str) -> FloatArray:
    """An array of one axis, or of two."""
    if not isinstance(value, (list, tuple)):
        raise _refused(name, value, "an array of numbers")
    if not value or not isinstance(value[0], (list, tuple)):
        return np.array(_numbers(value, name), dtype=np.float64)
    rows = [_numbers(row, name) for row in value]
    if len({len(row) for row in rows}) > 1:
        raise _refused(name, value, "an array with rows of one length")
    return np.array(rows, dtype=np.float64)


def _arrays(value: Any, name: str) -> list[FloatArray]:
    if not isinstance(value, (list, tuple)):
        raise _refused(name, value, "a list of arrays")
    return [_array(part, name) for part in value]


def _number_or_array(value: Any, name: str) -> float | FloatArray:
    return _array(value, name) if isinstance(value, (list, tuple)) else _number(value, name)


def _mapping(part: Callable[[Any, str], Any]) -> Callable[[Any, str], dict[str, Any]]:
    def read(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _refused(name, value, "a mapping of names")
        return {_text(key, name): part(entry, f"{name} of {key!r}") for key, entry in value.items()}

    return read


READERS: dict[str, Callable[[Any, str], Any]] = {
    "int": _whole,
    "float": _number,
    "str": _text,
    "tuple[str, ...]": _texts,
    "tuple[float, ...]": _numbers,
    "Mapping[str, tuple[str, ...]]": _mapping(_texts),
    "FloatArray": _array,
    "list[FloatArray]": _arrays,
    "Mapping[str, float]": _mapping(_number),
    "Mapping[str, float | FloatArray]": _mapping(_number_or_array),
    "Mapping[str, Mapping[str, float]]": _mapping(_mapping(_number)),
}
