"""Statistics that arrive in parts: the same numbers however the rows are split, merged, shifted or stored."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.looks import looks_beside

import nrc_fast as nrc
from nrc_fast.kernels.counts import COUNT_PLACES
from nrc_fast.kernels.cpu.sums import HostSums
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_rows

pytestmark = pytest.mark.usefixtures("on_every_device")

EPSILON = 2.0**-52
ONE_PASS = ["nrc24", "raw", "uncentered", "variance"]
SIZES = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97]


def draw(seed: int, rows: int, d: int, n: int, mean: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n, d))
    H = rng.standard_normal((rows, d)) * 0.8 ** np.arange(d) + mean * rng.standard_normal(d)
    return H, H @ W.T + 0.1 * rng.standard_normal((rows, n)) - 2.0, W


def collected(H: Any, Y: Any, cuts: list[int], **options: Any) -> nrc.FeatureStatistics:
    statistics = nrc.FeatureStatistics(H.shape[1], n_targets=Y.shape[1], **options)
    for first, last in zip([0, *cuts], [*cuts, len(H)], strict=True):
        statistics.update(H[first:last], Y[first:last])
    return statistics


def assert_moments(statistics: nrc.FeatureStatistics, H: Any, Y: Any) -> None:
    """Against float64 from the definitions; float32 blocks are off by some roundings of float32."""
    rows, targets = reference_rows(H), reference_rows(Y)
    unit = EPSILON if getattr(H, "dtype", None) == np.float64 else 2.0**-24
    count = len(rows)
    centered, centered_targets = rows - rows.mean(axis=0), targets - targets.mean(axis=0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows / np.where(norms > 0, norms, 1)
    # Shifts lie within the spread of the rows, so that the plain error is that of their energy about the shift.
    spread = float(np.sum((rows - rows[0]) ** 2)) / count + float(np.sum(centered**2)) / count
    target_spread = float(np.sum((targets - targets[0]) ** 2)) / count + float(np.sum(centered_targets**2)) / count
    size = float(np.abs(rows).max(initial=0.0))
    allowed = 16.0 * unit * spread + 8.0 * EPSILON * size**2
    assert statistics.count == count
    np.testing.assert_allclose(
        statistics.mean, rows.mean(axis=0), rtol=0, atol=16 * unit * spread**0.5 + 8 * EPSILON * size
    )
    np.testing.assert_allclose(statistics.covariance, centered.T @ centered / count, rtol=0, atol=allowed)
    np.testing.assert_allclose(statistics.unit_second_moment, units.T @ units / count, rtol=0, atol=16 * unit)
    cross = centered.T @ centered_targets / count
    np.testing.assert_allclose(
        statistics.cross_covariance, cross, rtol=0, atol=16 * unit * (spread * target_spread) ** 0.5
    )
    np.testing.assert_allclose(
        statistics.target_covariance,
        centered_targets.T @ centered_targets / count,
        rtol=0,
        atol=16 * EPSILON * (target_spread + float(np.abs(targets).max()) ** 2),
    )


# ---- updates ----


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_batches_of_every_size_add_up(dtype: str) -> None:
    H, Y, _ = draw(0, sum(SIZES), 13, 2)
    stored = torch.from_numpy(H).to(torch.bfloat16) if dtype == "bfloat16" else H.astype(dtype)
    statistics = collected(stored, Y, list(np.cumsum(SIZES)[:-1]))
    assert_moments(statistics, stored, Y)


@pytest.mark.host
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("d", [1, 16, 64, 97])
@pytest.mark.parametrize("n", [0, 3])
def test_batches_of_every_size_add_up_with_every_instruction_set(d: int, n: int) -> None:
    H, Y, _ = draw(1, sum(SIZES) + 1000, d, 3)
    H, Y = H.astype(np.float32), Y[:, :n]
    H[5] = 0.0
    statistics = nrc.FeatureStatistics(d, n_targets=n)
    ends = [*np.cumsum(SIZES), len(H)]
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        statistics.update(H[first:last], Y[first:last] if n else None)
    assert (statistics.count, statistics.zero_rows, statistics.dtype) == (len(H), 1, "float32")
    assert statistics.arrays()["counts"][COUNT_PLACES["parts"]] == np.count_nonzero(SIZES) + 1
    if n:
        assert_moments(statistics, H, Y)
        return
    alone = collected(H, np.zeros((len(H), 1)), list(map(int, ends[:-1])))
    assert np.array_equal(statistics.covariance, alone.covariance)
    assert np.array_equal(statistics.unit_second_moment, alone.unit_second_moment)


@pytest.mark.host
@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 150), max_size=6),
    st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    st.permutations(range(3)),
)
def test_splits_merges_and_order_do_not_matter(seed: int, cuts: list[int], mean: float, order: list[int]) -> None:
    H, Y, _ = draw(seed, 150, 5, 2, mean)
    assert_moments(collected(H, Y, sorted(cuts)), H, Y)
    parts = [collected(H[first : first + 50], Y[first : first + 50], []) for first in (0, 50, 100)]
    total = nrc.FeatureStatistics(5, n_targets=2)
    for index in order:
        total += parts[index]
    assert_moments(total, H, Y)


def test_merging_keeps_the_digits_of_parts_with_different_shifts() -> None:
    rng = np.random.default_rng(0)
    # Both parts vary by 1 about means that lie 3 apart, far from the origin.
    H = np.concatenate([rng.standard_normal((500, 4)) + 1e6, rng.standard_normal((700, 4)) + 1e6 + 3.0])
    Y = np.concatenate([rng.standard_normal((500, 1)) - 1e5, rng.standard_normal((700, 1)) - 1e5 + 7.0])
    left, right = (collected(H[part], Y[part], []) for part in (slice(0, 500), slice(500, None)))
    assert left.merge(right) is left
    exact = np.cov(H.T - 1e6, bias=True)  # 1e6 is subtracted exactly
    assert np.abs(left.covariance - exact).max() < 64 * EPSILON * np.trace(exact) + 4 * EPSILON * 1e6
    assert_moments(left, H - 0.0, Y)


def test_merging_with_nothing_changes_nothing() -> None:
    H, Y, _ = draw(1, 60, 3, 2)
    one = collected(H, Y, [20])
    before = {name: array.copy() for name, array in one.arrays().items()}
    one += nrc.FeatureStatistics(3, n_targets=2)
    assert all(np.array_equal(array, before[name]) for name, array in one.arrays().items())
    empty = nrc.FeatureStatistics(3, n_targets=2)
    empty += one
    assert all(np.array_equal(array, before[name]) for name, array in empty.arrays().items())


def test_merging_leaves_the_other_part_alone() -> None:
    H, Y, _ = draw(2, 80, 4, 1)
    left, right = collected(H[:30], Y[:30], []), collected(H[30:], Y[30:], [])
    before = {name: array.tobytes() for name, array in right.arrays().items()}
    left += right
    left.update(H[:5], Y[:5])
    assert {name: array.tobytes() for name, array in right.arrays().items()} == before


@pytest.mark.host
def test_what_does_not_fit_is_refused_and_nothing_is_added() -> None:
    H, Y, _ = draw(3, 40, 4, 2)
    statistics = collected(H, Y, [])
    before = {name: array.tobytes() for name, array in statistics.arrays().items()}
    bad = H.copy()
    bad[7, 1] = np.nan
    for arguments, error, words in (
        ((H[:, :3], Y), ValueError, "H has 3 features and 2 targets; these statistics are of 4 and 2"),
        ((H,), ValueError, "4 features and 0 targets"),
        ((H, Y[:5]), ValueError, "H has 40 rows and Y has 5"),
        ((bad, Y), ValueError, "1 of 40 rows hold NaN or infinite values, the first is row 7"),
        ((H, np.where(Y[3] == Y, np.inf, Y)), ValueError, "Y: 1 of 40 rows"),
        ((1e200 * H, Y), ValueError, "so large that squares leave the range"),
        ((H.astype(int), Y), TypeError, "H has dtype int64"),
        ((H[0], Y[0]), ValueError, "a matrix with one row per sample"),
    ):
        with pytest.raises(error, match=words):
            statistics.update(*arguments)
    with pytest.raises(ValueError, match="parts with d = 4 and 3"):
        statistics.merge(nrc.FeatureStatistics(3, n_targets=2))
    with pytest.raises(ValueError, match="parts with unit_rows = True and False"):
        statistics.merge(nrc.FeatureStatistics(4, n_targets=2, unit_rows=False))
    with pytest.raises(TypeError, match="a dict cannot be merged"):
        statistics.merge({})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        statistics += 3  # type: ignore[operator]
    assert {name: array.tobytes() for name, array in statistics.arrays().items()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"d": 0}, "d is 0"),
        ({"d": 3, "n_targets": -1}, "n_targets is -1"),
        ({"d": 3, "precision": "low"}, "precision is 'low'"),
        ({"d": 3, "nonfinite": "ignore"}, "nonfinite is 'ignore'"),
    ],
)
def test_sizes_and_options_are_checked(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nrc.FeatureStatistics(**arguments)


def test_skipping_leaves_out_whole_samples() -> None:
    H, Y, _ = draw(4, 90, 5, 2)
    H[0, 0], H[50] = np.nan, np.inf
    Y[17, 1] = np.nan
    keep = np.isfinite(H).all(axis=1) & np.isfinite(Y).all(axis=1)
    statistics = collected(H, Y, [30, 60], nonfinite="skip")
    assert (statistics.count, statistics.skipped) == (87, 3)
    assert_moments(statistics, H[keep], Y[keep])
    report = statistics.report(n=2)
    assert (report.samples, report.skipped_rows) == (87, 3)


def test_arrays_of_users_are_their_own_and_more_rows_are_seen() -> None:
    rng = np.random.default_rng(3)
    H, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    statistics = nrc.FeatureStatistics(3, n_targets=2).update(H[:30], Y[:30])
    for name in ("mean", "target_mean", "target_covariance", "cross_covariance"):
        before = getattr(statistics, name).copy()
        getattr(statistics, name)[:] = np.nan
        np.testing.assert_array_equal(getattr(statistics, name), before)
    error = statistics.covariance_error, statistics.cross_error
    statistics.update(1e3 * H[30:], Y[30:])
    rows = np.concatenate([H[:30], 1e3 * H[30:]])
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.target_covariance, np.cov(Y.T, bias=True), rtol=1e-12)
    np.testing.assert_allclose(
        statistics.cross_covariance, (rows - rows.mean(axis=0)).T @ (Y - Y.mean(axis=0)) / 40, atol=1e-10
    )
    assert statistics.covariance_error > 1e3 * error[0]
    assert statistics.cross_error > 10.0 * error[1]


def test_reset_forgets_everything() -> None:
    H, Y, W = draw(5, 60, 4, 2)
    statistics = collected(H + 100.0, Y, [])
    assert statistics.reset().count == 0
    with pytest.raises(ValueError, match="no rows were added"):
        statistics.report(W)
    statistics.update(H, Y)
    fresh = collected(H, Y, [])
    assert all(np.array_equal(array, fresh.arrays()[name]) for name, array in statistics.arrays().items())


def test_inputs_are_not_changed_and_not_kept() -> None:
    H, Y, W = draw(6, 60, 4, 2)
    batch, targets = H.copy(), Y.copy()
    statistics = nrc.FeatureStatistics(4, n_targets=2).update(batch, targets)
    assert np.array_equal(batch, H)
    assert np.array_equal(targets, Y)
    before = statistics.report(W).nrc1
    batch[:] = 0.0
    assert statistics.report(W).nrc1 == before


@pytest.mark.host
def test_an_interrupt_between_two_updates_finds_whole_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    H, Y, _ = draw(7, 60, 4, 2)
    statistics = collected(H[:30], Y[:30], [])
    before = {name: array.tobytes() for name, array in statistics.arrays().items()}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HostSums, "_grow", interrupt)
    with pytest.raises(KeyboardInterrupt):
        statistics.update(H[30:], Y[30:])
    assert {name: array.tobytes() for name, array in statistics.arrays().items()} == before


def test_a_look_is_at_one_state() -> None:
    H, Y, W = draw(7, 90, 4, 2)
    statistics = collected(H[:30], Y[:30], [])
    seen = statistics.moments
    assert statistics.moments is seen
    before = {name: getattr(seen, name) for name in ("covariance", "mean", "cross_covariance")}
    values, _ = seen.spectrum()
    statistics.update(H[30:], Y[30:])
    assert seen.count == 30
    assert statistics.count == 90
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(seen, name), array)
    np.testing.assert_array_equal(seen.spectrum()[0], values)
    whole = collected(H, Y, [30])
    assert statistics.report(W).to_dict() == whole.report(W).to_dict()
    statistics += statistics
    assert statistics.count == 180
    np.testing.assert_allclose(statistics.covariance, whole.covariance, atol=1e-12)


@pytest.mark.host
def test_reports_beside_updates_are_of_one_state() -> None:
    rng = np.random.default_rng(8)
    batches = [rng.standard_normal((16, 12)) * (1.0 + 3.0 * rng.random(12) ** 2) * (1 + k) for k in range(40)]
    statistics, expected = nrc.FeatureStatistics(12), {}
    for batch in batches:
        report = statistics.update(batch).report(n=3)
        expected[report.samples] = report.to_dict()
    growing = nrc.FeatureStatistics(12).update(batches[0])
    found = looks_beside(
        lambda: growing.report(n=3).to_dict(), [partial(growing.update, batch) for batch in batches[1:]]
    )
    assert found
    assert all(report == expected[report["samples"]] for report in found)
    assert growing.report(n=3).to_dict() == expected[16 * 40]


# ---- reports ----


@pytest.mark.parametrize("convention", ONE_PASS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mean", [0.0, 2.0, 300.0])
@pytest.mark.usefixtures("no_kept_rows")
def test_report_holds_the_references_within_its_bounds(convention: str, dtype: type, mean: float) -> None:
    H, Y, W = draw(8, 700, 9, 3, mean)
    H = H.astype(dtype)
    report = collected(H, Y, [100, 350]).report(W, np.zeros(3), convention=convention)
    for k in range(1, 10):
        reference = reference_nrc1(H, k, convention)
        assert (
            abs(report.nrc1_by_k[k - 1] - reference)
            <= report.bounds["nrc1_by_k"][k - 1] + 64 * EPSILON * max(mean, 1) ** 2
        )
    assert report.nrc1 == report.nrc1_by_k[2]
    assert (
        abs(report.nrc2 - reference_nrc2(H, W, convention)) <= report.bounds["nrc2"] + 64 * EPSILON * max(mean, 1) ** 2
    )
    for other in ONE_PASS:
        if other == convention:
            continue
        found, bound = report.alternatives[other], report.alternative_bounds[other]
        assert abs(found["nrc1"] - reference_nrc1(H, 3, other)) <= bound["nrc1"] + 64 * EPSILON * max(mean, 1) ** 2
        assert abs(found["nrc2"] - reference_nrc2(H, W, other)) <= bound["nrc2"] + 64 * EPSILON * max(mean, 1) ** 2
    assert "id25" not in report.alternatives


@pytest.mark.usefixtures("no_kept_rows")
def test_report_agrees_with_measure_in_what_needs_no_second_read() -> None:
    H, Y, W = draw(9, 500, 8, 2)
    report, whole = collected(H, Y, [123]).report(W, np.ones(2)), nrc.measure(H, Y, W, np.ones(2))
    for name in ("nrc1", "nrc2", "nrc3", "gamma", "mse", "r2", "cka", "linear_mse", "effective_rank", "stable_rank"):
        bound = report.bounds[name] + whole.bounds[name]
        assert abs(getattr(report, name) - getattr(whole, name)) <= bound + 8 * EPSILON * abs(getattr(whole, name)), (
            name
        )
    shares = np.abs(report.explained_variance_ratio - whole.explained_variance_ratio)
    assert np.all(shares <= report.bounds["explained_variance_ratio"])


@pytest.mark.usefixtures("no_kept_rows")
def test_every_number_has_a_bound() -> None:
    H, Y, W = draw(10, 300, 6, 2)
    report = collected(H, Y, []).report(W, np.zeros(2))
    numbers = ("nrc1", "nrc2", "nrc3", "gamma", "mse", "r2", "cka", "linear_mse", "effective_rank", "stable_rank")
    assert all(report.bounds[name] >= 0.0 for name in numbers)
    assert report.bounds["explained_variance_ratio"].shape == (6,)
    assert set(report.alternatives) == set(report.alternative_bounds) == {"raw", "uncentered", "variance"}


@pytest.mark.usefixtures("no_kept_rows")
def test_collapsed_features_are_shown_as_a_floor() -> None:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 20))
    H = rng.standard_normal((400, 2)) @ W
    report = nrc.FeatureStatistics(20).update(H).report(W)
    exact = reference_nrc1(H, 2, "nrc24")
    assert exact < 1e-30
    assert abs(report.nrc1 - exact) <= report.bounds["nrc1"] < 1e-13
    assert report.nrc1 >= 0.0
    first = next(line for line in str(report).splitlines() if line.startswith("  NRC1"))
    assert float(first.split("<= ")[1]) >= report.nrc1 + report.bounds["nrc1"]
    assert "read once" in str(report)


@pytest.mark.usefixtures("no_kept_rows")
def test_conventions_that_statistics_do_not_hold_are_nan_with_the_reason() -> None:
    H, Y, W = draw(11, 100, 4, 2)
    report = collected(H, Y, []).report(W, convention="id25")
    assert np.isnan(report.nrc1)
    assert np.isnan(report.nrc2)
    assert np.isnan(report.nrc1_by_k).all()
    assert any("id25 needs the mean before the rows" in note for note in report.notes)
    report = collected(H, Y, [], unit_rows=False).report(W)
    assert np.isnan(report.nrc1)
    assert any("unit_rows=True" in note for note in report.notes)
    assert report.alternatives["variance"]["nrc1"] > 0.0


# ---- files ----


@pytest.mark.host
def test_saved_statistics_go_on_to_the_same_bits(tmp_path: Path) -> None:
    H, Y, W = draw(12, 200, 6, 2)
    whole = collected(H, Y, [90])
    part = collected(H[:90], Y[:90], [])
    part.save(tmp_path / "part.npz")
    loaded = nrc.FeatureStatistics.load(tmp_path / "part.npz").update(H[90:], Y[90:])
    assert all(array.tobytes() == whole.arrays()[name].tobytes() for name, array in loaded.arrays().items())
    assert loaded.report(W).to_json() == whole.report(W).to_json()
    assert loaded.dtype == "float64"


def test_empty_statistics_can_be_saved(tmp_path: Path) -> None:
    nrc.FeatureStatistics(5, unit_rows=False, precision="highest").save(tmp_path / "empty.npz")
    loaded = nrc.FeatureStatistics.load(tmp_path / "empty.npz")
    assert (loaded.d, loaded.n_targets, loaded.unit_rows, loaded.precision, loaded.count) == (5, 0, False, "highest", 0)


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    H, Y, _ = draw(13, 50, 3, 1)
    path = tmp_path / "state.npz"
    collected(H, Y, []).save(path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        collected(2 * H, Y, []).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_statistics_are_refused(tmp_path: Path) -> None:
    H, Y, _ = draw(14, 50, 3, 1)
    path = tmp_path / "state.npz"
    collected(H, Y, []).save(path)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(OSError, match=r"state\.npz is damaged"):
            nrc.FeatureStatistics.load(path)
    np.savez(path, H=H)
    with pytest.raises(OSError, match="was not written by nrc_fast"):
        nrc.FeatureStatistics.load(path)
    with pytest.raises(FileNotFoundError):
        nrc.FeatureStatistics.load(tmp_path / "missing.npz")


def test_files_of_a_newer_version_are_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    nrc.FeatureStatistics(2).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(bytes(arrays.pop("header")))
    for changed, words in (({"format": 99}, "has format 99; this version"), ({"kind": "checkpoint"}, "no statistics")):
        text = np.frombuffer(json.dumps(header | changed).encode(), dtype=np.uint8)
        np.savez(path, header=text, **arrays)
        with pytest.raises(ValueError, match=words):
            nrc.FeatureStatistics.load(path)


def test_options_and_totals_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    statistics = nrc.FeatureStatistics(2, nonfinite="skip")
    statistics._is_total = True
    statistics.save(path)
    loaded = nrc.FeatureStatistics.load(path)
    assert loaded.nonfinite == "skip"
    with pytest.raises(RuntimeError):
        loaded.all_reduce()


def test_saving_keeps_links_and_permissions_and_refuses_devices(tmp_path: Path) -> None:
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    target.write_bytes(b"")
    link.symlink_to(target)
    nrc.FeatureStatistics(2).save(link)
    assert link.is_symlink()
    assert nrc.FeatureStatistics.load(target).d == 2
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert target.stat().st_mode == plain.stat().st_mode
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no regular file"):
        nrc.FeatureStatistics(2).save(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no folder that can be written to"):
        nrc.FeatureStatistics(2).save(tmp_path / "missing" / "state.npz")
    with pytest.raises(OSError, match="is no folder that can be written to"):
        nrc.measure(np.eye(4), n=1, checkpoint=tmp_path / "missing" / "state.npz")


@pytest.mark.host
def test_threads_may_share_statistics() -> None:
    H, Y, _ = draw(20, 200, 4, 1)
    statistics = nrc.FeatureStatistics(4, n_targets=1)

    def add() -> None:
        for _ in range(300):
            statistics.update(H, Y)

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statistics.count == 4 * 300 * 200
    copied = pickle.loads(pickle.dumps(statistics)).update(H, Y)
    assert copied.count == statistics.count + 200


def test_sizes_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match="float"):
        nrc.FeatureStatistics(2.7)  # type: ignore[arg-type]


def test_a_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    nrc.FeatureStatistics(2).update(np.eye(2)).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name, bad in (("gram", np.eye(3)), ("gram", np.full((2, 2), np.nan)), ("shift", np.zeros(1))):
        np.savez(path, **(arrays | {name: bad}))
        with pytest.raises(OSError, match=f"state.npz is damaged: .*{name}"):
            nrc.FeatureStatistics.load(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"d": 10**6},
        {"n_targets": 10**9},
        {"d": "2"},
        {"d": None},
        {"options": []},
        {"precision": "low"},
        {"unit_rows": False, "options": {"nonfinite": 3}},
    ],
)
def test_what_a_header_says_of_sizes_is_not_believed(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "state.npz"
    nrc.FeatureStatistics(2).update(np.eye(2)).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.dumps(json.loads(bytes(arrays["header"])) | changed).encode()
    np.savez(path, **(arrays | {"header": np.frombuffer(header, np.uint8)}))
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match=r"state\.npz is damaged"):
            nrc.FeatureStatistics.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_statistics_replace_statistics_alone(tmp_path: Path) -> None:
    statistics = nrc.FeatureStatistics(2).update(np.eye(2))
    for _ in range(2):
        statistics.save(tmp_path / "state.npz")
    np.savez(tmp_path / "features.npz", h=np.eye(3))
    before = (tmp_path / "features.npz").read_bytes()
    for write in (
        statistics.save,
        lambda path: nrc.measure(np.eye(3), n=1, save_statistics=path),
        lambda path: nrc.measure(np.eye(3), n=1).to_json(path),
    ):
        with pytest.raises(ValueError, match=r"features\.npz holds something else"):
            write(tmp_path / "features.npz")
    assert (tmp_path / "features.npz").read_bytes() == before
