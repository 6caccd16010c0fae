"""The command ``nrc-fast completion``: a script by which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from nrc_fast.base.libraries import require_library
from nrc_fast.cli.inputs import Commands
from nrc_fast.cli.outputs import INPUTS, OUTPUTS

__all__ = ["add_completion"]

SHELLS = ("bash", "zsh", "fish", "tcsh")
# Options that are files, by the names that argparse gives them.
FILES = {*INPUTS, *OUTPUTS, "checkpoints"}


def add_completion(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add ``completion`` to the commands of a parser."""
    command = commands.add_parser(
        "completion",
        help="print what makes a shell complete commands, options and files",
        description="Print a script that a shell reads to complete commands, options, their choices and files. It is "
        "made by shtab: pip install 'nrc-fast[terminal]'.",
    )
    command.add_argument("shell", choices=SHELLS)

    def run(options: argparse.Namespace) -> None:
        print(completion(parser, options.shell), end="")

    command.set_defaults(run=run)


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell.

    Raises
    ------
    ImportError
        shtab is not installed.
    ValueError
        The version of shtab that is installed does not know the shell.
    """
    shtab = require_library("shtab", "terminal", "completion needs shtab")
    if shell not in shtab.SUPPORTED_SHELLS:
        msg = f"the installed shtab knows {', '.join(shtab.SUPPORTED_SHELLS)}, and not {shell}; update it"
        raise ValueError(msg)
    for action in _actions(parser):
        if action.dest in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined] # where shtab looks
    return str(shtab.complete(parser, shell=shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Arguments and options of a parser and of its commands."""
    for action in parser._actions:  # argparse offers no other way to them
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from _actions(command)
        else:
            yield action
