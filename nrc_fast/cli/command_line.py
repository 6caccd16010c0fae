"""The command line: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nrc_fast.base.version import __version__
from nrc_fast.cli.comparisons import add_compare
from nrc_fast.cli.completion import add_completion
from nrc_fast.cli.demo import training
from nrc_fast.cli.error_floors import add_ufm
from nrc_fast.cli.features import add_measure, add_merge
from nrc_fast.cli.health import print_environment, print_selftest
from nrc_fast.cli.help_texts import add_examples
from nrc_fast.cli.outputs import OUTPUTS, require_outputs_apart
from nrc_fast.cli.printing import in_options, warn
from nrc_fast.cli.stored import add_plot, add_report
from nrc_fast.cli.sweeps import add_sweep
from nrc_fast.reports.plots.panels import require_drawable
from nrc_fast.reports.records import without_nan

__all__ = ["command_parser", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0, 1 after an error that was printed to stderr, 130 after Ctrl-C, 141 where who reads the output has gone. Unknown
    options exit with 2.
    """
    options = None
    try:
        try:
            options = command_parser().parse_args(arguments)
            _require_outputs(options)
            options.run(options)
        finally:
            _flush()
    except KeyboardInterrupt:
        checkpoint = getattr(options, "checkpoint", None)
        print(f"stopped; go on with --checkpoint {checkpoint}" if checkpoint else "stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141  # as a program that SIGPIPE ends
    except MemoryError as error:
        print(f"nrc-fast: not enough memory: {error or 'give fewer rows or columns at a time'}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        warn(in_options(str(error), options))
        return 1
    return 0


def _flush() -> None:
    """Write out what was printed; where that fails, keep the interpreter from trying again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _require_outputs(options: argparse.Namespace) -> None:
    """Say that a file cannot be written, or would replace one that is read, before the work is done."""
    require_outputs_apart(options)
    for name in OUTPUTS:
        path = getattr(options, name, None)
        if path is None or name == "checkpoint":
            continue
        if path.is_dir():
            msg = f"{path} cannot be written: it is a folder; name a file"
            raise IsADirectoryError(msg)
        if not path.absolute().parent.is_dir():
            msg = f"{path} cannot be written: there is no folder {path.absolute().parent}"
            raise FileNotFoundError(msg)
        if name == "plot":
            require_drawable(path)


def command_parser() -> argparse.ArgumentParser:
    """All commands with their options and help."""
    parser = argparse.ArgumentParser(
        prog="nrc-fast",
        description="Neural regression collapse of stored features.",
        epilog="nrc-fast measure --help, and so on, shows the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"nrc-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    add_measure(commands)
    add_merge(commands)
    add_sweep(commands)
    add_plot(commands)
    add_report(commands)
    add_compare(commands)
    command = commands.add_parser("selftest", help="check every instruction set of this machine against references")
    command.set_defaults(run=print_selftest)
    command.add_argument("--json", action="store_true", help="print as JSON")
    add_ufm(commands)

    command = commands.add_parser("demo", help="train on recorded demonstrations and watch features collapse")
    command.set_defaults(run=_demo)
    command.add_argument("--quick", action="store_true", help="fewer steps, under 40 s")
    command.add_argument("--data", type=Path, help="another recording (.npz with observations and actions)")
    command.add_argument("--plot", type=Path, default=Path("collapse.png"), help="default: collapse.png")
    command.add_argument(
        "--json",
        action="store_true",
        help="print the histories as JSON, for nrc-fast plot and report, and the tables to stderr",
    )

    command = commands.add_parser("env", help="versions, instruction sets and threads, for reports of problems")
    command.set_defaults(run=print_environment)
    command.add_argument("--json", action="store_true", help="print as JSON")
    add_completion(commands, parser)
    add_examples(commands)
    return parser


def _demo(options: argparse.Namespace) -> None:
    out = sys.stderr if options.json else sys.stdout
    results = training.run(quick=options.quick, data=options.data, plot=options.plot, out=out)
    if options.json:
        print(json.dumps(without_nan({result.name: result.recorded.to_dict() for result in results}), indent=1))
