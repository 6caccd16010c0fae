"""The command of the benchmarks, in processes of its own, and what it needs."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.benches import BENCH, EPSILON, ROOT, bench


def test_command(tmp_path: Path) -> None:
    """Every timed routine on few rows, without rivals; our errors are checked by the command itself."""
    out = tmp_path / "results.json"
    command = [sys.executable, str(BENCH / "run.py"), "--routine", "gram", "residual", "nrc3", "--shape", "97x17"]
    command += ["--components", "3", "--runs", "1", "--rivals", "none", "--refcheck", "--threads", "1"]
    command += ["--isa", "baseline", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [row["routine"] for row in record["rows"]] == ["gram", "residual", "residual", "nrc3"]
    assert all(row["error"] <= row["allowed error"] and row["check"] == "ok" for row in record["rows"])
    assert record["rows"][0]["error"] <= 4 * EPSILON["float32"]
    gram = record["rows"][0]
    assert gram["flops"] == 97 * 17 * 18
    assert gram["bytes read"] == 97 * 17 * 4
    least = max(gram["flops"] / record["limits"]["float32 flops"], gram["bytes read"] / record["limits"]["read bytes"])
    assert gram["share of limit"] == pytest.approx(least / gram["seconds"])
    options = "--shape 97x17 --dtype float32 --layout contiguous --threads 1 --isa baseline"
    assert gram["command"] == f"python bench/run.py --routine gram {options}"
    assert set(record["limits at the end"]) == set(record["limits"]) == {"float32 flops", "float64 flops", "read bytes"}
    assert record["machine"]["isa"] == "baseline"
    assert record["machine"]["threads of all contenders"] == 1
    node = platform.node()
    assert not node or node not in json.dumps(record["machine"])
    bench("record").write(record, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["seconds"]) for row in rows] == [row["seconds"] for row in record["rows"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--routine", "gram", "--shape", "97"], "ROWSxFEATURES"),
        (["--routine", "gram", "--device", "cuda"], "does not run on --device cuda"),
        (["--routine", "cuda_kernels"], "does not run on --device cpu"),
        (["--routine", "gram", "--skip", "2"], "--skip 2 is of rows of a card: give --device cuda or emulated"),
        (["--routine", "gram", "--threads", "100000"], "100000 threads were asked for"),
    ],
)
def test_commands_that_cannot_be_met(options: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_everybody_is_held_to_the_same(run_alone: Callable[..., Any]) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(BENCH)!r})
from machine import hold_equal
assert hold_equal(1, "baseline") == 1
assert len(os.sched_getaffinity(0)) == 1
from nrc_fast import kernels
import torch
print(kernels.thread_count(), kernels.current_isa(), torch.get_num_threads(), os.environ["OPENBLAS_NUM_THREADS"])
print(torch.backends.cpu.get_cpu_capability())
"""
    done = run_alone(code)
    assert done.stdout.split() == ["1", "baseline", "1", "1", "DEFAULT"], done.stderr


def test_requirements_are_those_of_the_tests() -> None:
    """No other versions than constraints.txt names, torch pinned above all."""
    pins = dict(
        line.split(";")[0].strip().split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and "< " not in line
    )
    lines = [line for line in (BENCH / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in line]
    wanted = dict(line.split(";")[0].strip().split("==") for line in lines)
    assert "torch" in wanted
    assert {name: version for name, version in wanted.items() if name in pins} == {
        name: version for name, version in pins.items() if name in wanted
    }
