"""What commands print: names of files and texts of reports cannot do to a terminal what a program may."""

from __future__ import annotations

import sys
from typing import TextIO

from nrc_fast.base.printable import printable

__all__ = ["say", "warn"]


def say(text: object, file: TextIO | None = None) -> None:
    """Print text of several lines, such as a report, on the standard output unless another file is given."""
    print(printable(text, keep="\n"), file=file, flush=True)


def warn(text: object) -> None:
    """Print one line on the standard error."""
    print(f"nrc-fast: {printable(text)}", file=sys.stderr, flush=True)
