"""Dask arrays: the same report as the arrays behind them, whatever the blocks."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import dask
import dask.array as da
import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.integrations import dask as nrc_dask
from nrc_fast.passes import component_costs
from nrc_fast.passes.sums import Sums
from nrc_fast.testing import reference_nrc1, reference_nrc2


@pytest.fixture(params=["synchronous", "threads"], autouse=True)
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    with dask.config.set(scheduler=request.param):
        yield


def draw(mean: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 10))
    H = rng.standard_normal((1000, 10)) * 0.8 ** np.arange(10) + mean
    return H, H @ W.T + 0.1 * rng.standard_normal((1000, 2)), W


@pytest.mark.parametrize("convention", list(nrc.CONVENTIONS))
@pytest.mark.parametrize("chunks", [(1000, 10), (70, 10), (333, 3)], ids=str)
def test_reports_are_those_of_the_arrays(convention: str, chunks: tuple[int, int]) -> None:
    H, Y, W = draw()
    report = nrc_dask.measure(
        da.from_array(H, chunks=chunks), da.from_array(Y, chunks=(400, 1)), W, np.zeros(2), convention=convention
    )
    whole = nrc.measure(H, Y, W, np.zeros(2), convention=convention)
    assert report.nrc1 == pytest.approx(reference_nrc1(H, 2, convention), rel=1e-12)
    assert report.nrc2 == pytest.approx(reference_nrc2(H, W, convention), rel=1e-12)
    for name in ("samples", "nrc3", "gamma", "mse", "cka", "linear_mse"):
        assert getattr(report, name) == pytest.approx(getattr(whole, name), rel=1e-10)


def test_collapsed_float32_blocks_are_refined() -> None:
    rng = np.random.default_rng(1)
    W = rng.standard_normal((2, 10))
    H = (rng.standard_normal((1000, 2)) @ W + 1e-5 * rng.standard_normal((1000, 10))).astype(np.float32)
    report = nrc_dask.measure(da.from_array(H, chunks=(128, 10)), W=W)
    assert report.nrc1 == pytest.approx(reference_nrc1(H, 2, "nrc24"), rel=1e-9)


@pytest.mark.parametrize("convention", list(nrc.CONVENTIONS))
@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "gram"])
def test_nrc1_alone(convention: str, by_rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_rows:
        monkeypatch.setattr(component_costs, "MOST_SQUARE_BYTES", 0)
    H, _, _ = draw()
    blocks = da.from_array(H, chunks=(70, 3))
    for n in (2, [1, 3], None):
        expected = reference_nrc1(H, range(1, 11) if n is None else n, convention)
        assert nrc_dask.nrc1(blocks, n, convention=convention) == pytest.approx(expected, rel=1e-10, abs=1e-14)
    bad = H.copy()
    bad[[0, 75]] = np.nan
    kept = nrc_dask.nrc1(da.from_array(bad, chunks=(70, 10)), 2, convention=convention, nonfinite="skip")
    expected = reference_nrc1(np.delete(H, [0, 75], axis=0), 2, convention)
    assert kept == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("rows", [900, 300], ids=["many", "few"])
def test_wide_blocks_are_multiplied_with_few_vectors(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    H = rng.standard_normal((rows, 3)) @ rng.standard_normal((3, 1200)) + 0.01 * rng.standard_normal((rows, 1200))
    blocks, titles, before = da.from_array(H, chunks=(200, 1200)), [], nrc_dask._BlockReading.run

    def run(self: nrc_dask._BlockReading, title: str, sums: Sums) -> None:
        titles.append(title)
        before(self, title, sums)

    monkeypatch.setattr(nrc_dask._BlockReading, "run", run)
    expected = reference_nrc1(H, 3)
    assert nrc_dask.nrc1(blocks, 3) == pytest.approx(expected, rel=1e-10)
    assert set(titles) == {"components", "residuals"}
    titles.clear()
    white = rng.standard_normal((rows, 1200))
    assert nrc_dask.nrc1(da.from_array(white, chunks=(70, 1200)), 3) == pytest.approx(
        reference_nrc1(white, 3), rel=1e-10
    )
    assert ("rows" in titles) == (rows == 300)
    titles.clear()
    assert nrc_dask.nrc1(blocks * 2.0 + 1.0 - 1.0, 3) == pytest.approx(reference_nrc1(2.0 * H, 3), rel=1e-10)
    assert "statistics" in titles  # blocks that are computed for every pass are read as seldom as can be


def test_statistics_merge_with_others() -> None:
    H, Y, W = draw()
    statistics = nrc_dask.collect(da.from_array(H[:600], chunks=(100, 10)), da.from_array(Y[:600, 0], chunks=100))
    assert isinstance(statistics, nrc.FeatureStatistics)
    statistics.update(H[600:], Y[600:, 0])
    whole = nrc.FeatureStatistics(10, n_targets=1).update(H, Y[:, 0])
    assert statistics.count == 1000
    np.testing.assert_allclose(statistics.covariance, whole.covariance, rtol=0, atol=1e-14 * np.trace(whole.covariance))
    assert statistics.report(W[:1]).nrc2 == pytest.approx(reference_nrc2(H, W[:1], "nrc24"), rel=1e-12)


def test_bad_rows_are_named_by_block_or_skipped() -> None:
    H, Y, W = draw()
    bad, targets = H.copy(), Y.copy()
    bad[0, 0], bad[450, 3], targets[999, 0] = np.nan, np.inf, np.nan
    blocks = da.from_array(bad, chunks=(200, 10)), da.from_array(targets, chunks=(200, 2))
    with pytest.raises(ValueError, match=r"the first is row \d+ of block [024]"):
        nrc_dask.measure(*blocks, W)
    kept = np.isfinite(bad).all(axis=1) & np.isfinite(targets).all(axis=1)
    report = nrc_dask.measure(*blocks, W, nonfinite="skip")
    assert (report.samples, report.skipped_rows) == (997, 3)
    assert report.nrc1 == pytest.approx(reference_nrc1(H[kept], 2, "nrc24"), rel=1e-12)


def test_blocks_of_unknown_size_and_bad_options() -> None:
    H, _, W = draw()
    blocks = da.from_array(H, chunks=(300, 10))
    kept = blocks[da.from_array(H[:, 0] > 1.0, chunks=300)]
    assert np.isnan(kept.chunks[0]).all()
    assert nrc_dask.measure(kept, W=W).nrc1 == pytest.approx(reference_nrc1(H[H[:, 0] > 1.0], 2, "nrc24"), rel=1e-12)
    with pytest.raises(ValueError, match="nonfinite is 'drop'"):
        nrc_dask.measure(blocks, W=W, nonfinite="drop")
    with pytest.raises(TypeError, match="penalties is a int"):
        nrc_dask.measure(blocks, W=W, penalties=3)


def test_only_sums_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    H, _, W = draw()
    sizes = []
    original = nrc_dask._sums_of_block

    def spying(empty: object, *arguments: object) -> object:
        sizes.append(len(pickle.dumps((empty, arguments[:2]))))
        return original(empty, *arguments)

    monkeypatch.setattr(nrc_dask, "_sums_of_block", spying)
    nrc_dask.measure(da.from_array(H, chunks=(100, 10)), W=W)
    assert max(sizes) < 10_000 < H.nbytes


def test_what_is_no_dask_array_is_refused() -> None:
    H, Y, _ = draw()
    blocks = da.from_array(H, chunks=(200, 10))
    for arguments, error, words in (
        ((H,), TypeError, "H is a ndarray; a dask array is expected"),
        ((blocks, Y), TypeError, "Y is a ndarray"),
        ((blocks[0],), ValueError, r"H has shape \(10,\)"),
        ((blocks.astype(int),), TypeError, "H has dtype int64"),
        ((blocks, da.from_array(Y[:900], chunks=(200, 2))), ValueError, "cannot be matched"),
    ):
        with pytest.raises(error, match=words):
            nrc_dask.measure(*arguments, n=2)
    with pytest.raises(TypeError, match=r"nrc_fast\.integrations\.dask takes it"):
        nrc.measure(blocks, n=2)
