"""sweep on the command line: every checkpoint gets the numbers of the references, and errors name the file."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import MODEL, Stored, sweep

from nrc_fast.cli import main, sweeps
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3, reference_nrc3_gamma

torch = pytest.importorskip("torch")


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


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


def test_sweep_tells_the_balance_of_a_head_on_a_linear_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The relative imbalance of each checkpoint, in a column of its own; none where something stands between."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", inputs=rng.standard_normal((40, 3)), targets=rng.standard_normal((40, 2)))
    wanted = []
    for name, between in (("linear", ""), ("parted", "nn.Tanh(), ")):
        parts = f"nn.Linear(3, 5), {between}nn.Linear(5, 2)"
        text = f"from torch import nn\n\n\ndef build():\n    return nn.Sequential({parts}).double()\n"
        (tmp_path / f"{name}.py").write_text(text)
    linear, parted = (
        torch.nn.Sequential(torch.nn.Linear(3, 5), *rest, torch.nn.Linear(5, 2)).double()
        for rest in ([], [torch.nn.Tanh()])
    )
    for model, name, head in ((linear, "linear", "1"), (parted, "parted", "2")):
        torch.save(model.state_dict(), tmp_path / f"{name}_7.pt")
        arguments = ["--head", head, "--data", str(tmp_path / "data.npz"), "--model", f"{tmp_path / name}.py:build"]
        assert main(["sweep", str(tmp_path / f"{name}_7.pt"), *arguments]) == 0
        title, line, *_ = capsys.readouterr().out.splitlines()
        wanted.append((title.split()[-1], line.split()))
    V, b, W = (linear[0].weight, linear[0].bias, linear[1].weight)
    above, below = W.T @ W, V @ V.T + torch.outer(b, b)
    relative = float(((above - below).norm() / (above.norm() + below.norm())).detach())
    assert wanted[0][0] == "balance"
    assert float(wanted[0][1][-1]) == pytest.approx(relative, rel=1e-3)
    assert wanted[1][0] == "variance"
    assert len(wanted[1][1]) == len(wanted[0][1]) - 1


@pytest.mark.parametrize("value", [0.1234567, 1.2345e-5, -1.2345e-300, -np.inf, np.nan, 1234.5])
def test_lines_have_80_columns_and_space_between_numbers(value: float) -> None:
    names = ("mse", "r2", "nrc1", "nrc2", "nrc3", "gamma", "explained_variance", "nrc1_id25", "nrc1_variance")
    line = sweeps._line(Record(step=9_999_999, **dict.fromkeys(names, value)))
    assert len(line) <= len(sweeps._TITLE) <= 80
    step, *shown = line.split()
    assert int(step) == 9_999_999
    assert len(shown) == len(sweeps._TITLE.split()) - 1
    np.testing.assert_allclose([float(text) for text in shown], value, rtol=0.3 if abs(value) < 1e-99 else 5e-3)


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


ODD: dict[str, Any] = {
    "a matrix of integers": torch.ones(2, 8, dtype=torch.int64),
    "a number": 3,
    "a scalar": torch.tensor(1.0),
    "NaN": torch.full((2, 8), float("nan")),
    "a sparse matrix": torch.eye(2, 8).to_sparse(),
    "complex numbers": torch.ones(2, 8, dtype=torch.complex64),
    "another number of outputs": torch.ones(3, 8),
    "nothing": torch.ones(2, 0),
    "a list": [torch.ones(2, 8)],
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("with_model", [False, True], ids=["weights", "model"])
def test_following_goes_on_after_a_checkpoint_of_any_kind(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, odd: str, with_model: bool
) -> None:
    training = stored.folder / "training"
    training.mkdir()
    states = {step: stored.models[100].state_dict() for step in (1, 2, 3)}
    states[2] = {**states[2], "fc.weight": ODD[odd]}
    for step, state in states.items():
        torch.save(state, training / f"step_{step}.pt")
    looks = iter(range(3))

    def sleep(_: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    model = ["--model", f"{stored.folder / 'network.py'}:build"] if with_model else []
    result = main(["sweep", str(training), *stored.options, *model, "--follow", "1", "--json"])
    captured = capsys.readouterr()
    steps = [record["step"] for record in json.loads(captured.out)["records"]]
    lines = captured.err.splitlines()
    if 2 in steps:  # a model takes some of these, and a diverging training is no error
        assert with_model
        assert result == 0
        if odd == "NaN":
            (line,) = lines
            assert line.startswith("nrc-fast: step 2: W holds values that are NaN or infinite")
        return
    assert (result, steps, len(lines)) == (1, [1, 3], 2)
    assert lines[0].startswith("nrc-fast: ")
    assert str(training / "step_2.pt") in lines[0]
    assert lines[0].endswith("(tried again when the file changes)")


def test_following_goes_on_where_its_table_cannot_be_written(
    stored: Stored, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(3))

    def sleep(_: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    def to_csv(_: Any, path: Path) -> None:
        if next(failures):
            msg = f"{path} cannot be written"
            raise OSError(28, msg)

    failures = iter([False, True, False])
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(History, "to_csv", to_csv)
    table = str(stored.folder / "out.csv")
    patterns = [str(stored.folder / "step_*.pt"), "--follow", "1", "--csv", table, "--json"]
    assert main(["sweep", *patterns, *stored.options]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["records"]) == 3
    assert captured.err.splitlines() == [
        f"nrc-fast: [Errno 28] {table} cannot be written (tried again after the next checkpoint)"
    ]


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
