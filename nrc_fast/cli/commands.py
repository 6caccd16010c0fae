"""The commands ``nrc-fast sweep``, ``plot``, ``report`` and ``selftest``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nrc_fast.metrics.conventions import CONVENTIONS
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History, Record
from nrc_fast.reports.pages import Part, write_page
from nrc_fast.training.layers import DeepReport

if TYPE_CHECKING:
    from nrc_fast.training.sweep import CheckpointSweep

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the commands of this module to a parser's."""
    _add_sweep(commands)
    _add_plot(commands)
    _add_report(commands)
    command = commands.add_parser("selftest", help="check every instruction set of this machine against references")
    command.set_defaults(run=_selftest)
    command.add_argument("--json", action="store_true", help="print as JSON")


# ---- sweep ----


def _add_sweep(commands: Any) -> None:
    command = commands.add_parser(
        "sweep",
        help="measure the checkpoints of a training",
        description="Measure checkpoints (.pt, .pth, .ckpt, .safetensors) in the order of the numbers in their names. "
        "Without --model only NRC3 and gamma are known, from the weights of the head.",
    )
    command.set_defaults(run=_sweep)
    command.add_argument("checkpoints", nargs="+", help="files, folders or quoted glob patterns")
    command.add_argument("--head", required=True, help="name of the last linear layer, such as fc")
    command.add_argument("--data", required=True, type=Path, help=".npz file with inputs and targets")
    command.add_argument("--model", help="module:function or file.py:function that builds the model")
    command.add_argument("--inputs-key", default="inputs", help="name in the data, default: inputs")
    command.add_argument("--targets-key", default="targets", help="name in the data, default: targets")
    command.add_argument("--batch-rows", type=int, default=1024, help="rows that the model is given, default: 1024")
    command.add_argument("--features", default="held", choices=["held", "streamed", "again"], help="default: held")
    command.add_argument("--convention", default="nrc24", choices=list(CONVENTIONS), help="default: nrc24")
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
    from nrc_fast.training.sweep import CheckpointSweep, load_model, matching, numbered

    named = ("head", "data", "inputs_key", "targets_key", "batch_rows", "features", "convention")
    model = None if options.model is None else load_model(options.model)
    sweep = CheckpointSweep(model=model, **{name: getattr(options, name) for name in named})
    if not options.json:
        print(_TITLE, flush=True)
    unread: list[str] = []
    if options.follow is not None:
        unread = _follow(sweep, options)
    else:
        for step, path in numbered(matching(options.checkpoints)):
            _show(sweep.add(step, path), options)
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

    These are tried again when they change: a training may have been writing them.
    """
    from nrc_fast.training.sweep import arriving

    unread: dict[str, None] = {}
    with suppress(KeyboardInterrupt):
        for step, path in arriving(options.checkpoints, options.follow, unread):
            try:
                record = sweep.add(step, path)
            except (OSError, ValueError) as error:
                print(f"nrc-fast: {error} (tried again when the file changes)", file=sys.stderr, flush=True)
                unread[path] = None
                continue
            unread.pop(path, None)
            _show(record, options)
            _write(sweep.history, options)
    return list(unread)


def _show(record: Record, options: argparse.Namespace) -> None:
    if not options.json:
        print(_line(record), flush=True)


def _write(history: History, options: argparse.Namespace) -> None:
    if options.csv is not None:
        history.to_csv(options.csv)
    if options.plot is not None:
        history.plot().savefig(options.plot)


_COLUMNS = ("mse", "r2", "nrc1", "nrc1_id25", "nrc2", "nrc3", "gamma", "explained_variance")
_TITLE = f"{'step':>10}" + "".join(f"{name.replace('explained_variance', 'variance'):>12}" for name in _COLUMNS)


def _line(record: Record) -> str:
    return f"{record.step:>10}" + "".join(f"{getattr(record, name):>12.4g}" for name in _COLUMNS)


# ---- plot and report ----


def _add_plot(commands: Any) -> None:
    command = commands.add_parser("plot", help="draw what --json has printed or to_json written")
    command.set_defaults(run=_plot)
    command.add_argument(
        "source", help="JSON file of a report, Deep NRC, one history or several; - for the standard input"
    )
    command.add_argument("-o", "--output", dest="plot", type=Path, default=Path("nrc.png"), help="default: nrc.png")
    command.add_argument("--gamma", default="last", help="of a history's NRC3: last, each or a number; default: last")
    command.add_argument("--json", action="store_true", help="print the path as JSON")


def _plot(options: argparse.Namespace) -> None:
    parts = load_stored(options.source)
    figure = _drawn(next(iter(parts.values())), options) if len(parts) == 1 else _drawn_together(parts, options)
    figure.savefig(options.plot)
    _say_path(options.plot, options)


def _drawn(stored: Part, options: argparse.Namespace) -> Any:
    if isinstance(stored, ClassReport):
        msg = f"{options.source} holds a report of classes, which has no plot; nrc-fast report shows its numbers"
        raise TypeError(msg)
    if isinstance(stored, DeepReport):
        return stored.plot()
    return stored.plot(_gamma(options.gamma)) if isinstance(stored, History) else stored.plot()[0]


def _drawn_together(parts: Mapping[str, Part], options: argparse.Namespace) -> Any:
    from nrc_fast.reports.plots.panels import plot_runs

    runs = {name: part for name, part in parts.items() if isinstance(part, History)}
    if len(runs) < len(parts):
        msg = f"{options.source} holds several reports, of which only histories are drawn together; see nrc-fast report"
        raise TypeError(msg)
    return plot_runs(runs, _gamma(options.gamma))


def _gamma(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text  # "last" and "each"; the history says what else is wrong


def _add_report(commands: Any) -> None:
    command = commands.add_parser(
        "report", help="one self-contained HTML page of reports, histories, Deep NRC and classes"
    )
    command.set_defaults(run=_report)
    command.add_argument(
        "sources", nargs="+", help="JSON files that --json has printed or to_json written; - for the standard input"
    )
    command.add_argument("-o", "--output", type=Path, default=Path("nrc.html"), help="default: nrc.html")
    command.add_argument("--title", default="Neural regression collapse")
    command.add_argument("--json", action="store_true", help="print the path as JSON")


def _report(options: argparse.Namespace) -> None:
    parts = [part for source in options.sources for part in load_stored(source).items()]
    write_page(options.output, parts, options.title)
    _say_path(options.output, options)


def _say_path(path: Path, options: argparse.Namespace) -> None:
    print(json.dumps({"output": str(path)}) if options.json else f"written to {path}")


def load_stored(source: str) -> dict[str, Part]:
    """Reports of any kind and histories by name, from a JSON file, or from the standard input for "-".

    A file with a single one has the name of the file; one may hold several by names of their own, as that of the
    demonstration does.

    Raises
    ------
    OSError
        The file is missing.
    ValueError
        It is no JSON of one of these.
    """
    try:
        values = json.loads(sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{source} is no JSON: {error}"
        raise ValueError(msg) from error
    several = values if isinstance(values, dict) and values and not _kind_of(values) else None
    if several is None:
        several = {Path(source).stem if source != "-" else "report": values}
    return {name: _restored(part, source) for name, part in several.items()}


_KINDS = {"nrc1_by_k": Report, "head_grams": History, "layers": DeepReport, "nc1": ClassReport}


def _kind_of(values: Any) -> Any:
    return next((kind for key, kind in _KINDS.items() if isinstance(values, dict) and key in values), None)


def _restored(values: Any, source: str) -> Part:
    kind = _kind_of(values)
    if kind is None:
        msg = (
            f"{source} holds no report (nrc-fast measure --json, or to_json of one of layers or classes) and no "
            "history (nrc-fast sweep or demo --json, History.to_json)"
        )
        raise ValueError(msg)
    try:
        found: Part = kind.from_dict(values)
    except (ValueError, TypeError, LookupError) as error:
        msg = f"{source} is damaged, or was written by another version: {error}"
        raise ValueError(msg) from error
    return found


# ---- selftest ----


def _selftest(options: argparse.Namespace) -> None:
    from nrc_fast.cli.selftest import run_selftest

    checks = run_selftest()
    failed = [check for check in checks if not check.passed]
    if options.json:
        rows = [asdict(check) | {"passed": check.passed} for check in checks]
        print(json.dumps({"passed": not failed, "checks": rows}, indent=2))
    else:
        print("\n".join(map(str, checks)))
    if failed:
        msg = f"{len(failed)} of {len(checks)} checks failed; please report this with the output of nrc-fast env"
        raise RuntimeError(msg)
