"""The Gram kernel of warpgroups: its sums, when it runs, and what shows where something of it is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.warpgroups import warpgroup_gram

KERNEL = "gram_warpgroup"
# Accumulators that cut off, folded every 512 rows, relative to the norms of the columns.
ALLOWED = 1.5e-6


@pytest.fixture(scope="module")
def backend(cuda_core: Any) -> Any:
    return cuda_core.Emulation()


def check(found: Any, rows: Any) -> None:
    """Against float64: the lower triangle, sums over columns, and counts of rows."""
    h = rows.values
    exact = h.T @ h
    norms = np.sqrt(np.diag(exact))
    norms[norms == 0] = 1.0
    assert (np.abs(found.gram - np.tril(exact)) / np.outer(norms, norms)).max() <= ALLOWED
    np.testing.assert_allclose(found.column_sums, h.sum(axis=0), rtol=1e-13, atol=1e-12 * np.abs(h).sum(axis=0).max())
    assert found.counts == (int((h == 0).all(axis=1).sum()), 0, -1)


def values(n: int, d: int) -> Any:
    h = np.random.default_rng(n + 1000 * d).standard_normal((n, d)) + 0.25
    h[n // 3] = 0.0
    return h


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("d", [1, 8, 13, 64, 65, 100, 128, 136, 256])
def test_sums_of_all_widths(cuda_core: Any, backend: Any, dtype: str, d: int) -> None:
    rows = cuda_core.stored(values(150, d), dtype)
    found, launched = warpgroup_gram(backend, rows, multiprocessors=3)
    assert KERNEL in launched
    assert "gram_tensor" not in launched
    check(found, rows)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 63, 64, 65, 511, 512, 513])
def test_sums_of_any_number_of_rows(cuda_core: Any, backend: Any, n: int) -> None:
    """Stages of 64 rows, words of 32 and folds after 512."""
    for d, workers in ((24, 1), (24, 4), (80, 1)):
        rows = cuda_core.stored(values(n, d), "bfloat16")
        found, launched = warpgroup_gram(backend, rows, multiprocessors=workers)
        assert KERNEL in launched
        check(found, rows)


@pytest.mark.parametrize("d", [40, 200])
def test_many_rows(cuda_core: Any, backend: Any, d: int) -> None:
    """Rings that go around, folds and segments; on one multiprocessor one block has all tiles."""
    for workers in (1, 4):
        rows = cuda_core.stored(values(5000 if d == 40 else 1500, d), "bfloat16")
        found, _ = warpgroup_gram(backend, rows, multiprocessors=workers)
        check(found, rows)


def test_sums_go_to_the_slab_before_they_grow_long(cuda_core: Any, backend: Any) -> None:
    rows = cuda_core.stored(values(8192 + 700, 8), "bfloat16")
    found, _ = warpgroup_gram(backend, rows, multiprocessors=1)
    check(found, rows)


def test_folds_bound_what_tensor_cores_cut_off(cuda_core: Any, backend: Any) -> None:
    """Of a long sum of squares, all of one sign, tensor cores lose in proportion to the rows; folded sums do not."""
    n = 4096
    rows = cuda_core.stored(np.full((n, 8), 1.0078125), "bfloat16")
    found, _ = warpgroup_gram(backend, rows, multiprocessors=1)
    exact = n * 1.0078125**2
    lost = 1.0 - found.gram[0, 0] / exact
    assert 0.0 <= lost <= 1.0e-5


@pytest.mark.parametrize(
    "machine",
    [
        {"copies": "early"},
        {"order": "backward", "copies": "early"},
        {"order": "shuffled", "seed": 3},
        {"order": "ahead", "seed": 5},
    ],
    ids=str,
)
def test_bits_do_not_depend_on_the_order(cuda_core: Any, backend: Any, machine: dict[str, Any]) -> None:
    rows = cuda_core.stored(values(700, 70), "bfloat16")
    plain, _ = warpgroup_gram(backend, rows, multiprocessors=2)
    found, _ = warpgroup_gram(backend, rows, multiprocessors=2, **machine)
    assert found.gram.tobytes() == plain.gram.tobytes()
    assert found.column_sums.tobytes() == plain.column_sums.tobytes()


@pytest.mark.parametrize("fault", ["not_swizzled", "wrong_phase", "bytes_missing"])
def test_faults_of_the_machine_show(cuda_core: Any, backend: Any, fault: str) -> None:
    rows = cuda_core.stored(values(300, 70), "bfloat16")
    try:
        found, _ = warpgroup_gram(backend, rows, multiprocessors=1, fault=fault)
    except RuntimeError:
        return
    with pytest.raises(AssertionError):
        check(found, rows)


def test_rows_that_are_not_finite_are_found(cuda_core: Any, backend: Any) -> None:
    h = values(200, 20)
    h[70, 3], h[133, 19] = np.inf, np.nan
    found, launched = warpgroup_gram(backend, cuda_core.stored(h, "bfloat16"), start=0.5)
    assert KERNEL in launched
    assert found.counts == (1, 2, 70)
    assert (found.gram == 0.5).all()
    assert (found.column_sums == 0.5).all()


@pytest.mark.parametrize("nonfinite", ["refuse", "skip"])
def test_totals(cuda_core: Any, backend: Any, nonfinite: str) -> None:
    """Of those the exponent of the largest number; rows that are left out become planes of another dtype's products."""
    h = values(200, 20)
    h[5, 5] = 384.0
    rows = cuda_core.stored(h, "bfloat16")
    found, launched = warpgroup_gram(backend, rows, nonfinite=nonfinite)
    assert (KERNEL in launched) == (nonfinite == "refuse")
    assert found.totals[:5].tolist() == [200, 1, 0, 1, 1]
    assert found.totals[6] == 1023 + 8
    plain = cuda_core.gram(backend, rows, nonfinite=nonfinite)
    assert found.totals.tolist() == plain.totals.tolist()
    norms = np.sqrt(np.diag(h.T @ h))
    # A row of large numbers takes bits from all others.
    assert (np.abs(found.gram - np.tril(rows.values.T @ rows.values)) / np.outer(norms, norms)).max() <= 4 * ALLOWED


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_bits_are_those_of_the_kernel_of_all_cards(cuda_core: Any, backend: Any, dtype: str) -> None:
    """Of as many blocks: tensor cores add the same products in the same order, and sums are folded alike."""
    rows = cuda_core.stored(values(2048, 40), dtype)
    found, launched = warpgroup_gram(backend, rows, multiprocessors=1)
    backend.core.configure(multiprocessors=1)
    plain = cuda_core.gram(backend, rows)
    assert KERNEL in launched
    assert found.gram.tobytes() == plain.gram.tobytes()
    np.testing.assert_allclose(found.column_sums, plain.column_sums, rtol=1e-13, atol=1e-12)


# ---- when it runs ----


@pytest.mark.parametrize(
    ("dtype", "layout", "d", "options", "runs"),
    [
        ("bfloat16", "rows", 24, {}, True),
        ("bfloat16", "padded", 13, {}, True),
        ("bfloat16", "rows", 13, {}, True),  # by planes, whose rows are multiples of 16 bytes
        ("bfloat16", "columns", 24, {}, True),  # likewise
        ("bfloat16", "backward", 24, {}, False),  # the copy engine goes forward
        ("bfloat16", "broadcast", 24, {}, False),  # and takes no rows that lie in one another
        ("bfloat16", "rows", 257, {}, False),
        ("float32", "rows", 24, {"precision": "fast"}, True),  # one plane of bfloat16
        ("float32", "rows", 24, {}, False),
        ("float64", "rows", 24, {}, False),
        ("bfloat16", "rows", 24, {"precision": "highest"}, False),
    ],
)
def test_when_it_runs(
    cuda_core: Any, backend: Any, dtype: str, layout: str, d: int, options: dict[str, Any], runs: bool
) -> None:
    h = values(100, d)
    rows = cuda_core.stored(h[:1].repeat(100, axis=0) if layout == "broadcast" else h, dtype, layout)
    found, launched = warpgroup_gram(backend, rows, **options)
    assert (KERNEL in launched) == runs
    exact = rows.values.T @ rows.values
    np.testing.assert_allclose(
        found.gram, np.tril(exact), atol=(0.02 if options.get("precision") == "fast" else 1e-5) * exact.max()
    )


def test_it_is_off_by_default(cuda_core: Any, backend: Any) -> None:
    rows = cuda_core.stored(values(100, 24), "bfloat16")
    backend.core.configure(keeps_records=True)
    cuda_core.gram(backend, rows)
    assert not backend.core.runs_warpgroups(0)
    names = [launch[0] for launch in backend.core.launched()]
    assert "gram_tensor" in names
    assert KERNEL not in names


def test_parts_of_the_rows_add_up(cuda_core: Any, backend: Any) -> None:
    """Planes of a few rows at a time, whose masks go on where the part before ended."""
    h = values(300, 13)
    found, launched = warpgroup_gram(backend, cuda_core.stored(h, "bfloat16"), rows_at_once=64, multiprocessors=2)
    assert launched.count(KERNEL) == 5
    check(found, cuda_core.stored(h, "bfloat16"))
