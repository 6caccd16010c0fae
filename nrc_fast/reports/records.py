"""Numbers of reports as text and as JSON: NaN becomes null and comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from nrc_fast.base.linalg import FloatArray

__all__ = ["plain_value", "restored_fields", "restored_value", "without_nan"]

NAN = float("nan")


def format_value(value: float, bound: float | FloatArray | None, digits: int = 6) -> str:
    """A value with its bound; one that is small beside its bound is only known to be no larger."""
    if bound is None or not isinstance(bound, float) or not math.isfinite(bound) or bound == 0.0:
        return f"{value:.{digits}g}"
    if abs(value) <= 0.5 * bound:
        return f"<= {abs(value) + bound:.1e}"
    return f"{value:.{digits}g}  +- {bound:.1e}"


def plain_value(value: Any) -> Any:
    """A field of a report as JSON can hold it: arrays and tuples as lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_value(part) for key, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def restored_value(value: Any) -> Any:
    """What `plain_value` was made of: lists as arrays, None as NaN."""
    if isinstance(value, list):
        return np.array(value, dtype=np.float64)
    if isinstance(value, Mapping):
        return {key: restored_value(part) for key, part in value.items()}
    return NAN if value is None else value


def without_nan(value: Any) -> Any:
    """The same value with None for numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    return [without_nan(part) for part in value] if isinstance(value, list) else value


def restored_fields(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """What the fields of a class hold, with NaN for None."""

    def restored(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: restored(part) for name, part in value.items()}
        return NAN if value is None else value

    return {part.name: restored(values[part.name]) for part in fields(kind)}
