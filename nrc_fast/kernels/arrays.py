"""Arrays of every backend by one name, and the dtypes that rows may have."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["DTYPES", "BoolArray", "IntArray", "PlacedArray"]

BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
# An array in the memory of a backend: of numpy on the host, a tensor on a device.
PlacedArray: TypeAlias = Any

# Dtypes of rows, by the numbers that the kernels know them by.
DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}
