"""Where a `Monitor` sends its numbers while a model trains: CSV, lines of JSON, TensorBoard, Weights & Biases.

A logger is any callable ``logger(step, values)``, with values a mapping from names to floats.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nrc_fast.base.files import append_text, write_text
from nrc_fast.base.libraries import require_library
from nrc_fast.base.listing import listing

if TYPE_CHECKING:
    import wandb
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["CsvFile", "JsonLines", "TensorBoard", "WeightsAndBiases"]

__dir__ = listing(__name__, __all__)


class CsvFile:
    """A line for each step, written at once; the first line names the columns.

    Parameters
    ----------
    path : path
        Overwritten when the first line comes.

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
            msg = f"step {step} has values {', '.join(values)}; the columns are {', '.join(self._columns[1:])}"
            raise ValueError(msg)
        line = _csv_line([step, *values.values()])
        if self._columns is None:
            write_text(self.path, _csv_line(columns) + line)
            self._columns = columns
        else:
            append_text(self.path, line)


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


class TensorBoard:
    """Scalars in TensorBoard; what is NaN is left out.

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
