"""Rows without their mean and some directions: their own digits stay, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.double_double import Pairs

from nrc_fast.sources import as_source
from nrc_fast.sources.left_over import LeftOver

EPS = 2.0**-52


def draw(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.standard_normal((9, 2)))[0].T
    faint = rng.standard_normal((50, 9)) * 1e-7
    H = (rng.standard_normal((50, 2)) @ vectors + faint + 5.0).astype(dtype)
    return H, np.ascontiguousarray(vectors), np.full(9, 5.0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("rows", [1, 7, 50, 100])
def test_rows_are_what_is_left(dtype: str, rows: int, tmp_path: Path) -> None:
    H, vectors, shift = draw(dtype)
    np.save(tmp_path / "H.npy", H)
    exact = Pairs(H) - shift
    for _ in range(2):  # the vectors are orthonormal up to rounding
        exact = exact - (exact @ vectors.T) @ vectors
    for given in (H, str(tmp_path / "H.npy")):
        source = LeftOver(as_source(given), vectors, shift)
        chunks = [(chunk.first, chunk.features.to_float64()) for chunk in source.chunks(rows)]
        assert [first for first, _ in chunks] == list(range(0, 50, rows))
        found = np.concatenate([part for _, part in chunks])
        lengths = np.linalg.norm(H - shift.astype(dtype), axis=1, keepdims=True).astype(float)
        assert np.all(abs(found - exact) <= 16 * EPS * lengths)
        assert np.abs(found @ vectors.T).max() <= 16 * EPS * lengths.max()
        np.testing.assert_allclose(source.sample(50), found, rtol=0, atol=16 * EPS * lengths.max())
    assert (source.d, source.n_targets, source.dtype, source.count) == (9, 0, "float64", 50)


def test_targets_stay_behind_and_bad_rows_stay_bad() -> None:
    H, vectors, shift = draw("float32")
    H[3, 4] = np.nan
    source = LeftOver(as_source(H, np.ones((50, 2))), vectors, shift)
    (chunk,) = source.chunks(50)
    assert chunk.targets is None
    np.testing.assert_array_equal(chunk.features.finite_rows(), np.arange(50) != 3)
