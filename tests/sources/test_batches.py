"""Batches of loaders, lists and generators become chunks of even size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.streams import draw, generated

import nrc_fast as nrc
from nrc_fast.sources import BatchSource


@pytest.mark.usefixtures("small_chunks")
def test_generators_are_never_drained() -> None:
    H, _, _ = draw(5, 5000, 8, 2)
    asked: list[int] = []
    source = BatchSource(generated(H, None, 50, asked))
    chunks = source.chunks(256)
    next(chunks)
    assert len(asked) <= 256 // 50 + 1
    next(chunks)
    assert len(asked) <= 2 * 256 // 50 + 1


def test_a_generator_that_was_read_says_so() -> None:
    H, _, _ = draw(6, 100, 4, 2)
    source = nrc.open(generated(H, None, 10))
    nrc.measure(source, n=2)
    with pytest.raises(RuntimeError, match="was read already and cannot be read again"):
        nrc.measure(source, n=2)


def test_batches_that_do_not_fit_are_named() -> None:
    H, Y, _ = draw(7, 30, 4, 2)
    for batches, error, words in (
        ([], ValueError, r"H has shape \(0,\)"),
        (iter([]), ValueError, "is empty: no samples"),
        ([H, H[:, :3]], ValueError, "batch 1 has 3 features of float64"),
        ([H, H.astype(np.float32)], ValueError, "batch 1 has 4 features of float32"),
        ([(H, Y), H], ValueError, "batch 1 has 4 features of float64 and 0 targets"),
        ([(H, Y[:3])], ValueError, "batch 0 has 30 rows of features and 3 of targets"),
        ([(H, Y, Y)], ValueError, "batch 0 has 3 parts"),
        ([{"h": H}], TypeError, "batch 0 is a mapping with keys h; name them with key="),
        (iter([H.astype(int)]), TypeError, "H of batch 0 has dtype int64"),
        (iter([H[0]]), ValueError, "H of batch 0 has shape"),
    ):
        with pytest.raises(error, match=words):
            nrc.measure(batches, n=2)
    with pytest.raises(ValueError, match="batch 0 has no x; it has h, y"):
        nrc.open([{"h": H, "y": Y}], key="x")
    with pytest.raises(TypeError, match="let every batch be a pair"):
        nrc.measure([H], Y)
    with pytest.raises(ValueError, match="holds targets, and Y was given too"):
        nrc.measure(nrc.open([(H, Y)]), Y)
    bad = H.copy()
    bad[3, 0] = np.inf
    with pytest.raises(ValueError, match="the first is row 3 of batch 1"):
        nrc.measure([H, bad], n=1)


def test_a_loader_may_reuse_the_memory_of_its_batches() -> None:
    H, _, _ = draw(8, 600, 5, 2)

    def reused() -> Iterator[np.ndarray]:
        memory = np.empty((50, 5))
        for first in range(0, 600, 50):
            memory[:] = H[first : first + 50]
            yield memory

    assert nrc.nrc1(reused(), 2) == nrc.nrc1(generated(H, None, 50), 2)
