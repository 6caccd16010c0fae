"""Debiased CKA against the N x N kernels of its definition (Song et al., JMLR 2012)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs

import nrc_fast as nrc
from nrc_fast.measurement.debiased import RowAlignments

pytestmark = pytest.mark.usefixtures("on_every_device")

EPSILON = 2.0**-52


def by_kernels(H: Any, Y: Any) -> float:
    """With kernels whose diagonals are 0, in pairs of float64."""

    def alignment(K: Any, L: Any) -> Any:
        n = len(K)
        both = 2.0 * (K.sum(axis=0) * L.sum(axis=0)).sum() / (n - 2)
        total = (K * L).sum() + K.sum() * L.sum() / ((n - 1) * (n - 2)) - both
        return total / (n * (n - 3))

    kernels = []
    for rows in (H, Y):
        x = Pairs(rows)
        x = x - x.mean(axis=0)  # it does not depend on what is subtracted
        K = x @ x.T
        kernels.append(K * (1.0 - np.eye(len(K))))
    K, L = kernels
    own, theirs = alignment(K, K), alignment(L, L)
    return float(alignment(K, L) / (own * theirs).root()) if own > 0 and theirs > 0 else float("nan")


def by_covariances(H: Any, Y: Any) -> float:
    """CKA by its definition, in pairs of float64."""
    x, y = (Pairs(rows) - Pairs(rows).mean(axis=0) for rows in (H, Y))
    first, second, shared = ((a.T @ b) * (a.T @ b) for a, b in ((x, x), (y, y), (x, y)))
    return float(shared.sum() / (first.sum() * second.sum()).root())


def draw(seed: int, rows: int, d: int, n: int, *, shared: float = 0.0, mean: float = 0.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((rows, n)) * 0.8 ** np.arange(n) - 1.0
    H = rng.standard_normal((rows, d)) + shared * Y @ rng.standard_normal((n, d)) + mean
    return H, Y


@pytest.mark.parametrize("shared", [0.0, 0.5, 3.0])
@pytest.mark.parametrize(("rows", "d", "n"), [(4, 2, 1), (5, 3, 2), (16, 64, 8), (33, 7, 3), (300, 12, 5)])
def test_the_definition(rows: int, d: int, n: int, shared: float) -> None:
    H, Y = draw(rows, rows, d, n, shared=shared)
    report = nrc.measure(H, Y)
    expected = by_kernels(H, Y)
    if np.isnan(expected):
        assert np.isnan(report.cka_debiased)
        return
    bound = report.bounds["cka_debiased"]
    assert abs(report.cka_debiased - expected) <= bound + 64 * EPSILON
    if rows > 5:
        assert bound <= 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n", [2, 12])
def test_rows_that_are_not_float64(dtype: type, n: int) -> None:
    H, Y = draw(1, 150, 24, n, shared=0.4, mean=3.0)
    H = H.astype(dtype)
    report = nrc.measure(H, Y)
    expected = by_kernels(H.astype(np.float64), Y)
    assert abs(report.cka_debiased - expected) <= report.bounds["cka_debiased"]
    assert abs(report.cka_debiased - expected) <= 1e-4
    assert report.bounds["cka_debiased"] <= 0.05


@pytest.mark.parametrize("rows", [6, 20, 200])
def test_an_outlier_is_read_again_in_float64(rows: int) -> None:
    """What is left without the rows themselves is 1e-8 of it, which float32 blocks lose."""
    H, Y = draw(5, rows, 16, 1)
    H[-1] *= 1e4
    Y[-1] *= 1e4
    H = H.astype(np.float32)
    report = nrc.measure(H, Y)
    expected = by_kernels(H.astype(np.float64), Y)
    assert report.bounds["cka_debiased"] <= 1e-3
    assert abs(report.cka_debiased - expected) <= report.bounds["cka_debiased"]


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_units_do_not_matter(scale: float) -> None:
    H, Y = draw(2, 60, 5, 2, shared=0.3)
    value = nrc.measure(H, Y).cka_debiased
    assert nrc.measure(scale * H, Y / scale).cka_debiased == pytest.approx(value, rel=1e-9)
    assert nrc.measure(H - 7.0, Y + 5.0).cka_debiased == pytest.approx(value, rel=1e-9)


def test_independent_features_and_targets_have_none_on_average() -> None:
    reports = [nrc.measure(*draw(seed, 24, 48, 6)) for seed in range(40)]
    values = [report.cka_debiased for report in reports]
    assert abs(np.mean(values)) <= 4.0 * np.std(values) / np.sqrt(40)
    assert min(report.cka for report in reports) > 0.2
    (note,) = (note for note in reports[0].notes if "by chance" in note or "independent features" in note)
    assert "With 24 samples of 48 features" in note


@pytest.mark.parametrize("chunk_rows", [7, 64, None])
def test_chunks_and_skipped_rows(chunk_rows: int | None) -> None:
    H, Y = draw(3, 90, 6, 2, shared=0.4)
    assert nrc.measure(H, Y, chunk_rows=chunk_rows).cka_debiased == pytest.approx(by_kernels(H, Y), rel=1e-9)
    broken, kept = Y.copy(), np.ones(90, dtype=bool)
    broken[[4, 70], 1], kept[[4, 70]] = np.nan, False
    found = nrc.measure(H, broken, nonfinite="skip", chunk_rows=chunk_rows)
    assert found.cka_debiased == pytest.approx(by_kernels(H[kept], Y[kept]), rel=1e-9)


@pytest.mark.host
def test_files(tmp_path: Path) -> None:
    H, Y = draw(3, 90, 6, 2, shared=0.4)
    np.save(tmp_path / "h.npy", H)
    assert nrc.measure(tmp_path / "h.npy", Y, chunk_rows=31).cka_debiased == pytest.approx(by_kernels(H, Y), rel=1e-9)


@pytest.mark.usefixtures("no_kept_rows")
def test_where_there_is_none() -> None:
    H, Y = draw(4, 80, 5, 2, shared=0.5)
    assert np.isnan(nrc.FeatureStatistics(5, n_targets=2).update(H, Y).report().cka_debiased)
    once = nrc.measure((H[first : first + 20], Y[first : first + 20]) for first in range(0, 80, 20))
    assert np.isnan(once.cka_debiased)
    assert np.isnan(nrc.measure(H, np.ones((80, 2))).cka_debiased)
    assert np.isnan(nrc.measure(H[:3], Y[:3]).cka_debiased)
    assert np.isnan(nrc.measure(H, n=2).cka_debiased)


@pytest.mark.parametrize(("rows", "is_shown"), [(24, True), (20_000, False)])
@pytest.mark.host
def test_a_line_of_its_own_where_it_differs(rows: int, *, is_shown: bool) -> None:
    report = nrc.measure(*draw(6, rows, 12, 3, shared=0.5))
    assert (abs(report.cka - report.cka_debiased) > 0.005) == is_shown
    line = f"{'the same, debiased for the number of samples':<52}{report.cka_debiased:.4g}"[:54]
    assert (line in str(report)) == is_shown


@pytest.mark.parametrize("mean", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1.0, 2.0**-200])
def test_few_rows_are_exact_but_for_some_roundings(mean: float, scale: float) -> None:
    """Of rows that are held nothing is left to chance: the definition lies within some 40 roundings."""
    for seed in range(5):
        H, Y = draw(seed, 40, 6, 3, shared=0.5, mean=mean)
        found = RowAlignments.of(scale * H, Y)
        assert found is not None
        for (value, bound), exact in ((found.debiased(), by_kernels(H, Y)), (found.cka(), by_covariances(H, Y))):
            assert abs(value - exact) <= bound + 2 * EPSILON
            assert bound <= 40 * EPSILON
    assert RowAlignments.of(np.ones((5, 2)), np.arange(10.0).reshape(5, 2)) is None


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_the_bound_of_cka_is_near_its_error(mean: float) -> None:
    looseness = []
    for seed in range(20):
        H, Y = draw(seed, 60, 8, 2, shared=1.0, mean=mean)
        report = nrc.measure(H, Y)
        error = abs(report.cka - by_covariances(H, Y))
        assert error <= report.bounds["cka"] + EPSILON
        looseness.append(report.bounds["cka"] / max(error, EPSILON / 2))
    assert np.median(looseness) <= 100.0
