"""What adds up over rows: their sums, counts by kind, and the squares that rounding is relative to."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.memory import memory_for
from nrc_fast.kernels.arrays import DTYPES

__all__ = [
    "ADDITIVE",
    "COUNTS",
    "COUNT_PLACES",
    "LARGEST_ENERGY",
    "LONG_SUMS",
    "MAGNITUDES",
    "MAGNITUDE_PLACES",
    "MOST_LONG_TARGETS",
    "RESTS",
    "SHIFT_ROWS",
    "SMALLEST_ENERGY",
    "SumsKind",
    "counted",
    "magnitudes_of",
    "zero_sums",
]

# Rows whose mean is the shift.
SHIFT_ROWS = 1024
# Sums of squares of float64 numbers beyond these limits have over- or underflowed, or their squares will.
SMALLEST_ENERGY = 1e-150
LARGEST_ENERGY = 1e150
# Everything that adds up over rows. The products are lower triangles.
ADDITIVE = (
    "counts",
    "magnitudes",
    "column_sums",
    "gram",
    "unit_gram",
    "cross",
    "target_sums",
    "target_gram",
    "target_sums_rest",
    "target_gram_rest",
)
# Those of them that are pairs of float64 numbers: of some the rests, which they have no room for.
RESTS = {"target_sums": "target_sums_rest", "target_gram": "target_gram_rest"}
LONG_SUMS = tuple(name for pair in RESTS.items() for name in pair)
# Targets up to which their sums are pairs, of few features, and of so many for each target: the work on a row grows
# like the square of their number, and of more it would be felt beside the Gram matrix of the features.
FEW_LONG_TARGETS, MOST_LONG_TARGETS, FEATURES_PER_LONG_TARGET = 4, 16, 32
# Those of them that are d x d.
GRAMS = ("gram", "unit_gram")
# Rows, of each dtype too. "single": rows that were multiplied in float32 by the CPU, "device" and "fast": by a CUDA
# device with that precision; "tiny": rows of chunks whose squares underflow; "blocks": what kernels add up inside of
# one of the "parts", the calls of `add_chunk`; "long_targets": rows whose targets were added up as pairs.
COUNTS = (
    *("rows", "zero", "skipped", "single", "tiny", "tiny_targets", "blocks", "parts"),
    *(*DTYPES, "device", "fast", "long_targets"),
)
# Sums of squares about the shift that was subtracted when they were added: of features whose products are float64, of
# features whose products are float32, of targets, and of features on devices. Rounding is relative to these, whatever
# shift comes later.
MAGNITUDES = ("double", "single", "targets", "device", "fast")
# Where each of them stands.
COUNT_PLACES = {name: place for place, name in enumerate(COUNTS)}
MAGNITUDE_PLACES = {name: place for place, name in enumerate(MAGNITUDES)}


def counted(**counts: float) -> FloatArray:
    """Counts as an array that adds up, those that are not given being 0."""
    values = [0.0] * len(COUNTS)
    for name, count in counts.items():
        values[COUNT_PLACES[name]] = count
    return np.array(values, dtype=np.float64)


def magnitudes_of(**energies: float) -> FloatArray:
    """Sums of squares as an array that adds up, those that are not given being 0."""
    return np.array([energies.get(name, 0.0) for name in MAGNITUDES])


@dataclass(frozen=True)
class SumsKind:
    """Which sums over rows are kept.

    Attributes
    ----------
    d, n_targets : int
        Widths of features and targets.
    products : bool
        Whether Gram matrices are kept beside counts and sums.
    unit_rows : bool
        Whether the Gram matrix of unit rows is among them.
    precision : {"high", "highest", "fast"}
    double_rows : int
        Up to how many rows of the host in all are multiplied in float64 whatever the precision.
    """

    d: int
    n_targets: int
    products: bool
    unit_rows: bool
    precision: str
    double_rows: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the sums, by their names in `ADDITIVE`."""
        gram = self.d if self.products else 0
        unit = gram if self.unit_rows else 0
        long = self.n_targets if self.has_long_targets else 0
        return {
            "column_sums": (self.d,),
            "gram": (gram, gram),
            "unit_gram": (unit, unit),
            "cross": (self.n_targets, self.d),
            "target_sums": (self.n_targets,),
            "target_gram": (self.n_targets, self.n_targets),
            "target_sums_rest": (long,),
            "target_gram_rest": (long, long),
        }

    @property
    def has_long_targets(self) -> bool:
        """Whether there are rests of the sums of targets, which devices leave zero."""
        n = self.n_targets
        is_hidden = not self.products or n * FEATURES_PER_LONG_TARGET <= self.d
        return n <= (MOST_LONG_TARGETS if is_hidden else FEW_LONG_TARGETS)


def zero_sums(kind: SumsKind) -> dict[str, FloatArray]:
    """The sums over no rows, by the names of `ADDITIVE`.

    Raises
    ------
    MemoryError
        There is no memory for matrices of d x d.
    """
    shapes = {"counts": (len(COUNTS),), "magnitudes": (len(MAGNITUDES),)} | kind.shapes
    what = f"statistics of {kind.d:,} features and {kind.n_targets:,} targets"
    advice = "they are matrices of d x d: give fewer features, such as some of them or projections, or take nrc1 alone"
    with memory_for(what, sum(8 * prod(shape) for shape in shapes.values()), advice):
        return {name: np.zeros(shapes[name]) for name in ADDITIVE}
