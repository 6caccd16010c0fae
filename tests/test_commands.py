"""sweep, plot, report and selftest on the command line: the library's numbers, exit codes, pages that stand alone."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.commands import load_stored
from nrc_fast.history import History
from nrc_fast.report import Report
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3, reference_nrc3_gamma

torch = pytest.importorskip("torch")
nn = torch.nn

MODEL = """
import torch

def build():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    model.add_module("fc", torch.nn.Linear(8, 2))
    return model
"""


class Stored:
    """Three checkpoints of one network, the data, and what is in them."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.X = rng.standard_normal((300, 4)).astype(np.float32)
        self.Y = (self.X[:, :2] + 0.1 * rng.standard_normal((300, 2))).astype(np.float32)
        np.savez(folder / "data.npz", inputs=self.X, targets=self.Y)
        (folder / "network.py").write_text(MODEL)
        self.models = {}
        for step, nested in ((100, None), (2, "state_dict"), (30, "model")):
            model = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
            model.add_module("fc", nn.Linear(8, 2))
            state = {f"module.{name}": value for name, value in model.state_dict().items()}
            torch.save(state if nested is None else {nested: state, "epoch": step}, folder / f"step_{step}.pt")
            self.models[step] = model
        self.options = ["--head", "fc", "--data", str(folder / "data.npz")]

    def features(self, step: int) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.models[step][:-1](torch.from_numpy(self.X)).double().numpy())


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


def sweep(stored: Stored, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    pattern = str(stored.folder / "*.pt")
    assert main(["sweep", pattern, *stored.options, *more, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# ---- sweep ----


@pytest.mark.parametrize("features", ["held", "streamed"])
def test_sweep_measures_every_checkpoint(stored: Stored, capsys: pytest.CaptureFixture[str], features: str) -> None:
    model = f"{stored.folder / 'network.py'}:build"
    found = sweep(stored, capsys, "--model", model, "--batch-rows", "64", "--features", features)
    assert [record["step"] for record in found["records"]] == [2, 30, 100]
    for record in found["records"]:
        H, W = stored.features(record["step"]), stored.models[record["step"]].fc.weight.detach()
        assert record["nrc1"] == pytest.approx(reference_nrc1(H, 2), rel=1e-5)
        assert record["nrc2"] == pytest.approx(reference_nrc2(H, W), rel=1e-5)
        assert record["nrc3"] == pytest.approx(reference_nrc3(W, stored.Y), rel=1e-6)


def test_sweep_without_a_model_knows_the_weights(
    stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = sweep(stored, capsys, "--csv", str(tmp_path / "out.csv"))
    last = reference_nrc3_gamma(stored.models[100].fc.weight.detach(), stored.Y)
    for record, replayed in zip(found["records"], found["replayed_nrc3"], strict=True):
        W = stored.models[record["step"]].fc.weight.detach()
        assert record["nrc1"] is None
        assert record["nrc3"] == pytest.approx(reference_nrc3(W, stored.Y), rel=1e-6)
        assert replayed == pytest.approx(reference_nrc3(W, stored.Y, gamma=last), rel=1e-3)
    with (tmp_path / "out.csv").open() as file:
        assert [float(row["nrc3"]) for row in csv.DictReader(file)] == found["replayed_nrc3"]


def test_sweep_prints_a_line_for_each(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = f"{stored.folder / 'network.py'}:build"
    options = ["--model", model, "--plot", str(tmp_path / "sweep.png")]
    assert main(["sweep", *map(str, stored.folder.glob("*.pt")), *stored.options, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines[1:4]] == [2, 30, 100]
    assert float(lines[1].split()[3]) == pytest.approx(reference_nrc1(stored.features(2), 2), rel=1e-3)
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("places", [["{}"], ["{}/*.pt"], ["{}/step_2.pt", "{}/step_[13]*.pt"]], ids=len)
def test_sweep_follows_a_training(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, places: Any
) -> None:
    from nrc_fast import sweep as module

    training = tmp_path / "training"
    training.mkdir()
    files = {step: (stored.folder / f"step_{step}.pt").read_bytes() for step in (2, 30, 100)}
    # Nothing at first, then two files of which one is still being written, and one more at the end.
    script = [
        {2: files[2], 30: files[30][:1000]},
        {30: files[30][:2000]},
        {30: files[30]},
        {},
        {100: files[100]},
        {},
        {},
    ]
    lengths: list[int] = []

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        lengths.append(len(csv_file.read_text().splitlines()) - 1 if csv_file.exists() else 0)
        if not script:
            raise KeyboardInterrupt
        for step, content in script.pop(0).items():
            (training / f"step_{step}.pt").write_bytes(content)

    csv_file = tmp_path / "live.csv"
    monkeypatch.setattr(module.time, "sleep", sleep)
    model = f"{stored.folder / 'network.py'}:build"
    options = ["--model", model, "--follow", "0.5", "--csv", str(csv_file), "--json"]
    assert main(["sweep", *(place.format(training) for place in places), *stored.options, *options]) == 0
    assert lengths == [0, 0, 1, 1, 2, 2, 3, 3]
    records = json.loads(capsys.readouterr().out)["records"]
    assert [record["step"] for record in records] == [2, 30, 100]
    for record in records:
        assert record["nrc1"] == pytest.approx(reference_nrc1(stored.features(record["step"]), 2), rel=1e-5)


def test_sweep_says_what_is_wrong(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint = str(stored.folder / "step_2.pt")

    def fails(*arguments: str) -> str:
        assert main(["sweep", *arguments]) == 1
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "empty holds no checkpoints; files with .pt" in fails(str(tmp_path / "empty"), *stored.options)
    assert "every -1.0 seconds" in fails(str(tmp_path), *stored.options, "--follow", "-1")
    assert "absent.pt is no file" in fails(str(tmp_path / "absent.pt"), *stored.options)
    data = stored.options[2:]
    assert "no layer 'head' with weights; it has 0, fc" in fails(checkpoint, "--head", "head", *data)
    assert "has no x; it has inputs, targets" in fails(checkpoint, *stored.options, "--targets-key", "x")
    assert "module:function" in fails(checkpoint, *stored.options, "--model", "network")
    assert "no function other" in fails(checkpoint, *stored.options, "--model", f"{stored.folder}/network.py:other")
    (tmp_path / "broken.pt").write_bytes(b"none")
    assert "cannot be read as weights" in fails(str(tmp_path / "broken.pt"), *stored.options)
    torch.save([1, 2], tmp_path / "list.pt")
    assert "holds a list without tensors" in fails(str(tmp_path / "list.pt"), *stored.options)
    torch.save({"fc.weight": torch.ones(2, 3)}, tmp_path / "other.pt")
    model = f"{stored.folder / 'network.py'}:build"
    assert "does not fit the model" in fails(str(tmp_path / "other.pt"), *stored.options, "--model", model)
    torch.save({"fc.weight": torch.ones(3, 8)}, tmp_path / "wide.pt")
    assert "has 3 outputs and the targets have 2" in fails(str(tmp_path / "wide.pt"), *stored.options)


# ---- stored reports ----


def measured() -> Report:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 6))
    return nrc.measure(rng.standard_normal((200, 6)), rng.standard_normal((200, 2)), W, np.zeros(2))


def test_reports_survive_their_files(tmp_path: Path) -> None:
    report = measured()
    report.to_json(tmp_path / "report.json")
    loaded = load_stored(str(tmp_path / "report.json"))
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


class Page(HTMLParser):
    """Cells, images and unclosed tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [str(values[name]) for name in ("href", "src") if name in values and tag != "img"]
        if tag == "img":
            assert values["alt"]
            self.images.append(str(values["src"]))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


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
    history = load_stored(sources[1])
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


# ---- selftest and demo ----


def test_selftest_passes_and_notices_a_wrong_kernel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nrc_fast import kernels, selftest

    isa = kernels.current_isa()
    assert main(["selftest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert {check["isa"] for check in found["checks"]} == set(kernels.available_isas())
    assert kernels.current_isa() == isa
    monkeypatch.setattr(selftest, "nrc2", lambda H, W: nrc.nrc2(H, W) * (1.0 + 1e-4))
    assert main(["selftest"]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "checks failed" in captured.err


def test_demo_prints_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    from nrc_fast import demo

    monkeypatch.setattr(demo, "QUICK_STEPS", 4)
    monkeypatch.setattr(demo, "QUICK_CHECKPOINTS", 1)
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS[:1])
    assert main(["demo", "--quick", "--json", "--plot", str(tmp_path / "demo.png")]) == 0
    captured = capsys.readouterr()
    (records,) = json.loads(captured.out).values()
    assert [record["step"] for record in records] == [0, 4]
    assert "at the end of" in captured.err
