"""Formulas as MathML, which browsers set by themselves: no script and no font from elsewhere."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

# Bars of norms: which side they are on decides the space around them, and the converter does not tell it.
BAR = re.compile(r"(?<!\\left)(?<!\\right)\\([lr])vert(?![A-Za-z])")
PLAIN_BAR = "<mo>&#x0007C;</mo>"
SIDES = {"l": "prefix", "r": "postfix"}
# What may not begin a line after a formula.
MARKS = ",.;:)"


def markup_of(formula: str, display: str) -> str:
    """MathML of a formula, or an error where a command of it is not known."""
    if "|" in formula:
        msg = f"a bar of this formula has no side: {formula}; write \\lvert and \\rvert"
        raise ExtensionError(msg)
    latex = formula.replace(r"\bigl\lvert", r"\left\lvert").replace(r"\bigr\rvert", r"\right\rvert")
    parts = convert(latex, display=display).split(PLAIN_BAR)
    sides = [SIDES[side] for side in BAR.findall(latex)]
    text = re.sub(r"<[^>]*>", "", "".join(parts))
    if "\\" in text or len(parts) != len(sides) + 1:
        msg = f"this formula does not become MathML: {formula}; write it with other commands"
        raise ExtensionError(msg)
    bars = [f'<mo form="{side}" stretchy="false" lspace="0" rspace="0">|</mo>' for side in sides]
    return parts[0] + "".join(bar + part for bar, part in zip(bars, parts[1:], strict=True))


def take_in_marks(_: Sphinx, document: nodes.document) -> None:
    """A mark that follows a formula becomes part of it: browsers may break the line between them."""
    for formula in document.findall(nodes.math):
        parent = formula.parent
        place = parent.index(formula) + 1
        following = parent[place] if place < len(parent) else None
        if isinstance(following, nodes.Text) and following[:1] in MARKS:
            formula.children = [nodes.Text(rf"{formula.astext()}\text{{{following[:1]}}}")]
            parent.replace(following, nodes.Text(following[1:]))


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    translator.body.append(markup_of(node.astext(), "inline"))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own."""
    translator.body.append(f'<div class="formula">{markup_of(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", take_in_marks)
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
