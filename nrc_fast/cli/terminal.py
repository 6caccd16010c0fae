"""Text on a terminal: lines that fit its width without a broken number, and weight and colour by rich."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from typing import TextIO

from nrc_fast.base.libraries import require_library

__all__ = ["fitting", "is_styled", "write_styled"]

# A value stays beside its bound and behind its name: spaces that are not broken stand between them meanwhile.
FIXED_SPACE = "\N{NO-BREAK SPACE}"
TOGETHER = r" +\+- |(?<=[A-Za-z0-9=]) (?=[-+]?\.?\d)"
NOTE = "note: "
NARROWEST = 40
# What is made to stand out, by rich's names of styles.
STYLES = (
    (r"(?<!\S)\S+(?= +\+- )", "bold"),
    (r"\+- \S+", "dim"),
    (r"\bNRC[123]\b", "cyan"),
    (rf"(?m)^{NOTE}", "yellow"),
)


def fitting(text: str, width: int) -> str:
    """A text in which lines that are longer than a terminal is wide go on below, indented as what they tell is.

    Examples
    --------
    >>> print(fitting("  explained variance of components    0.3599, 0.2783, 0.2061", 50))
      explained variance of components    0.3599,
                                          0.2783,
                                          0.2061
    >>> print(fitting("note: the penalties leave c open: the UFM is shown at c = gamma", 45))
    note: the penalties leave c open: the UFM is
          shown at c = gamma
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, max(width, NARROWEST)))


def _parts(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    kept = re.sub(TOGETHER, lambda match: match[0].replace(" ", FIXED_SPACE), line)
    gap = re.match(r" +\S.* {2,}(?=\S)", kept)
    indent = len(gap[0]) if gap else len(NOTE) if line.startswith(NOTE) else len(line) - len(line.lstrip()) + 2
    if indent > 4 * width // 5:
        indent = len(line) - len(line.lstrip()) + 4
    wrapper = textwrap.TextWrapper(
        width=width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return [part.replace(FIXED_SPACE, " ") for part in wrapper.wrap(kept)]


def is_styled(file: TextIO) -> bool:
    """Whether text on a file may have weight and colour: a terminal that knows them, and no wish against it.

    The environment variables NO_COLOR (https://no-color.org) and TERM=dumb are such wishes.
    """
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_styled(text: str, file: TextIO) -> None:
    """Print text on a terminal, with weight and colour where rich is installed; the first line is the title."""
    width = shutil.get_terminal_size().columns
    lines = fitting(text, width)
    if is_styled(file):
        try:
            console, rich_text = require_library("rich.console", "terminal"), require_library("rich.text", "terminal")
        except ImportError:
            pass
        else:
            styled = rich_text.Text(lines)
            for pattern, style in STYLES:
                styled.highlight_regex(pattern, style)
            styled.stylize("bold", 0, len(fitting(text.partition("\n")[0], width)))
            console.Console(file=file, highlight=False, soft_wrap=True).print(styled)
            return
    print(lines, file=file, flush=True)
