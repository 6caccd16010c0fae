"""Parts of pages that the package itself knows: types of options, what mappings hold, and the help of its commands."""

from __future__ import annotations

import argparse
import importlib
import re
import typing
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

import nrc_fast.typing
from nrc_fast.cli.command_line import command_parser
from nrc_fast.metrics.conventions import Convention
from nrc_fast.ufm.scaling import LossForm

MODULES = re.compile(
    r"\b(?:typing|collections\.abc|numpy\.typing|torch\.optim\.optimizer|(?:nrc_fast\.\w+(?:\.\w+)*))\."
)


def type_aliases() -> Iterator[tuple[str, str]]:
    """Each name of `nrc_fast.typing` and what it stands for."""
    for name in nrc_fast.typing.__all__:
        alias = getattr(nrc_fast.typing, name)
        if isinstance(alias, type):
            yield name, (alias.__doc__ or "").partition("\n")[0]
        elif typing.get_origin(alias) is np.ndarray:
            yield name, "numpy array of float64"
        else:
            yield name, f"`{spelled(alias)}`"


def spelled(annotation: object) -> str:
    """An annotation as one would write it."""
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, (str, type)):
        return annotation if isinstance(annotation, str) else annotation.__name__
    kind, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is typing.Union:
        return " | ".join(spelled(part) for part in parts)
    if kind is Sequence:
        return f"Sequence[{', '.join(spelled(part) for part in parts)}]"
    return MODULES.sub("", str(annotation))


def meaning_of(value: object) -> str:
    """What a mapping of the package says of a name, with code in backticks."""
    if isinstance(value, Convention):
        rows = "h - mean" if value.centered_rows else "h"
        return (
            f"components of {'centred' if value.centered_basis else 'the'} features, rows {rows}"
            f"{' over their norms' if value.unit_rows else ''}{', a share of the variance' if value.relative else ''}: "
            f"{value.source}"
        )
    if isinstance(value, LossForm):
        return f"`{value.formula}`"
    return f"{value[1]} ({value[0]})" if isinstance(value, tuple) else str(value)


def definition_list(entries: Iterable[tuple[str, str]]) -> nodes.definition_list:
    """Names and what they mean; every second part of a text is code in backticks."""
    items = []
    for name, meaning in entries:
        parts = [nodes.literal("", part) if k % 2 else nodes.Text(part) for k, part in enumerate(meaning.split("`"))]
        definition = nodes.definition("", nodes.paragraph("", "", *(part for part in parts if part.astext())))
        term = nodes.term("", "", nodes.literal("", name))
        items.append(nodes.definition_list_item("", term, definition))
    return nodes.definition_list("", *items)


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The subcommands of a parser by their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


class TypeAliases(Directive):
    """A definition list of all types."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        return [definition_list(type_aliases())]


class Entries(Directive):
    """A definition list of what a public mapping holds."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        module, _, name = self.arguments[0].rpartition(".")
        mapping = getattr(importlib.import_module(module), name)
        return [definition_list((key, meaning_of(value)) for key, value in mapping.items())]


class CommandHelp(Directive):
    """A section with the help of each command."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        sections: list[nodes.Node] = []
        for name, parser in commands(command_parser()):
            section = nodes.section(ids=[nodes.make_id(f"nrc-fast-{name}")])
            section += nodes.title("", f"nrc-fast {name}")
            section += nodes.literal_block("", parser.format_help(), language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("type-aliases", TypeAliases)
    app.add_directive("entries", Entries)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
