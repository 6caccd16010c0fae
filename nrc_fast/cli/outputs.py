"""Files that commands write: none is one of those that the command reads."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nrc_fast.base.outputs import require_apart
from nrc_fast.training.saved_models import matching

__all__ = ["OUTPUTS", "require_outputs_apart"]

# Options of all commands that name files, by the names that argparse gives them.
OUTPUTS = ("plot", "html", "csv", "output", "save_stats", "checkpoint")
INPUTS = ("features", "targets", "weights", "bias", "parts", "data", "source", "sources")


def require_outputs_apart(options: argparse.Namespace, more: Iterable[Path] = ()) -> None:
    """Check that no output is an input, nor another output.

    Parameters
    ----------
    options : argparse.Namespace
    more : iterable of Path
        Files that are read too, such as those behind an index.

    Raises
    ------
    ValueError
        Two are one file.
    """
    outputs = {f"--{name.replace('_', '-')}": getattr(options, name, None) for name in OUTPUTS}
    require_apart(outputs, [*_inputs(options), *more])


def _inputs(options: argparse.Namespace) -> Iterator[str | Path]:
    for name in INPUTS:
        given = getattr(options, name, None)
        values = given if isinstance(given, list) else [given]
        # What is no file is a pattern, or an error of the command to come.
        for value in filter(None, values):
            yield from [value] if Path(value).exists() else glob.glob(str(value), recursive=True)  # noqa: PTH207
    with suppress(FileNotFoundError):  # of a folder without checkpoints
        yield from matching(getattr(options, "checkpoints", None) or [])
    place, colon, _ = (getattr(options, "model", None) or "").rpartition(":")
    if colon:
        yield place
