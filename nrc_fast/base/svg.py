"""Numbers as lines and bars of SVG: colours that stand out on white and on black, scales with their ticks, paths."""

from __future__ import annotations

import math
import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from nrc_fast.base.markup import Markup, element, joined

__all__ = ["DASHES", "PALETTE", "Scale", "line_paint", "path_of", "scale_of", "spark_bars", "sparkline"]

# Each has a contrast of 3 or more to white and to nearly black; dashes tell lines apart without colour.
PALETTE = ("#2f80c8", "#b8730a", "#1a9168", "#c2609f", "#d4582b", "#8a78c9")
DASHES = ("none", "6 3", "8 3 2 3", "12 3", "3 2 1 2 1 2", "2 2")
LOWEST = 1e-16  # of a logarithmic scale without any positive value
LARGEST = 1e306  # on any scale
MOST_TICKS = 5
SMALLEST = 1e-300  # step between ticks
# Width and height of a sparkline, and what is left free around it.
SPARK = (160.0, 36.0)
MARGIN = 4.0


class Paint(TypedDict, total=False):
    """Attributes of SVG that a line is drawn with."""

    stroke: str
    stroke_dasharray: str
    stroke_width: str
    fill: str


def line_paint(k: int) -> Paint:
    """How the k-th line is drawn."""
    return {
        "stroke": PALETTE[k % len(PALETTE)],
        "stroke_dasharray": DASHES[k % len(DASHES)],
        "stroke_width": "1.8",
        "fill": "none",
    }


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis.

    Attributes
    ----------
    lowest, highest : float
        The values at its ends; `highest` is above `lowest`, which is positive where `is_log`.
    start, end : float
        Where these ends lie.
    is_log : bool
    """

    lowest: float
    highest: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies; one below the lowest, as 0 on a logarithmic scale, at the lower end. NaN stays NaN."""
        if math.isnan(value):
            return value
        low, high, inside = self.lowest, self.highest, min(max(value, self.lowest), self.highest)
        if self.is_log:
            low, high, inside = math.log(low), math.log(high), math.log(inside)
        return self.start + (inside - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """A few round values between the ends: powers of ten, or multiples of 1, 2 or 5 times one."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.lowest) - 1e-9), math.floor(math.log10(self.highest) + 1e-9)
            step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
            powers = [10.0**k for k in range(first, last + 1, step)]
            if len(powers) > 1:
                return powers
        span = self.highest - self.lowest
        # Between ends that are next to 0 no power of ten may be left.
        rough = 10.0 ** math.floor(math.log10(max(span / MOST_TICKS, SMALLEST)))
        step_size = next(rough * part for part in (1, 2, 5, 10, 20) if span / (rough * part) <= MOST_TICKS)
        first = math.ceil(self.lowest / step_size - 1e-9)
        last = math.floor(self.highest / step_size + 1e-9)
        return [k * step_size for k in range(first, last + 1)]


def scale_of(values: Iterable[float], start: float, end: float, *, is_log: bool = False) -> Scale:
    """A scale on which all finite values lie; on a logarithmic one those that are not positive lie on the lower end.

    Examples
    --------
    >>> scale = scale_of([0.0, 1e-4, 1.0], 0.0, 100.0, is_log=True)
    >>> scale.at(0.0), round(scale.at(1.0))
    (0.0, 99)
    """
    # Sums and differences of what lies on a scale have to be finite.
    known = [min(max(value, -LARGEST), LARGEST) for value in values if math.isfinite(value)]
    finite = [value for value in known if value > 0.0 or not is_log]
    low, high = (min(finite), max(finite)) if finite else (LOWEST if is_log else 0.0, 1.0)
    if is_log:
        # Room below for those that are not positive. A third of a subnormal number may be 0.
        low = max(low / (3.0 if min(known, default=low) <= 0.0 else 1.25), sys.float_info.min)
        high = max(1.1 * high, low)
        if high < 10.0 * low:  # a decade at the least, with the values in its middle
            middle = math.sqrt(low) * math.sqrt(high)
            low, high = middle / math.sqrt(10.0), middle * math.sqrt(10.0)
    elif not high > low:
        # Between subnormal numbers there may be no other.
        room = abs(high) if abs(high) >= sys.float_info.min else 1.0
        low, high = low - 0.5 * room, high + 0.5 * room
    return Scale(low, high, start, end, is_log)


def path_of(points: Iterable[tuple[float, float]]) -> str:
    """The data of a path through points; where one is NaN, there is a gap.

    Examples
    --------
    >>> path_of([(0.0, 1.0), (1.0, 2.0), (2.0, float("nan")), (3.0, 4.0)])
    'M0 1L1 2M3 4'
    """
    parts, draws = [], False
    for x, y in points:
        is_known = not (math.isnan(x) or math.isnan(y))
        if is_known:
            parts.append(f"{'L' if draws else 'M'}{_short(x)} {_short(y)}")
        draws = is_known
    return "".join(parts)


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def sparkline(values: Sequence[float], label: str, *, is_log: bool = False) -> Markup:
    """A line without axes, its last value marked.

    Parameters
    ----------
    values : sequence of float
        NaN leaves a gap.
    label : str
        What is read out in place of it, and shown where the pointer rests.
    is_log : bool
        Whether the scale is logarithmic; then what is not positive lies on the lower edge.
    """
    width, height = SPARK
    across = scale_of(range(len(values)), MARGIN, width - MARGIN)
    up = scale_of(values, height - MARGIN, MARGIN, is_log=is_log)
    points = [(across.at(k), up.at(value)) for k, value in enumerate(values)]
    last = next((point for point in reversed(points) if not math.isnan(point[1])), None)
    parts = [element("path", d=path_of(points), **(line_paint(0)))]
    if last is not None:
        parts.append(element("circle", cx=_short(last[0]), cy=_short(last[1]), r="2.6", fill=PALETTE[0]))
    return _spark(parts, label)


def spark_bars(values: Sequence[float], label: str, highlighted: Container[int]) -> Markup:
    """Bars from 0 on, without axes; some are coloured.

    Parameters
    ----------
    values : sequence of float
        NaN leaves a gap.
    label : str
        What is read out in place of them, and shown where the pointer rests.
    highlighted : container of int
        Which are coloured, counted from 0; the others are grey.
    """
    width, height = SPARK
    up = scale_of([0.0, *values], 0.0, height - 2.0 * MARGIN)
    slot = min((width - 2.0 * MARGIN) / max(len(values), 1), 16.0)
    bars = [
        element(
            "rect",
            x=_short(MARGIN + k * slot),
            y=_short(height - MARGIN - up.at(value)),
            width=_short(0.75 * slot),
            height=_short(up.at(value)),
            **({"fill": PALETTE[0]} if k in highlighted else {"fill": "currentColor", "fill_opacity": "0.35"}),
        )
        for k, value in enumerate(values)
        if not math.isnan(value)
    ]
    return _spark(bars, label)


def _spark(parts: Iterable[Markup], label: str) -> Markup:
    width, height = SPARK
    return element(
        "svg",
        element("title", label),
        joined(*parts, between=""),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        aria_label=label,
    )
