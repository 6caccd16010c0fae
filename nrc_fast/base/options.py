"""Options that mean the same everywhere: precision, rows that are not finite, tolerances, sizes of memory."""

from __future__ import annotations

import math
import re
from operator import index
from typing import Literal, SupportsIndex, TypeAlias, get_args

import numpy as np

__all__ = [
    "PRECISIONS",
    "ByK",
    "NonFinite",
    "Precision",
    "Spectrum",
    "as_integer",
    "parse_memory",
    "require_choice",
    "require_nonfinite",
    "require_precision",
    "require_tolerance",
]

# In the order of their codes in the CUDA kernels.
Precision: TypeAlias = Literal["high", "highest", "fast"]
NonFinite: TypeAlias = Literal["raise", "skip"]
# How much a report tells of what grows with the number of columns.
ByK: TypeAlias = Literal["leading", "all"]
Spectrum: TypeAlias = Literal["auto", "full"]

PRECISIONS: tuple[str, ...] = get_args(Precision)
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
UNITS |= {unit + "i": 1024**power for power, unit in enumerate("kmgt", start=1)}


def as_integer(value: SupportsIndex, name: str, *, least: int | None = None) -> int:
    """A whole number of any library's kind as an int.

    Parameters
    ----------
    value : int or like one
    name : str
        What it is called where it was given.
    least : int, optional
        The smallest that is allowed.

    Raises
    ------
    TypeError
        It is none: a truth value, or a float, even without a fraction.
    ValueError
        It is below `least`.

    Examples
    --------
    >>> as_integer(np.int64(3), "d")
    3
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = index(value)
    except TypeError:
        msg = f"{name} is {value!r}; a whole number is expected"
        raise TypeError(msg) from None
    if least is not None and number < least:
        msg = f"{name} is {number}; a whole number from {least} on is expected"
        raise ValueError(msg)
    return number


def require_precision(precision: str) -> None:
    """Check the name of a precision.

    Raises
    ------
    ValueError
        It is unknown.
    """
    if precision not in PRECISIONS:
        msg = f"precision is {precision!r}; {', '.join(map(repr, PRECISIONS))} are known"
        raise ValueError(msg)


def require_nonfinite(nonfinite: str) -> None:
    """Check what is to be done with rows that hold NaN or infinite values.

    Raises
    ------
    ValueError
        It is unknown.
    """
    require_choice("nonfinite", nonfinite, get_args(NonFinite))


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that an option is one of some names.

    Raises
    ------
    ValueError
        It is none of them.
    """
    if value not in choices:
        msg = f"{name} is {value!r}; {' or '.join(map(repr, choices))} is expected"
        raise ValueError(msg)


def require_tolerance(rtol: float) -> None:
    """Check that a relative tolerance is positive and finite.

    Raises
    ------
    ValueError
        It is not.
    """
    if not 0.0 < rtol < math.inf:
        msg = f"rtol is {rtol!r}; a relative tolerance above 0 is expected, such as 1e-3"
        raise ValueError(msg)


def parse_memory(memory: str | int | None) -> int | None:
    """Bytes from a number or a text such as "2GiB", "500 MB" or "1e9".

    Raises
    ------
    ValueError
        It is no positive number of bytes.

    Examples
    --------
    >>> parse_memory("2GiB"), parse_memory("1.5 kB"), parse_memory(4096)
    (2147483648, 1500, 4096)
    """
    if memory is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]i?)?b?\s*", str(memory).lower())
    try:
        size = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        msg = f"memory is {memory!r}; a number of bytes such as '2GiB' or '500MB' is expected"
        raise ValueError(msg)
    return size


def format_bytes(size: int) -> str:
    """A number of bytes in units of 1024.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(3 << 30)
    ('1.5 KiB', '3.0 GiB')
    """
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024.0 and len(units) > 1:
        value /= 1024.0
        units.pop(0)
    return f"{value:.1f} {units[0]}"
