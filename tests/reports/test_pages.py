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

import numpy as np
import pytest
from support.commands import Page, Stored, measured, sweep

from nrc_fast.cli import main
from nrc_fast.cli.stored import load_stored
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport, LayerCollapse
from nrc_fast.reports.pages import Part, page


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


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
    page = Page(text)
    assert not page.open
    assert not page.links
    assert "://" not in text
    assert "<title>a &lt; b</title>" in text
    assert len(page.images) == 2
    for image in page.images:
        assert image.startswith("data:image/png;base64,")
        assert base64.b64decode(image.partition(",")[2]).startswith(b"\x89PNG")
    assert any(cell.startswith(f"{report.nrc1:.6g}") for cell in page.cells)
    (history,) = load_stored(sources[1]).values()
    assert isinstance(history, History)
    for record in history.records():
        assert str(record.step) in page.cells
        assert f"{record.nrc3:.4g}" in page.cells


def test_measure_writes_a_page(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", stored.features(2))
    assert main(["measure", str(tmp_path / "features.npy"), "-n", "2", "--html", str(tmp_path / "page.html")]) == 0
    shown = re.search(r"NRC1 .*?([0-9.]+)  \+-", capsys.readouterr().out)
    assert shown is not None
    assert any(cell.startswith(shown[1]) for cell in Page((tmp_path / "page.html").read_text()).cells)


HOSTILE = "<script>alert(1)</script><img src=x:y onerror=alert(1)>$\\frac$ \x1b[2J"


def parts_with(text: str) -> list[tuple[str, Part]]:
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
    for tag in ("<script", "<img", "onerror=alert(1)>", "<p", "<td"):
        assert text.count(tag) == plain.count(tag)
    assert "&lt;script&gt;" in text


def test_numbers_that_are_text_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads(measured().to_json())
    for name in values:
        (tmp_path / "a.json").write_text(json.dumps(values | {name: {"<b>": HOSTILE}}))
        assert main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html")]) == 1
        assert name in capsys.readouterr().err
    values["ufm"] = {"rank": HOSTILE}
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert main(["report", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html")]) == 1
    assert not (tmp_path / "a.html").exists()


def test_a_page_forbids_all_but_its_own_style_and_images() -> None:
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
    assert text.index(found[0]) < text.index("<title>") < text.index("<style>")
