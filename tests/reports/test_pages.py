"""Pages stand alone and hold the numbers."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from support import results
from support.commands import Page, Stored, measured, sweep
from support.drawings import rows_of, tree, with_class

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.cli.stored import load_stored
from nrc_fast.reports.compared import Compared
from nrc_fast.reports.comparisons import shown_value
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport, LayerCollapse
from nrc_fast.reports.page_style import STYLE
from nrc_fast.reports.pages import page
from nrc_fast.reports.records import format_digits


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


def the_page(parts: list[tuple[str, Compared]], title: str = "title") -> ElementTree.Element:
    """The body of a page as a tree, what HTML leaves open being closed."""
    text = page(parts, title)
    return tree(text[text.index("<body>") : text.index("</html>")])[0]


def section(root: ElementTree.Element, heading: str) -> ElementTree.Element:
    (found,) = [part for part in root.iter("section") if part.findtext("h2") == heading]
    return found


def test_page_stands_alone_and_holds_the_numbers(
    stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = measured()
    report.to_json(tmp_path / "report.json")
    model = f"{stored.folder / 'network.py'}:build"
    (tmp_path / "history.json").write_text(json.dumps(sweep(stored, capsys, "--model", model)))
    sources = [str(tmp_path / "report.json"), str(tmp_path / "history.json")]
    assert main(["report", *sources, "-o", str(tmp_path / "page.html"), "--title", "a < b"]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = Page(text)
    assert not found.open
    assert not found.images
    assert found.links
    assert all(link.startswith("#") and f' id="{link[1:]}"' in text for link in found.links)
    assert "://" not in text
    assert "<title>a &lt; b</title>" in text
    assert any(cell.startswith(f"{report.nrc1:.6g}") for cell in found.cells)
    (history,) = load_stored(sources[1]).values()
    assert isinstance(history, History)
    for record in history.records():
        assert str(record.step) in found.cells
        assert f"{record.nrc3:.4g}" in found.cells


def test_what_was_found_comes_first() -> None:
    parts: list[tuple[str, Compared]] = [
        ("run", results.history()),
        ("net", results.layers()),
        ("c", results.classes()),
    ]
    root = the_page(parts)
    first = next(root.iter("section"))
    assert first.findtext("h2") == "What was found"
    assert [part.findtext("a") for part in first.iter("h3")] == ["run", "net", "c"]
    told = ["".join(part.itertext()) for part in first.iter("p")]
    assert told == [" ".join(part.verdict) for _, part in parts]
    assert [part.findtext("strong") for part in first.iter("p")] == [part.verdict[0] for _, part in parts]
    order = [part.tag for part in root.iter() if part.tag in ("section", "nav")]
    assert order[:2] == ["section", "nav"]
    (nav,) = root.iter("nav")
    headings = [part.findtext("h2") for part in root.iter("section")]
    assert ["".join(link.itertext()) for link in nav.iter("a")] == headings
    anchors = [part.get("id") for part in root.iter("section")]
    assert [str(link.get("href"))[1:] for link in nav.iter("a")] == anchors
    assert len(set(anchors)) == len(anchors)


def test_runs_are_compared_in_one_table_and_one_figure() -> None:
    runs = {"one": results.history(), "two": results.history(seed=1), "last": results.report()}
    root = the_page(list(runs.items()))
    both = section(root, "Runs side by side")
    head, *rows = rows_of(both)
    assert [row[0] for row in rows] == list(runs)
    comparison = nrc.compare(runs)
    for column, label in comparison.columns.items():
        if label in head:
            shown = [row[head.index(label)].replace("\u2264 ", "<= ") or "-" for row in rows]
            assert shown == [shown_value(row, column) for row in comparison.rows]
    assert {"step", "NRC1", "NRC3", "NRC2, variance"} < set(head)
    assert "; n 2; convention nrc24" in "".join(next(both.iter("caption")).itertext())
    assert len(with_class(both, "chart")) == 8
    for k, name in enumerate(runs):
        # NRC3 of trainings has a thin line too, and what is known of their balance has charts of its own.
        assert len(with_class(both, f"run-{k}")) == (6 if name == "last" else 6 + 1 + 2)
        (key,) = with_class(both, f"key-{k}")
        assert "".join(key.itertext()) == name
        (box,) = key.iter("input")
        assert box.get("class") == f"toggle-{k}"
        assert f".runs:has(.toggle-{k}:not(:checked)) .run-{k} {{ display: none; }}" in STYLE
    assert not with_class(section(root, "one"), "chart")
    assert len(with_class(section(the_page([("one", runs["one"])]), "one"), "chart")) == 8


def test_a_name_that_several_have_is_numbered() -> None:
    root = the_page([("a", results.history()), ("a", results.history(seed=1)), ("a", results.classes())])
    headings = [part.findtext("h2") for part in root.iter("section")]
    assert headings == ["What was found", "Runs side by side", "a", "a (2)", "a (3)", "What the words mean"]


def test_tables_have_captions_and_scopes() -> None:
    root = the_page(
        [("run", results.history(steps=30)), ("r", results.report()), ("n", results.layers()), ("c", results.classes())]
    )
    tables = list(root.iter("table"))
    assert len(tables) == 5
    for table in tables:
        assert "".join(table.find("caption").itertext())  # type: ignore[union-attr]
        head = table.find("thead")
        assert head is not None
        assert {cell.get("scope") for cell in head.iter("th")} == {"col"}
        width = len(list(head.iter("th")))
        for row in (row for body in table.iter("tbody") for row in body):
            assert row[0].tag == "th"
            if row[0].get("scope") == "rowgroup":
                assert (len(row), row[0].get("colspan")) == (1, str(width))
                continue
            assert row[0].get("scope") == "row"
            assert len(row) == width
    (details,) = root.iter("details")
    assert details.findtext("summary") == "Every evaluation: 30 rows"


def test_a_history_has_columns_for_what_is_known_of_it() -> None:
    rng = np.random.default_rng(0)
    H, Y, W = rng.standard_normal((50, 6)), rng.standard_normal((50, 2)), rng.standard_normal((2, 6))
    for bias, known in ((np.zeros(2), {"MSE", "balance, distance", "balance, lambda_W"}), (None, set())):
        history = History("run")
        record = history.add(0, nrc.measure(H, Y, W, bias), W, np.eye(2))
        (found,) = the_page([("run", history)]).iter("table")
        columns = ["".join(cell.itertext()) for cell in found.find("thead").iter("th")]  # type: ignore[union-attr]
        assert known == {"MSE", "balance, distance", "balance, lambda_W"} & set(columns)
        assert {"step", "NRC1", "NRC3"} <= set(columns)
        row = dict(zip(columns, ["".join(cell.itertext()) for cell in found.find("tbody")[0]], strict=True))  # type: ignore[union-attr,index]
        if known:
            decay = format_digits(record.balance_decay, record.bounds["balance_decay"], 4)
            assert row["balance, lambda_W"].replace("\u2212", "-") == decay


def test_words_of_the_results_are_explained_with_formulas() -> None:
    def terms(*parts: tuple[str, Compared]) -> list[str]:
        return [str(term.text) for term in section(the_page(list(parts)), "What the words mean").iter("dt")]

    assert terms(("c", results.classes())) == ["NC1 to NC4", "\u00b1 and \u2264"]
    assert terms(("n", results.layers()))[0] == "Deep NRC"
    everything = terms(("r", results.report()), ("n", results.layers()), ("c", results.classes()))
    assert len(everything) == len(set(everything))
    root = section(the_page([("r", results.report()), ("n", results.layers())]), "What the words mean")
    formulas = ["".join(part.itertext()) for part in root.iter("math")]
    assert "NRC1=1N\u2211i\u2016xi\u2212UUTxi\u20162" in formulas
    assert "NRC2=1N\u2211i\u2016xi\u2212QTQxi\u20162" in formulas
    arity = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "msubsup": 3, "msqrt": 1}
    for part in root.iter():
        if part.tag in arity:
            assert len(part) == arity[part.tag]
        if part.tag in ("mi", "mo", "mn", "mtext"):
            assert part.text


def test_dark_mode_narrow_windows_and_paper_have_their_rules() -> None:
    assert "@media (prefers-color-scheme: dark)" in STYLE
    assert "@media (max-width: 34rem)" in STYLE
    light, dark = (dict(re.findall(r"(--\w+): (#\w+)", text)) for text in STYLE.split("prefers-color-scheme: dark")[:2])
    ink = {name: value for name, value in light.items() if name not in dark}
    assert set(ink) == {"--mark"}
    assert not re.search(r"url\(|@import|javascript", STYLE)


def test_measure_writes_a_page(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", stored.features(2))
    assert main(["measure", str(tmp_path / "features.npy"), "-n", "2", "--html", str(tmp_path / "page.html")]) == 0
    shown = re.search(r"NRC1 .*?([0-9.]+)  \+-", capsys.readouterr().out)
    assert shown is not None
    assert any(cell.startswith(shown[1]) for cell in Page((tmp_path / "page.html").read_text()).cells)


HOSTILE = "<script>alert(1)</script><img src=x:y onerror=alert(1)>$\\frac$ \x1b[2J"


def parts_with(text: str) -> list[tuple[str, Compared]]:
    """Each kind of result, with a text wherever one may stand."""
    report = measured()
    named = {"id25": {text: 0.5}, text: {"nrc1": 0.5}}
    words: dict[str, Any] = {"dtype": text, "backend": text, "convention": text, "notes": (text,)}
    layer = LayerCollapse(text, 8, 2, 0.01, 0.9, 0.9, 0.1, 2.0, 2.0)
    history = History(text, text)
    W = np.eye(2, 5)
    history.add(0, report, W, np.eye(2))
    return [
        (text, dataclasses.replace(report, alternatives=named, **words)),
        (text, history),
        (text, DeepReport((layer,), 10, 2, 0.1, 1.0, 1.5, notes=(text,))),
    ]


def test_no_text_becomes_markup_or_a_formula() -> None:
    text = page(parts_with(HOSTILE), HOSTILE)
    plain = page(parts_with("plain"), "plain")
    for tag in ("<script", "<img", "onerror=alert(1)>", "<p", "<td", "<th", "<text", "<title"):
        assert text.count(tag) == plain.count(tag)
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text


def test_numbers_that_are_text_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads(measured().to_json())
    del values["bound_kinds"]  # which follow from their grounds, and are not read
    for name in values:
        (tmp_path / "a.json").write_text(json.dumps(values | {name: {"<b>": HOSTILE}}))
        assert main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html")]) == 1
        assert name in capsys.readouterr().err
    values["ufm"] = {"rank": HOSTILE}
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html")]) == 1
    assert not (tmp_path / "a.html").exists()


def test_a_page_forbids_all_but_its_own_style() -> None:
    text = page([("a", measured())])
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert found is not None
    policy = html.unescape(found[1])
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(html.unescape(style[1]).encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert " style=" not in text
    assert {"img-src", "script-src"}.isdisjoint(policy.replace(";", " ").split())
    assert text.index(found[0]) < text.index("<title>") < text.index("<style>")
