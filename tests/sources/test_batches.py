"""Batches of loaders, lists and generators become chunks of even size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.streams import draw, generated

import nrc_fast as nrc
from nrc_fast.sources import BatchSource, Source


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


def reused(parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Batches of equal size in the same memory, one after the other."""
    memory = np.empty_like(parts[0])
    for part in parts:
        memory[...] = part
        yield memory


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("chunk_rows", [None, 100, 64, 7])
def test_few_rows_of_a_generator_have_the_numbers_of_an_array(dtype: type, chunk_rows: int | None) -> None:
    H, Y, W = draw(5, 600, 6, 2)
    parts, targets, b = np.split(H.astype(dtype), 6), np.split(Y, 6), np.zeros(2)
    whole = np.concatenate(parts)
    for convention in nrc.CONVENTIONS:
        options = {"convention": convention, "chunk_rows": chunk_rows}
        expected = nrc.measure(whole, Y, W, b, **options).to_json()
        assert nrc.measure(zip(reused(parts), targets, strict=True), None, W, b, **options).to_json() == expected
        assert nrc.measure(list(zip(parts, targets, strict=True)), None, W, b, **options).to_json() == expected
        for once in (reused(parts), iter(parts), parts):
            found = nrc.nrc2(once, W, convention=convention, return_bound=True)
            assert found == nrc.nrc2(whole, W, convention=convention, return_bound=True)
        found = nrc.nrc1(reused(parts), [1, 3], convention=convention, return_bound=True)
        np.testing.assert_array_equal(found, nrc.nrc1(whole, [1, 3], convention=convention, return_bound=True))


@pytest.mark.parametrize("chunk_rows", [500, 499, 4000])
def test_rows_that_become_too_many_are_those_of_a_generator_that_is_not_looked_at(
    chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    H, _, W = draw(6, 6000, 8, 2)
    parts = np.split(H.astype(np.float32), 12)
    found = nrc.measure(reused(parts), W=W, chunk_rows=chunk_rows)
    monkeypatch.setattr(BatchSource, "few_rows", Source.few_rows)
    assert found.to_json() == nrc.measure(iter(parts), W=W, chunk_rows=chunk_rows).to_json()
    assert found.samples == 6000
    assert any("read once" in note for note in found.notes)


def test_looking_for_few_rows_loses_none() -> None:
    H, Y, _ = draw(7, 40, 3, 1)
    source = nrc.open(iter([(H[:10], Y[:10]), (H[10:25], Y[10:25]), (H[25:], Y[25:])]))
    assert source.few_rows(10, 24 * 3) is None
    chunks = list(source.chunks(10))
    assert [chunk.first for chunk in chunks] == [0, 10, 20, 30]
    np.testing.assert_array_equal(np.concatenate([chunk.features.to_float64() for chunk in chunks]), H)
    np.testing.assert_array_equal(np.concatenate([chunk.targets.to_float64() for chunk in chunks]), Y)
    assert [chunk.locate(7) for chunk in chunks] == [
        f"row {row} of batch {k}" for row, k in [(7, 0), (7, 1), (2, 2), (12, 2)]
    ]
    few = nrc.open(iter([(H, Y)])).few_rows(10, 120)
    assert (few.count, few.d, few.n_targets, few.rereadable) == (40, 3, 1, True)
    assert nrc.open(iter([(H, np.ones((40, 9)))])).few_rows(10, 120) is None
    again = nrc.open([H])
    assert again.few_rows(10, 60) is None
    assert sum(chunk.features.count for chunk in again.chunks(10)) == 40
    assert sum(chunk.features.count for chunk in again.chunks(8)) == 40


def test_bad_rows_of_batches_that_are_held_are_named() -> None:
    H, _, W = draw(8, 90, 4, 2)
    H[77, 1] = np.inf
    for chunk_rows in (None, 7):
        with pytest.raises(ValueError, match="row 17 of batch 2"):
            nrc.measure(iter(np.split(H, 3)), W=W, chunk_rows=chunk_rows)
    kept = np.isfinite(H).all(axis=1)
    for once in (iter(np.split(H, 3)), np.split(H, 3)):
        assert nrc.nrc2(once, W, nonfinite="skip") == pytest.approx(nrc.nrc2(H[kept], W), rel=1e-12)
    assert nrc.measure(iter(np.split(H, 3)), W=W, nonfinite="skip").skipped_rows == 1
