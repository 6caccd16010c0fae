"""What is printed of a run on a card: what is wrong, and the times that are wanted most, however much there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.benches import bench


def kernel_row(rows: int, d: int, dtype: str, contender: str) -> dict[str, Any]:
    """A row as long as they are."""
    facts = {"rows": rows, "d": d, "dtype": dtype, "contender": contender, "seconds": 0.0123456, "check": "ok"}
    return facts | {"share of limit": 0.851, "limit": "arithmetic", "error": 3.1e-7}


def full_table() -> list[dict[str, Any]]:
    """All shapes, dtypes and contenders of the routine, in its order."""
    routine = bench("run").load("cuda_kernels")
    names = ["copy", *(f"nrc_fast {kernel.name}" for kernel in routine.TIMED), "torch.mm(H.T, H)"]
    return [
        kernel_row(rows, d, dtype, name) for rows, d in routine.SHAPES for dtype in routine.DTYPES for name in names
    ]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_rows_of_many_features_are_shown_whatever_else_there_is(tmp_path: Path) -> None:
    """Every kind of failure fills its lines, and the ceilings are long."""
    summary, table = bench("card_summary"), full_table()
    (tmp_path / "cuda_kernels.json").write_text(json.dumps({"rows": table}), encoding="utf-8")
    text = "RuntimeError: " + "an illegal memory access was encountered " * 8
    write_lines(
        tmp_path / "smoke.jsonl",
        [{"kernel": "gram", "d": d, "dtype": "float32", "check": text, "error": text} for d in range(200)],
    )
    log = [f"tests: FAILED tests/a.py::b[{i}] - {text}" for i in range(200)]
    log += [f"memcheck: ========= ERROR SUMMARY: {i} errors {text}" for i in range(200)]
    (tmp_path / "log.txt").write_text("\n".join(log), encoding="utf-8")
    dtypes = ("float64", "float32", "float16", "bfloat16")
    ceilings = [{"what": "card", "name": "a card " * 40}]
    ceilings += [{"what": "bias of torch.mm", "dtype": dtype, "mean": 1e-5, "largest": 1e-3} for dtype in dtypes]
    write_lines(tmp_path / "ceilings.jsonl", ceilings)
    shown = summary.summary(tmp_path)
    assert len(shown) <= summary.MOST_CHARACTERS
    lines = shown.splitlines()
    wide = {(row["rows"], row["d"], row["dtype"]) for row in table if row["d"] >= 1024}
    assert len(wide) == 16
    for rows, d, dtype in wide:
        (line,) = (line for line in lines if line.startswith(f"{rows:,} x {d:,} {dtype}: gram high "))
        for target in summary.TARGETS:
            assert f"{target} 12 ms 85% of arithmetic error 3e-07" in line
    assert lines[-1].endswith("lines more in the files")


def test_all_targets_and_ceilings_are_shown_where_nothing_is_wrong(tmp_path: Path) -> None:
    summary, table = bench("card_summary"), full_table()
    (tmp_path / "cuda_kernels.json").write_text(json.dumps({"rows": table}), encoding="utf-8")
    write_lines(tmp_path / "ceilings.jsonl", [{"what": "copy", "bytes per second": 4.0e12}])
    lines = summary.summary(tmp_path).splitlines()
    shapes = {(row["rows"], row["d"], row["dtype"]) for row in table}
    targets = [line for line in lines if ": gram high " in line]
    assert len(targets) == len(shapes) == 28
    assert [" x 1,024 " in line or " x 2,048 " in line or " x 4,096 " in line for line in targets] == (
        [True] * 16 + [False] * 12
    )
    assert lines.index("copy: bytes per second 4e+12") > lines.index(targets[-1])
    others = next(line for line in lines if ": copy " in line)
    assert "; gram highest 12 ms 85%; gram fast 12 ms 85%; " in others


def test_a_long_summary_ends_with_what_it_leaves_out(tmp_path: Path) -> None:
    summary = bench("card_summary")
    rows = [kernel_row(1000, d, "float32", "nrc_fast residual") for d in range(1, 400)]
    (tmp_path / "cuda_kernels.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    (tmp_path / "smoke.jsonl").write_text('{"kernel": "gram", "check": "ok"}\n{"kernel": 5', encoding="utf-8")
    text = summary.summary(tmp_path)
    assert 8_000 < len(text) <= summary.MOST_CHARACTERS
    assert text.startswith("kernels once against float64: 1 of 1 are right")
    assert text.endswith(f"and {399 - text.count(': residual')} lines more in the files")


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    wrong = {"kernel": "gram", "d": 40, "dtype": "float32", "check": "errs more than allowed", "error": 1.0}
    failed = wrong | {"check": "RuntimeError: no kernel image", "error": "RuntimeError: no kernel image"}
    write_lines(tmp_path / "smoke.jsonl", [wrong, failed, wrong | {"check": "ok"}])
    log = ["tests: FAILED tests/a.py::b - c", "tests: 12 passed", "memcheck: ========= Invalid __global__ read"]
    log += ["memcheck: ========= ERROR SUMMARY: 3 errors", "rest: ========= ERROR SUMMARY: 0 errors"]
    (tmp_path / "log.txt").write_text("\n".join(log), encoding="utf-8")
    row = kernel_row(20, 3, "float32", "nrc_fast gram high")
    late = row | {"contender": "nrc_fast new", "error": "RuntimeError: no kernel image is available"}
    del late["seconds"]
    table = [row | {"check": "errs more than allowed"}, late]
    (tmp_path / "cuda_kernels.json").write_text(json.dumps({"rows": table}), encoding="utf-8")
    assert bench("card_summary").summary(tmp_path).splitlines() == [
        "kernels once against float64: 1 of 3 are right",
        "  WRONG gram, 40 float32: 1.0, errs more than allowed",
        "  WRONG gram, 40 float32: RuntimeError: no kernel image",
        "tests: FAILED tests/a.py::b - c",
        "memcheck: ========= ERROR SUMMARY: 3 errors",
        "rest: ========= ERROR SUMMARY: 0 errors",
        "20 x 3 float32: gram high 12 ms WRONG: errs more than allowed 85% of arithmetic error 3e-07",
        "20 x 3 float32: new FAILED: RuntimeError: no kernel image is available",
    ]
