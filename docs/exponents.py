"""Numbers such as 1e-10, which browsers would break after the sign of their exponent, stay on one line."""

from __future__ import annotations

import re
from itertools import cycle

from docutils import nodes
from sphinx.application import Sphinx

NUMBER = re.compile(r"(-?\d+(?:\.\d+)?e-\d+)")


def keep_together(_: Sphinx, document: nodes.document) -> None:
    """Such numbers in running text and tables become elements of the class that the style sheet knows."""
    for text in list(document.findall(nodes.Text)):
        parts = NUMBER.split(text)
        if len(parts) > 1 and isinstance(text.parent, (nodes.paragraph, nodes.emphasis, nodes.strong)):
            # Every second part is a number.
            made = [
                nodes.inline("", part, classes=["number"]) if is_number else nodes.Text(part)
                for part, is_number in zip(parts, cycle((False, True)), strict=False)
            ]
            text.parent.replace(text, [node for node in made if node.astext()])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", keep_together)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
