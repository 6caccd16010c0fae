"""The command line: the same numbers as the library, and errors as one line and exit code 1."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.cli import main


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
    assert "convention id25" in printed


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
        str(tmp_path / "absent.npy"): "absent.npy: no such file",
        str(text): "text.npy is not a readable .npy file",
        str(truncated): "truncated.npy is not a readable .npy file",
        str(empty): "empty.npy is not a readable .npy file",
        str(tmp_path / "features.csv"): "only .npy files",
        str(stored["bias"]): "H has shape (2,)",
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
