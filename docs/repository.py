"""Links to files of the repository that are no pages: their names, as the site does not hold them."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[1]


def keep_name(_: Sphinx, __: BuildEnvironment, node: pending_xref, text: nodes.TextElement) -> nodes.Node | None:
    """The text of a link to a file that is there; any other is left for the warning."""
    target = str(node.get("reftarget", "")).partition("#")[0]
    return text if node.get("reftype") == "myst" and target and (ROOT / target).exists() else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", keep_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
