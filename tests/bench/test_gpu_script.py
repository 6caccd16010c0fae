"""bench/gpu.sh on the emulated device: every part runs, and every row is printed and saved."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import cuda_core
from support.benches import BENCH, bench
from support.tools import require_tool

DTYPES = ("float64", "float32", "float16", "bfloat16")
FILES = {
    *("summary.txt", "log.txt", "ceilings.jsonl", "smoke.jsonl", "cuda_kernels.json", "tests.txt", "ncu.txt"),
    "sanitizer.txt",
}
PARTS = ("driver", "build", "ceilings", "probes", "smoke", "kernels", "tests", "memcheck", "racecheck", "ncu", "rest")
# By kernel: the largest error of float64, float32, float16 and bfloat16 rows. The emulated tensor cores cut off as
# those of cards do; few rows are added up here.
ERRORS = {
    "gram high": (1e-14, 1e-6, 1e-6, 1e-6),
    "gram highest": (1e-14,) * 4,
    "gram fast": (1e-14, 2.0**-8, 1e-6, 1e-6),
    "gram, shift, unit rows, targets": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual in float64": (1e-14,) * 4,
    "gram_product": (1e-14,) * 4,
    "prediction_error": (1e-14,) * 4,
    "descent": (1e-13, 1e-6),
}


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [require_tool("bash"), str(BENCH / "gpu.sh"), *options, str(folder)]
    given = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=3900, check=False)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_dry_run_prints_and_saves_every_row(tmp_path: Path) -> None:
    cuda_core.emulation()
    (tmp_path / "smoke.jsonl").write_text("of an older run", encoding="utf-8")
    done = run(tmp_path, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert len(done.stdout) < 12_000  # what comes back of an output
    said = done.stdout.splitlines()
    for part in PARTS:
        (line,) = (line for line in said if line.startswith(f"{part}: "))
        assert line.startswith(f"{part}: status 0, ")
    assert done.stdout == (tmp_path / "summary.txt").read_text(encoding="utf-8")
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "1 passed" in (tmp_path / "tests.txt").read_text(encoding="utf-8")
    assert "ncu is not there" in (tmp_path / "ncu.txt").read_text(encoding="utf-8")
    assert (tmp_path / "sanitizer.txt").read_text(encoding="utf-8").count("compute-sanitizer is not there") == 2

    ceilings = read(tmp_path / "ceilings.jsonl")
    expected = [("card", None), ("copy", None), *(("torch.mm", dtype) for dtype in DTYPES)]
    assert [(row["what"], row.get("dtype")) for row in ceilings] == [
        *expected,
        *(("bias of torch.mm", dtype) for dtype in DTYPES),
    ]
    assert ceilings[1]["bytes per second"] > 0.0
    assert all(row["flops per second"] > 0.0 for row in ceilings[2:6])
    for row, unit in zip(ceilings[6:], (2.0**-53, 2.0**-24, 2.0**-11, 2.0**-8), strict=True):
        assert 0.0 <= abs(row["mean"]) <= row["largest"] <= 32 * unit

    probes = log.split("==== probes: status 0\n")[1].split("\n====")[0].splitlines()
    assert [line.endswith(": ok") for line in probes] == [True] * 11 + [False] * 3
    for line, dtype in zip(probes[11:13], ("bfloat16", "float16"), strict=True):
        assert re.fullmatch(rf"gram of warpgroups, 70 x 40 {dtype}, error \d\.\d+e-0[789], ok", line), line
    assert probes[13] == "the probes and the kernel give what they must"

    smoke = read(tmp_path / "smoke.jsonl")
    errors = {(row["kernel"], row["dtype"]): row["error"] for row in smoke}
    assert len(smoke) == len(errors) == 34
    for kernel, limits in ERRORS.items():
        for dtype, limit in zip(DTYPES, limits, strict=False):
            assert errors[kernel, dtype] <= limit, (kernel, dtype)
    assert {row["check"] for row in smoke} == {"ok"}
    assert log.count("\nkernel ") == len(smoke)

    kernels = json.loads((tmp_path / "cuda_kernels.json").read_text(encoding="utf-8"))
    assert set(kernels["limits"]) == {"read bytes", *(f"{dtype} flops" for dtype in DTYPES)}
    ours = [f"nrc_fast {kernel}" for kernel in ERRORS if kernel != "descent"]
    assert [(row["dtype"], row["contender"]) for row in kernels["rows"]] == [
        (dtype, name) for dtype in ("bfloat16", "float32") for name in ("copy", *ours, "torch.mm(H.T, H)")
    ]
    for row in kernels["rows"]:
        assert row["seconds"] > 0.0
        assert 0.0 < row["share of limit"] < float("inf")
        assert "--device emulated --shape 70x24 --dtype" in row["command"]
        if row["contender"] in ours:
            column = DTYPES.index(row["dtype"])
            assert row["error"] <= ERRORS[row["contender"].removeprefix("nrc_fast ")][column]
    assert log.count("\ncuda_kernels: ") == len(kernels["rows"])
    (products,) = (row for row in kernels["rows"] if row["contender"].startswith("torch") and row["dtype"] == "float32")
    assert products["error"] <= 70 * 2.0**-24


def test_what_must_pass_and_has_not_fails(tmp_path: Path) -> None:
    """Without a Python that runs, nothing is built; what would need it is not tried, and says so."""
    done = run(tmp_path, "--dry-run", PYTHON=require_tool("false"))
    assert done.returncode == 1
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert said["build"].startswith("status 1")
    for part in PARTS[3:]:
        assert said[part].startswith("not run: there are no kernels")
    late = run(tmp_path, "--dry-run", PYTHON=require_tool("true"), LIMIT="0")
    assert late.returncode == 1
    assert late.stdout.count("not run: no time is left") == len(PARTS)


# ---- what it calls ----


def test_a_kernel_that_errs_or_fails_is_told_and_the_others_go_on() -> None:
    cuda_core.emulation()
    card_kernels, smoke = bench("card_kernels"), bench("card_smoke")
    card = bench("card").Card(is_emulated=True)
    H = card.random(20, 3, "float64")

    def wrong(factor: float) -> Any:
        def prepare(card: Any, H: Any) -> Any:
            work = card_kernels.plain_gram(card, H, precision="high")
            exact, scale = work.exact["gram"]
            work.exact["gram"] = exact * factor, scale
            return work

        return prepare

    def broken(card: Any, H: Any) -> Any:  # noqa: ARG001
        msg = "an illegal memory access was encountered"
        raise RuntimeError(msg)

    checks = [
        smoke.tried(card, card_kernels.Kernel("k", prepare, lambda _: 1e-12), H)
        for prepare in (wrong(1.0), wrong(1.0 + 1e-9), wrong(float("nan")), broken)
    ]
    assert [row["check"] for row in checks] == [
        "ok",
        "errs more than allowed",
        "errs more than allowed",
        "RuntimeError: an illegal memory access was encountered",
    ]
    assert checks[1]["error"] == pytest.approx(1e-9, rel=1e-3)


def test_rows_that_were_miscounted_are_an_error() -> None:
    cuda_core.emulation()
    card, card_kernels = bench("card").Card(is_emulated=True), bench("card_kernels")
    H = card.random(20, 3, "float32")
    H[7] = 0
    work = card_kernels.plain_gram(card, H, precision="high")
    work.call()
    assert work.zero_rows == 1
    assert work.error(calls=1) <= 1e-6
    work.zero_rows = 0
    assert work.error(calls=1) == float("inf")


def test_a_row_with_text_in_its_error_is_printed_saved_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda_core.emulation()
    routine, kernels = bench("run").load("cuda_kernels"), bench("card_kernels")

    def broken(card: Any, H: Any) -> Any:  # noqa: ARG001
        msg = "no kernel image is available"
        raise RuntimeError(msg)

    monkeypatch.setattr(routine, "TIMED", [kernels.Kernel("new", broken, lambda _: 1.0), *kernels.KERNELS[:1]])
    out = tmp_path / "rows.json"
    command = "run.py --routine cuda_kernels --device emulated --shape 20x3 --dtype float32 --runs 1 --out"
    monkeypatch.setattr(sys, "argv", [*command.split(), str(out)])
    monkeypatch.setattr(bench("run"), "hold_equal", lambda *_: 1)
    assert bench("run").main() == 1
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["contender"] for row in rows] == ["copy", "nrc_fast new", "nrc_fast gram high", "torch.mm(H.T, H)"]
    assert rows[1]["error"] == "RuntimeError: no kernel image is available"
    said = capsys.readouterr()
    assert "nrc_fast new: rows 20, d 3, dtype float32, error RuntimeError: no kernel image" in said.out
    assert said.err.startswith("FAILED: cuda_kernels: nrc_fast new")
    summary = bench("card_summary")
    out.rename(tmp_path / "cuda_kernels.json")
    assert "  nrc_fast new: RuntimeError: no kernel image is available" in summary.summary(tmp_path)


def test_a_long_summary_ends_with_what_it_leaves_out(tmp_path: Path) -> None:
    summary = bench("card_summary")
    facts = {"d": 40, "dtype": "float32", "kernel": "gram", "check": "errs more than allowed", "error": 1.0}
    lines = [json.dumps(facts | {"d": d}) for d in range(1000)]
    (tmp_path / "smoke.jsonl").write_text("\n".join([*lines, '{"d": 5']), encoding="utf-8")
    text = summary.summary(tmp_path)
    assert 8_000 < len(text) <= summary.MOST_CHARACTERS
    shown = text.count("WRONG gram")
    assert text.startswith("kernels once against float64: 0 of 1000 are right")
    assert text.endswith(f"and {1000 - shown} lines more in the files")


def test_what_a_tool_found_is_in_the_summary(tmp_path: Path) -> None:
    (tmp_path / "tests.txt").write_text("FAILED tests/a.py::b - c\n12 passed\n", encoding="utf-8")
    found = "memcheck: ========= Invalid __global__ read\nmemcheck: ========= ERROR SUMMARY: 3 errors\n"
    (tmp_path / "sanitizer.txt").write_text(found, encoding="utf-8")
    assert bench("card_summary").summary(tmp_path).splitlines() == [
        "kernels once against float64: 0 of 0 are right",
        "FAILED tests/a.py::b - c",
        "memcheck: ========= ERROR SUMMARY: 3 errors",
    ]
