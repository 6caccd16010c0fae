"""What JSON holds: its type, and numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["JSONValue", "plain_numbers"]

# Sequences and mappings, not lists and dictionaries: a dictionary of floats is one of these too.
JSONValue: TypeAlias = "bool | int | float | str | Sequence[JSONValue] | Mapping[str, JSONValue] | None"


def plain_numbers(values: Mapping[str, ArrayLike]) -> dict[str, JSONValue]:
    """Numbers and arrays by their names, as plain numbers and lists.

    Examples
    --------
    >>> plain_numbers({"mse": 1e-15, "eigenvalues": np.array([0.0])})
    {'mse': 1e-15, 'eigenvalues': [0.0]}
    """
    return {name: np.asarray(value).tolist() for name, value in values.items()}
