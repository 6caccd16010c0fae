"""What is counted of rows, beside their sums: how many of which kind, and the squares that rounding is relative to."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.rows import DTYPES

__all__ = ["COUNTS", "LARGEST_ENERGY", "MAGNITUDES", "SHIFT_ROWS", "SMALLEST_ENERGY", "counted", "magnitudes_of"]

# Rows whose mean is the shift.
SHIFT_ROWS = 1024
# Sums of squares of float64 numbers beyond these limits have over- or underflowed, or their squares will.
SMALLEST_ENERGY = 1e-150
LARGEST_ENERGY = 1e150
# Rows, of each dtype too. "single": rows that were multiplied in float32 by the CPU, "device" and "fast": by a CUDA
# device with that precision; "tiny": rows of chunks whose squares underflow; "blocks": what kernels add up inside of
# one of the "parts", the calls of `add_chunk`.
COUNTS = ("rows", "zero", "skipped", "single", "tiny", "tiny_targets", "blocks", "parts", *DTYPES, "device", "fast")
# Sums of squares about the shift that was subtracted when they were added: of features whose products are float64, of
# features whose products are float32, of targets, and of features on devices. Rounding is relative to these, whatever
# shift comes later.
MAGNITUDES = ("double", "single", "targets", "device", "fast")


def counted(**counts: int) -> FloatArray:
    """Counts as an array that adds up, those that are not given being 0."""
    return np.array([counts.get(name, 0) for name in COUNTS], dtype=np.float64)


def magnitudes_of(kind: str, energy: float, target_energy: float) -> FloatArray:
    """Sums of squares of features of one kind, and of targets, as an array that adds up."""
    found = {kind: energy, "targets": target_energy}
    return np.array([found.get(name, 0.0) for name in MAGNITUDES])
