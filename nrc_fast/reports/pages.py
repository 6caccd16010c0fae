"""Results as one self-contained HTML page, what they say first: nothing is loaded from elsewhere, no script is run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from nrc_fast.base.files import write_text
from nrc_fast.base.markup import Markup, element, joined
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.compared import Compared
from nrc_fast.reports.comparisons import compare
from nrc_fast.reports.features import Report
from nrc_fast.reports.glossary import (
    Term,
    glossary_section,
    terms_of_classes,
    terms_of_features,
    terms_of_layers,
)
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.page_sections import comparison_section, result_section
from nrc_fast.reports.page_style import STYLE

__all__ = ["page", "write_page"]

# What is compared together, what its section is called, and what the words in it mean.
GROUPS: tuple[tuple[tuple[type, ...], str, tuple[Term, ...]], ...] = (
    ((History, Report), "Runs side by side", terms_of_features),
    ((DeepReport,), "Layers of several networks", terms_of_layers),
    ((ClassReport,), "Classes of several networks", terms_of_classes),
)


def page(
    parts: Iterable[tuple[str, Compared]], title: str = "Neural regression collapse", gamma: GammaChoice = "last"
) -> str:
    """An HTML page: what was found in sentences, contents, several runs side by side, each result, and a glossary.

    Parameters
    ----------
    parts : pairs of a heading and a Report, History, DeepReport or ClassReport
    title : str
    gamma : {"last", "each"} or float
        For which gamma NRC3 of histories is shown.

    Returns
    -------
    str
        Figures are SVG inside the page.

    Raises
    ------
    ValueError
        `gamma` is another text or a negative number.
    """
    named = _with_names_of_their_own(parts)
    sections: dict[str, tuple[str, Markup]] = {"found": ("What was found", _verdicts(named))}
    terms: list[Term] = []
    compared: set[str] = set()
    for kinds, heading, words in GROUPS:
        runs = {name: part for name, part in named.items() if isinstance(part, kinds)}
        terms += words if runs else ()
        if len(runs) > 1:
            compared |= set(runs)
            anchor = f"compared-{len(sections)}"
            sections[anchor] = (heading, comparison_section(compare(runs, gamma)))
    for number, (name, part) in enumerate(named.items(), start=1):
        content = result_section(name, part, gamma, has_charts=name not in compared)
        sections[f"result-{number}"] = (name, content)
    sections["glossary"] = ("What the words mean", glossary_section(terms))
    head = element("head", joined("", *_meta(), element("title", title), element("style", Markup(STYLE)), ""))
    first, *others = [
        element("section", joined("", element("h2", heading), content, ""), id=anchor)
        for anchor, (heading, content) in sections.items()
    ]
    top = element("header", element("h1", title))
    main = element("main", joined("", first, _contents(sections), *others, ""))
    body = element("body", joined("", top, main, ""))
    return f"<!DOCTYPE html>\n{element('html', joined('', head, body, ''), lang='en')}\n"


def write_page(
    path: str | Path,
    parts: Iterable[tuple[str, Compared]],
    title: str = "Neural regression collapse",
    gamma: GammaChoice = "last",
) -> None:
    """Write an HTML page to a file, all or nothing; see `page`.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        There is a file that is no text, such as one of features, or `gamma` is no gamma.
    """
    # Numbers of characters stand for those that UTF-8 does not have.
    write_text(path, page(parts, title, gamma).encode("utf-8", "xmlcharrefreplace").decode())


def _meta() -> tuple[Markup, ...]:
    """What a browser is told before all else: nothing but the style of the page itself is used."""
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    return (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
    )


def _with_names_of_their_own(parts: Iterable[tuple[str, Compared]]) -> dict[str, Compared]:
    """The results by heading; a heading that several have is numbered."""
    found: dict[str, Compared] = {}
    for name, part in parts:
        own, count = name, 1
        while own in found:
            count += 1
            own = f"{name} ({count})"
        found[own] = part
    return found


def _verdicts(named: Mapping[str, Compared]) -> Markup:
    words = []
    for number, (name, part) in enumerate(named.items(), start=1):
        first, *others = part.verdict
        words.append(element("h3", element("a", name, href=f"#result-{number}")))
        words.append(
            element(
                "p", element("strong", first), *(element("span", f" {other}") for other in others), class_="verdict"
            )
        )
    return joined(*words)


def _contents(sections: Mapping[str, tuple[str, Markup]]) -> Markup:
    entries = [element("li", element("a", heading, href=f"#{anchor}")) for anchor, (heading, _) in sections.items()]
    return element("nav", element("h2", "Contents"), element("ol", *entries), aria_label="Contents")
