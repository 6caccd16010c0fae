"""The scripts of bench, which import each other by their own names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}


def bench(name: str) -> Any:
    return importlib.import_module(name)
