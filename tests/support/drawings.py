"""SVG and HTML as trees, and where a path goes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = ("img", "input", "meta")


def tree(markup: str) -> ElementTree.Element:
    """Markup as XML: every element that HTML leaves open is closed."""
    closed = re.sub(rf"<({'|'.join(VOID)})([^>]*)>", r"<\1\2/>", markup)
    return ElementTree.fromstring(f"<root>{closed}</root>")


def with_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [part for part in root.iter() if name in part.get("class", "").split()]


def texts(root: ElementTree.Element) -> list[str]:
    """The whole text of every element that has some of its own."""
    return ["".join(part.itertext()) for part in root.iter() if (part.text or "").strip()]


def points(path: str) -> list[list[tuple[float, float]]]:
    """The lines of a path: each move begins one."""
    lines: list[list[tuple[float, float]]] = []
    for command, x, y in re.findall(r"([ML])([-\d.]+) ([-\d.]+)", path):
        if command == "M":
            lines.append([])
        lines[-1].append((float(x), float(y)))
    return lines


def rows_of(root: ElementTree.Element) -> list[list[str]]:
    """The rows of all tables: the text of each cell."""
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


def cells(markup: str) -> list[list[str]]:
    """The same of markup."""
    return rows_of(tree(markup))


class Tags(HTMLParser):
    """Elements and attributes as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
