"""bench/gpu.sh on the emulated device: every part runs, and every row is printed and saved."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support import cuda_core
from support.benches import BENCH, bench
from support.tools import require_tool

DTYPES = ("float64", "float32", "float16", "bfloat16")
FILES = {"summary.txt", "log.txt", "ceilings.jsonl", "smoke.jsonl", "cuda_kernels.json"}
MOST_FILES, MOST_OUTPUT = 8, 12_000  # that come back of a call, in files and characters
PROFILES = ("ncu_gram", "ncu_split", "ncu_residual")
PARTS = (
    *("driver", "build", "ceilings", "probes", "smoke", "kernels", *PROFILES),
    *("tests", "memcheck", "racecheck", "rest"),
)
SCRIPT = (BENCH / "gpu.sh").read_text(encoding="utf-8")
# By kernel: the largest error of float64, float32, float16 and bfloat16 rows. The emulated tensor cores cut off as
# those of cards do; few rows are added up here.
ERRORS = {
    "gram high": (1e-14, 1e-6, 1e-6, 1e-6),
    "gram highest": (1e-14,) * 4,
    "gram fast": (1e-14, 2.0**-8, 1e-6, 1e-6),
    "gram, shift, unit rows, targets": (1e-14, 1e-6, 1e-6, 1e-6),
    "statistics": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual in float64": (1e-14,) * 4,
    "gram_product": (1e-14,) * 4,
    "prediction_error": (1e-14,) * 4,
}
UNTIMED_ERRORS = {
    "statistics, a row left out": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual of rows about a shift": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual near collapse": (1e-14, 1e-6, 1e-6, 1e-6),
    "residual near collapse in float64": (1e-14,) * 4,
    "gram_product in two reads": (1e-14,) * 4,
    "prediction_error, products": (1e-14,) * 4,
    "descent": (1e-13, 1e-6),
}
ERRORS_OF_SOME = {
    ("gram of planes", "float32"),
    ("gram and sums as stored", "float16"),
    ("gram and sums as stored", "bfloat16"),
}


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [require_tool("bash"), str(BENCH / "gpu.sh"), *options, str(folder)]
    given = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=3900, check=False)


def python_of(folder: Path, text: str) -> str:
    """A script in the place of Python."""
    script = folder / "python_in_its_place"
    script.write_text(f"#!{require_tool('bash')}\n{text}\n", encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def python_3_10(folder: Path) -> str:
    """The Python that is here, without an option that is of 3.11."""
    refused = 'for a in "$@"; do if [ "$a" = -P ]; then echo "Unknown option: -P" >&2; exit 2; fi; done'
    return python_of(folder, f'{refused}\nexec "{sys.executable}" "$@"')


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_dry_run_prints_and_saves_every_row(tmp_path: Path) -> None:
    cuda_core.emulation()
    python, tmp_path = python_3_10(tmp_path), tmp_path / "found"
    tmp_path.mkdir()
    for name in ("smoke.jsonl", "smoke.part"):
        (tmp_path / name).write_text("of an older run", encoding="utf-8")
    done = run(tmp_path, "--dry-run", PYTHON=python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == FILES
    longest = len("ncu_residual: status 124 (its 100 s are over), 100 s: ") + 200
    assert max(map(len, PARTS)) == len("ncu_residual")
    assert bench("card_summary").MOST_CHARACTERS + len(PARTS) * longest <= MOST_OUTPUT
    said = done.stdout.splitlines()
    for part in PARTS:
        (line,) = (line for line in said if line.startswith(f"{part}: "))
        assert line.startswith(f"{part}: status 0, ")
    assert done.stdout == (tmp_path / "summary.txt").read_text(encoding="utf-8")
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert re.search(r"^tests: 1 passed", log, re.MULTILINE)
    assert re.findall(r"^(\w+): ncu is not there", log, re.MULTILINE) == ["driver", *PROFILES]
    absent = re.findall(r"^(\w+): compute-sanitizer is not there", log, re.MULTILINE)
    assert set(absent) == {"driver", "memcheck", "racecheck"}

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
        assert re.fullmatch(rf"probes: gram of warpgroups, 70 x 40 {dtype}, error \d\.\d+e-0[789], ok", line), line
    assert probes[13] == "probes: the probes and the kernel give what they must"

    smoke = read(tmp_path / "smoke.jsonl")
    errors = {(row["kernel"], row["dtype"]): row["error"] for row in smoke}
    assert len(smoke) == len(errors) == 65
    for kernel, limits in (ERRORS | UNTIMED_ERRORS).items():
        for dtype, limit in zip(DTYPES, limits, strict=False):
            assert errors[kernel, dtype] <= limit, (kernel, dtype)
    assert all(errors[each] <= 1e-6 for each in ERRORS_OF_SOME)
    assert {row["check"] for row in smoke} == {"ok"}
    assert log.count("\nsmoke: kernel ") == len(smoke)

    kernels = json.loads((tmp_path / "cuda_kernels.json").read_text(encoding="utf-8"))
    assert set(kernels["limits"]) == {"read bytes", *(f"{dtype} flops" for dtype in DTYPES)}
    ours = [f"nrc_fast {kernel}" for kernel in ERRORS]
    of_float32 = [*ours[:3], "nrc_fast gram of planes", *ours[3:]]
    assert [(row["dtype"], row["contender"]) for row in kernels["rows"]] == [
        (dtype, name)
        for dtype, names in (("bfloat16", ours), ("float32", of_float32))
        for name in ("copy", *names, "torch.mm(H.T, H)")
    ]
    for row in kernels["rows"]:
        assert row["seconds"] > 0.0
        assert 0.0 < row["share of limit"] < float("inf")
        assert "--device emulated --shape 70x24 --dtype" in row["command"]
        if row["contender"] in ours:
            column = DTYPES.index(row["dtype"])
            assert row["error"] <= ERRORS[row["contender"].removeprefix("nrc_fast ")][column]
    assert log.count("\nkernels: cuda_kernels: ") == len(kernels["rows"])
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


def parts() -> list[list[str]]:
    """The words of each line of the table."""
    found = re.search(r'^PARTS="\n(.*?)^"', SCRIPT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return [line.split() for line in found[1].splitlines()]


def test_every_part_has_time_whatever_the_others_take() -> None:
    """What is kept for them fits into the limit, and no part of value is without; those beside use the same time."""
    limit = int(re.search(r"LIMIT:-\$\(.* echo 3900 \|\| echo (\d+)\)", SCRIPT)[1])  # type: ignore[index]
    assert tuple(words[0] for words in parts()) == PARTS
    kept = {words[0]: int(words[2]) for words in parts()}
    assert sum(kept.values()) <= limit
    assert {name for name, seconds in kept.items() if seconds == 0} == {"ceilings", "memcheck", "racecheck", "rest"}
    assert [words[0] for words in parts() if "beside" in words] == ["ceilings", "memcheck", "racecheck"]
    assert all(kept[name] <= int(seconds) for name, seconds, *_ in parts())


def test_a_part_leaves_the_time_that_is_kept_for_others(tmp_path: Path) -> None:
    """The first would go on; it ends where the time of those behind it begins, and they run."""
    python = python_of(tmp_path, 'case "$*" in --version) sleep 60 ;; esac')
    behind = sum(int(words[2]) for words in parts()[1:])
    done = run(tmp_path / "found", "--dry-run", PYTHON=python, LIMIT=str(behind + 9))
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert re.match(r"status 124 \(its [89] s are over\)", said[PARTS[0]]), said[PARTS[0]]
    for part in PARTS[1:]:
        assert said[part].startswith("status 0"), part


def test_of_too_little_time_the_first_parts_have_theirs(tmp_path: Path) -> None:
    """What is kept for others takes none of what is kept for a part."""
    before_the_last = sum(int(words[2]) for words in parts()[: PARTS.index("smoke")])
    done = run(tmp_path / "found", "--dry-run", PYTHON=require_tool("true"), LIMIT=str(before_the_last))
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    for words in parts()[: PARTS.index("smoke")]:
        assert said[words[0]].startswith("status 0") or "beside" in words, words


def test_what_a_part_has_said_is_there_where_the_call_is_lost(tmp_path: Path) -> None:
    """Nothing of the script runs any more; with what was written before no more files than come back."""
    found = tmp_path / "found"
    python = python_of(tmp_path, 'case "$*" in *card_probes*) echo ring of boxes: ok; sleep 10 ;; esac')
    command = [require_tool("bash"), str(BENCH / "gpu.sh"), "--dry-run", str(found)]
    script = subprocess.Popen(command, env=os.environ | {"PYTHON": python}, stdout=subprocess.DEVNULL)
    said, end = found / "probes.part", time.monotonic() + 60.0
    while time.monotonic() < end and not (said.exists() and said.read_text(encoding="utf-8")):
        time.sleep(0.05)
    script.kill()
    script.wait()
    assert said.read_text(encoding="utf-8") == "ring of boxes: ok\n"
    at_once = 3  # the tests, and what runs beside them
    assert len(FILES) + at_once <= MOST_FILES


def test_the_build_tells_lines_to_the_tools(tmp_path: Path) -> None:
    """CMake is asked for them; it is a script here, which ends before anything is built."""
    tools, asked = tmp_path / "tools", tmp_path / "asked"
    tools.mkdir()
    for name, text in (("nvcc", "exit 0"), ("cmake", f'echo "$@" >> "{asked}"; exit 1')):
        (tools / name).write_text(f"#!{require_tool('bash')}\n{text}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    given = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "ARCHS": "90a", "PYTHON": sys.executable}
    command = [require_tool("bash"), str(BENCH / "gpu.sh"), "--part", "build", str(tmp_path)]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    options = asked.read_text(encoding="utf-8").split()
    assert "-DCMAKE_CUDA_FLAGS=-lineinfo" in options
    assert "-DNRC_FAST_CUDA_ARCHS=90a" in options
