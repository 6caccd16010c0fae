"""Links to files of the repository that are no pages: their names, as the site does not hold them."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]


def is_in_repository(target: str) -> bool:
    """Whether a link leads to a file that is there and no page."""
    path = ROOT / target.partition("#")[0]
    return any(one.is_file() and "docs" not in one.relative_to(ROOT).parts for one in (path, path.with_suffix(".md")))


def keep_names(_: Sphinx, document: nodes.document) -> None:
    """The texts of such links; others are left for the warning that they lead nowhere."""
    for reference in list(document.findall(pending_xref)):
        target = str(reference.get("reftarget", ""))
        if (
            target
            and (reference.get("refdomain") == "doc" or reference.get("reftype") == "myst")
            and is_in_repository(target)
        ):
            reference.replace_self(nodes.inline("", "", *reference.children))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", keep_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
