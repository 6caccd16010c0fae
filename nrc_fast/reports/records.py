"""Results as text, as dictionaries and as JSON, and back: NaN becomes null, arrays become lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.files import write_text
from nrc_fast.base.json_values import JSONValue
from nrc_fast.reports.fields import declared_fields, restored_fields

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StoredResult", "format_value", "plain_value", "without_nan"]

NAN = float("nan")


def format_value(value: float, bound: float | FloatArray | None, digits: int = 6) -> str:
    """A value with its bound; one that is small beside its bound is only known to be no larger."""
    if bound is None or not isinstance(bound, float) or not math.isfinite(bound) or bound == 0.0:
        return f"{value:.{digits}g}"
    if abs(value) <= 0.5 * bound:
        return f"<= {abs(value) + bound:.1e}"
    return f"{value:.{digits}g}  +- {bound:.1e}"


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
