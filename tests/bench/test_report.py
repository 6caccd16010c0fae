"""Tables, targets and the plot say what the result file says."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from support.benches import ROOT, bench


def test_readme_says_what_the_result_file_says() -> None:
    report = bench("report")
    paths = report.LATER, report.RESULTS
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.replace_table(readme, *records) == readme, "run: make bench-report"
    for path, record in zip(paths, records, strict=True):
        assert report.page(record) == path.with_suffix(".md").read_text(encoding="utf-8"), "run: make bench-report"
    summary = (ROOT / "bench" / "results" / "summary.md").read_text(encoding="utf-8")
    assert report.summary(*records) == summary, "run: make bench-report"
    # The numbers, read from the tables again.
    short = readme.split(report.START)[1].split(report.END)[0]
    short_lines, lines = (
        [line for line in text.splitlines() if line.startswith("| ")][1:] for text in (short, summary)
    )
    assert set(short_lines) < set(lines)
    assert [line.split("|")[1].strip() for line in short_lines] == list(report.SHORT)
    shown = []
    for routine, facts, title, part in report.WORK:
        found = [report.picked(record["rows"], routine, facts) for record in records]
        shown += [(title, rows) for rows in found if any(part in row["contender"] for row in rows[1:])][:1]
    assert len(lines) == len(shown)
    for line, (work, rows) in zip(lines, shown, strict=True):
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
    written = report.summary({"command": "c", "machine": machine, "limits": {}, "rows": rows})
    lines = written.splitlines()[4:]
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


def test_targets_of_wide_features() -> None:
    targets = {(target.work, target.target): target for target in bench("targets").TARGETS}
    facts = {"rows": 20_000, "d": 4096, "dtype": "float32", "layout": "contiguous", "k": 3}
    ours, sklearn = {"contender": "nrc_fast.nrc1(H, k)"}, {"contender": "scikit-learn PCA, numpy"}
    collapsed, power = facts | {"kind": "collapsed"}, facts | {"kind": "power"}
    large = collapsed | {"rows": 200_000}
    wide = power | {"d": 16_384}
    nrc1, busy, memory, measure = ({"routine": name} for name in ("nrc1", "busy", "memory", "measure"))
    passes = {"passes": [[1.0, 2.0, "float32"], [1.0, 2.0, "float32"]], "seconds to read": 0.5}
    rows = [
        nrc1 | collapsed | ours | {"seconds": 0.1, "times ours": 1.0, "error": 2e-12},
        nrc1 | collapsed | sklearn | {"seconds": 0.9, "times ours": 9.0, "error": 1e-5},
        nrc1 | collapsed | {"contender": "torch.pca_lowrank", "seconds": 0.2, "times ours": 2.0, "error": 1e-1},
        nrc1 | power | ours | {"seconds": 0.1, "times ours": 1.0, "error": 2e-10},
        nrc1 | power | sklearn | {"seconds": 0.3, "times ours": 3.0, "error": 1e-5},
        nrc1 | large | ours | {"seconds": 1.25, "error": 1e-11, "share of limit": 0.4} | passes,
        nrc1 | facts | ours | {"seconds": 9.0, "error": 1.0, "share of limit": 1.08},  # of kind "layer"
        busy | collapsed | ours | {"seconds": 0.3, "slowdown": 3.0},
        busy | collapsed | sklearn | {"seconds": 1.8, "slowdown": 2.0},
        busy | power | ours | {"seconds": 0.2, "slowdown": 2.0},
        busy | power | sklearn | {"seconds": 0.9, "not run": "too long"},
        memory | wide | ours | {"MB beyond H": 1500.0},
        memory | wide | sklearn | {"MB beyond H": 5000.0},
        measure | power | {"contender": "nrc_fast kernels, one Gram", "times ours": 0.4},
        measure | collapsed | {"contender": "nrc_fast kernels, one Gram", "times ours": 0.8},
        measure | power | {"contender": "nrc_fast kernels, Gram, then residuals on both bases", "times ours": 0.5},
    ]
    shape = "20,000 x 4,096 float32 k = 3"
    expected = {
        ("nrc1, 20,000 x 4,096, collapsed", "8x scikit-learn's PCA as it chooses"): (
            f"9.00x, {shape} collapsed, scikit-learn PCA, numpy",
            "met",
        ),
        ("nrc1, 20,000 x 4,096, power", "4x scikit-learn's PCA as it chooses"): (
            f"3.00x, {shape} power, scikit-learn PCA, numpy",
            "**missed**",
        ),
        ("nrc1, 20,000 x 4,096, both kinds", "error at most 1e-10"): (f"2e-10, {shape} power", "**missed**"),
        ("nrc1 beside two busy processes, 20,000 x 4,096", "slowed down no more than scikit-learn's PCA"): (
            f"1.50x, {shape} collapsed",
            "**missed**",
        ),
        ("nrc1, 200,000 x 4,096", "at most the time of 6 reads of the rows"): (
            "5.0 reads, 200,000 x 4,096 float32 k = 3 collapsed",
            "met",
        ),
        ("nrc1, 20,000 x 16,384", "10x scikit-learn's PCA as it chooses"): ("", "not measured"),
        ("nrc1, 20,000 x 16,384", "at most 1 GB beyond the rows"): (
            "1.50 GB, 20,000 x 16,384 float32 k = 3 power",
            "**missed**",
        ),
        ("nrc1, d >= 16,384", "less memory than one d x d array of float64"): (
            "70%, 20,000 x 16,384 float32 k = 3 power",
            "met",
        ),
        ("measure with Y, W, b, 20,000 x 4,096", "under 2x one Gram"): (f"2.50x, {shape} power", "**missed**"),
        ("measure with Y, W, b, 400,000 x 256", "at most 1.25x Gram and residuals"): ("", "not measured"),
        ("every row of ours", "at most the machine's limit"): (f"108%, nrc1, {shape}", "**missed**"),
    }
    for key, verdict in expected.items():
        assert targets[key].verdict(rows) == verdict


def test_rows_above_the_limit_are_named() -> None:
    report = bench("report")
    facts = {"routine": "gram", "rows": 1_000, "d": 64, "dtype": "float32", "layout": "contiguous"}
    fast = facts | {"contender": "nrc_fast", "seconds": 0.1, "share of limit": 1.125, "limit": "arithmetic"}
    slow = facts | {
        "contender": "numpy",
        "seconds": 0.2,
        "times ours": 2.0,
        "share of limit": 0.5,
        "limit": "arithmetic",
    }
    machine = {"processor": "P", "isa": "avx2", "threads of all contenders": 2, "date": "2026-01-01"}
    record = {"command": "c", "machine": machine, "limits": {}, "rows": [slow]}
    assert report.exceeded(record) == ""
    record["rows"] = [fast, slow]
    assert report.exceeded(record).endswith(": gram nrc_fast, 1,000 x 64 float32: 112%.")
    page = report.page(record)
    assert report.exceeded(record) in page
    assert "112% (arithmetic, exceeded)" in page
    assert "50% (arithmetic)" in page


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
