"""Cards say what a result says first, take nothing from elsewhere, and suit light and dark notebooks."""

from __future__ import annotations

import re

from support.drawings import Tags, cells, tree

from nrc_fast.base.cards import card, chart_grid
from nrc_fast.base.markup import element

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\" '&"


def test_sentences_come_first_and_the_first_stands_out() -> None:
    text = card("size", ["One.", "Two."], [("a", "<= 1e-9", element("svg"))], header=("", "x", "y"), notes=["last"])
    root = tree(text)[0]
    parts = ["".join(part.itertext()) for part in root]
    assert parts == ["size", "One. Two.", "xya\u2264 1e-9", "last"]
    assert root.findtext("p/b") == "One."
    assert cells(text) == [["", "x", "y"], ["a", "\u2264 1e-9", ""]]
    assert [cell.get("scope") for cell in root.iter("th")] == ["col", "col", "col", "row"]
    assert root.find(".//svg") is not None


def test_without_sentences_and_rows_there_is_the_title() -> None:
    root = tree(card("nothing yet"))[0]
    assert "".join(root.itertext()) == "nothing yet"
    assert root.find("p") is root.find("table") is None


def test_all_text_is_escaped() -> None:
    text = card(HOSTILE, [HOSTILE, HOSTILE], [(HOSTILE, HOSTILE)], header=(HOSTILE, HOSTILE), notes=[HOSTILE])
    found = Tags(text)
    assert set(found.tags) <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert found.names <= {"style", "scope"}
    assert "".join(tree(text).itertext()).count(HOSTILE) == 8


def test_no_colour_of_text_or_ground_is_set() -> None:
    text = card("a", ["b"], [("c", "d")], below=[chart_grid([element("svg")])], notes=["e"])
    styles = ";".join(re.findall('style="([^"]*)"', text))
    properties = dict(part.split(":", 1) for part in styles.replace(" ", "").split(";") if part)
    assert "color" not in properties
    assert properties["background"] == "transparent"
    assert "url" not in styles
