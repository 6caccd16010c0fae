"""Tables of numbers on pages: each has a caption and heads of columns and rows, and scrolls where it is too wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nrc_fast.base.markup import Markup, element, joined, with_signs

__all__ = ["table"]

# Rows of a table that are shown before somebody asks for them.
MOST_ROWS = 24


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 0) -> Markup:
    """A table of numbers, but for the first column and the last `words`; a long one opens when it is asked for."""
    lines = [_row(row, words) for row in rows]
    head = element(
        "thead", element("tr", *(_cell("th", text, k, len(header) - words) for k, text in enumerate(header)))
    )
    body = element("tbody", joined("", *lines, ""))
    found = element(
        "table", element("caption", element("span", caption)), head, body, **({"class_": "words"} if words else {})
    )
    shown = element("div", found, class_="scroll", tabindex="0")
    if len(lines) <= MOST_ROWS:
        return shown
    return element("details", element("summary", f"{caption}: {len(lines):,} rows"), shown)


def _row(texts: Sequence[str], words: int) -> Markup:
    first, *others = texts
    cells = [_cell("td", text, k, len(texts) - words) for k, text in enumerate(others, start=1)]
    return element("tr", element("th", with_signs(first), scope="row"), *cells)


def _cell(kind: str, text: str, k: int, end: int) -> Markup:
    scope = {"scope": "col"} if kind == "th" else {}
    classes = {"class_": "number"} if 0 < k < end else {}
    return element(kind, with_signs(text), **scope, **classes)
