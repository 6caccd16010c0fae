"""What a run has measured so far: rows, the machine and its limits, in a file that is whole after every row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from limits import largest, shared_anew
from machine import describe
from probes import measure_limits
from report import line

__all__ = ["Record", "write"]


class Record:
    """The rows of one run, shared by the largest limits of all moments that were probed.

    Parameters
    ----------
    command : str
    threads : int
    isa : str
        Of the kernels.
    out : Path, optional
        Where to keep it.
    """

    def __init__(self, command: str, threads: int, isa: str, out: Path | None = None) -> None:
        self._threads, self._isa, self._out = threads, isa, out
        self._moments: list[dict[str, float]] = []
        self._facts = {"command": command, "machine": describe(threads)}
        self.rows: list[dict[str, Any]] = []

    @property
    def limits(self) -> dict[str, float]:
        """The largest of all moments."""
        return largest(self._moments)

    def probe(self) -> None:
        """Look at the machine's limits once more; rows that are there are shared anew."""
        self._moments.append(measure_limits(self._threads, self._isa))
        print(f"limits of {self._threads} threads, {self._isa}: {json.dumps(self._moments[-1])}", flush=True)
        self.rows = [shared_anew(row, self.limits) for row in self.rows]
        self._keep()

    def add(self, row: dict[str, Any]) -> None:
        """Another row."""
        self.rows.append(row)
        print(line(row), flush=True)
        self._keep()

    def _keep(self) -> None:
        if self._out is None:
            return
        ends = {"limits at the start": self._moments[0], "limits at the end": self._moments[-1]}
        write({**self._facts, "limits": self.limits, **ends, "rows": self.rows}, self._out)


def write(record: dict[str, Any], path: Path) -> None:
    """As JSON, or the rows alone as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".csv":
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return
    names = list(dict.fromkeys(name for row in record["rows"] for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(record["rows"])
