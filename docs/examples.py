"""Examples of pages, without the empty line that tells the tests where their output ends."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def end_with_output(_: Sphinx, document: nodes.document) -> None:
    """Sessions of Python lose what is empty at their end."""
    for block in document.findall(nodes.literal_block):
        text = block.astext()
        if text.startswith(">>>") and text.endswith("\n"):
            block.rawsource = text.rstrip("\n")
            block.children = [nodes.Text(block.rawsource)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", end_with_output)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
