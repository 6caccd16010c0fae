"""The result of a run as a small JSON file: written all or nothing, and known by its settings."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reproduce.settings import Run

__all__ = ["RESULTS", "is_done", "path_of", "read", "write"]

RESULTS = Path(__file__).with_name("results")
CURVE_DIGITS, DIGITS = 4, 8  # significant ones


def path_of(run: Run, folder: Path = RESULTS) -> Path:
    """Where the result of a run is."""
    return folder / f"{run.name}.json"


def read(run: Run, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The result of a run; None where there is none of exactly these settings."""
    path = path_of(run, folder)
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["settings"] == asdict(run) else None


def is_done(run: Run, folder: Path = RESULTS) -> bool:
    """Whether there is a result of exactly these settings."""
    return read(run, folder) is not None


def write(run: Run, found: dict[str, Any], folder: Path = RESULTS) -> dict[str, Any]:
    """Write what `reproduce.measuring.measured` found, rounded; returns what the file holds."""
    digits = {"final": DIGITS, "curves": CURVE_DIGITS}
    rounded = {name: _rounded(part, digits[name]) if name in digits else part for name, part in found.items()}
    path = path_of(run, folder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    unfinished.write_text(json.dumps(rounded, separators=(",", ":")) + "\n", encoding="utf-8")
    unfinished.replace(path)
    return rounded


def _rounded(value: Any, digits: int) -> Any:
    """Numbers to so many significant digits; what is not finite becomes None, which JSON has."""
    if isinstance(value, dict):
        return {name: _rounded(part, digits) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part, digits) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value
