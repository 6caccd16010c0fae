"""Statistics of few rows tell what `measure` tells of them, however they came; of more they are what they were."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arrays import store
from support.exact_numbers import ExactNumbers
from support.ladder import Finding, looseness
from support.looks import looks_beside

import nrc_fast as nrc
from nrc_fast.base.npz import save_arrays
from nrc_fast.kernels.cpu.sums import HostSums
from nrc_fast.measurement.exact_turns import MOST_HELD
from nrc_fast.measurement.kept_rows import KEPT

D, N = 6, 2


def draw(rows: int, dtype: str = "float32") -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(rows)
    W = rng.standard_normal((N, D))
    H = rng.standard_normal((rows, D)) * 0.7 ** np.arange(D) + 3.0
    Y = H @ W.T + 0.1 * rng.standard_normal((rows, N))
    return store(H, dtype), Y, W, rng.standard_normal(N)


def added(H: Any, Y: Any, cuts: list[int], **options: Any) -> nrc.FeatureStatistics:
    statistics = nrc.FeatureStatistics(D, n_targets=N, **options)
    for first, last in zip([0, *cuts], [*cuts, len(H)], strict=True):
        statistics.update(H[first:last], Y[first:last])
    return statistics


@pytest.mark.parametrize("convention", nrc.CONVENTIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "torch.bfloat16"])
def test_few_rows_have_the_report_of_measure(convention: Any, dtype: str) -> None:
    H, Y, W, b = draw(90, dtype)
    found = added(H, Y, [7, 50]).report(W, b, convention=convention)
    whole = nrc.measure(H, Y, W, b, convention=convention)
    assert found.dtype == whole.dtype == dtype.removeprefix("torch.")
    assert found.to_json() == whole.to_json()
    everything: dict[str, Any] = {"convention": convention, "by_k": "all", "spectrum": "full"}
    found, whole = added(H, Y, [7, 50]).report(W, b, **everything), nrc.measure(H, Y, W, b, **everything)
    assert found.to_json() == whole.to_json()


def test_batches_of_several_dtypes_are_rows_of_float64() -> None:
    H, Y, W, b = draw(90)
    report = added(H, Y, []).update(H.astype(np.float16), Y).report(W, b)
    whole = nrc.measure(np.concatenate([H, H.astype(np.float16)]).astype(np.float64), np.tile(Y, (2, 1)), W, b)
    assert (report.dtype, whole.dtype) == ("mixed", "float64")
    assert replace(report, dtype="float64").to_json() == whole.to_json()


def test_bounds_of_batches_are_close_to_their_errors() -> None:
    H, Y, W, b = draw(90)
    exact = ExactNumbers(H, Y, W, b, components=D)
    found = []
    for cuts in ([], [30, 60], [1, 2, 3], [89]):
        report = added(H, Y, cuts).report(W, b)
        for name in ("nrc1", "nrc2"):
            error = float(exact.alternatives["nrc24"][name].distance(getattr(report, name)))
            found.append(Finding(name, getattr(report, name), report.bounds[name], error))
    assert not [one for one in found if one.is_violated]
    # Those of moments in float32 blocks are off by 1e5 of it.
    assert looseness({"all": found})["all"] < 100.0


def test_merged_parts_are_rows_one_after_the_other(tmp_path: Path) -> None:
    H, Y, W, b = draw(60)
    whole = added(H, Y, [])
    merged = nrc.FeatureStatistics(D, n_targets=N)
    for first in range(0, 60, 20):
        part = added(H[first : first + 20], Y[first : first + 20], [first % 7 + 1])
        part.save(tmp_path / "part.npz")
        merged += nrc.FeatureStatistics.load(tmp_path / "part.npz")
    assert merged.report(W, b).to_dict() == whole.report(W, b).to_dict()
    twice = added(H, Y, [])
    twice += twice
    assert twice.report(W, b).to_dict() == added(np.tile(H, (2, 1)), np.tile(Y, (2, 1)), []).report(W, b).to_dict()


def test_copies_and_states_keep_rows(tmp_path: Path) -> None:
    H, Y, W, b = draw(40)
    statistics = added(H, Y, [10])
    expected = statistics.report(W, b, convention="id25").to_dict()
    statistics.save(tmp_path / "few.npz")
    restored = nrc.FeatureStatistics(D, n_targets=N).restore(statistics.arrays())
    loaded = nrc.FeatureStatistics.load(tmp_path / "few.npz")
    for other in (pickle.loads(pickle.dumps(statistics)), copy.deepcopy(statistics), restored, loaded):
        assert other.report(W, b, convention="id25").to_dict() == expected
        other.update(H, Y)
        assert np.isfinite(other.report(W, b, convention="id25").nrc1)
    # A state of an earlier version has no rows, and goes on without them.
    old = {name: array for name, array in statistics.arrays().items() if name not in KEPT}
    older = nrc.FeatureStatistics(D, n_targets=N).restore(old)
    assert np.isnan(older.report(W, b, convention="id25").nrc1)
    assert np.isfinite(older.reset().update(H, Y).report(W, b, convention="id25").nrc1)


def test_rows_are_dropped_for_good_when_they_are_many() -> None:
    most = MOST_HELD // D
    H, Y, W, b = draw(most + 1)
    statistics = added(H[:-1], Y[:-1], [most // 2])
    assert np.isfinite(statistics.report(W, b, convention="id25").nrc1)
    statistics.update(H[-1:], Y[-1:])
    report = statistics.report(W, b, convention="id25")
    assert np.isnan(report.nrc1)
    assert any("read once" in note for note in report.notes)
    assert not set(KEPT) & statistics.arrays().keys()
    few = added(H[:5], Y[:5], [])
    assert np.isnan(few.merge(statistics).report(W, b, convention="id25").nrc1)
    assert np.isnan(few.update(H[:5], Y[:5]).report(W, b, convention="id25").nrc1)
    wide = nrc.FeatureStatistics(2000).update(np.ones((3, 2000), dtype=np.float32))
    assert not set(KEPT) & wide.arrays().keys()


def test_rows_that_are_skipped_are_counted_and_not_kept() -> None:
    H, Y, W, b = draw(50)
    H[7, 2], Y[30, 1] = np.nan, np.inf
    found = added(H, Y, [8, 20], nonfinite="skip").report(W, b)
    whole = nrc.measure(H, Y, W, b, nonfinite="skip")
    assert (found.samples, found.skipped_rows) == (whole.samples, whole.skipped_rows) == (48, 2)
    assert found.nrc1 == pytest.approx(whole.nrc1, rel=1e-12)


def test_a_batch_that_is_refused_leaves_rows_as_they_are() -> None:
    H, Y, W, b = draw(50)
    statistics = added(H, Y, [])
    expected = statistics.report(W, b).to_dict()
    bad = H.copy()
    bad[3, 1] = np.inf
    for batch in ((bad, Y), (1e200 * H.astype(np.float64), Y)):
        with pytest.raises(ValueError, match="H"):
            statistics.update(*batch)
        assert statistics.report(W, b).to_dict() == expected
    with pytest.raises(ValueError, match="finite"):
        statistics.restore(statistics.arrays() | {"gram": np.full((D, D), np.nan)})
    with pytest.raises(ValueError, match="add up"):
        statistics.merge(nrc.FeatureStatistics(D))
    assert statistics.report(W, b).to_dict() == expected
    assert statistics.update(H, Y).report(W, b).to_dict() == added(H, Y, []).update(H, Y).report(W, b).to_dict()


@pytest.mark.parametrize("is_added", [False, True])
def test_an_interrupt_never_leaves_other_rows_than_were_added(monkeypatch: Any, is_added: bool) -> None:
    H, Y, W, b = draw(60)
    statistics = added(H[:20], Y[:20], [])
    grow = HostSums._grow

    def interrupted(self: Any, *arguments: Any) -> None:
        if is_added:
            grow(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(HostSums, "_grow", interrupted)
        with pytest.raises(KeyboardInterrupt):
            statistics.update(H[20:40], Y[20:40])
    report = statistics.update(H[40:], Y[40:]).report(W, b)
    expected = nrc.measure(*((H, Y) if is_added else (np.delete(H, np.s_[20:40], 0), np.delete(Y, np.s_[20:40], 0))), W)
    assert report.samples == expected.samples
    assert abs(report.nrc1 - expected.nrc1) <= report.bounds["nrc1"] + expected.bounds["nrc1"]
    assert bool(set(KEPT) & statistics.arrays().keys()) is not is_added


@pytest.mark.parametrize(
    "changed",
    [
        {"kept_features": np.zeros((39, D)), "kept_targets": np.zeros((39, N))},
        {"kept_features": np.zeros((40, D + 1))},
        {"kept_features": np.zeros(40)},
        {"kept_features": np.full((40, D), np.nan)},
        {"kept_targets": np.zeros((39, N))},
        {"kept_targets": np.full((40, N), np.inf)},
        {"counts": np.full(14, np.nan)},
    ],
)
def test_kept_rows_of_a_file_are_not_believed(tmp_path: Path, changed: dict[str, Any]) -> None:
    H, Y, _, _ = draw(40)
    arrays = added(H, Y, []).arrays()
    with pytest.raises(ValueError, match="expected"):
        nrc.FeatureStatistics(D, n_targets=N).restore(arrays | changed)
    header = {"kind": "statistics", "format": 2, "d": D, "n_targets": N, "unit_rows": True, "precision": "high"}
    save_arrays(tmp_path / "bad.npz", header | {"options": {}}, arrays | changed)
    with pytest.raises(OSError, match="damaged"):
        nrc.FeatureStatistics.load(tmp_path / "bad.npz")


def test_reports_beside_updates_have_rows_of_their_state() -> None:
    H, Y, W, b = draw(600)
    H, Y = np.split(H, 60), np.split(Y, 60)
    statistics, expected = nrc.FeatureStatistics(D, n_targets=N), {}
    for features, targets in zip(H, Y, strict=True):
        report = statistics.update(features, targets).report(W, b, convention="id25")
        expected[report.samples] = report.to_dict()
    growing = nrc.FeatureStatistics(D, n_targets=N).update(H[0], Y[0])
    found = looks_beside(
        lambda: growing.report(W, b, convention="id25").to_dict(),
        [partial(growing.update, features, targets) for features, targets in zip(H[1:], Y[1:], strict=True)],
    )
    assert found
    assert all(report == expected[report["samples"]] for report in found)


@pytest.mark.parametrize("precision", ["high", "highest", "fast"])
def test_batches_are_summed_in_float64_while_they_are_few(precision: Any, tmp_path: Path) -> None:
    """Whatever is asked for in between, merged or stored, changes no bit."""
    d, few = 400, 600  # 600 times the square of 400 is less than 1e8, 700 times is more
    rng = np.random.default_rng(1)
    H = rng.standard_normal((few + 200, d)).astype(np.float32)
    cuts = [100, 350, few, few + 100]
    parts = np.split(H, cuts)
    plain, looked = (nrc.FeatureStatistics(d, precision=precision) for _ in range(2))
    for number, part in enumerate(parts):
        plain.update(part)
        looked.update(part).report(n=2)
        looked.save(tmp_path / "looked.npz")
        looked = nrc.FeatureStatistics.load(tmp_path / "looked.npz")
        assert looked.is_double is (precision == "highest" or (precision == "high" and number < 3))
    for name, array in plain.moments.arrays().items():
        assert looked.moments.arrays()[name].tobytes() == array.tobytes()
    covariance = np.cov(H.astype(np.float64).T, bias=True)
    assert np.linalg.norm(plain.covariance - covariance) <= plain.covariance_error
    of_few = nrc.FeatureStatistics(d, precision=precision).update(H[:few])
    merged = nrc.FeatureStatistics(d, precision=precision).update(H[:few]).merge(of_few).update(H[:few])
    assert merged.is_double is (precision == "highest")
