"""The command line: the same numbers as the library, and errors as one line and exit code 1."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.terminals import Terminal

import nrc_fast as nrc
from nrc_fast.base import progress
from nrc_fast.cli import main
from nrc_fast.passes.reading import Reading


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    arrays = {
        "features": rng.standard_normal((300, 8)).astype(np.float32),
        "targets": rng.standard_normal((300, 2)),
        "weights": rng.standard_normal((2, 8)),
        "bias": rng.standard_normal(2),
    }
    paths = {name: tmp_path / f"{name}.npy" for name in arrays}
    for name, array in arrays.items():
        np.save(paths[name], array)
    return paths


def options_of(stored: dict[str, Path]) -> list[str]:
    named = [text for name in ("targets", "weights", "bias") for text in (f"--{name}", str(stored[name]))]
    return ["measure", str(stored["features"]), *named]


def test_json_holds_the_numbers_of_the_library(stored: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options_of(stored), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    report = nrc.measure(*(np.load(stored[name]) for name in ("features", "targets", "weights", "bias")))
    for name in ("nrc1", "nrc2", "nrc3", "gamma", "mse", "r2", "cka", "nrc1_by_k"):
        assert printed[name] == pytest.approx(getattr(report, name), rel=1e-12)
    assert printed["bounds"]["nrc1"] == pytest.approx(report.bounds["nrc1"])


def test_text_holds_value_and_bound(stored: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options_of(stored), "--convention", "id25"]) == 0
    printed = capsys.readouterr().out
    value = nrc.nrc1(np.load(stored["features"]), 2, convention="id25")
    assert f"{value:.6g}  +-" in printed


def test_missing_numbers_are_null_in_json(stored: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(stored["features"]), "-n", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["nrc2"] is None
    assert printed["nrc1"] == pytest.approx(nrc.nrc1(np.load(stored["features"]), 3), rel=1e-12)


def test_errors_are_one_line_and_exit_code_1(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.npy"
    text.write_text("not an array")
    truncated = tmp_path / "truncated.npy"
    truncated.write_bytes(stored["features"].read_bytes()[:500])
    empty = tmp_path / "empty.npy"
    empty.write_bytes(b"")
    cases = {
        str(tmp_path / "absent.npy"): "there is no file",
        str(text): "text.npy",
        str(truncated): "truncated.npy is truncated: 300 rows are announced and the file ends within row 11",
        str(empty): "empty.npy",
        str(tmp_path / "features.csv"): "there is no file",
        str(stored["bias"]): "has shape (2,); a matrix with one row per sample",
    }
    for path, words in cases.items():
        assert main(["measure", path, "-n", "1"]) == 1
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


def test_the_module_is_the_command_line(stored: dict[str, Path]) -> None:
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-m", "nrc_fast"]
    command += ["measure", str(stored["features"]), "-n", "2", "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert printed["nrc1"] == pytest.approx(nrc.nrc1(np.load(stored["features"]), 2), rel=1e-12)


def test_env_names_the_kernels_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    from nrc_fast import kernels

    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["isa"] == kernels.current_isa()
    assert facts["threads"] == str(kernels.thread_count())
    assert facts["nrc_fast"] == nrc.__version__


def test_shards_keys_and_statistics(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    H, Y, W = (np.load(stored[name]) for name in ("features", "targets", "weights"))
    for number, rows in enumerate((slice(0, 100), slice(100, 300))):
        np.savez(tmp_path / f"part_{number}.npz", h=H[rows], y=Y[rows])
    np.savez(tmp_path / "head.npz", W=W, b=np.zeros(2))
    head = ["--weights", str(tmp_path / "head.npz"), "--weights-key", "W"]
    head += ["--bias", str(tmp_path / "head.npz"), "--bias-key", "b"]
    wanted = nrc.measure(H, Y, W, np.zeros(2))
    shards = [str(tmp_path / f"part_{number}.npz") for number in (0, 1)]
    keys = ["--key", "h", "--target-key", "y"]
    for given in ([str(tmp_path / "part_*.npz")], shards):
        assert main(["measure", *given, *keys, *head, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["nrc1"] == wanted.nrc1
    for number, shard in enumerate(shards):
        assert main(["measure", shard, *keys, "--save-stats", str(tmp_path / f"stats_{number}.npz")]) == 0
    capsys.readouterr()
    parts = [str(tmp_path / f"stats_{number}.npz") for number in (0, 1)]
    assert main(["merge", *parts, *head, "--json", "--save-stats", str(tmp_path / "all.npz")]) == 0
    merged = json.loads(capsys.readouterr().out)
    for name in ("samples", "nrc1", "nrc2", "nrc3", "mse", "cka"):
        assert merged[name] == pytest.approx(getattr(wanted, name), rel=1e-5)
        assert abs(merged[name] - getattr(wanted, name)) <= (merged["bounds"].get(name) or 0.0) + 1e-12
    assert nrc.FeatureStatistics.load(tmp_path / "all.npz").count == 300


def test_parts_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nrc.FeatureStatistics(3).update(np.eye(3)).save(tmp_path / "a.npz")
    nrc.FeatureStatistics(4).update(np.eye(4)).save(tmp_path / "b.npz")
    assert main(["merge", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "-n", "1"]) == 1
    assert "b.npz does not fit" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "a.npz"), "--save-stats", str(tmp_path / "c.npz")]) == 0
    assert capsys.readouterr().out == "1 parts, 3 rows of 3 features\n"
    assert main(["merge", str(tmp_path / "a.npz")]) == 1
    assert "n is not known: give --weights or -n" in capsys.readouterr().err
    np.save(tmp_path / "rows.npy", np.eye(3))
    assert main(["merge", str(tmp_path / "rows.npy")]) == 1
    assert "rows.npy is damaged or was not written by nrc_fast: it is no .npz file" in capsys.readouterr().err


def test_errors_name_the_options_of_the_command_line(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: str) -> str:
        assert main(["measure", str(stored["features"]), *arguments]) == 1
        return capsys.readouterr().err

    assert "n is not known: give --targets, --weights or -n" in fails()
    assert "--bias was given without --weights" in fails("-n", "2", "--bias", str(stored["bias"]))
    assert "--bias-key b was given without --bias, the file that holds it" in fails("-n", "2", "--bias-key", "b")
    assert "--weights-key w was given without --weights" in fails("-n", "2", "--weights-key", "w")
    np.savez(tmp_path / "two.npz", a=np.ones((300, 2)), b=np.ones((300, 3)))
    assert "holds 2 float arrays that may be the targets; name one with --target-key. It" in fails(
        "--targets", str(tmp_path / "two.npz")
    )
    np.save(tmp_path / "nan.npy", np.full((3, 2), np.nan))
    assert main(["measure", str(tmp_path / "nan.npy"), "-n", "1"]) == 1
    assert "drop them with --nonfinite skip" in capsys.readouterr().err
    checkpoint = ["--checkpoint", str(tmp_path / "state.npz"), "--checkpoint-every"]
    assert "every -1.0 seconds; a time from 0 on is expected" in fails("-n", "2", *checkpoint, "-1")


def test_the_plan_is_printed_before_or_instead(stored: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(stored["features"])
    assert main(["measure", path, "-n", "2", "--plan", "--memory", "100MB"]) == 0
    plan = capsys.readouterr().out
    assert "rows 300, 9.4 KiB in a pass" in plan
    assert "pass 1: statistics (always, in float64, as the rows are few)" in plan
    assert "NRC1" not in plan
    assert main(["measure", path, "-n", "2", "--verbose", "--memory", "100MB"]) == 0
    captured = capsys.readouterr()
    assert captured.err == plan
    assert "NRC1" in captured.out
    assert main(["measure", path, "-n", "2", "--plan", "--memory", "100MB", "--json"]) == 0
    expected = nrc.plan(path, n=2, memory="100MB").to_dict()
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected))


def test_a_checkpoint_is_resumed_and_removed(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state.npz"
    command = [*options_of(stored), "--chunk-rows", "50", "--checkpoint", str(state), "--checkpoint-every", "0"]
    assert main([*command, "--json"]) == 0
    wanted = capsys.readouterr().out
    assert not state.exists()
    add, calls = Reading._add, 0

    def interrupted(self: Reading, sums: Any, chunk: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            signal.raise_signal(signal.SIGINT)
        add(self, sums, chunk)

    with monkeypatch.context() as patched:
        patched.setattr(Reading, "_add", interrupted)
        assert main(command) == 130
    assert f"stopped; go on with --checkpoint {state}" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    assert capsys.readouterr().out == wanted
    assert not state.exists()


def test_a_bar_is_shown_on_demand_only(stored: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    H = np.load(stored["features"])
    nrc.measure(H, n=2)
    assert capsys.readouterr().err == ""
    nrc.measure(H, n=2, progress=True)
    shown = capsys.readouterr().err
    assert "statistics" in shown
    assert "rows/s" in shown
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "tqdm", None)
        nrc.measure(H, n=2)
        with pytest.raises(ImportError, match=r"pip install 'nrc-fast\[progress\]'"):
            nrc.measure(H, n=2, progress=True)


def test_how_to_get_a_bar_is_said_once_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.Progress, "has_said", False)

    def said(seconds: float, *, show: bool | None = None) -> str:
        monkeypatch.setattr(sys, "stderr", Terminal())
        with progress.Progress("statistics", 100, show) as bar:
            for _ in range(3):
                now[0] += seconds / 3
                bar.advance(10)
        return sys.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]

    assert said(4.0) == ""
    assert said(60.0, show=False) == ""
    assert said(60.0) == "nrc_fast: a bar of the progress needs tqdm: pip install 'nrc-fast[progress]'\n"
    assert said(60.0) == ""


def test_every_command_prints_json(stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ufm", str(stored["targets"]), "--weight-decay", "5e-4", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    floor = nrc.ufm.predict(np.load(stored["targets"]), weight_decay=5e-4)
    assert (printed["rank"], printed["mse_floor"], printed["c"]) == (floor.rank, floor.mse_floor, floor.c)
    assert printed["penalties"]["lambda_W"] == floor.penalties.lambda_W
    np.testing.assert_allclose(printed["directions"][0], floor.directions[:, 0])
    assert main(["ufm", str(stored["targets"]), "--c", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weight_decay"] is None
    assert main(["measure", str(stored["features"]), "-n", "2", "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 300
    nrc.FeatureStatistics(3).update(np.eye(3)).save(tmp_path / "a.npz")
    assert main(["merge", str(tmp_path / "a.npz"), "--save-stats", str(tmp_path / "c.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"parts": 1, "samples": 3, "d": 3}


def test_outputs_without_a_folder_are_refused_before_the_work(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--plot", "--html", "--save-stats"):
        assert main([*options_of(stored), option, str(tmp_path / "absent" / "file")]) == 1
        captured = capsys.readouterr()
        assert "cannot be written: there is no folder" in captured.err
        assert captured.out == ""
        assert main([*options_of(stored), option, str(tmp_path)]) == 1
        captured = capsys.readouterr()
        assert "cannot be written: it is a folder" in captured.err
        assert captured.out == ""


@pytest.mark.parametrize("name", ["plot", "plot.xyz", ".png"])
def test_plots_of_no_known_format_are_refused_before_the_work(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "report.json").write_text(nrc.measure(np.eye(5), n=2).to_json())
    for command in ([*options_of(stored), "--plot"], ["plot", str(tmp_path / "report.json"), "-o"]):
        assert main([*command, str(tmp_path / name)]) == 1
        captured = capsys.readouterr()
        assert f"{name} has no ending of a plot; " in captured.err
        assert captured.out == ""
        assert main([*command, str(tmp_path / "plot.PDF")]) == 0
        assert (tmp_path / "plot.PDF").read_bytes().startswith(b"%PDF")
        capsys.readouterr()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["env"], ["measure", "--help"], ["selftest"]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(arguments: list[str], unbuffered: str) -> None:
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-m", "nrc_fast", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        command,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    os.close(writing)
    assert run.stderr == ""
    assert run.returncode in ([0, 141] if "--help" in arguments else [141])  # argparse itself passes over it


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_is_said_once() -> None:
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-m", "nrc_fast", "env"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("nrc-fast: ")
    assert run.stderr.count("\n") == 1


# ---- device ----


def test_the_device_of_the_command_line_is_an_order(
    stored: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*options_of(stored), "--device", "mps"]) == 1
    assert "device 'mps' cannot be used" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "977")
    assert main([*options_of(stored), "--device", "cuda"]) == 1
    assert "device 'cuda:977' cannot be used" in capsys.readouterr().err
    assert main([*options_of(stored), "--device", "cpu"]) == 0


@pytest.mark.parametrize("name", ["last.ckpt", "pytorch_model.bin", "model.pth"])
def test_weights_come_from_checkpoints(
    name: str, stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    arrays = {key: np.load(path) for key, path in stored.items()}
    head = {f"fc.{key}": torch.from_numpy(arrays[key]) for key in ("weights", "bias")}
    path = str(tmp_path / name)
    wanted = nrc.measure(*(arrays[key] for key in ("features", "targets", "weights", "bias")))
    measure = ["measure", str(stored["features"]), "--targets", str(stored["targets"]), "--json", "--weights", path]
    torch.save({"epoch": 3, "state_dict": head}, path)
    keys = ["--weights-key", "state_dict.fc.weights", "--bias", path, "--bias-key", "state_dict.fc.bias"]
    for options in (keys, keys[2:]):  # the only matrix needs no name
        assert main([*measure, *options]) == 0
        printed = json.loads(capsys.readouterr().out)
        for number in ("nrc2", "nrc3", "mse"):
            assert printed[number] == pytest.approx(getattr(wanted, number), rel=1e-12)
    assert main([*measure, "--weights-key", "fc.weights"]) == 1
    assert "has no 'fc.weights' (is 'state_dict.fc.weights' meant?)" in capsys.readouterr().err
    torch.save({"state_dict": head, "optimizer": [{"exp_avg": torch.zeros(2, 8)}]}, path)
    assert main(measure) == 1
    assert "holds 2 float matrices that may be the weights; name one with --weights-key. It" in capsys.readouterr().err


def test_files_in_the_order_of_a_shell_are_those_of_the_pattern(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    H, Y, W, b = (np.load(stored[name]).astype(float) for name in ("features", "targets", "weights", "bias"))
    for number in range(12):
        for name, array in (("h", H), ("y", Y)):
            np.save(tmp_path / f"{name}_{number}.npy", array[25 * number : 25 * number + 25])
    by_shell = {name: sorted(str(path) for path in tmp_path.glob(f"{name}_*.npy")) for name in "hy"}
    head = ["--weights", str(stored["weights"]), "--bias", str(stored["bias"]), "--json"]
    wanted = nrc.measure(H, Y, W, b).mse
    one = [str(stored["targets"])]
    for features, targets in (([str(tmp_path / "h_*.npy")], one), (by_shell["h"], one), (by_shell["h"], by_shell["y"])):
        assert main(["measure", *features, "--targets", *targets, *head]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["mse"] == pytest.approx(wanted, rel=1e-12)
        said = (
            "(... h_1.npy, h_10.npy, h_11.npy, h_2.npy ...) and are taken in natural order (... h_1.npy, h_2.npy, h_3"
        )
        assert (said in captured.err) == (len(features) > 1)


def test_files_in_an_order_of_their_own_are_refused_beside_one_file_of_targets(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    H = np.load(stored["features"])
    for number in range(12):
        np.save(tmp_path / f"h_{number}.npy", H[25 * number : 25 * number + 25])
    backward = [str(tmp_path / f"h_{number}.npy") for number in range(11, -1, -1)]
    assert main(["measure", *backward, "--targets", str(stored["targets"]), "--json"]) == 1
    captured = capsys.readouterr()
    assert "12 files are listed in the order h_11.npy, h_10.npy, h_9.npy, h_8.npy, ..., and " in captured.err
    assert "natural order: h_0.npy, h_1.npy, h_2.npy, h_3.npy, .... Rows would get" in captured.err
    assert captured.out == ""


def test_names_of_files_do_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "h\x1b[2J\nnrc-fast: all is well.npy"
    np.save(path, np.random.default_rng(0).standard_normal((50, 4)))
    for arguments in (["-n", "2", "--plan"], ["-n", "2", "--verbose"], ["-n", "9"], ["-n", "2", "--key", "x"]):
        main(["measure", str(path), *arguments])
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
        assert "\nnrc-fast: all" not in said.out + said.err


def test_no_output_is_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    H = rng.standard_normal((50, 4))
    np.save("h_1.npy", H)
    np.save("h_2.npy", H)
    np.save("w.npy", H[:2])
    Path("link.npy").symlink_to("h_1.npy")
    os.link("h_2.npy", "hard.npy")
    nrc.FeatureStatistics(4).update(H).save("part.npz")
    nrc.measure(H, n=2).to_json("report.json")
    Path("model.py").write_text("def build(): ...")
    np.savez("data.npz", inputs=H, targets=H)
    Path("run").mkdir()
    Path("run/step_1.pt").write_bytes(b"PK")
    files = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    measured = ["measure", "h_*.npy", "--weights", "w.npy"]
    sweep = ["sweep", "run", "--head", "fc", "--data", "data.npz", "--model", "model.py:build"]
    commands = [
        *(
            [*measured, option, name]
            for option in ("--save-stats", "--html", "--checkpoint")
            for name in ("link.npy", "./h_2.npy")
        ),
        [*measured, "--save-stats", "hard.npy"],
        [*measured, "--html", "w.npy"],
        [*measured, "--save-stats", "new.npz", "--checkpoint", "../" + tmp_path.name + "/new.npz"],
        ["merge", "part.npz", "-n", "2", "--save-stats", "part.npz"],
        ["report", "report.json", "-o", "report.json"],
        [*sweep, "--csv", "data.npz"],
        [*sweep, "--csv", "run/step_1.pt"],
        [*sweep, "--csv", "model.py"],
    ]
    for arguments in commands:
        assert main(arguments) == 1
        assert re.search("would replace what is read|are one file", capsys.readouterr().err), arguments
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == files


def test_what_lies_behind_an_index_is_an_input_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file({"h": np.random.default_rng(0).standard_normal((50, 4))}, tmp_path / "part.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"h": "part.safetensors"}}))
    before = (tmp_path / "part.safetensors").read_bytes()
    assert main(["measure", str(index), "-n", "2", "--html", str(tmp_path / "part.safetensors")]) == 1
    assert "would replace what is read" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"checkpoint is .* would replace what is read"):
        nrc.measure(str(index), n=2, checkpoint=tmp_path / "part.safetensors")
    assert (tmp_path / "part.safetensors").read_bytes() == before
