"""Sums of 16 products as the tensor cores of cards form them, in exact numbers.

The products and the sum so far are cut toward zero to a grid, that of float32 at the largest exponent among them with a
few bits more; their sum is exact, and cut to float32. Not all 16 products may be added at once. How many, and how many
bits, is what north-numerical-computing/MATLAB-tensor-core reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class TensorCore:
    products_at_once: int
    extra_bits: int


TURING, AMPERE, HOPPER = TensorCore(4, 0), TensorCore(8, 1), TensorCore(16, 2)
CORES = {75: TURING, 80: AMPERE, 86: AMPERE, 89: AMPERE, 90: HOPPER, 100: HOPPER, 120: HOPPER}


def exponent(value: float) -> int:
    return math.frexp(value)[1] - 1


def cut(value: Fraction, place: int) -> Fraction:
    """A multiple of 2^place, toward zero."""
    grid = Fraction(2) ** place
    return math.trunc(value / grid) * grid


def cut_to_float32(value: Fraction) -> float:
    if value == 0:
        return 0.0
    magnitude = abs(value)
    size = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    size -= magnitude < Fraction(2) ** size
    return float(cut(value, max(size, -126) - 23))


def sum_of_products(core: TensorCore, start: float, left: Sequence[float], right: Sequence[float]) -> float:
    for first in range(0, 16, core.products_at_once):
        pairs = list(zip(left, right, strict=True))[first : first + core.products_at_once]
        exponents = [exponent(a) + exponent(b) for a, b in pairs if a != 0.0 and b != 0.0]
        exponents += [exponent(start)] if start != 0.0 else []
        if not exponents:
            continue
        place = max(exponents) - 23 - core.extra_bits
        terms = [Fraction(a) * Fraction(b) for a, b in pairs] + [Fraction(start)]
        start = cut_to_float32(sum((cut(term, place) for term in terms), Fraction(0)))
    return start
