"""The type of what JSON holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["JSONValue"]

# Sequences and mappings, not lists and dictionaries: a dictionary of floats is one of these too.
JSONValue: TypeAlias = "bool | int | float | str | Sequence[JSONValue] | Mapping[str, JSONValue] | None"
