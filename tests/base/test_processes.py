"""Rows on several processes: the same report as in one, uneven and empty parts included. Real gloo processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import draw, run

import nrc_fast as nrc
from nrc_fast.base.leading import EXTRA_VECTORS
from nrc_fast.measurement.row_components import SAMPLE_ROWS
from nrc_fast.testing import reference_nrc1, reference_nrc2


@pytest.mark.parametrize("cuts", [[450], [1, 2], [0, 700, 700]], ids=str)
def test_statistics_of_all_processes_are_those_of_one(tmp_path: Path, cuts: list[int]) -> None:
    H, Y, W = draw()
    results = run(tmp_path / "run", "statistics", H, Y, W, cuts)
    assert all(result == results[0] for result in results)
    whole = nrc.FeatureStatistics(12, n_targets=2).update(H, Y).report(W, np.zeros(2))
    report = results[0]["report"]
    assert report["samples"] == 900
    # Rows that are few are gathered, one process after the other.
    assert json.dumps(report) == json.dumps(whole.to_dict())


@pytest.mark.parametrize("cuts", [[450], [100, 870], [0, 0, 900]], ids=str)
def test_second_passes_run_over_all_processes(tmp_path: Path, cuts: list[int]) -> None:
    H, Y, W = draw()
    results = run(tmp_path / "run", "measured", H, Y, W, cuts)
    assert all(result == results[0] for result in results)
    for convention in nrc.CONVENTIONS:
        report = results[0][convention]
        assert report["samples"] == 900
        assert report["nrc1"] == pytest.approx(reference_nrc1(H, 2, convention), rel=1e-12)
        assert report["nrc2"] == pytest.approx(reference_nrc2(H, W, convention), rel=1e-12)
        whole = nrc.measure(H, Y, W, np.zeros(2), convention=convention)
        for name in ("nrc3", "gamma", "mse", "cka", "linear_mse", "effective_rank"):
            assert report[name] == pytest.approx(getattr(whole, name), rel=1e-10, abs=whole.bounds[name])
    assert results[0]["float32"]["nrc1"] == pytest.approx(reference_nrc1(H.astype(np.float32), 2, "nrc24"), rel=1e-6)


def test_collapsed_features_on_two_processes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    W = rng.standard_normal((2, 12))
    Y = rng.standard_normal((900, 2))
    H = Y @ np.linalg.pinv(W).T + 1e-6 * rng.standard_normal((900, 12))
    results = run(tmp_path / "run", "measured", H, Y, W, [333])
    stored = H.astype(np.float32)
    assert results[0]["nrc24"]["nrc1"] == pytest.approx(reference_nrc1(H, 2, "nrc24"), rel=1e-9)
    assert results[0]["float32"]["nrc1"] == pytest.approx(reference_nrc1(stored, 2, "nrc24"), rel=1e-9)
    assert results[0]["float32"]["nrc2"] == pytest.approx(reference_nrc2(stored, W, "nrc24"), rel=1e-9)


@pytest.mark.parametrize("cuts", [[200], [1, 2], [0, 300]], ids=str)
def test_single_metrics_of_all_processes(tmp_path: Path, cuts: list[int]) -> None:
    rng = np.random.default_rng(2)
    W = rng.standard_normal((3, 100))
    Y = rng.standard_normal((420, 3)) * [3.0, 2.0, 1.0]
    H = Y @ W + 0.1 * rng.standard_normal((420, 100)) + 2.0
    results = run(tmp_path / "run", "single", H, Y, W, cuts)
    assert all(result == results[0] for result in results)
    found = results[0]["found"]
    for convention in nrc.CONVENTIONS:
        assert found[convention] == pytest.approx(reference_nrc2(H, W, convention), rel=1e-12)
        for dtype in ("float64", "float32"):
            expected = reference_nrc1(H.astype(dtype), [1, 3], convention)
            for way in ("rows", "gram"):
                close = 1e-11 if dtype == "float64" else 1e-9 if way == "rows" else 1e-6
                assert found[f"{way} {convention} {dtype}"] == pytest.approx(expected, rel=close)
    vectors = 3 + EXTRA_VECTORS
    assert results[0]["largest"]["rows"] <= max(vectors, SAMPLE_ROWS + len(cuts)) * 100 < 100**2
    assert results[0]["largest"]["gram"] >= 100**2


def test_wide_features_of_processes_are_not_summed_to_a_matrix(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    Y, W = rng.standard_normal((900, 3)), rng.standard_normal((3, 1500))
    H = Y @ W + 0.01 * rng.standard_normal((900, 1500))
    results = run(tmp_path / "run", "chosen", H, Y, W, [500])
    assert set(results[0]["passes"]) == {"components", "residuals"}
    assert results[0] == results[1]
    assert results[0]["nrc1"] == pytest.approx(reference_nrc1(H, 3), rel=1e-10)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes find that nothing happens to."""
    return run(tmp_path_factory.mktemp("undisturbed") / "run", "whole", *draw(), [400])


@pytest.mark.parametrize(
    "dies_at", [1, pytest.param(9, marks=pytest.mark.long), 14, pytest.param(25, marks=pytest.mark.long)]
)
def test_a_process_that_dies_can_be_resumed_with_the_others(
    tmp_path: Path, undisturbed: list[dict[str, Any]], dies_at: int
) -> None:
    H, Y, W = draw()
    run(tmp_path / "run", "stopped", H, Y, W, [400], str(dies_at), fails=True)
    states = sorted(path.name for path in (tmp_path / "run").glob("state*"))
    assert "state.1.npz" in states
    assert run(tmp_path / "run", "resumed", H, Y, W, [400]) == undisturbed
    assert not [*(tmp_path / "run").glob("state*")]


def test_what_goes_wrong_on_one_process_ends_on_all(tmp_path: Path) -> None:
    H, Y, W = draw()
    first, second = run(tmp_path / "run", "failing", H, Y, W, [400])
    for name, words in (
        (
            "not finite in the first chunk",
            "NonFiniteRowsError: H: 1 of 64 rows hold NaN or infinite values, the first is row 5;",
        ),
        ("not finite in the last chunk", "rows hold NaN or infinite values, the first is row 499;"),
        ("kind", "TypeError: H has dtype int64"),
        ("sampled", "the first is row 5;"),
        ("sampled late", "the first is row 499;"),
        ("no folder for one", "OSError: missing/state.1.npz cannot be written"),
        ("missing file", "FileNotFoundError: there is no file missing.npy"),
    ):
        assert words in second[name]
        assert first[name] == "RuntimeError: process 1 of the group has failed; its own message says why"
    for said in (first, second):
        assert "different numbers of features and targets (process 0: 12 and 0, process 1: 8 and 0)" in said["widths"]
        assert said["folder"].startswith("OSError: missing/state.npz cannot be written")
        assert said["well"] == "nothing"


def test_parts_of_every_kind_decide_alike(tmp_path: Path) -> None:
    H, Y, W = draw()
    W = np.random.default_rng(3).standard_normal((10, 12))
    results = run(tmp_path / "run", "mixed", H, Y, W, [0])
    assert results[0] == results[1]
    for report in results[0].values():
        assert report["samples"] == 900
        reference = reference_nrc1(H.astype(np.float32), 10, "nrc24")
        assert abs(report["nrc1"] - reference) <= report["bounds"]["nrc1"] + 1e-12


def test_groups_have_totals_of_their_own(tmp_path: Path) -> None:
    H, Y, W = draw()
    results = run(tmp_path / "run", "grouped", H, Y, W, [100, 300, 650])
    for ranks, rows in (((0, 1), slice(0, 300)), ((2, 3), slice(300, 900))):
        for rank in ranks:
            assert results[rank]["nrc1"] == pytest.approx(reference_nrc1(H[rows], 2, "nrc24"), rel=1e-12)


def test_without_a_group_the_error_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"call torch\.distributed\.init_process_group first"):
        nrc.FeatureStatistics(3).all_reduce()


def test_torchrun_shares_shards_out(tmp_path: Path) -> None:
    H, Y, W = draw()
    for number, part in enumerate(np.split(H, [10, 600, 880])):
        np.save(tmp_path / f"H_{number}.npy", part)
    for name, array in (("Y", Y), ("W", W), ("b", np.zeros(2))):
        np.save(tmp_path / f"{name}.npy", array)
    command = ["measure", "H_*.npy", "--targets", "Y.npy", "--weights", "W.npy", "--bias", "b.npy", "--json"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    result = subprocess.run(
        [*torchrun, "-m", "nrc_fast", *command, "--save-stats", "part.npz"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["samples"] == 900
    assert report["nrc1"] == pytest.approx(reference_nrc1(H, 2, "nrc24"), rel=1e-12)
    assert report["nrc2"] == pytest.approx(reference_nrc2(H, W, "nrc24"), rel=1e-12)
    assert nrc.FeatureStatistics.load(tmp_path / "part.npz").count == 900
