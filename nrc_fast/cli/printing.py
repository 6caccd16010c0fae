"""What commands print: names of files and texts of reports cannot do to a terminal what a program may."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from nrc_fast.base.printable import printable
from nrc_fast.cli.terminal import write_styled

__all__ = ["in_options", "say", "show", "warn", "warnings_as_lines"]


def in_options(text: str, options: argparse.Namespace | None) -> str:
    """A message of the library in which arguments that are options of the command are called as these are.

    Examples
    --------
    >>> options = argparse.Namespace(target_key=None, nonfinite="raise", n=None)
    >>> in_options("give target_key=, or nonfinite='skip'; with n= it works (n=3)", options)
    'give --target-key, or --nonfinite skip; with -n it works (n=3)'
    """

    def option(match: re.Match[str]) -> str:
        name = match[1].replace("_", "-")
        return ("-" if len(name) == 1 else "--") + name + (f" {match[2]}" if match[2] else "")

    names = "|".join(vars(options)) if options is not None else ""
    return re.sub(rf"(?<![\w./-])({names})=(?:'([\w.-]+)'|(?![\w'\"]))", option, text) if names else text


def say(text: object, file: TextIO | None = None) -> None:
    """Print text of several lines, such as a report, on the standard output unless another file is given."""
    print(printable(text, keep="\n"), file=file, flush=True)


def show(result: object, file: TextIO | None = None) -> None:
    """Print a result for people: on a terminal in lines that fit it, with weight and colour, else as `say` does."""
    stream = sys.stdout if file is None else file
    if stream.isatty():
        write_styled(printable(result, keep="\n"), stream)
    else:
        say(result, stream)


def warn(text: object) -> None:
    """Print one line on the standard error."""
    print(f"nrc-fast: {printable(text)}", file=sys.stderr, flush=True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print what Python warns of as lines of the command, without the place in a file of this package."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: warn(message)
        yield
