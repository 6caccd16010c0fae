"""Results that were stored are read, drawn and shown again."""

from __future__ import annotations

import html
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.commands import Page, Stored, measured, sweep

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.cli.stored import load_stored
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import Report
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.records import format_digits, format_value

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


def test_reports_survive_their_files(tmp_path: Path) -> None:
    report = measured()
    report.to_json(tmp_path / "report.json")
    (loaded,) = load_stored(str(tmp_path / "report.json")).values()
    assert isinstance(loaded, Report)
    assert str(loaded) == str(report)
    assert loaded.to_json() == report.to_json()
    without = nrc.measure(np.eye(6), n=2)
    assert Report.from_dict(json.loads(without.to_json())).to_json() == without.to_json()
    with pytest.raises(ValueError, match="samples, skipped_rows, stable_rank, zero_rows are missing"):
        Report.from_dict({"nrc1_by_k": []})


def test_plot_of_a_report_and_of_a_history(
    stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured().to_json(tmp_path / "report.json")
    assert main(["plot", str(tmp_path / "report.json"), "-o", str(tmp_path / "report.png")]) == 0
    assert "written to" in capsys.readouterr().out
    history = sweep(stored, capsys)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(history)))
    assert main(["plot", "-", "-o", str(tmp_path / "history.png"), "--gamma", "0.01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(tmp_path / "history.png")}
    for name in ("report", "history"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "other.json").write_text("{}")
    assert main(["plot", str(tmp_path / "other.json")]) == 1
    assert "holds no report" in capsys.readouterr().err
    (tmp_path / "other.json").write_text("{")
    assert main(["report", str(tmp_path / "other.json")]) == 1
    assert "is no JSON" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plot", "report"])
def test_damaged_files_are_named(
    stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    history = sweep(stored, capsys)
    broken = {
        "records": json.dumps({name: part for name, part in history.items() if name != "records"}),
        "names": json.dumps(history).replace('"mse"', '"mean"'),
        "n": json.dumps(history | {"n": "two"}),
        "report": json.dumps(json.loads(measured().to_json()) | {"ufm": {"c": 1}}),
        "bytes": "\x89PNG",
        "layers": '{"layers": [{"name": "fc"}]}',
        "classes": '{"nc1": 0.5}',
    }
    for name, text in broken.items():
        path = tmp_path / f"{name}.json"
        path.write_bytes(text.encode("latin-1"))
        assert main([command, str(path), "-o", str(tmp_path / "out.png")]) == 1
        captured = capsys.readouterr()
        assert f"{name}.json " in captured.err
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "out.png").exists()
    (tmp_path / "history.json").write_text(json.dumps(history))
    assert main(["plot", str(tmp_path / "history.json"), "--gamma", "first"]) == 1
    assert "gamma is 'first'; 'last', 'each' or a number" in capsys.readouterr().err


def layers_and_classes() -> tuple[DeepReport, ClassReport]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        X = torch.randn(90, 4)
    labels = np.arange(90) % 3
    return nrc.measure_layers(model, [(X, X[:, :2])]), nrc.measure_classes(X + torch.eye(4)[labels], labels)


def test_layers_and_classes_are_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers, classes = layers_and_classes()
    layers.to_json(tmp_path / "layers.json")
    classes.to_json(tmp_path / "classes.json")
    sources = [str(tmp_path / "layers.json"), str(tmp_path / "classes.json")]
    assert main(["report", *sources, "-o", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not page.images
    assert layers.verdict[0] in html.unescape(text)
    for layer in layers.layers:
        assert layer.name in page.cells
        assert format_digits(layer.noise_fraction, layer.bounds["noise_fraction"], 4) in page.cells
    assert format_value(classes.nc1, classes.bounds["nc1"]).replace("  +- ", " \u00b1 ") in page.cells
    assert "nc4" not in page.cells
    assert main(["plot", sources[0], "-o", str(tmp_path / "layers.png")]) == 0
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["plot", sources[1], "-o", str(tmp_path / "classes.png")]) == 1
    assert "has no plot; nrc-fast report shows its numbers" in capsys.readouterr().err
