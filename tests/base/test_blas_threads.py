"""numpy's OpenBLAS is held to one thread where that is asked for, and given its threads back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from nrc_fast.base import blas_threads, linalg
from nrc_fast.base.blas_threads import one_blas_thread


@pytest.fixture
def threads() -> Iterator[Any]:
    """What tells the number of threads, which is 2 before the test."""
    functions = blas_threads._openblas()
    if functions is None:
        pytest.skip("numpy has another BLAS than OpenBLAS")
    count, choose = functions
    before = count()
    choose(2)
    yield count
    choose(before)


def test_this_numpy_is_known() -> None:
    """Wheels of numpy bring an OpenBLAS; a new name for its functions must not go unseen."""
    configuration = np.show_config(mode="dicts")
    name = configuration["Build Dependencies"]["blas"]["name"]  # type: ignore[index, call-overload]
    assert (blas_threads._openblas() is not None) == ("openblas" in name)


def test_threads_come_back(threads: Any) -> None:
    with one_blas_thread():
        assert threads() == 1
        with one_blas_thread():
            assert threads() == 1
        assert threads() == 1
    assert threads() == 2
    with pytest.raises(np.linalg.LinAlgError), one_blas_thread():
        np.linalg.cholesky(-np.eye(2))
    assert threads() == 2


def test_the_last_of_several_gives_them_back(threads: Any) -> None:
    barrier = Barrier(4)

    def hold(_: int) -> list[int]:
        found = []
        for _ in range(200):
            with one_blas_thread():
                found.append(threads())
        barrier.wait()
        return found

    with ThreadPoolExecutor(4) as pool:
        counts = [count for found in pool.map(hold, range(4)) for count in found]
    assert counts == [1] * 800
    assert threads() == 2


@pytest.mark.parametrize(("width", "expected"), [(1, 1), (linalg.NARROW, 1), (linalg.NARROW + 1, 2)])
def test_narrow_matrices_are_decomposed_by_one_thread(
    width: int, expected: int, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def eigh(matrix: np.ndarray, UPLO: str) -> tuple[np.ndarray, np.ndarray]:
        assert UPLO == "L"
        seen.append(threads())
        return matrix.diagonal(), np.eye(width)

    monkeypatch.setattr(np.linalg, "eigh", eigh)
    values, _ = linalg.eigh_descending(np.diag(np.arange(float(width))))
    assert seen == [expected]
    assert values.tolist() == list(range(width))[::-1]
    assert threads() == 2


def test_another_blas_is_left_alone(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "_openblas", lambda: None)
    with one_blas_thread():
        assert threads() == 2
