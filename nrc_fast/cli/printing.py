"""What commands print: names of files and texts of reports cannot do to a terminal what a program may."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from nrc_fast.base.printable import printable

__all__ = ["say", "warn", "warnings_as_lines"]


def say(text: object, file: TextIO | None = None) -> None:
    """Print text of several lines, such as a report, on the standard output unless another file is given."""
    print(printable(text, keep="\n"), file=file, flush=True)


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
