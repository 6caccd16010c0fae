"""Statistics that gather small batches: the sums are those of the same rows, whenever somebody looks."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast import gathered
from nrc_fast.gathered import GATHERED_BYTES, GatheredStatistics

EPSILON = 2.0**-52
D, N = 5, 2


def draw(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((rows, D)) + 3.0
    return H, H @ rng.standard_normal((D, N)) + rng.standard_normal((rows, N))


def collecting() -> GatheredStatistics:
    return GatheredStatistics(D, n_targets=N, nonfinite="skip")


def assert_moments(found: nrc.FeatureStatistics, H: np.ndarray, Y: np.ndarray, unit_roundoff: float = EPSILON) -> None:
    """Against plain float64 moments, to some roundings of their size; those of targets are float64 in any case."""
    H, Y = H.astype(np.float64), Y.astype(np.float64)
    scale, target_scale = np.mean(H**2) * D, np.mean(Y**2) * N
    centred, targets = H - H.mean(axis=0), Y - Y.mean(axis=0)
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    assert found.count == len(H)
    assert np.abs(found.mean - H.mean(axis=0)).max() <= 32 * unit_roundoff * scale**0.5
    assert np.abs(found.covariance - centred.T @ centred / len(H)).max() <= 32 * unit_roundoff * scale
    assert np.abs(found.unit_second_moment - unit.T @ unit / len(H)).max() <= 32 * unit_roundoff
    assert np.abs(found.target_covariance - targets.T @ targets / len(H)).max() <= 32 * EPSILON * target_scale
    allowed = 32 * unit_roundoff * (scale * target_scale) ** 0.5
    assert np.abs(found.cross_covariance - centred.T @ targets / len(H)).max() <= allowed


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), looks=st.sets(st.integers(0, 11)))
def test_batches_of_any_sizes_and_looks_between_them(sizes: list[int], looks: set[int]) -> None:
    H, Y = draw(len(sizes), sum(sizes))
    statistics, first = collecting(), 0
    for index, size in enumerate(sizes):
        statistics.update(H[first : first + size], Y[first : first + size])
        first += size
        if index in looks and first:
            assert_moments(statistics, H[:first], Y[:first])
    if first:
        assert_moments(statistics, H, Y)


def test_what_is_derived_is_derived_anew() -> None:
    H, Y = draw(0, 60)
    statistics = collecting().update(H[:30], Y[:30])
    before = statistics.report(n=N).nrc1
    statistics.update(H[30:], Y[30:])
    after = statistics.report(n=N).nrc1
    assert after != before
    assert after == pytest.approx(nrc.FeatureStatistics(D, n_targets=N).update(H, Y).report(n=N).nrc1, rel=1e-12)


def test_a_megabyte_is_added_up_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "GATHERED_BYTES", 100 * D * 8)
    H, Y = draw(1, 260)
    statistics, waiting = collecting(), []
    for first in range(0, 260, 40):
        statistics.update(H[first : first + 40], Y[first : first + 40])
        waiting.append(statistics.waiting)
    assert waiting == [40, 80, 40, 80, 40, 80, 100]
    assert_moments(statistics, H, Y)
    statistics.update(H[:60], Y[:60])  # more than half of it: at once
    assert statistics.waiting == 0
    assert statistics.count == 320


def test_the_bits_are_those_of_the_gathered_rows() -> None:
    H, Y = draw(2, 90)
    statistics = collecting()
    for part in np.split(np.arange(90), 3):
        statistics.update(H[part].astype(np.float32), Y[part])
    whole = nrc.FeatureStatistics(D, n_targets=N).update(H.astype(np.float32), Y)
    assert statistics.covariance.tobytes() == whole.covariance.tobytes()
    assert statistics.unit_second_moment.tobytes() == whole.unit_second_moment.tobytes()


def test_dtypes_and_layouts_may_change_between_batches() -> None:
    H, Y = draw(3, 80)
    H, Y = np.round(H * 8) / 8, np.round(Y * 8) / 8  # the same in every dtype
    statistics = collecting()
    statistics.update(H[:10], Y[:10]).update(H[10:20].astype(np.float32), Y[10:20].astype(np.float16))
    statistics.update(np.asfortranarray(H[20:30]), Y[29:19:-1][::-1])
    statistics.update(torch.from_numpy(H[30:40]).bfloat16(), torch.from_numpy(Y[30:40]))
    statistics.update(torch.from_numpy(H[40:60:2].copy()), Y[40:60:2]).update(H[41:60:2], Y[41:60:2])
    statistics.update(H[60:], Y[60:])
    assert_moments(statistics, H, Y, 2.0**-24)


def test_rows_that_are_not_finite_are_left_out() -> None:
    H, Y = draw(4, 40)
    H[3, 1], H[25], Y[11, 0] = np.nan, np.inf, np.nan
    keep = np.isfinite(H).all(axis=1) & np.isfinite(Y).all(axis=1)
    statistics = collecting()
    for first in range(0, 40, 10):
        statistics.update(H[first : first + 10], Y[first : first + 10])
    assert (statistics.count, statistics.skipped) == (37, 3)
    assert_moments(statistics, H[keep], Y[keep])


def test_what_does_not_fit_is_refused_at_once() -> None:
    H, Y = draw(5, 10)
    statistics = collecting().update(H, Y)
    with pytest.raises(ValueError, match="has 4 features"):
        statistics.update(H[:, :4], Y)
    with pytest.raises(ValueError, match="10 rows and Y has 9"):
        statistics.update(H, Y[:9])
    with pytest.raises(ValueError, match="0 targets"):
        statistics.update(H)
    with pytest.raises(TypeError, match="int64"):
        statistics.update(np.ones((3, D), np.int64), Y[:3])
    assert_moments(statistics, H, Y)
    with pytest.raises(ValueError, match="'skip'"):
        GatheredStatistics(D)


def test_rows_that_are_too_large_are_reported_by_the_look_and_lost() -> None:
    H, Y = draw(6, 10)
    statistics = collecting().update(H, Y)
    assert statistics.count == 10
    statistics.update(H * 1e200, Y)
    with pytest.raises(ValueError, match="so large that squares leave the range of float64"):
        _ = statistics.count
    assert_moments(statistics, H, Y)


def test_batches_are_copied() -> None:
    H, Y = draw(7, 30)
    batch, targets = H.copy(), Y.copy()
    statistics = collecting().update(batch, targets)
    batch[:], targets[:] = 0.0, 0.0
    assert_moments(statistics, H, Y)


@pytest.mark.parametrize("way", ["merged into", "merged from", "copied", "pickled", "saved", "reset"])
def test_what_waits_is_part_of_the_whole(way: str, tmp_path: Path) -> None:
    H, Y = draw(8, 50)
    statistics = collecting().update(H[:20], Y[:20])
    other: Any = nrc.FeatureStatistics(D, n_targets=N).update(H[20:], Y[20:])
    if way == "merged into":
        assert_moments(statistics.merge(other), H, Y)
    elif way == "merged from":
        assert_moments(other.merge(statistics), H, Y)
    elif way == "reset":
        assert_moments(statistics.reset().update(H[20:], Y[20:]), H[20:], Y[20:])
    else:
        if way == "saved":
            statistics.save(tmp_path / "statistics.npz")
            found: Any = nrc.FeatureStatistics.load(tmp_path / "statistics.npz")
        else:
            found = copy.deepcopy(statistics) if way == "copied" else pickle.loads(pickle.dumps(statistics))
        assert_moments(found.update(H[20:], Y[20:]), H, Y)
        assert_moments(statistics, H[:20], Y[:20])


def test_batches_of_half_a_megabyte_do_not_wait() -> None:
    d = 64
    rows = GATHERED_BYTES // (2 * d * 4)
    H = np.random.default_rng(0).standard_normal((rows + 1, d), dtype=np.float32)
    statistics = GatheredStatistics(d, nonfinite="skip")
    assert statistics.update(H).waiting == 0  # type: ignore[attr-defined]
    assert statistics.update(H[:-1]).waiting == rows  # type: ignore[attr-defined]
