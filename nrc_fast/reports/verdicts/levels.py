"""Numbers beside their bounds, and the levels from which on verdicts call them by a word."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nrc_fast.base.arrays import FloatArray

__all__ = ["COLLAPSED", "NEAR", "RARE", "SHAPED", "UNFITTED", "Known", "first_that_holds", "known", "percent_inside"]

#: A share outside a plane below which features are collapsed to it: rows leave it by less than two degrees
#: (sin^2 of 1.8 degrees). Residuals that collapse fall exponentially while training goes on, and pass it.
COLLAPSED = 1e-3
#: A share outside below which features are on the way. It is the level at which Deep NRC counts a layer as collapsed.
NEAR = 0.05
#: NRC3 below which W W^T has the predicted shape: the two matrices of norm 1 then differ by less than a tenth.
SHAPED = 0.01
#: Share of random heads that do as well, below which NRC3 says something of the training.
RARE = 0.05
#: R2 below which less than half of the targets' variance is explained, and collapse says little of the task.
UNFITTED = 0.5


@dataclass(frozen=True)
class Known:
    """A number and the absolute bound of its error.

    Attributes
    ----------
    value, bound : float
    most : float
        The end of its range, which nothing that is printed of it is beyond.

    Examples
    --------
    >>> print(Known(0.0123, 1e-6), Known(3e-9, 1e-8), Known(math.nan))
    0.012 no larger than 1.3e-08 nan
    >>> Known(5e-4, 1e-6).is_below(1e-3), Known(5e-4, 1e-3).is_below(1e-3), Known(5e-4, 1e-3).is_above(1e-3)
    (True, False, False)
    """

    value: float
    bound: float = 0.0
    most: float = math.inf

    @property
    def is_nan(self) -> bool:
        """Whether nothing is known."""
        return math.isnan(self.value)

    def is_below(self, limit: float) -> bool:
        """Whether it is certainly below a limit."""
        return self.value + self.bound < limit

    def is_above(self, limit: float) -> bool:
        """Whether it is certainly no less than a limit."""
        return self.value - self.bound >= limit

    def over(self, size: float) -> Known:
        """The number relative to another that is taken as exact; NaN relative to zero."""
        return Known(self.value / size, self.bound / size) if size > 0.0 else Known(math.nan)

    def __str__(self) -> str:
        if self.bound > 0.0 and abs(self.value) <= self.bound:
            return f"no larger than {min(abs(self.value) + self.bound, self.most):.1e}"
        return f"{self.value:.2g}"


def known(name: str, values: Mapping[str, float], bounds: Mapping[str, float | FloatArray]) -> Known:
    """A number by its name, NaN where there is none; a bound that is NaN or missing is taken as 0."""
    bound = bounds.get(name, 0.0)
    return Known(values.get(name, math.nan), bound if isinstance(bound, (int, float)) and bound > 0.0 else 0.0)


def first_that_holds(rules: Iterable[tuple[bool, str]]) -> str:
    """The sentence of the first rule whose condition holds; empty for none."""
    return next((sentence for holds, sentence in rules if holds), "")


def percent_inside(outside: float) -> str:
    """What is left of 1 in percent; rounding never makes it 100%.

    Examples
    --------
    >>> percent_inside(0.023), percent_inside(1e-9), percent_inside(0.0)
    ('97.70%', '>99.99%', '100.00%')
    """
    return ">99.99%" if 0.0 < outside < 1e-4 else f"{100.0 * (1.0 - outside):.2f}%"
