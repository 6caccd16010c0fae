"""How docstrings become pages: a word in backticks is a parameter, a value or a public name, or the build fails."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc, desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import nrc_fast.typing

BAR = "\N{DIVIDES}"
PRIVATE = re.compile(r", _\w+(?==|,|\))(?:=[^,)]*)?")
NAMED = re.compile(r"<(?:function|class) '?([\w.]+)'?>")
LITERAL = re.compile(r"(``.+?``)")
# Where attributes are listed that are no members of their own, a line begins with their names.
LISTED = re.compile(r"^([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*) : ", re.MULTILINE)


def literal_values(annotation: object) -> Iterator[str]:
    """All texts of the Literals in an annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        yield from (value for value in typing.get_args(annotation) if isinstance(value, str))
        return
    for argument in typing.get_args(annotation):
        yield from literal_values(argument)


def parameters(thing: object) -> set[str]:
    """Names of the parameters of something that is called, and the texts that they may be."""
    try:
        signature = inspect.signature(typing.cast("Any", thing))
    except (TypeError, ValueError):
        return set()
    try:
        hints = typing.get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
    except (NameError, TypeError):
        hints = {}
    return set(signature.parameters) | {value for hint in hints.values() for value in literal_values(hint)}


def attributes(kind: type) -> set[str]:
    """What a class has by its fields, its members, its annotations and its docstring."""
    listed = {name for names in LISTED.findall(inspect.getdoc(kind) or "") for name in names.split(", ")}
    declared = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    return (
        listed
        | declared
        | set(dir(kind))
        | {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}
    )


def owner_of(name: str) -> type | None:
    """The class that a name of a member begins with."""
    found = imported(name.rpartition(".")[0])
    return found if inspect.isclass(found) else None


def imported(name: str) -> object | None:
    """What a dotted name names."""
    parts = [part for part in name.split(".") if part]
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found
    return None


@cache
def option_words() -> frozenset[str]:
    """The words that options know."""
    aliases = (getattr(nrc_fast.typing, name) for name in nrc_fast.typing.__all__)
    return frozenset(word for alias in aliases for word in literal_values(alias))


def known_names(name: str, thing: object) -> set[str]:
    """What a docstring may name in backticks without a link."""
    owner = thing if inspect.isclass(thing) else owner_of(name)
    known = {"print", "None"} | option_words() | parameters(thing)
    return known if owner is None else known | attributes(owner) | parameters(owner)


def keep_bars(_: Sphinx, __: str, ___: str, ____: object, _____: object, lines: list[str]) -> None:
    """The bars of norms, which would name substitutions, become the sign of the same look outside of code."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            parts = LITERAL.split(line)
            lines[number] = "".join(part if part.startswith("``") else part.replace("|", BAR) for part in parts)


def readable_signature(
    _: Sphinx, __: str, ___: str, ____: object, _____: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Signatures without the fields that are not public, and with the names of functions that are defaults."""
    return (NAMED.sub(r"\1", PRIVATE.sub("", signature)) if signature else signature), returned


def mark_names(_: Sphinx, document: nodes.document) -> None:
    """Parameters, values and attributes in backticks are code, and no links: they have no entry of their own."""
    for entry in document.findall(desc):
        signature = next(entry.findall(desc_signature), None)
        if signature is None or not signature.get("ids"):
            continue
        name = str(signature["ids"][0])
        known = known_names(name, imported(name))
        for reference in list(entry.findall(pending_xref)):
            if reference.get("reftarget") in known and reference.get("reftype") == "obj":
                # A name that begins an entry of a list is set as those beside it.
                begins = isinstance(reference.parent, nodes.term) and reference.parent[0] is reference
                kind = nodes.strong if begins else nodes.literal
                reference.replace_self(kind("", reference.astext()))


def link_to_class(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """An attribute that has no entry of its own is found with its class."""
    target = str(node.get("reftarget", ""))
    scopes = [str(node[key]) for key in ("py:class", "py:module") if node.get(key)]
    for name in (target, *(f"{scope}.{target}" for scope in scopes), f"nrc_fast.{target}"):
        owner = owner_of(name)
        if owner is None or name.rpartition(".")[2] not in attributes(owner):
            continue
        domain = environment.domains["py"]
        link = domain.resolve_any_xref(
            environment, str(node["refdoc"]), app.builder, f"{owner.__module__}.{owner.__qualname__}", node, text
        )
        return link[0][1] if link else None
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", keep_bars, priority=400)
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("doctree-read", mark_names)
    app.connect("missing-reference", link_to_class)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
