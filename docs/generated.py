"""Parts of pages that the package itself knows: the types of its options, and the help of its commands."""

from __future__ import annotations

import argparse
import re
import typing
from collections.abc import Iterator

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

import nrc_fast.typing
from nrc_fast.cli.command_line import command_parser

MODULES = re.compile(
    r"\b(?:typing|collections\.abc|numpy\.typing|torch\.optim\.optimizer|(?:nrc_fast\.\w+(?:\.\w+)*))\."
)


def type_aliases() -> Iterator[tuple[str, str]]:
    """Each name of `nrc_fast.typing` and what it stands for."""
    for name in nrc_fast.typing.__all__:
        alias = getattr(nrc_fast.typing, name)
        if isinstance(alias, type):
            yield name, (alias.__doc__ or "").partition("\n")[0]
        elif isinstance(alias, str):
            yield name, alias
        elif typing.get_origin(alias) is np.ndarray:
            yield name, "numpy array of float64"
        else:
            yield name, re.sub(r"ForwardRef\('(.*?)'\)", r"\1", MODULES.sub("", str(alias)))


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The subcommands of a parser by their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


class TypeAliases(Directive):
    """A definition list of all types."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        items = []
        for name, meaning in type_aliases():
            term = nodes.term("", "", nodes.literal("", name))
            # Every second part of a text is a name in backticks.
            parts = [
                nodes.literal("", part) if k % 2 else nodes.Text(part) for k, part in enumerate(meaning.split("`"))
            ]
            definition = nodes.definition("", nodes.paragraph("", "", *parts))
            items.append(nodes.definition_list_item("", term, definition))
        return [nodes.definition_list("", *items)]


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
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
