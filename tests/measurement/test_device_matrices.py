"""Nothing of d x d elements comes from a device to the host, unless it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cuda_core, on_device

import nrc_fast as nrc
from nrc_fast.kernels.cuda import spectrum
from nrc_fast.kernels.devices import tensor_backend
from nrc_fast.measurement import extent
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.passes.component_costs import ComponentCosts
from nrc_fast.testing import reference_nrc1

EPSILON = 2.0**-52
# More features than the components of a report need vectors for, so that a part of the spectrum is found.
D = 288
ROWS = 60
WIDE = 320


@pytest.fixture(params=["emulated", "card"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Places an array on the device under test, where matrices of `D` features and more stay."""
    place = on_device.device_package(request.param, cuda_core, monkeypatch)._place
    import torch

    monkeypatch.setattr(spectrum, "LEAST_SIZE", D)
    return lambda array: place(torch.from_numpy(np.array(array)))


@pytest.fixture
def copied(on: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the elements of every copy from the device to the host."""
    found: list[int] = []
    kind = type(tensor_backend(on(np.zeros((1, 1)))).device)
    bring = kind.bring

    def counting(self: Any, tensor: Any) -> Any:
        found.append(tensor.numel())
        return bring(self, tensor)

    monkeypatch.setattr(kind, "bring", counting)
    return found


def draw(seed: int = 0, d: int = D, rows: int = ROWS) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((rows, d)) * 0.8 ** np.arange(d) + rng.standard_normal(d)
    W = rng.standard_normal((2, d)) / d**0.5
    return H, H @ W.T + 0.1 * rng.standard_normal((rows, 2)), W


def assert_agree(found: Any, expected: Any) -> None:
    """Two reports, but for the device, within what both say that they may be off by."""
    for name in ("nrc1", "nrc2", "mse", "linear_mse", "cka", "stable_rank", "effective_rank", "balance_distance"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        allowed = found.bounds.get(name, 0.0) + expected.bounds.get(name, 0.0) + 1e-11 * abs(theirs)
        assert mine == pytest.approx(theirs, abs=allowed, nan_ok=True), name
    assert len(found.nrc1_by_k) == len(expected.nrc1_by_k)
    allowed = found.bounds["nrc1_by_k"] + expected.bounds["nrc1_by_k"] + 1e-12
    assert (np.abs(found.nrc1_by_k - expected.nrc1_by_k) <= allowed).all()
    assert found.alternatives.keys() == expected.alternatives.keys()


@pytest.mark.usefixtures("no_kept_rows")
@pytest.mark.parametrize("wanted", ["leading", "whole", "every k"])
def test_reports_of_statistics(on: Any, copied: list[int], wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent, "WHOLE_SPECTRUM", D - 1 if wanted == "leading" else D)
    H, Y, W = draw()
    options: dict[str, Any] = {"by_k": "all" if wanted == "every k" else "leading"}
    there, here = (nrc.FeatureStatistics(D, n_targets=2) for _ in range(2))
    for part in (slice(0, 25), slice(25, ROWS)):
        there.update(on(H[part]), on(Y[part]))
        here.update(H[part], Y[part])
    found, expected = (statistics.report(W, np.zeros(2), **options) for statistics in (there, here))
    assert_agree(found, expected)
    layers = [layer_collapse(statistics, W) for statistics in (there, here)]
    assert layers[0].noise_fraction == pytest.approx(layers[1].noise_fraction, rel=1e-9)
    assert layers[0].feature_stable_rank == pytest.approx(layers[1].feature_stable_rank, rel=1e-12)
    # A few vectors, and what is small.
    assert 0 < max(copied) <= 20 * D


def test_what_is_asked_for_comes(on: Any, copied: list[int], tmp_path: Path) -> None:
    H, _, _ = draw(1)
    there, here = nrc.FeatureStatistics(D).update(on(H)), nrc.FeatureStatistics(D).update(H)
    size = 64 * EPSILON * np.trace(here.second_moment)
    assert there.variance == pytest.approx(here.variance, rel=1e-13)
    assert max(copied) < 20 * D
    assert np.abs(there.covariance - here.covariance).max() <= size
    assert copied[-1] == D * D
    assert np.abs(there.second_moment - here.second_moment).max() <= size
    assert np.abs(there.unit_second_moment - here.unit_second_moment).max() <= 64 * EPSILON
    values, vectors = there.spectrum()
    assert np.abs((vectors * values) @ vectors.T - here.covariance).max() <= size
    there.save(tmp_path / "state.npz")
    again = nrc.FeatureStatistics.load(tmp_path / "state.npz")
    assert np.abs(again.covariance - here.covariance).max() <= size


def test_a_look_is_not_changed_by_what_comes_later(on: Any, copied: list[int]) -> None:
    H, _, _ = draw(2)
    statistics = nrc.FeatureStatistics(D).update(on(H[:30]))
    before = statistics.moments
    statistics.update(on(H[30:]))
    assert statistics.count == ROWS
    probe = np.ones((1, D))
    for moments, rows in ((before, H[:30]), (statistics.moments, H)):
        assert moments.count == len(rows)
        exact = probe @ np.cov(rows.T, bias=True)
        assert np.abs(moments.matrix("covariance").products(probe) - exact).max() <= 1e-12 * np.abs(exact).max()
    assert max(copied) < 20 * D


@pytest.mark.usefixtures("no_kept_rows")
def test_parts_are_merged_where_they_lie(on: Any, copied: list[int]) -> None:
    H, Y, W = draw(3)
    parts = [slice(0, 20), slice(20, 45), slice(45, ROWS)]
    there, here = ([nrc.FeatureStatistics(D, n_targets=2) for _ in parts] for _ in range(2))
    for part, first, second in zip(parts, there, here, strict=True):
        first.update(on(H[part]), on(Y[part]))  # about other shifts
        second.update(H[part], Y[part])
    empty = nrc.FeatureStatistics(D, n_targets=2)
    for statistics in there:
        empty.merge(statistics)
    there[0].merge(there[1]).merge(there[2])
    whole = here[0].merge(here[1]).merge(here[2])
    reports = [statistics.report(W, np.zeros(2)) for statistics in (there[0], empty)]
    assert max(copied) <= 20 * D
    for found in reports:
        assert_agree(found, whole.report(W, np.zeros(2)))
    # Rows of the host, and rows that are skipped, go on beside what is kept.
    for statistics in (there[0], empty, whole):
        statistics.update(H[:7], Y[:7])
        assert statistics.count == ROWS + 7
    size = 64 * EPSILON * np.trace(whole.second_moment)
    for statistics in (there[0], empty):
        assert np.abs(statistics.covariance - whole.covariance).max() <= size
        assert np.abs(statistics.mean - whole.mean).max() <= size


def test_rows_that_are_measured(on: Any, copied: list[int]) -> None:
    """Twice read, in chunks: with the Gram of the unit rows about the mean, which every k of one convention needs."""
    H, Y, W = draw(4, rows=40)
    for convention in ("nrc24", "id25"):
        options: dict[str, Any] = {"convention": convention, "by_k": "all", "chunk_rows": 25}
        found = nrc.measure(on(H), on(Y), W, np.zeros(2), **options)
        assert_agree(found, nrc.measure(H, Y, W, np.zeros(2), **options))
    assert 0 < max(copied) <= 64 * D  # rows that a start is made of


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_components_without_a_matrix(on: Any, copied: list[int], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComponentCosts, "prefers_rows", property(lambda _: True))
    monkeypatch.setattr(ComponentCosts, "is_worth", lambda *_: True)
    H = draw(5, d=WIDE)[0].astype(dtype)
    found = nrc.nrc1(on(H), 3)
    assert found == pytest.approx(reference_nrc1(H, 3), rel=1e-9)
    # Blocks of 3 + 7 vectors, and 64 rows that these begin with.
    assert 0 < max(copied) <= 64 * WIDE
