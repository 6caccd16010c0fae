"""Results as text, as dictionaries and as JSON, and back: NaN becomes null, arrays become lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import Field
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.files import write_text
from nrc_fast.base.json_values import JSONValue
from nrc_fast.reports.fields import declared_fields, restored_fields

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StoredResult", "format_digits", "format_value", "plain_value", "without_nan"]

# The one NaN of results, so that what was stored and comes back equals what was stored.
NAN = math.nan

DIGITS_OF_BOUND = 2


def format_value(value: float, bound: float | FloatArray | None, digits: int = 6, *, most: float = math.inf) -> str:
    """A value and its bound, with the digits that the bound supports, at most some.

    Both end at the second digit of the bound, which is rounded up, and holds what the value loses there. A value that
    is no larger than its bound is only known to be no larger than their sum, nor than the end of its range, `most`.

    Examples
    --------
    >>> format_value(0.94194, 0.0193), format_value(0.0193126, 3e-6), format_value(174.20891, 9.5e-11)
    ('0.942  +- 0.020', '0.0193126  +- 3.0e-06', '174.209  +- 9.5e-11')
    >>> format_value(0.0611, 0.0613), format_value(2e-9, 1e-8), format_value(0.25, None)
    ('<= 0.13', '<= 1.2e-08', '0.25')
    """
    text = format_digits(value, bound, digits, most=most)
    if not _is_bounded(value, bound) or text.startswith("<"):
        return text
    assert isinstance(bound, float)
    lost = abs(float(text) - value) if _supported(value, bound) <= digits else 0.0
    return f"{text}  +- {_rounded_up(bound + lost)}"


def format_digits(value: float, bound: float | FloatArray | None, digits: int = 6, *, most: float = math.inf) -> str:
    """The value of `format_value` alone, for tables without room for bounds.

    Examples
    --------
    >>> format_digits(0.94194, 0.0193), format_digits(0.94194, 1e-9, digits=3), format_digits(2e-9, 1e-8)
    ('0.942', '0.942', '<= 1.2e-08')
    """
    if not _is_bounded(value, bound):
        return f"{value:.{digits}g}"
    assert isinstance(bound, float)
    if abs(value) <= bound:
        return f"<= {_rounded_up(abs(value) + bound)}" if abs(value) + bound < most else f"<= {most:g}"
    supported = _supported(value, bound)
    if supported > digits:
        return f"{value:.{digits}g}"
    return f"{value:#.{supported}g}".removesuffix(".")


def _is_bounded(value: float, bound: float | FloatArray | None) -> bool:
    return isinstance(bound, float) and math.isfinite(bound) and bound > 0.0 and math.isfinite(value)


def _supported(value: float, bound: float) -> int:
    """Significant digits of a value down to the last that is printed of its bound."""
    return math.floor(math.log10(abs(value))) - math.floor(math.log10(bound)) + DIGITS_OF_BOUND


def _rounded_up(bound: float) -> str:
    # From six digits, so that 0.02, which is a little more as a float, stays what it is.
    upwards = Context(prec=DIGITS_OF_BOUND, rounding=ROUND_CEILING).create_decimal(Decimal(f"{bound:.6g}"))
    return f"{float(upwards):#.{DIGITS_OF_BOUND}g}".removesuffix(".")


def plain_value(value: Any) -> Any:
    """A field of a result as JSON can hold it: arrays and tuples as lists, results as dictionaries."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_value(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [plain_value(part) for part in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def without_nan(value: JSONValue) -> JSONValue:
    """A value of plain numbers, lists and dictionaries with None for numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    return [without_nan(part) for part in value] if isinstance(value, list) else value


class StoredResult:
    """A result that becomes a dictionary and JSON text, and comes back from both.

    Subclasses are dataclasses. One whose fields hold more than numbers, strings, arrays and mappings of these says how
    they come back in `_restorers`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    # What error messages call it, the fields that older files may lack, and how far JSON text is indented.
    _described: ClassVar[str]
    _may_be_missing: ClassVar[frozenset[str]] = frozenset()
    _indent: ClassVar[int] = 2

    def to_dict(self) -> dict[str, JSONValue]:
        """The fields as plain numbers, lists and strings by their names; NaN stays NaN."""
        return {name: plain_value(getattr(self, name)) for name in self.__dataclass_fields__}

    def to_json(self, path: str | Path | None = None) -> str:
        """The result as JSON text (NaN and infinite numbers become null), also written to `path`, all or nothing.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            There is a file that is no text, such as one of features.
        """
        text = json.dumps(without_nan(self.to_dict()), indent=self._indent)
        if path is not None:
            write_text(path, text + "\n")
        return text

    @classmethod
    def from_dict(cls, values: Mapping[str, JSONValue]) -> Self:
        """A result from what `to_dict` gave or `to_json` wrote; null becomes NaN.

        Raises
        ------
        ValueError
            The mapping holds something else, or a field has another type than it is declared with.
        """
        try:
            return cls(**restored_fields(declared_fields(cls), values, cls._may_be_missing, cls._restorers()))
        except ValueError as error:
            msg = f"the mapping holds no {cls._described}: {error}"
            raise ValueError(msg) from error

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        """How fields come back that hold results themselves, or None for something else than NaN."""
        return {}
