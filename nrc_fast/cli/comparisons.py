"""The command ``nrc-fast compare``: stored results of several runs, side by side."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nrc_fast.cli.inputs import Commands
from nrc_fast.cli.printing import say, show
from nrc_fast.cli.stored import load_stored, which_gamma
from nrc_fast.reports.compared import Compared
from nrc_fast.reports.comparisons import compare
from nrc_fast.reports.pages import write_page
from nrc_fast.reports.records import without_nan

__all__ = ["add_compare"]


def add_compare(commands: Commands) -> None:
    """Add ``compare`` to the commands."""
    command = commands.add_parser(
        "compare",
        help="one table of several reports or histories",
        description="Put results that --json has printed or to_json written side by side: histories and reports of "
        "features, or reports of classes, or of layers. Of a history the last step is shown.",
    )
    command.set_defaults(run=_compare)
    command.add_argument("sources", nargs="+", help="JSON files; - for the standard input")
    command.add_argument("--gamma", default="last", help="of a history's NRC3: last, each or a number; default: last")
    command.add_argument("--json", action="store_true", help="print the table as JSON")
    command.add_argument("--plot", type=Path, help="also draw all runs together to this file")
    command.add_argument("--html", type=Path, help="also write them as one HTML page")


def _compare(options: argparse.Namespace) -> None:
    runs = _named(options.sources)
    comparison = compare(runs, which_gamma(options.gamma))
    if options.json:
        say(json.dumps(without_nan(comparison.to_dict()), indent=2))
    else:
        show(comparison)
    if options.plot is not None:
        comparison.plot(path=options.plot)
    if options.html is not None:
        write_page(options.html, runs.items(), gamma=comparison.gamma)


def _named(sources: Sequence[str]) -> dict[str, Compared]:
    """The results of files by name; those of one name are told apart by the paths of their files."""
    found = [(source, name, part) for source in sources for name, part in load_stored(source).items()]
    counts = Counter(name for _, name, _ in found)
    runs: dict[str, Compared] = {}
    for source, name, part in found:
        own = name
        if counts[name] > 1:
            path = Path(source).with_suffix("")
            own = str(path) if path.name == name else f"{path}: {name}"
        if own in runs:
            msg = f"{source} was given twice"
            raise ValueError(msg)
        runs[own] = part
    return runs
