"""The commands ``nrc-fast plot`` and ``report``, and reading results that were stored as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nrc_fast.cli.inputs import Commands
from nrc_fast.cli.printing import say
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.compared import Compared
from nrc_fast.reports.comparisons import compare
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.pages import write_page
from nrc_fast.reports.plots.panels import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["add_plot", "add_report", "load_stored", "which_gamma"]

_KINDS: dict[str, type[Compared]] = {
    "nrc1_by_k": Report,
    "head_grams": History,
    "layers": DeepReport,
    "nc1": ClassReport,
}


def add_plot(commands: Commands) -> None:
    """Add ``plot`` to the commands."""
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
    save_figure(figure, options.plot)
    _say_path(options.plot, options)


def _drawn(stored: Compared, options: argparse.Namespace) -> Figure:
    if isinstance(stored, ClassReport):
        msg = f"{options.source} holds a report of classes, which has no plot; nrc-fast report shows its numbers"
        raise TypeError(msg)
    return stored.plot(which_gamma(options.gamma)) if isinstance(stored, History) else stored.plot()


def _drawn_together(parts: Mapping[str, Compared], options: argparse.Namespace) -> Figure:
    try:
        return compare(parts, which_gamma(options.gamma)).plot()
    except TypeError as error:
        msg = f"{options.source} holds results that cannot be drawn together: {error}; see nrc-fast report"
        raise TypeError(msg) from error


def which_gamma(text: str) -> GammaChoice:
    """The gamma of an option: a number, or a word as it is."""
    try:
        return float(text)
    except ValueError:
        return cast("GammaChoice", text)  # the history says what is wrong


def add_report(commands: Commands) -> None:
    """Add ``report`` to the commands."""
    command = commands.add_parser(
        "report", help="one self-contained HTML page of reports, histories, Deep NRC and classes"
    )
    command.set_defaults(run=_report)
    command.add_argument(
        "sources", nargs="+", help="JSON files that --json has printed or to_json written; - for the standard input"
    )
    command.add_argument("-o", "--output", type=Path, default=Path("nrc.html"), help="default: nrc.html")
    command.add_argument("--title", default="Neural regression collapse", help="heading of the page")
    command.add_argument("--json", action="store_true", help="print the path as JSON")


def _report(options: argparse.Namespace) -> None:
    parts = [part for source in options.sources for part in load_stored(source).items()]
    write_page(options.output, parts, options.title)
    _say_path(options.output, options)


def _say_path(path: Path, options: argparse.Namespace) -> None:
    say(json.dumps({"output": str(path)}) if options.json else f"written to {path}")


def load_stored(source: str) -> dict[str, Compared]:
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
    except (ValueError, RecursionError) as error:
        msg = f"{source} is no JSON: {error}"
        raise ValueError(msg) from error
    several = values if isinstance(values, dict) and values and not _kind_of(values) else None
    if several is None:
        several = {Path(source).stem if source != "-" else "report": values}
    return {name: _restored(part, source) for name, part in several.items()}


def _kind_of(values: object) -> type[Compared] | None:
    return next((kind for key, kind in _KINDS.items() if isinstance(values, dict) and key in values), None)


def _restored(values: Any, source: str) -> Compared:
    kind = _kind_of(values)
    if kind is None:
        msg = (
            f"{source} holds no report (nrc-fast measure --json, or to_json of one of layers or classes) and no "
            "history (nrc-fast sweep or demo --json, History.to_json)"
        )
        raise ValueError(msg)
    try:
        found: Compared = kind.from_dict(values)
    except (ValueError, TypeError, LookupError) as error:
        msg = f"{source} is damaged, or was written by another version: {error}"
        raise ValueError(msg) from error
    return found
