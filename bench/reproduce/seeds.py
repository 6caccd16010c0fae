"""The committed results of a setting, over its seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reproduce.results import RESULTS, read
from reproduce.settings import RUNS, SEEDS, Run

__all__ = ["Setting", "middle", "number", "settings", "spread"]


@dataclass(frozen=True, eq=False)
class Setting:
    """A run without its seed, and what each seed that was run gave."""

    run: Run
    found: tuple[dict[str, Any], ...]

    def final(self, name: str) -> list[float]:
        """A number of the last step for each seed; NaN where it is not defined."""
        return [math.nan if (value := one["final"].get(name)) is None else float(value) for one in self.found]

    def derived(self, function: Callable[[dict[str, Any]], float]) -> list[float]:
        """The same of a function of what is known of the last step."""
        return [function(one["final"]) for one in self.found]

    def curve(self, name: str, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps and values of the seed of that position; NaN where a value is not defined."""
        curves = self.found[seed]["curves"]
        return np.array(curves["step"], dtype=float), np.array(curves[name], dtype=float)


def settings(group: str, data: str | None = None, folder: Path = RESULTS) -> list[Setting]:
    """Those of a group, and of a data set if one is given, that have a result, in the order of `RUNS`."""
    runs = [run for run in RUNS if run.seed == SEEDS[0] and run.group == group and data in (None, run.data)]
    seeds = [[read(replace(run, seed=seed), folder) for seed in SEEDS] for run in runs]
    found = [
        Setting(run, tuple(one for one in results if one is not None)) for run, results in zip(runs, seeds, strict=True)
    ]
    return [setting for setting in found if setting.found]


def number(value: float) -> str:
    """Two significant digits, as the page writes them."""
    if not math.isfinite(value):
        return "-"
    if value == 0.0:
        return "0"
    digits = f"{value:.1e}"
    mantissa, power = digits.split("e")
    if -3 <= int(power) <= 3:
        rounded = f"{float(digits):.{max(1 - int(power), 0)}f}"
        return rounded.rstrip("0").rstrip(".") if "." in rounded else rounded
    return f"{float(mantissa):g}e{int(power)}"


def middle(values: list[float]) -> str:
    """The median of the seeds."""
    known = [value for value in values if math.isfinite(value)]
    return number(float(np.median(known))) if known else "-"


def spread(values: list[float]) -> str:
    """The median of the seeds, and the least and the largest where they are printed otherwise."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-"
    low, middle, high = (number(float(part)) for part in (min(known), np.median(known), max(known)))
    return middle if low == high else f"{middle} ({low} to {high})"
