"""The benchmarks: what they compare with is right, rivals compute the same, tables say what the result file says."""

from __future__ import annotations

import csv
import doctest
import importlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nrc_fast import testing

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
TIMED = ["gram", "fused", "residual", "gram_product", "nrc1", "measure", "all_k", "nrc3", "nrc3_gamma", "cka", "update"]
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports as `python bench/run.py` does them, and no trace of them afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    names = {path.stem for path in BENCH.glob("*.py")}
    for name in set(sys.modules) - before:
        if name.split(".")[0] in names | {"routines"}:
            del sys.modules[name]


def bench(name: str) -> Any:
    return importlib.import_module(name)


def dtypes_of(name: str) -> tuple[str, ...]:
    """Routines whose rivals know no 16-bit features are measured without them."""
    wide = ("float64", "float32")
    return wide if name in {"nrc3", "nrc3_gamma", "update", "all_k"} else (*wide, "bfloat16", "float16")


def small_case(routine: Any, **changes: Any) -> Any:
    """A case with few rows of what the routine measures by default."""
    cases = bench("cases")
    first = routine.SUITES["short"][0]
    k = None if first.k is None else min(first.k, 3)
    chosen = {"dtype": first.dtype, "k": k} | changes
    return cases.Case(1_003, 17, **chosen)


# ---- what is compared with ----


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_references(dtype: str, layout: str) -> None:
    references = bench("references")
    H = bench("features").random_features(bench("cases").Case(9_001, 17, dtype, layout))
    exact = testing.reference_rows(H)
    assert exact.shape == (9_001, 17)
    assert bool(H[0].ndim == 1 and (exact != 0.0).any(axis=1).all())  # rivals divide by the norms
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    centered = exact - exact.mean(axis=0)
    rounding = 64 * EPSILON["float64"]
    for found, expected in (
        (references.gram(H), testing.reference_gram(H)),
        (references.unit_gram(H), unit.T @ unit),
        (references.centered_gram(H), centered.T @ centered),
        (references.column_means(H), exact.mean(axis=0)),
    ):
        assert np.linalg.norm(found - expected) <= rounding * np.linalg.norm(expected)
    for k in (1, 3, 16):
        assert references.nrc1(H, k) == pytest.approx(testing.reference_nrc1(H, k), rel=1e-12)
    basis = np.linalg.qr(np.ones((17, 2)) + np.eye(17, 2))[0].T
    residuals = testing.reference_residuals(H, basis.T, unit=True)
    assert references.unit_residual(H, basis) == pytest.approx(residuals.mean(), rel=rounding)


def test_error_of_a_triangle() -> None:
    error = bench("references").lower_triangle_error
    reference = np.array([[4.0, 2.0], [2.0, 9.0]])
    lower, upper = np.tril(reference), np.triu(reference)
    assert error(lower, reference) == error(upper, reference) == error(reference, reference) == 0.0
    wrong = lower.copy()
    wrong[1, 0] = 3.0
    assert error(wrong, reference) == pytest.approx(1.0 / np.linalg.norm(lower))


# ---- the routines ----


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in TIMED for dtype in dtypes_of(name)])
def test_ours_is_right_and_rivals_compute_the_same(name: str, dtype: str) -> None:
    routine = bench("run").load(name)
    problem = routine.problem(small_case(routine, dtype=dtype))
    rounding = EPSILON.get(dtype, EPSILON["float32"])
    allowed = problem.tiny
    if problem.plain is not None:
        plain = problem.error(problem.plain())
        assert plain <= 1e5 * rounding
        allowed += 2.0 * plain
    for contender in problem.contenders:
        if contender.call is None:
            assert contender.absent.startswith("not installed: pip install ")
            continue
        error = problem.error(contender.call())
        if contender.name.startswith("nrc_fast"):
            assert error <= allowed, contender.name
        else:
            # The grid knows gamma to half a step; IncrementalPCA is an approximation; 16-bit products give 16 bits.
            loose = ("grid", "IncrementalPCA", "torch.mm", "authors", "same metrics", "arXiv")
            most = 2e-2 if any(part in contender.name for part in loose) else 1e5 * rounding
            assert error <= most, contender.name


def test_descend_is_right() -> None:
    routine = bench("routines.ufm.descend")
    problem = routine.problem(bench("cases").Case(65, 7, "float64", k=3))
    ours, rival = problem.contenders
    assert problem.error(ours.call()) <= problem.tiny
    assert problem.error(rival.call()) == 0.0


@pytest.mark.parametrize("name", [*TIMED, "descend"])
def test_suites_repeat_by_their_commands(name: str) -> None:
    """The options of each case choose that case and no other."""
    cases, run, routine = bench("cases"), bench("run"), bench("run").load(name)
    for suite in ("short", "full"):
        chosen = routine.SUITES[suite]
        assert len(set(chosen)) == len(chosen)
        for case in chosen:
            command = ["--routine", name, "--suite", suite, *case.options().split()]
            assert run._cases(routine, run._parser().parse_args(command)) == [case]
            assert cases.DTYPES.count(case.dtype) == cases.LAYOUTS.count(case.layout) == 1


def test_full_suite_covers_the_shapes() -> None:
    """d from 16 to 4096, four dtypes, both layouts, H from 64 MB to 2 GB, the numbers of vectors."""
    gram, residual = bench("routines.kernels.gram").SUITES["full"], bench("routines.kernels.residual").SUITES["full"]
    widths = {16, 64, 100, 128, 256, 512, 1000, 1024, 2048, 4096}
    for suite in (gram, residual):
        assert {(case.d, case.dtype) for case in suite} == {
            (d, dtype) for d in widths for dtype in ("float64", "float32", "float16", "bfloat16")
        }
        assert {case.d for case in suite if case.layout == "strided"} == widths
    sizes = {4 * case.rows * case.d for case in gram if case.dtype == "float32"}
    assert min(sizes) == 64_000_000
    assert max(sizes) == 2_048_000_000
    assert {1, 3, 16, 64} <= {case.k for case in residual}
    assert {case.k for case in bench("routines.measurement.nrc1").SUITES["full"]} == {1, 3, 16, 64}


# ---- timing ----


class Clock:
    """Time that passes only where a contender says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        time = bench("harness").time
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "sleep", lambda _: None)

    def contender(self, name: str, taken: list[float], **more: Any) -> Any:
        """Takes so many seconds in its calls, one after the other."""
        left = iter(taken)

        def call() -> float:
            self.calls.append(name)
            self.now += next(left)
            return 1.5

        return bench("harness").Contender(name, call, **more)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def problem_of(contenders: list[Any], **more: Any) -> Any:
    error: Callable[[float], float] = lambda value: abs(value / 1.0 - 1.0)  # noqa: E731
    return bench("harness").Problem("work", contenders, error, {"rows": 10, "d": 2}, **more)


LIMITS = {"float32 flops": 100.0, "float64 flops": 50.0, "read bytes": 10.0}


def test_times_and_shares(clock: Clock) -> None:
    harness = bench("harness")
    passes = [harness.Pass(100.0, 5.0), harness.Pass(10.0, 20.0, "float64")]  # 1 s of arithmetic, 2 s of reading
    contenders = [
        clock.contender("nrc_fast", [9.0, 4.0, 8.0, 6.0]),
        clock.contender("rival", [30.0, 12.0, 15.0, 10.0]),
    ]
    problem = problem_of(contenders, passes=passes, plain=lambda: 1.25, tiny=0.125)
    settings = harness.Settings(runs=3, seconds=1000.0, refcheck=True)
    ours, rival = harness.measure(problem, settings, LIMITS)
    assert clock.calls == ["nrc_fast", "rival", "nrc_fast", "rival", "rival", "nrc_fast", "nrc_fast", "rival"]
    assert (ours["cold"], ours["seconds"], ours["fastest"], ours["slowest"], ours["runs"]) == (9.0, 6.0, 4.0, 8.0, 3)
    assert (rival["seconds"], rival["times ours"]) == (12.0, 2.0)
    assert ours["share of limit"] == 0.5
    assert rival["share of limit"] == 0.25
    assert ours["limit"] == "arithmetic, then memory"
    assert ours["error"] == 0.5
    assert ours["allowed error"] == 2 * 0.25 + 0.125
    assert ours["check"] == "ok"


@pytest.mark.parametrize(("cold", "runs"), [(0.1, 5), (3.0, 3), (11.0, 1), (61.0, 0)])
def test_slow_contenders_run_less_often(clock: Clock, cold: float, runs: int) -> None:
    harness = bench("harness")
    contenders = [clock.contender("nrc_fast", [1.0] * 9), clock.contender("rival", [cold] * 9)]
    _, rival = harness.measure(problem_of(contenders), harness.Settings(runs=5, seconds=10.0, limit=60.0), LIMITS)
    assert (rival["runs"], clock.calls.count("rival"), rival["seconds"]) == (runs, runs + 1, pytest.approx(cold))


def test_who_does_not_run_is_named(clock: Clock) -> None:
    harness, rivals = bench("harness"), bench("rivals")

    def broken() -> float:
        msg = "too large"
        raise MemoryError(msg)

    contenders = [
        clock.contender("nrc_fast", [1.0] * 9),
        rivals.contender("absent", "no_such_module_at_all", lambda _: None),
        clock.contender("endless", [], flops=100.0 * 61.0),
        harness.Contender("broken", broken),
        clock.contender("other", [1.0] * 9),
    ]
    settings = harness.Settings(runs=1, limit=60.0)
    rows = harness.measure(problem_of(contenders), settings, LIMITS)
    assert [row.get("not run") for row in rows] == [
        None,
        "not installed: pip install no_such_module_at_all",
        "61 s at the machine's peak, the limit is 60 s",
        "raised MemoryError: too large",
        None,
    ]
    assert rivals.requirement("torchdr").startswith("torchdr==")
    few = problem_of([clock.contender("nrc_fast", [1.0] * 9), clock.contender("torch.mm", [1.0] * 9)])
    assert len(harness.measure(few, harness.Settings(runs=1, rivals=["numpy"]), LIMITS)) == 1


@pytest.mark.parametrize("value", [2.0, float("nan")])
def test_an_error_too_large_fails(clock: Clock, value: float) -> None:
    harness, run = bench("harness"), bench("run")
    contenders = [clock.contender("nrc_fast", [1.0] * 9), clock.contender("rival", [1.0] * 9)]
    problem = problem_of(contenders, plain=lambda: 1.0)
    problem.error = lambda found: 0.0 if found == 1.0 else value
    ours, rival = harness.measure(problem, harness.Settings(runs=1, refcheck=True), LIMITS)
    assert run._fails(ours)
    assert rival["check"] != "ok"
    assert not run._fails(rival)


# ---- the command ----


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
    bench("run").write(record, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["seconds"]) for row in rows] == [row["seconds"] for row in record["rows"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--routine", "gram", "--shape", "97"], "ROWSxFEATURES"),
        (["--routine", "gram", "--device", "cuda"], "does not run on --device cuda"),
        (["--routine", "cuda_kernels"], "does not run on --device cpu"),
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


# ---- the report ----


def test_readme_says_what_the_result_file_says() -> None:
    report = bench("report")
    record = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.replace_table(readme, record) == readme, "run: python bench/report.py --readme README.md"
    assert report.page(record) == report.RESULTS.with_suffix(".md").read_text(encoding="utf-8"), (
        "run: python bench/report.py --page bench/results/cpu.md"
    )
    # The numbers, read from the table again.
    table = readme.split(report.START)[1].split(report.END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert lines
    shown = [
        (title, report.picked(record["rows"], routine, facts), part) for routine, facts, title, part in report.WORK
    ]
    shown = [one for one in shown if any(one[2] in row["contender"] for row in one[1][1:])]
    assert len(lines) == len(shown)
    for line, (work, rows, _) in zip(lines, shown, strict=True):
        _, title, ours, error, _, rival, theirs, their_error, _ = (cell.strip() for cell in line.split("|"))
        assert title == work
        found = next(row for row in rows if row["contender"] == rival)
        assert ours.startswith(f"**{report.seconds(rows[0]['seconds'])}**")
        assert theirs.startswith(report.seconds(found["seconds"]))
        assert f"({found['seconds'] / rows[0]['seconds']:.3g}x)" in theirs
        assert float(error) == pytest.approx(rows[0]["error"], rel=0.5, abs=0.0)
        assert float(their_error) == pytest.approx(found["error"], rel=0.5, abs=0.0)


def test_the_table_names_the_fastest_rival() -> None:
    report = bench("report")
    facts = {"routine": "nrc1", "rows": 400_000, "d": 256, "dtype": "float32", "k": 3, "layout": "contiguous"}
    others = [("numpy", 0.75), ("torch", 0.5), ("code of arXiv 2409.04180, written anew", 4.0)]
    rows = [facts | {"contender": name, "seconds": taken, "error": 1e-7} for name, taken in others]
    ours = facts | {"contender": "nrc_fast.nrc1(H, k)", "seconds": 0.1, "error": 2e-10}
    ours |= {"share of limit": 0.84, "limit": "arithmetic, then memory"}
    rows += [facts | {"contender": "TorchDR", "not run": "not installed"}, ours]
    rows.append({**facts, "routine": "memory", "contender": ours["contender"], "MB beyond H": 2.2})
    machine = {"processor": "P", "isa": "avx2", "threads of all contenders": 2, "date": "2026-01-01"}
    lines = report.table({"command": "c", "machine": machine, "limits": {}, "rows": rows}).splitlines()
    assert lines[2] == (
        "| NRC1, 400,000 x 256 float32 | **100 ms**, 2 MB | 2e-10 | 84% (arithmetic, then memory) | torch | "
        "500 ms (5x) | 1e-07 |"
    )
    assert "4 s (40x)" in lines[3]
    with pytest.raises(ValueError, match="must stand between"):
        report.replace_table("no marks", {})


def test_targets() -> None:
    targets = {(target.work, target.target): target for target in bench("targets").TARGETS}
    gram = {"routine": "gram", "rows": 10, "dtype": "float32", "layout": "contiguous"}
    rows = [
        gram | {"d": 256, "contender": "nrc_fast", "seconds": 1.0, "times ours": 1.0, "share of limit": 0.9},
        gram | {"d": 512, "contender": "nrc_fast", "seconds": 1.0, "times ours": 1.0, "share of limit": 0.8},
        gram | {"d": 64, "contender": "nrc_fast", "seconds": 1.0, "times ours": 1.0, "share of limit": 0.61},
        gram | {"d": 512, "contender": "numpy H.T @ H", "seconds": 1.5, "times ours": 1.5},
        gram | {"d": 512, "contender": "torch.mm(H.T, H)", "not run": "too long"},
        gram | {"d": 256, "dtype": "float16", "contender": "nrc_fast", "seconds": 1.04, "times ours": 1.0},
        {"routine": "all_k", "rows": 10, "d": 8, "dtype": "float64", "contender": "all-k loop", "times ours": 1.0},
        *(
            {"routine": "watch", "batch": 256, "width": width, "contender": name, "overhead %": overhead}
            for width, name, overhead in [
                (64, "watched every 10 steps", 1.5),
                (256, "watched every 10 steps", 3.25),
                (256, "watched every step", 20.0),
            ]
        ),
    ]
    expected = {
        ("gram float32, d >= 256", "85% of the peak"): ("80%, 10 x 512 float32", "**missed**"),
        ("gram float32, d = 64", "60% of the limit"): ("61%, 10 x 64 float32", "met"),
        ("gram float32, every shape", "never slower than numpy, scipy, torch"): (
            "1.50x, 10 x 512 float32, numpy H.T @ H",
            "met",
        ),
        ("gram of 16 bits", "at most 1.05x our float32 time"): ("1.04x, 10 x 256 float16", "met"),
        ("every k at once", "d/4 times the all-k loop: 1x here"): ("0.50x, 10 x 8 float64, all-k loop", "**missed**"),
        ("update(), 256 x 64", "under 60 us"): ("", "not measured"),
        ("watch, every 10 steps", "at most 3% of the step"): ("3.2%, batch 256, width 256", "**missed**"),
    }
    for key, verdict in expected.items():
        assert targets[key].verdict(rows) == verdict


def test_roofline_is_drawn(tmp_path: Path) -> None:
    facts = {"rows": 10, "d": 2, "dtype": "float32", "flops": 60.0, "bytes read": 80.0, "seconds": 1e-9}
    rows = [{"routine": "gram", "contender": name, **facts} for name in ("nrc_fast", "numpy", "torch")]
    machine = {"processor": "P", "isa": "avx2", "threads of all contenders": 2}
    limits = {"float32 flops": 1e11, "float64 flops": 5e10, "read bytes": 1e10}
    path = tmp_path / "roofline.png"
    bench("roofline").plot_roofline({"machine": machine, "limits": limits, "rows": rows}, path)
    from matplotlib.image import imread

    picture = imread(path)
    assert picture.shape[:2] == (600, 1320)
    blue = np.array([0x00, 0x72, 0xB2]) / 255.0  # our marks
    assert (np.abs(picture[:, :, :3] - blue).max(axis=2) < 0.02).sum() >= 20


@pytest.mark.parametrize("name", ["cases", "report", "rivals"])
def test_examples(name: str) -> None:
    result = doctest.testmod(bench(name))
    assert result.attempted > 0
    assert result.failed == 0


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
