"""Where a `Monitor` sends its numbers while a model trains: CSV, lines of JSON, TensorBoard, Weights & Biases.

A logger is any callable ``logger(step, values)``, with values a mapping from names to floats. One that can take steps
back has a method ``forget(first, last=None)``, which is called where a training goes on from an earlier step.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nrc_fast.base.files import append_text, write_text
from nrc_fast.base.libraries import require_library

if TYPE_CHECKING:
    import wandb
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["CsvFile", "Destination", "JsonLines", "Logger", "TensorBoard", "WeightsAndBiases", "loggers_of"]

Logger: TypeAlias = Callable[[int, dict[str, float]], object]
# What becomes a logger: a path, a writer of TensorBoard, a run of Weights & Biases; or a logger.
Destination: TypeAlias = "Logger | str | Path | SummaryWriter | wandb.Run"


def loggers_of(destinations: Destination | Sequence[Destination]) -> tuple[Logger, ...]:
    """The loggers that one destination or several stand for.

    Parameters
    ----------
    destinations : destination or sequence of them
        A path that ends in .csv or .jsonl, a ``SummaryWriter``, a run of Weights & Biases, or a callable.

    Raises
    ------
    TypeError, ValueError
        One is none of these.

    Examples
    --------
    >>> loggers_of("run.csv")[0].path.name, loggers_of([print]) == (print,)
    ('run.csv', True)
    """
    several = destinations if isinstance(destinations, (list, tuple)) else (destinations,)
    return tuple(_logger_of(one) for one in several)


def _logger_of(destination: Any) -> Logger:
    if isinstance(destination, (str, Path)):
        return _file_logger(Path(destination))
    if hasattr(destination, "add_scalar"):
        return TensorBoard(destination)
    if hasattr(destination, "define_metric") and hasattr(destination, "log"):
        return WeightsAndBiases(destination)
    if callable(destination):
        return cast("Logger", destination)
    msg = (
        f"a logger is a {type(destination).__name__}; a callable logger(step, values), a path that ends in .csv or "
        ".jsonl, a SummaryWriter of TensorBoard or a run of Weights & Biases is expected"
    )
    raise TypeError(msg)


def _file_logger(path: Path) -> Logger:
    kinds: dict[str, Callable[[Path], Logger]] = {".csv": CsvFile, ".jsonl": JsonLines}
    if path.suffix.lower() not in kinds:
        msg = (
            f"the logger {path} does not say what it is to hold; a path that ends in .csv or .jsonl is expected, or "
            "TensorBoard(folder) of nrc_fast.integrations.loggers"
        )
        raise ValueError(msg)
    return kinds[path.suffix.lower()](path)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without one that has no end: a process was killed at it."""
    with path.open(newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]


def _is_forgotten(step: object, first: int, last: int | None) -> bool:
    return isinstance(step, int) and step >= first and (last is None or step <= last)


class CsvFile:
    """A line for each step, written at once; the first line names the columns.

    Parameters
    ----------
    path : path
        Overwritten when the first line comes, unless a training goes on that has written to it.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        A later step has other values, or there is a file that is no text.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.csv"
    >>> logger = CsvFile(path)
    >>> logger(0, {"nrc1": 0.5}); logger(10, {"nrc1": 0.25})
    >>> path.read_text().split()
    ['step,nrc1', '0,0.5', '10,0.25']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._columns: list[str] | None = None

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        columns = ["step", *values]
        if self._columns is not None and columns != self._columns:
            known = ", ".join(self._columns[1:])
            msg = (
                f"step {step} has values {', '.join(values)}; the columns of {self.path} are {known}: give another path"
            )
            raise ValueError(msg)
        line = _csv_line([step, *values.values()])
        if self._columns is None:
            write_text(self.path, _csv_line(columns) + line)
            self._columns = columns
        else:
            append_text(self.path, line)

    def forget(self, first: int, last: int | None = None) -> None:
        """Take the lines of steps from `first` on, up to `last`, out of the file; what comes is added to the others."""
        if not self.path.is_file():
            return
        rows = list(csv.reader(_whole_lines(self.path)))
        if not rows or rows[0][:1] != ["step"]:
            return  # written by somebody else: overwritten, as any file is
        kept = [row for row in rows[1:] if row and not _is_forgotten(_whole(row[0]), first, last)]
        self._columns = rows[0] if kept else None
        if kept:
            write_text(self.path, "".join(map(_csv_line, (rows[0], *kept))))


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _csv_line(values: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


class JsonLines:
    r"""A JSON object for each step, one on a line, appended at once; NaN becomes null.

    Parameters
    ----------
    path : path

    Raises
    ------
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.jsonl"
    >>> JsonLines(path)(10, {"nrc1": 0.25, "nrc3": float("nan")})
    >>> path.read_text()
    '{"step": 10, "nrc1": 0.25, "nrc3": null}\n'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        append_text(self.path, json.dumps({"step": step} | plain) + "\n")

    def forget(self, first: int, last: int | None = None) -> None:
        """Take the lines of steps from `first` on, up to `last`, out of the file."""
        if not self.path.is_file():
            return
        lines = _whole_lines(self.path)
        write_text(self.path, "".join(line for line in lines if not _is_forgotten(_step_of(line), first, last)))


def _step_of(line: str) -> object:
    """The step of a line; None of one that this logger has not written."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values.get("step") if isinstance(values, dict) else None


class TensorBoard:
    """Scalars in TensorBoard; what is NaN is left out.

    Of a training that goes on from an earlier step, a writer that was made with ``purge_step=`` takes the later steps
    back.

    Parameters
    ----------
    writer : torch.utils.tensorboard.SummaryWriter or path
        A writer of one's own, or the folder of a new one.
    prefix : str
        What stands before every name.

    Raises
    ------
    ImportError
        A folder was given and tensorboard is not installed.
    """

    def __init__(self, writer: SummaryWriter | str | Path, prefix: str = "nrc/") -> None:
        self.writer: SummaryWriter = writer if not isinstance(writer, (str, Path)) else _new_writer(writer)
        self.prefix = prefix

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        for name, value in values.items():
            if not math.isnan(value):
                self.writer.add_scalar(self.prefix + name, value, step)

    def close(self) -> None:
        """Write out what is waiting and close the writer."""
        self.writer.close()


def _new_writer(folder: str | Path) -> SummaryWriter:
    writer: SummaryWriter = require_library("torch.utils.tensorboard", "monitor").SummaryWriter(str(folder))
    return writer


class WeightsAndBiases:
    """Scalars of a Weights & Biases run, one call of ``log`` for each step; what is NaN is left out.

    They have a step of their own, ``<prefix>step``, as wandb wants its own step to grow with every call of the
    training's.

    Parameters
    ----------
    run : wandb.Run
        What ``wandb.init()`` returns.
    prefix : str
        What stands before every name.
    """

    def __init__(self, run: wandb.Run, prefix: str = "nrc/") -> None:
        self.run = run
        self.prefix = prefix
        run.define_metric(f"{prefix}step")
        run.define_metric(f"{prefix}*", step_metric=f"{prefix}step")

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        plain = {self.prefix + name: value for name, value in values.items() if not math.isnan(value)}
        self.run.log({f"{self.prefix}step": step} | plain)
