"""What a run has measured so far: rows, the machine and its limits, in a file that is whole after every row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from limits import largest, shared_anew
from machine import describe
from probes import measure_limits
from report import line

__all__ = ["Record", "append", "write"]


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
    measured : callable, optional
        Gives the limits of this moment; by default those of this processor.
    """

    def __init__(
        self,
        command: str,
        threads: int,
        isa: str,
        out: Path | None = None,
        *,
        measured: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self._out = out
        self._measured = partial(measure_limits, threads, isa) if measured is None else measured
        self._place = f"{threads} threads, {isa}" if measured is None else "the card"
        self._moments: list[dict[str, float]] = []
        self._facts = {"command": command, "machine": describe(threads)}
        self.rows: list[dict[str, Any]] = []

    @property
    def limits(self) -> dict[str, float]:
        """The largest of all moments."""
        return largest(self._moments)

    def take_up(self) -> None:
        """Begin with what a process before this one has kept in the same file of JSON."""
        if self._out is not None and self._out.exists():
            kept = json.loads(self._out.read_text(encoding="utf-8"))
            self._moments, self.rows = [kept["limits at the start"], kept["limits"]], kept["rows"]

    def probe(self) -> None:
        """Look at the machine's limits once more; rows that are there are shared anew."""
        self._moments.append(self._measured())
        print(f"limits of {self._place}: {json.dumps(self._moments[-1])}", flush=True)
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


def append(row: dict[str, Any], path: Path) -> None:
    """A row as one more line of JSON, on its way to the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def write(record: dict[str, Any], path: Path) -> None:
    """As JSON, or the rows alone as CSV; whoever ends this run in the midst of it leaves the file before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        if path.suffix != ".csv":
            file.write(json.dumps(record, indent=1) + "\n")
        else:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in record["rows"] for name in row)))
            writer.writeheader()
            writer.writerows(record["rows"])
    part.replace(path)
