"""Intrinsic dimension by 2-NN: the definition with explicit distances, known manifolds, and rows close together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.measurement.dimension import intrinsic_dimension, intrinsic_dimension_by_size, two_nn

pytest.importorskip("sklearn")


def by_definition(X: np.ndarray) -> float:
    distances = np.sort(np.linalg.norm(X[:, None] - X, axis=2), axis=1)
    mu = np.sort(distances[:, 2] / distances[:, 1])
    x = np.log(mu)[:-1]
    y = -np.log(1.0 - np.arange(1, len(X)) / len(X))
    return float(np.sum(x * y) / np.sum(x * x))


@pytest.mark.parametrize("d", [2, 8, 40])  # trees and brute force
def test_estimate_is_that_of_the_definition(d: int) -> None:
    X = np.random.default_rng(0).standard_normal((300, d))
    value, duplicates = two_nn(X)
    assert value == pytest.approx(by_definition(X), rel=1e-9)
    assert duplicates == 0


def test_close_neighbours_far_from_the_origin() -> None:
    """Triples 1e-8 apart among rows of size 1 and a mean of 1000: distances from products would be noise."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 40)) + 1000.0
    X = np.concatenate([X, X + 1e-8 * rng.standard_normal(X.shape), X + 1e-8 * rng.standard_normal(X.shape)])
    assert two_nn(X)[0] == pytest.approx(by_definition(X - 1000.0), rel=1e-3)


@pytest.mark.parametrize(("dimension", "ambient"), [(1, 5), (3, 20), (5, 20)])
def test_curved_manifolds_have_their_dimension(dimension: int, ambient: int) -> None:
    rng = np.random.default_rng(2)
    X = np.tanh(0.3 * rng.standard_normal((4000, dimension)) @ rng.standard_normal((dimension, ambient)))
    found = intrinsic_dimension(X, repeats=4)
    assert abs(found.value - dimension) < 0.1 * dimension  # 2-NN underestimates a little as the dimension grows
    assert found.rows == 2000
    assert found.spread == pytest.approx(np.std(found.estimates, ddof=1))
    assert found.value == pytest.approx(np.mean(found.estimates))
    assert len(set(found.estimates)) == 4


def test_estimate_does_not_depend_on_scale_or_repeated_rows() -> None:
    X = np.random.default_rng(3).standard_normal((300, 4))
    value, _ = two_nn(X)
    for scale in (1e-200, 1e200):
        assert two_nn(scale * X)[0] == pytest.approx(value, rel=1e-9)
    assert np.isnan(two_nn(X[:2])[0])


@pytest.mark.parametrize("order", ["appended", "beside", "shuffled"])
@pytest.mark.parametrize(("share", "copies"), [(0.02, 1), (0.5, 1), (1.0, 1), (1.0, 4)])
def test_copies_of_rows_change_nothing(share: float, copies: int, order: str) -> None:
    rng = np.random.default_rng(6)
    X = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 9))
    X[::7, 2] = 0.0
    repeats = 1 + copies * (np.arange(400) < share * 400)
    rows = np.repeat(np.arange(400), repeats)
    if order == "appended":
        rows = np.concatenate([np.arange(400), *[np.flatnonzero(repeats > 1)] * copies])
    elif order == "shuffled":
        rows = rng.permutation(rows)
    value, duplicates = two_nn(X[rows])
    assert duplicates == len(rows) - 400
    assert value == pytest.approx(two_nn(X)[0], rel=1e-12)
    # All subsamples are all rows: their copies are counted in each.
    found = intrinsic_dimension(X[rows], rows=len(rows))
    assert (found.value, found.duplicates) == (pytest.approx(value, rel=1e-12), duplicates)


def test_zeros_of_either_sign_are_the_same() -> None:
    X = np.random.default_rng(7).standard_normal((60, 4))
    X[:, 1] = 0.0
    other = X.copy()
    other[:, 1] = -0.0
    assert two_nn(np.concatenate([X, other[:20]]))[1] == 20


def test_rows_that_are_all_alike_have_no_dimension() -> None:
    value, duplicates = two_nn(np.ones((50, 3)))
    assert np.isnan(value)
    assert duplicates == 49


def test_files_and_tensors_give_what_arrays_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(4).standard_normal((900, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    expected = intrinsic_dimension(X, rows=200, repeats=3, seed=5)
    assert intrinsic_dimension(tmp_path / "x.npy", rows=200, repeats=3, seed=5) == expected
    rows = np.random.default_rng(5).choice(900, 200, replace=False)
    assert expected.estimates[0] == pytest.approx(by_definition(X[np.sort(rows)].astype(np.float64)), rel=1e-9)
    # Many chunks: only some hold chosen rows.
    source = nrc.open(tmp_path / "x.npy")
    monkeypatch.setattr(type(source), "row_bytes", property(lambda _: 1 << 20))
    assert intrinsic_dimension(source, rows=20, repeats=2, seed=5).value == pytest.approx(
        intrinsic_dimension(X, rows=20, repeats=2, seed=5).value
    )
    torch = pytest.importorskip("torch")
    assert intrinsic_dimension(torch.from_numpy(X), rows=200, repeats=3, seed=5) == expected


def test_block_analysis_and_a_single_sample() -> None:
    X = np.random.default_rng(6).standard_normal((400, 3))
    small, whole = intrinsic_dimension_by_size(X, [100, 400], repeats=3)
    assert (small.rows, len(small.estimates)) == (100, 3)
    assert whole.estimates == (two_nn(X)[0],)
    assert np.isnan(whole.spread)
    assert "400 rows" in str(whole)
    assert "+-" in str(small)


def test_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(7).standard_normal((50, 3))
    for options in ({"rows": 51}, {"rows": 2}, {"repeats": 0}):
        with pytest.raises(ValueError, match="from 3 to 50 rows"):
            intrinsic_dimension(X, **options)
    with pytest.raises(ValueError, match="not known"):
        intrinsic_dimension([X])
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        intrinsic_dimension(X, rows=50)
    monkeypatch.setitem(sys.modules, "sklearn.neighbors", None)
    with pytest.raises(ImportError, match=r"needs sklearn: pip install 'nrc-fast\[dimension\]'"):
        intrinsic_dimension(X)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("noise", [1.0, 1e-5])
def test_the_bound_is_that_of_distances_between_rows_as_they_are(mean: float, noise: float) -> None:
    """Not that of centred rows or of the search, where the neighbours found are the nearest for sure."""
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(5)
    count, d = 40, 5
    H = rng.standard_normal((count, 2)) @ rng.standard_normal((2, d)) + noise * rng.standard_normal((count, d)) + mean
    found, bound = nrc.intrinsic_dimension(H, rows=count, repeats=1, return_bound=True)
    with mp.workdps(40):
        rows = [[mp.mpf(value) for value in row] for row in H.tolist()]
        logs = []
        for i in range(count):
            squares = sorted(
                mp.fsum((one - other) ** 2 for one, other in zip(rows[i], rows[j], strict=True))
                for j in range(count)
                if j != i
            )
            logs.append((mp.log(squares[1]) - mp.log(squares[0])) / 2)
        logs = sorted(logs)[:-1]
        heights = [-mp.log(1 - mp.mpf(i) / count) for i in range(1, count)]
        exact = mp.fdot(zip(logs, heights, strict=True)) / mp.fdot(zip(logs, logs, strict=True))
        assert abs(mp.mpf(found.value) - exact) <= mp.mpf(bound)
    assert bound <= 1000.0 * 2.0**-52 * found.value
