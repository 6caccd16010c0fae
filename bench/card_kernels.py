"""The table of kernels of a card that the benchmarks know: how each is prepared, and how much it may err.

A new kernel is a function of one of the modules that are imported here and a line of `KERNELS`: the smoke test, the
timings and the profiler take them from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from card import Card
from card_descent import descent
from card_grams import gram_of_planes, gram_with_sums, plain_gram, statistics, whole_gram
from card_vectors import (
    ROWS_AT_ONCE,
    collapsed_residual,
    gram_product,
    prediction_error,
    residual,
    residual_of_rows,
)
from card_work import Work
from cases import DTYPES

__all__ = ["GRAM", "KERNELS", "Kernel"]

SIXTEEN = ("float16", "bfloat16")
# Relative to the sums of magnitudes: float64 sums of millions of rows; float32 sums that are folded, with the bias of
# tensor cores that truncate; products of bfloat16.
DOUBLE, SINGLE, FAST = 1e-12, 8e-6, 8e-3


@dataclass(frozen=True)
class Kernel:
    """A line of the table.

    Attributes
    ----------
    name : str
    prepare : callable
        From a card and rows to `Work`.
    allowed : callable
        The largest error, by the dtype of the rows.
    dtypes : tuple
        Of rows that it takes.
    is_timed : bool
        Whether its time is of interest; others are here to be right.
    """

    name: str
    prepare: Callable[[Card, Any], Work]
    allowed: Callable[[str], float]
    dtypes: tuple[str, ...] = DTYPES
    is_timed: bool = True


def _folded(dtype: str) -> float:
    return DOUBLE if dtype == "float64" else SINGLE


def _fast(dtype: str) -> float:
    return FAST if dtype == "float32" else _folded(dtype)


def _double(dtype: str) -> float:  # noqa: ARG001
    return DOUBLE


GRAM = Kernel("gram high", partial(plain_gram, precision="high"), _folded)
KERNELS = (
    GRAM,
    Kernel("gram highest", partial(plain_gram, precision="highest"), _double),
    Kernel("gram fast", partial(plain_gram, precision="fast"), _fast),
    Kernel("gram of planes", gram_of_planes, _folded, ("float32",)),
    Kernel("gram and sums as stored", gram_with_sums, _folded, SIXTEEN, is_timed=False),
    Kernel("gram, shift, unit rows, targets", whole_gram, _folded),
    Kernel("statistics", statistics, _folded),
    Kernel("statistics, a row left out", partial(statistics, skips_nonfinite=True), _folded, is_timed=False),
    Kernel("residual", partial(residual, double_precision=False), _folded),
    Kernel("residual in float64", partial(residual, double_precision=True), _double),
    Kernel("residual of rows about a shift", residual_of_rows, _folded, is_timed=False),
    Kernel("residual near collapse", partial(collapsed_residual, double_precision=False), _folded, is_timed=False),
    Kernel(
        "residual near collapse in float64",
        partial(collapsed_residual, double_precision=True),
        _double,
        is_timed=False,
    ),
    Kernel("gram_product", gram_product, _double),
    Kernel("gram_product in two reads", partial(gram_product, rows_at_once=ROWS_AT_ONCE), _double, is_timed=False),
    Kernel("prediction_error", prediction_error, _double),
    Kernel("prediction_error, products", partial(prediction_error, wants_products=True), _double, is_timed=False),
    Kernel("descent", descent, _folded, ("float64", "float32"), is_timed=False),
)
