"""The command ``nrc-fast sweep``: a table of the checkpoints of a training, also as they arrive."""

from __future__ import annotations

import argparse
import math
from contextlib import suppress
from pathlib import Path

from nrc_fast.cli.inputs import Commands
from nrc_fast.cli.printing import warn, warnings_as_lines
from nrc_fast.metrics.conventions import CONVENTIONS
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.training.saved_models import arriving, load_model, matching, numbered
from nrc_fast.training.sweep import CheckpointSweep

__all__ = ["add_sweep"]

_COLUMNS = ("mse", "r2", "nrc1", "nrc1_id25", "nrc2", "nrc3", "gamma", "explained_variance")
# A line has 80 columns: one more than the longest name of a number, and than the longest number.
_STEP, _WIDTH = 7, 9
_WIDTHS = {name: max(_WIDTH, len(name.removeprefix("explained_")) + 1) for name in _COLUMNS}
_TITLE = f"{'step':>{_STEP}}" + "".join(
    f"{name.removeprefix('explained_'):>{width}}" for name, width in _WIDTHS.items()
)


def add_sweep(commands: Commands) -> None:
    """Add ``sweep`` to the commands."""
    command = commands.add_parser(
        "sweep",
        help="measure the checkpoints of a training",
        description="Measure checkpoints (.pt, .pth, .ckpt, .safetensors) in the order of the numbers in their names. "
        "Without --model only NRC3 and gamma are known, from the weights of the head. Where the head is right above "
        "another linear layer in a Sequential, a column tells how far both are from balance.",
    )
    command.set_defaults(run=_sweep)
    command.add_argument("checkpoints", nargs="+", help="files, folders or quoted glob patterns")
    command.add_argument("--head", required=True, help="name of the last linear layer, such as fc")
    command.add_argument("--data", required=True, type=Path, help=".npz file with inputs and targets")
    command.add_argument("--model", help="module:function or file.py:function that builds the model")
    command.add_argument("--inputs-key", default="inputs", help="name in the data, default: inputs")
    command.add_argument("--targets-key", default="targets", help="name in the data, default: targets")
    command.add_argument("--batch-rows", type=int, default=1024, help="rows that the model is given, default: 1024")
    command.add_argument(
        "--features",
        default="held",
        choices=["held", "streamed", "again"],
        help="kept while measured, added up, or made anew for each read; default: held",
    )
    command.add_argument(
        "--convention", default="nrc24", choices=list(CONVENTIONS), help="definition of NRC1 and NRC2, default: nrc24"
    )
    command.add_argument(
        "--follow",
        type=float,
        metavar="SECONDS",
        help="look for new checkpoints so often until Ctrl-C, rewriting --csv and --plot after each; a file that "
        "cannot be read is tried again when it changes, and the exit code is 1 if one stays unread",
    )
    command.add_argument("--json", action="store_true", help="print the history as JSON, for nrc-fast plot and report")
    command.add_argument("--csv", type=Path, help="also write the records, NRC3 for the gamma of the last")
    command.add_argument("--plot", type=Path, help="also draw the history, NRC3 for the gamma of the last")


def _sweep(options: argparse.Namespace) -> None:
    named = ("head", "data", "inputs_key", "targets_key", "batch_rows", "features", "convention")
    model = None if options.model is None else load_model(options.model)
    sweep = CheckpointSweep(model=model, **{name: getattr(options, name) for name in named})
    if not options.json:
        print(_TITLE + (f"{'balance':>{_WIDTH}}" if sweep.has_balance else ""), flush=True)
    unread: list[str] = []
    with warnings_as_lines():
        if options.follow is not None:
            unread = _follow(sweep, options)
        else:
            for step, path in numbered(matching(options.checkpoints)):
                _show(sweep.add(step, path), sweep, options)
            _write(sweep.history, options)
    if options.json:
        print(sweep.history.to_json())
    elif sweep.history.records():
        last = sweep.history.records()[-1]
        print(
            f"\nNRC3 is that of each step's own gamma; --csv and --plot show it for the last one, {last.gamma:.4g}, "
            "as the paper does"
        )
        if model is None:
            print("All but NRC3 and gamma is nan: the features come from a model (--model), which was not given")
    if unread:
        msg = f"{len(unread)} of the checkpoints could not be measured: {', '.join(unread)}"
        raise OSError(msg)


def _follow(sweep: CheckpointSweep, options: argparse.Namespace) -> list[str]:
    """Measure checkpoints as they come; Ctrl-C is how that ends. Returns the files that could not be measured.

    These are tried again when they change: a training may have been writing them. Whatever one checkpoint, the model
    with its weights or a full disk brings about, the next may do.
    """
    unread: dict[str, None] = {}
    with suppress(KeyboardInterrupt):
        for step, path in arriving(options.checkpoints, options.follow, unread):
            try:
                record = sweep.add(step, path)
            except Exception as error:
                reason = str(error) or type(error).__name__
                _complain(reason if path in reason else f"{path}: {reason}", "tried again when the file changes")
                unread[path] = None
                continue
            unread.pop(path, None)
            _show(record, sweep, options)
            try:
                _write(sweep.history, options)
            except Exception as error:
                _complain(str(error) or type(error).__name__, "tried again after the next checkpoint")
    return list(unread)


def _complain(reason: str, hope: str) -> None:
    warn(f"{' '.join(reason.split())} ({hope})")


def _show(record: Record, sweep: CheckpointSweep, options: argparse.Namespace) -> None:
    if not options.json:
        balance = sweep.balances[record.step]
        beside = "" if math.isnan(balance) else f"{_digits(balance, _WIDTH - 1):>{_WIDTH}}"
        print(_line(record) + beside, flush=True)


def _write(history: History, options: argparse.Namespace) -> None:
    if options.csv is not None:
        history.to_csv(options.csv)
    if options.plot is not None:
        history.plot(path=options.plot)


def _line(record: Record) -> str:
    values = (f"{_digits(getattr(record, name), width - 1):>{width}}" for name, width in _WIDTHS.items())
    return f"{record.step:>{_STEP}}{''.join(values)}"


def _digits(value: float, width: int) -> str:
    """A number with as many of four digits as its column has room for."""
    texts = (f"{value:.{digits}g}" for digits in (4, 3, 2))
    return next((text for text in texts if len(text) <= width), f"{value:.1g}")
