"""What a notebook shows of a result: sentences first, then small curves and numbers, then notes that can be opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nrc_fast.base.markup import Markup, element, joined, with_signs

__all__ = ["card", "chart_grid", "heading_of_rows"]

# Set on the elements: notebooks that do not trust a page take its style sheets away. Colours are those of the text
# around, with more or less of it, so that light and dark notebooks both show them.
CELL = "text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: middle; background: transparent;"
NUMBER = "font-variant-numeric: tabular-nums; white-space: nowrap;"
NOTE = "border-left: 3px solid #b8730a; padding: .1rem .6rem; margin: .3rem 0;"


def card(
    title: str,
    sentences: Iterable[str] = (),
    rows: Iterable[Sequence[object]] = (),
    *,
    header: Sequence[str] = (),
    below: Iterable[Markup] = (),
    notes: Iterable[str] = (),
) -> str:
    """HTML for a cell of a notebook: nothing of it is a script, and all but `Markup` is escaped.

    Parameters
    ----------
    title : str
        What the result is of, in small letters.
    sentences : iterable of str
        What it says; the first stands out.
    rows : iterable of sequences
        A table: the first of a row is its name, and the others are text or `Markup`.
    header : sequence of str
        Names of the columns of the table.
    below : iterable of Markup
        What stands under the table.
    notes : iterable of str

    Examples
    --------
    >>> "<b>Collapsed.</b> Of 4 &lt; 5" in card("report", ["Collapsed.", "Of 4 < 5"])
    True
    """
    parts = [element("div", title, style="opacity: .75; font-size: .9em;")]
    first, *others = [*sentences] or [""]
    if first:
        parts.append(element("p", element("b", first), *(f" {other}" for other in others), style="margin: .3rem 0;"))
    lines = [_line("td", row) for row in rows]
    if lines:
        head = [element("thead", _line("th", header))] if header else []
        table = element("table", *head, element("tbody", *lines), style="border-collapse: collapse; margin: .3rem 0;")
        parts.append(element("div", table, style="overflow-x: auto;"))
    parts += below
    parts += [element("div", note, style=NOTE) for note in notes]
    return str(element("div", joined(*parts, between=""), style="max-width: 60rem; line-height: 1.4;"))


def chart_grid(figures: Iterable[Markup]) -> Markup:
    """Figures beside each other, as many as there is room for."""
    grid = "display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: .5rem 1rem;"
    return element("div", *figures, style=grid)


def heading_of_rows(text: str) -> Markup:
    """The only cell of a row that says what the rows below it are of."""
    return element("b", text, style="font-size: .9em;")


def _line(kind: str, cells: Sequence[object]) -> Markup:
    shown = [
        element("th", cell, scope="row" if kind == "td" else "col", style=f"{CELL} font-weight: normal;")
        if k == 0 or kind == "th"
        else element("td", with_signs(cell) if type(cell) is str else cell, style=f"{CELL} {NUMBER}")
        for k, cell in enumerate(cells)
    ]
    return element("tr", *shown)
