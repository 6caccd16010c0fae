"""Pages stand alone and hold the numbers."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.commands import Page, Stored, measured, sweep

from nrc_fast.cli import main
from nrc_fast.cli.stored import load_stored
from nrc_fast.reports.history import History


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
    assert "http" not in text
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
