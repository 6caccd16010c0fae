"""sweep, plot, report and selftest on the command line: the library's numbers, exit codes, pages that stand alone."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.cli.stored import load_stored
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport
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


def test_sweep_says_what_a_model_would_add(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", str(stored.folder / "step_2.pt"), *stored.options]
    assert main(arguments) == 0
    assert "the features come from a model (--model), which was not given" in capsys.readouterr().out
    assert main([*arguments, "--model", f"{stored.folder / 'network.py'}:build"]) == 0
    assert "--model" not in capsys.readouterr().out


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
    monkeypatch.setattr(time, "sleep", sleep)
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
    torch.save(stored.folder, tmp_path / "object.pt")
    error = fails(str(tmp_path / "object.pt"), *stored.options)
    assert "without objects of its own, is expected" in error
    assert "weights_only" not in error  # no option here
    (tmp_path / "three.py").write_text("def build():\n    return 3\n")
    error = fails(checkpoint, *stored.options, "--model", f"{tmp_path / 'three.py'}:build")
    assert "returned a int; a torch.nn.Module is expected" in error
    torch.save([1, 2], tmp_path / "list.pt")
    assert "holds a list without tensors" in fails(str(tmp_path / "list.pt"), *stored.options)
    torch.save({"fc.weight": torch.ones(2, 3)}, tmp_path / "other.pt")
    model = f"{stored.folder / 'network.py'}:build"
    assert "does not fit the model" in fails(str(tmp_path / "other.pt"), *stored.options, "--model", model)
    torch.save({"fc.weight": torch.ones(3, 8)}, tmp_path / "wide.pt")
    assert "has 3 outputs and the targets have 2" in fails(str(tmp_path / "wide.pt"), *stored.options)


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("epoch=3-val_loss=0.42.ckpt", 3),
        ("epoch=3-step=400-v1.ckpt", 400),
        ("loss-0.25.pt", None),
        ("global_step_7/mp_rank_00_states.pt", 7),
        ("out/checkpoint-500/model.safetensors", 500),
        ("checkpoint-500/epoch2.pt", 2),
        ("iter_0007.pt", 7),
        ("resnet-12.pt", 12),
    ],
)
def test_steps_are_read_from_names(path: str, step: int | None) -> None:
    from nrc_fast.training.saved_models import step_of

    assert step_of(path) == step


def test_sweep_of_the_folders_of_a_trainer(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    (tmp_path / "out").mkdir()
    for step, model in stored.models.items():
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir()
        safetensors.save_file(model.state_dict(), folder / "model.safetensors")
        torch.save({"state": torch.ones(3)}, folder / "optimizer.pt")
    safetensors.save_file(model.state_dict(), tmp_path / "out" / "model.safetensors")
    assert main(["sweep", str(tmp_path / "out"), *stored.options, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["records"]
    assert [record["step"] for record in records] == [2, 30, 100]
    for record in records:
        W = stored.models[record["step"]].fc.weight.detach()
        assert record["nrc3"] == pytest.approx(reference_nrc3(W, stored.Y), rel=1e-6)


def test_sweep_takes_float64_inputs_and_modules_of_this_folder(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(stored.folder / "data.npz", inputs=stored.X.astype(np.float64), targets=stored.Y.astype(np.float64))
    monkeypatch.chdir(stored.folder)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    before = list(sys.path)
    (stored.folder / "network_here.py").write_text(MODEL)
    found = sweep(stored, capsys, "--model", "network_here:build")
    assert sys.path == before
    for record in found["records"]:
        assert record["nrc1"] == pytest.approx(reference_nrc1(stored.features(record["step"]), 2), rel=1e-5)


def test_sweep_goes_on_after_a_file_that_cannot_be_measured(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nrc_fast.training import saved_models

    training = tmp_path / "training"
    training.mkdir()
    content = (stored.folder / "step_30.pt").read_bytes()
    (training / "step_1.pt").write_bytes(content[:500])  # a training that was stopped while it wrote
    (training / "step_2.pt").write_bytes(content)
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        del seconds
        looks += 1
        if looks == 2:
            (training / "step_3.pt").write_bytes(content)
        if looks == 5:
            raise KeyboardInterrupt

    def files(pattern: str) -> list[str]:
        return [*found(pattern), str(training / "step_0.pt")]  # was removed since

    found = saved_models._files
    monkeypatch.setattr(saved_models, "_files", files)
    monkeypatch.setattr(time, "sleep", sleep)
    assert main(["sweep", str(training), *stored.options, "--follow", "1", "--json"]) == 1
    captured = capsys.readouterr()
    assert [record["step"] for record in json.loads(captured.out)["records"]] == [2, 3]
    first, last = captured.err.splitlines()
    assert "step_1.pt cannot be read as weights" in first
    assert first.endswith("(tried again when the file changes)")
    assert last == f"nrc-fast: 1 of the checkpoints could not be measured: {training / 'step_1.pt'}"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_sweep_tries_a_file_again_when_it_has_changed(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str
) -> None:

    training = tmp_path / "training"
    training.mkdir()
    contents = {}
    for step in (2, 30):
        path = stored.folder / f"step_{step}.pt"
        if suffix == ".safetensors":
            path = path.with_suffix(suffix)
            pytest.importorskip("safetensors.torch").save_file(stored.models[step].state_dict(), path)
        contents[step] = path.read_bytes()
    early, late = (training / f"step_{step}{suffix}" for step in (2, 30))
    # The first is written in three parts, with pauses of two looks; meanwhile the second comes.
    early.write_bytes(contents[2][:100])
    late.write_bytes(contents[30])
    script = [None, None, contents[2][:200], None, None, contents[2], None, None, None]

    def sleep(_: float) -> None:
        if not script:
            raise KeyboardInterrupt
        content = script.pop(0)
        if content is not None:
            early.write_bytes(content)

    monkeypatch.setattr(time, "sleep", sleep)
    assert main(["sweep", str(training), *stored.options, "--follow", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count(f"step_2{suffix} cannot be read as weights") == captured.err.count("\n") == 2
    records = json.loads(captured.out)["records"]
    assert [record["step"] for record in records] == [2, 30]  # in the order of the training
    for record in records:
        W = stored.models[record["step"]].fc.weight.detach()
        assert record["nrc3"] == pytest.approx(reference_nrc3(W, stored.Y), rel=1e-6)


def test_sweep_names_damaged_data(stored: Stored, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole = (stored.folder / "data.npz").read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 255
    np.savez(tmp_path / "lengths.npz", inputs=stored.X, targets=stored.Y[1:])
    np.savez(tmp_path / "objects.npz", inputs=stored.X, targets=np.array([None] * 300))
    np.save(tmp_path / "single.npy", stored.X)
    cases = {
        "missing.npz": (None, "is no file; an .npz file"),
        "text.npz": (b"text", "text.npz is no .npz file"),
        "empty.npz": (b"", "is no .npz file, or is damaged"),
        "short.npz": (whole[:2000], "is no .npz file, or is damaged"),
        "changed.npz": (bytes(changed), "is no .npz file, or is damaged"),
        "lengths.npz": (None, "has (300, 4) and (299, 2); both need a row for each sample"),
        "objects.npz": (None, "objects.npz holds something else than numbers"),
        "single.npy": (None, "holds a single array"),
    }
    model = ["--model", f"{stored.folder / 'network.py'}:build"]
    for name, (content, words) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        options = ["--head", "fc", "--data", str(tmp_path / name), *model]
        assert main(["sweep", str(stored.folder / "step_2.pt"), *options]) == 1
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.err.count("\n") == 1
    for rows in ("0", "-3"):
        assert main(["sweep", str(stored.folder), *stored.options, *model, "--batch-rows", rows]) == 1
        assert f"batch_rows is {rows}" in capsys.readouterr().err
    assert main(["sweep", str(stored.folder), *stored.options, "--model", "absent.py:build"]) == 1
    assert "absent.py is no file" in capsys.readouterr().err


# ---- stored reports ----


def measured() -> Report:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 6))
    return nrc.measure(rng.standard_normal((200, 6)), rng.standard_normal((200, 2)), W, np.zeros(2))


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
    assert len(page.images) == 1
    assert "No layer is collapsed" in text
    for layer in layers.layers:
        assert layer.name in page.cells
        assert f"{layer.noise_fraction:.4g} \u00b1 {layer.bounds['noise_fraction']:.1e}" in page.cells
    assert f"{classes.nc1:.6g} \u00b1 {classes.bounds['nc1']:.1e}" in page.cells
    assert "nc4" not in page.cells
    assert main(["plot", sources[0], "-o", str(tmp_path / "layers.png")]) == 0
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["plot", sources[1], "-o", str(tmp_path / "classes.png")]) == 1
    assert "has no plot; nrc-fast report shows its numbers" in capsys.readouterr().err


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


# ---- selftest and demo ----


def test_selftest_passes_and_notices_a_wrong_kernel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nrc_fast import kernels
    from nrc_fast.cli import selftest

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
    Figure = pytest.importorskip("matplotlib.figure").Figure
    from nrc_fast.cli.demo import training as demo_training

    monkeypatch.setattr(demo_training, "QUICK_STEPS", 4)
    monkeypatch.setattr(demo_training, "QUICK_CHECKPOINTS", 1)
    monkeypatch.setattr(demo_training, "SETTINGS", demo_training.SETTINGS[:2])
    assert main(["demo", "--quick", "--json", "--plot", str(tmp_path / "demo.png")]) == 0
    captured = capsys.readouterr()
    histories = json.loads(captured.out)
    assert list(histories) == [setting.name for setting in demo_training.SETTINGS]
    for values in histories.values():
        assert [record["step"] for record in values["records"]] == [0, 4]
    assert "at the end of" in captured.err
    # plot and report read all of them.
    (tmp_path / "demo.json").write_text(captured.out)
    loaded = load_stored(str(tmp_path / "demo.json"))
    assert {name: json.loads(history.to_json()) for name, history in loaded.items()} == histories
    drawn: list[Any] = []
    monkeypatch.setattr("nrc_fast.cli.stored.plot_runs", lambda *given: drawn.append(given) or Figure())
    options = ["-o", str(tmp_path / "all.png"), "--gamma", "each"]
    assert main(["plot", str(tmp_path / "demo.json"), *options]) == 0
    ((runs, gamma),) = drawn
    assert gamma == "each"
    assert {name: json.loads(history.to_json()) for name, history in runs.items()} == histories
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", str(tmp_path / "demo.json"), "-o", str(tmp_path / "demo.html")]) == 0
    headings = re.findall("<h2>(.*?)</h2>", (tmp_path / "demo.html").read_text())
    assert headings == list(histories)
    # Only histories are drawn together.
    mixed = {"history": histories[demo_training.SETTINGS[0].name], "report": json.loads(measured().to_json())}
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    assert main(["plot", str(tmp_path / "mixed.json")]) == 1
    assert "only histories are drawn together" in capsys.readouterr().err
    (tmp_path / "mixed.json").write_text(json.dumps(mixed | {"other": 1}))
    assert main(["report", str(tmp_path / "mixed.json")]) == 1
    assert "holds no report" in capsys.readouterr().err
