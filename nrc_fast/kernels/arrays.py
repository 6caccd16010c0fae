"""Arrays in the memory of a backend, and the dtypes that rows may have."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["DTYPES", "PlacedArray"]

# An array in the memory of a backend: of numpy on the host, a tensor on a device.
PlacedArray: TypeAlias = Any

# Dtypes of rows, by the numbers that the kernels know them by.
DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}
