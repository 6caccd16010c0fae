"""What bench/gpu.sh found, in few lines: the ceilings, what is wrong, and the time of every kernel.

python bench/card_summary.py build/gpu
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from report import seconds

# The end of an output may be all that is shown of it.
MOST_CHARACTERS = 9_000
MOST_FAILURES = 12  # of the tests; the file has all


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
    for row in json_lines(folder / "ceilings.jsonl"):
        yield "; ".join(f"{name} {_short(value)}" for name, value in row.items())
    smoke = json_lines(folder / "smoke.jsonl")
    wrong = [row for row in smoke if row["check"] != "ok"]
    yield f"kernels once against float64: {len(smoke) - len(wrong)} of {len(smoke)} are right"
    yield from (f"  WRONG {row['kernel']}, {row['d']} {row['dtype']}: {row['error']}, {row['check']}" for row in wrong)
    yield from _failures(folder / "tests.txt", ("FAILED ", "ERROR "))
    yield from _failures(folder / "sanitizer.txt", ("ERROR SUMMARY", "RACECHECK SUMMARY"))
    yield from _kernel_lines(folder / "cuda_kernels.json")


def _failures(path: Path, words: tuple[str, ...]) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [line[:200] for line in lines if any(word in line for word in words)][:MOST_FAILURES]


def _kernel_lines(path: Path) -> Iterator[str]:
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    shape = None
    for row in rows:
        if shape != (shape := (row["rows"], row["d"], row["dtype"])):
            yield f"{row['rows']:,} x {row['d']:,} {row['dtype']}"
        if "seconds" not in row:
            yield f"  {row['contender']}: {row['error']}"
            continue
        share = f", {row['share of limit']:.0%} of {row['limit']}" if "share of limit" in row else ""
        error = f", {row['error']:.0e}" if "error" in row else ""
        check = "" if row.get("check", "ok") == "ok" else f" WRONG: {row['check']}"
        yield f"  {row['contender'].removeprefix('nrc_fast ')}: {seconds(row['seconds'])}{share}{error}{check}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    print(summary(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
