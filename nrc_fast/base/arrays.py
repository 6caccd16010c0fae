"""Names for the types of arrays: those that users give, and those that are computed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

__all__ = [
    "Array",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "SingleArray",
    "StoredArray",
    "StoredDtype",
    "TextArray",
    "WholeNumbers",
]

# What users give as features, targets or weights: arrays, tensors, and what numpy makes arrays of. A text, as neither
# torch nor the names of its types are there at runtime.
Array: TypeAlias = "ArrayLike | torch.Tensor"

# What is computed with.
FloatArray: TypeAlias = NDArray[np.float64]
SingleArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
TextArray: TypeAlias = NDArray[np.object_]

# Several whole numbers, as users give them.
WholeNumbers: TypeAlias = "Sequence[int] | NDArray[np.integer[Any]]"

# Values as they lie in memory or in a file: of any dtype, bfloat16 as its bits.
StoredArray: TypeAlias = NDArray[Any]
StoredDtype: TypeAlias = np.dtype[Any]
