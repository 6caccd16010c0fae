"""Tables of numbers on pages: each has a caption and heads of columns and rows, and scrolls where it is too wide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nrc_fast.base.markup import Markup, element, joined, with_signs

__all__ = ["grouped_table", "table"]

# Rows of a table that are shown before somebody asks for them.
MOST_ROWS = 24


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 0) -> Markup:
    """A table of numbers, but for the first column and the last `words`; a long one opens when it is asked for."""
    lines = [_row(row, words) for row in rows]
    shown = _scrolled(caption, _head(header, words), [_body(lines)], **({"class_": "words"} if words else {}))
    if len(lines) <= MOST_ROWS:
        return shown
    return element("details", element("summary", f"{caption}: {len(lines):,} rows"), shown)


def grouped_table(caption: str, header: Sequence[str], groups: Mapping[str, Iterable[Sequence[str]]]) -> Markup:
    """A table whose rows stand below the headings of their groups."""
    bodies = []
    for heading, rows in groups.items():
        first = element("tr", element("th", heading, scope="rowgroup", colspan=str(len(header)), class_="group"))
        bodies.append(_body([first, *(_row(row, 0) for row in rows)]))
    return _scrolled(caption, _head(header, 0), bodies)


def _head(header: Sequence[str], words: int) -> Markup:
    cells = [_cell("th", text, k, len(header) - words) for k, text in enumerate(header)]
    return element("thead", element("tr", *cells))


def _body(lines: Sequence[Markup]) -> Markup:
    return element("tbody", joined("", *lines, ""))


def _scrolled(caption: str, head: Markup, bodies: Sequence[Markup], **attributes: str) -> Markup:
    found = element("table", element("caption", element("span", caption)), head, *bodies, **attributes)
    return element("div", found, class_="scroll", tabindex="0")


def _row(texts: Sequence[str], words: int) -> Markup:
    first, *others = texts
    cells = [_cell("td", text, k, len(texts) - words) for k, text in enumerate(others, start=1)]
    return element("tr", element("th", with_signs(first), scope="row"), *cells)


def _cell(kind: str, text: str, k: int, end: int) -> Markup:
    scope = {"scope": "col"} if kind == "th" else {}
    classes = {"class_": "number"} if 0 < k < end else {}
    return element(kind, with_signs(text), **scope, **classes)
