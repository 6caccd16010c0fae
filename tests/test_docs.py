"""README and the pages of docs: examples that run, links that lead somewhere, figures with a script, all names."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FIGURES = sorted((ROOT / "docs" / "figures").glob("*.png"))
# By how a figure's name starts, the script that draws it where it is not beside it; others have one of their stem.
DRAWN_ELSEWHERE = {"papers_": ROOT / "bench" / "reproduce" / "figures.py"}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_examples(page: Path) -> None:
    """Those of a page are one session, as a reader would have it."""
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 2 or ">>>" not in page.read_text(encoding="utf-8")
    assert result.failed == 0


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.stem)
def test_a_figure_is_small_has_a_script_and_is_shown(figure: Path) -> None:
    scripts = [script for start, script in DRAWN_ELSEWHERE.items() if figure.name.startswith(start)]
    assert (scripts or [figure.with_suffix(".py")])[0].is_file()
    assert figure.stat().st_size < 100_000
    assert any(f"figures/{figure.name}" in page.read_text(encoding="utf-8") for page in PAGES)


def documented() -> set[str]:
    """The full names of what the pages of the reference show."""
    found, module = set(), ""
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for kind, name in re.findall(r"^\.\. (\w+):: ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            if kind in ("currentmodule", "automodule"):
                module = name
            else:
                found |= {name, f"{module}.{name}"}
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("nrc_fast", "nrc_fast.ufm", "nrc_fast.torch_ops", "nrc_fast.testing", "nrc_fast.kernels"),
        *(
            f"nrc_fast.integrations.{name}"
            for name in ("dask", "lightning", "loggers", "sklearn", "torchmetrics", "transformers")
        ),
    ],
)
def test_the_reference_has_every_public_name(name: str) -> None:
    module = importlib.import_module(name)
    assert [public for public in module.__all__ if f"{name}.{public}" not in documented()] == []


def classes_of_the_reference() -> list[tuple[type, str]]:
    """Every class that is shown with its members, and the options that it is shown with."""
    found = []
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        module = ""
        directives = r"^\.\. (currentmodule|automodule|autoclass):: ([\w.]+)\n((?: {3}:.*\n)*)"
        for kind, name, options in re.findall(directives, page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            if kind == "autoclass" and ":members:" in options:
                found.append((getattr(importlib.import_module(module), name), options))
            elif kind != "autoclass":
                module = name
    return found


def test_classes_are_shown_with_what_they_have_from_the_package_s_own_bases() -> None:
    """`Monitor.step` is of a base that nobody sees; what lightning, torch or the standard library give is theirs."""
    hidden = [
        f"{shown.__name__}.{name} of {base.__name__}"
        for shown, options in classes_of_the_reference()
        if ":inherited-members:" not in options
        for base in shown.__mro__[1:]
        if base.__module__.partition(".")[0] == "nrc_fast"
        for name in vars(base)
        if not name.startswith("_") and name not in vars(shown)
    ]
    assert hidden == []
    assert len(classes_of_the_reference()) > 20
