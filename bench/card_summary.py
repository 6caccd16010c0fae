"""What bench/gpu.sh found, in few lines: what is wrong, the time of every kernel, and the ceilings.

python bench/card_summary.py build/gpu

The most wanted comes first, as the end of it may be cut off: kernels that have a target, of rows of many features.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from report import seconds

# What comes back of an output, less the lines of the parts.
MOST_CHARACTERS = 8_600
MOST_FAILURES = 8  # of each kind; the files have all
MOST_OF_A_LINE = 150
# Contenders with a line of their own for each shape, and what they are held against.
TARGETS = ("gram high", "statistics", "residual", "torch.mm(H.T, H)")
MANY_FEATURES = 1024


def summary(folder: Path) -> str:
    """The lines that fit; the others are counted."""
    lines, left = list(_lines(folder)), MOST_CHARACTERS
    for index, line in enumerate(lines):
        left -= len(line) + 1
        if left < 100:
            return "\n".join([*lines[:index], f"and {len(lines) - index} lines more in the files"])
    return "\n".join(lines)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON in lines; a last one that was cut off is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _lines(folder: Path) -> Iterator[str]:
    ceilings = json_lines(folder / "ceilings.jsonl")
    yield from _ceilings(row for row in ceilings if row["what"] == "card")
    smoke = json_lines(folder / "smoke.jsonl")
    wrong = [row for row in smoke if row["check"] != "ok"]
    yield f"kernels once against float64: {len(smoke) - len(wrong)} of {len(smoke)} are right"
    yield from _few(f"  WRONG {row['kernel']}, {row['d']} {row['dtype']}: {_problem(row)}" for row in wrong)
    log = folder / "log.txt"
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    yield from _few(line for line in said if line.startswith(("tests: FAILED ", "tests: ERROR ")))
    yield from _few(line for line in said if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line)
    shapes = _shapes(folder / "cuda_kernels.json")
    yield from _target_lines(shapes)
    yield from _ceilings(row for row in ceilings if row["what"] != "card")
    yield from _other_lines(shapes)


def _few(lines: Iterable[str]) -> list[str]:
    found = [line[:MOST_OF_A_LINE] for line in lines]
    more = len(found) - MOST_FAILURES
    return found[:MOST_FAILURES] + ([f"  and {more} more of these"] if more > 0 else [])


def _problem(row: dict[str, Any]) -> str:
    """What is wrong with a row: an error that is a number has its reason beside it."""
    return str(row["check"]) if isinstance(row.get("error"), str) else f"{row.get('error')}, {row['check']}"


# ---- times ----


Shapes = dict[str, list[dict[str, Any]]]


def _shapes(path: Path) -> Shapes:
    """The rows of each shape and dtype, by its name; many features first."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    shapes: Shapes = {}
    for row in sorted(rows, key=lambda row: row["d"] < MANY_FEATURES):
        shapes.setdefault(f"{row['rows']:,} x {row['d']:,} {row['dtype']}", []).append(row)
    return shapes


def _target_lines(shapes: Shapes) -> Iterator[str]:
    """Times, what part of each the limit explains, and errors, of contenders that have a target."""
    for shape, rows in shapes.items():
        found = []
        for row in (row for row in rows if _name(row) in TARGETS):
            limit = f" of {row['limit']}" if "limit" in row else ""
            error = f" error {row['error']:.0e}" if isinstance(row.get("error"), float) else ""
            found.append(_timed(row) + limit + error)
        if found:
            yield f"{shape}: {'; '.join(found)}"


def _other_lines(shapes: Shapes) -> Iterator[str]:
    """Times of the others, and what part of each the limit explains."""
    for shape, rows in shapes.items():
        found = [_timed(row) for row in rows if _name(row) not in TARGETS]
        if found:
            yield f"{shape}: {'; '.join(found)}"


def _name(row: dict[str, Any]) -> str:
    return str(row["contender"]).removeprefix("nrc_fast ")


def _timed(row: dict[str, Any]) -> str:
    """A contender with its time; or what is wrong with it."""
    if "seconds" not in row:
        return f"{_name(row)} FAILED: {str(row['error'])[:80]}"
    share = f" {row['share of limit']:.0%}" if "share of limit" in row else ""
    check = "" if row.get("check", "ok") == "ok" else f" WRONG: {row['check']}"
    return f"{_name(row)} {seconds(row['seconds'])}{check}{share}"


# ---- ceilings ----


def _ceilings(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line for each kind."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        facts = [f"{name} {_short(value)}" for name, value in row.items() if name not in ("what", "dtype")]
        kinds.setdefault(row["what"], []).append(" ".join([*([row["dtype"]] if "dtype" in row else []), *facts]))
    for kind, found in kinds.items():
        yield f"{kind}: {'; '.join(found)}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    print(summary(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
