"""Links to files of the repository that the site does not hold: their names, and where they are."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]


def path_in_repository(target: str) -> str | None:
    """Where a file is that is there and no page, from the root of the repository; None where there is none."""
    path = ROOT / target.partition("#")[0]
    for one in (path, path.with_suffix(".md")):
        if one.is_file() and "docs" not in one.relative_to(ROOT).parts:
            return one.relative_to(ROOT).as_posix()
    return None


def keep_names(_: Sphinx, document: nodes.document) -> None:
    """The texts of such links, which tell their path; others are left for the warning that they lead nowhere."""
    for reference in list(document.findall(pending_xref)):
        if reference.get("refdomain") != "doc" and reference.get("reftype") != "myst":
            continue
        target = str(reference.get("reftarget", ""))
        path = path_in_repository(target) if target else None
        if path is not None:
            said = {} if reference.astext() == path else {"explanation": f"{path} in the repository"}
            kind = nodes.abbreviation if said else nodes.inline
            reference.replace_self(kind("", "", *reference.children, **said))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", keep_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
