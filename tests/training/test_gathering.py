"""Rows of small batches are added up together, and every one of them once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.training.gathering import GATHERED_BYTES, GatheredRows, kind_of_batch

D = 6
ROOM = GATHERED_BYTES // (4 * D)


def draw(rows: int, columns: int = D, *, dtype: Any = np.float32, seed: int = 0, mean: float = 3.0) -> np.ndarray:
    return (np.random.default_rng([seed, rows]).standard_normal((rows, columns)) + mean).astype(dtype)


def add(gathered: GatheredRows, H: Any, Y: Any = None) -> None:
    gathered.add(as_rows(H, "H"), None if Y is None else as_rows(Y, "Y", vector_is_column=True))


def assert_moments(statistics: nrc.FeatureStatistics, H: np.ndarray, Y: np.ndarray | None = None) -> None:
    H = H.astype(np.float64)
    assert statistics.count == len(H)
    scale = float(np.mean(np.sum(H**2, axis=1)))
    np.testing.assert_allclose(statistics.mean, H.mean(axis=0), atol=statistics.relative_error * scale**0.5, rtol=0.0)
    error = np.linalg.norm(statistics.covariance - np.cov(H, rowvar=False, bias=True), 2)
    assert error <= statistics.covariance_error + 1e-14 * scale
    if Y is not None:
        Y = Y.astype(np.float64)
        error = np.linalg.norm(statistics.target_covariance - np.atleast_2d(np.cov(Y, rowvar=False, bias=True)), 2)
        assert error <= statistics.target_error + 1e-14 * float(np.mean(np.sum(Y**2, axis=1)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(0,), (1,), (0, 5, 0, 1), (7,) * 40, (ROOM // 2,) * 5, (3, 2 * ROOM, 5)])
def test_all_rows_are_added_once(dtype: Any, sizes: tuple[int, ...]) -> None:
    batches = [(draw(n, seed=i, dtype=dtype), draw(n, 2, seed=100 + i, dtype=dtype)) for i, n in enumerate(sizes)]
    gathered = GatheredRows(nrc.FeatureStatistics(D, n_targets=2, nonfinite="skip"))
    for H, Y in batches:
        add(gathered, H, Y)
    H, Y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if len(H):
        assert_moments(gathered.statistics, H, Y)
    assert gathered.statistics.count == len(H)


def test_batches_may_be_overwritten() -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    batch = draw(50)
    before = batch.copy()
    add(gathered, batch)
    batch[:] = 0.0
    add(gathered, batch[::2])
    assert_moments(gathered.statistics, np.concatenate([before, batch[::2]]))


def test_kinds_may_change() -> None:
    """Rows of another dtype, and wide rows between narrow strides, do not mix with those that wait."""
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    kinds = (np.float32, np.float16, np.float64, np.float32, np.float16)
    batches = [draw(30, seed=i, dtype=dtype)[:, ::-1] for i, dtype in enumerate(kinds)]
    for batch in batches:
        add(gathered, batch)
    assert_moments(gathered.statistics, np.concatenate([batch.astype(np.float64) for batch in batches]))


def test_looks_in_between() -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    batches = [draw(11, seed=i) for i in range(9)]
    for i, batch in enumerate(batches):
        add(gathered, batch)
        if i % 3 == 0:
            assert_moments(gathered.statistics, np.concatenate(batches[: i + 1]))
    assert_moments(gathered.statistics, np.concatenate(batches))


def test_bad_rows_are_left_out_and_the_others_kept() -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, n_targets=1, nonfinite="skip"))
    batches = [(draw(20, seed=i), draw(20, 1, seed=100 + i)) for i in range(6)]
    batches[0][0][0, 0] = batches[2][0][3, 1] = np.nan
    batches[4][1][5] = np.inf
    for H, Y in batches:
        add(gathered, H, Y)
    H, Y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    keep = np.isfinite(H).all(axis=1) & np.isfinite(Y).all(axis=1)
    assert (~keep).sum() == 3
    assert_moments(gathered.statistics, H[keep], Y[keep])
    assert gathered.statistics.report(n=1).skipped_rows == 3


def test_errors_come_with_the_batch_and_cost_no_other() -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, n_targets=1, nonfinite="skip"))
    H, Y = draw(20), draw(20, 1, seed=1)
    add(gathered, H, Y)
    with pytest.raises(ValueError, match="7 features"):
        add(gathered, draw(20, 7), Y)
    with pytest.raises(ValueError, match="2 targets"):
        add(gathered, H, draw(20, 2))
    with pytest.raises(ValueError, match="0 targets"):
        add(gathered, H)
    with pytest.raises(ValueError, match="20 rows and Y has 19"):
        add(gathered, H, Y[:19])
    with pytest.raises(ValueError, match="so large"):
        add(gathered, np.full((20, D), 1e200), Y)
    add(gathered, H, Y)
    assert_moments(gathered.statistics, np.concatenate([H, H]), np.concatenate([Y, Y]))


def test_rows_that_must_be_finite_are_looked_at_at_once() -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="raise"))
    add(gathered, draw(20))
    with pytest.raises(ValueError, match="NaN or infinite"):
        add(gathered, np.full((5, D), np.nan, dtype=np.float32))
    assert_moments(gathered.statistics, draw(20))


def test_batches_of_several_threads() -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    batches = [draw(ROOM // 7, seed=i) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda batch: add(gathered, batch), batches))
    assert_moments(gathered.statistics, np.concatenate(batches))


# ---- tensors like the last ones, copied from where they lie ----


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def tensors(torch: Any, rows: int, columns: int, dtype: str, seed: int) -> tuple[Any, Any]:
    H, Y = (torch.from_numpy(draw(rows, width, seed=s)) for width, s in ((columns, seed), (2, 100 + seed)))
    return H.to(getattr(torch, dtype)).requires_grad_(seed % 2 == 1), Y


def add_first(gathered: GatheredRows, H: Any, Y: Any) -> None:
    targets = None if Y is None else as_rows(Y, "Y", vector_is_column=True)
    gathered.add(as_rows(H, "H"), targets, kind_of_batch(H, Y))


def add_like(gathered: GatheredRows, H: Any, Y: Any) -> int | None:
    return gathered.add_like(kind_of_batch(H, Y), H, Y)


# 41 rows of 1,001 columns are copied past the cache, for 16 bits from places that begin within a line.
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 1), (1, 3), (16, 5), (3, 97), (41, 1001)])
def test_batches_like_the_last_are_added_once(torch: Any, dtype: str, rows: int, columns: int) -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(columns, n_targets=2, nonfinite="skip"))
    batches = [tensors(torch, rows, columns, dtype, seed) for seed in range(60)]
    add_first(gathered, *batches[0])
    for H, Y in batches[1:]:
        assert add_like(gathered, H, Y) == rows
    H, Y = (torch.cat([part.detach().double() for part in parts]).numpy() for parts in zip(*batches, strict=True))
    assert_moments(gathered.statistics, H, Y)


def test_batches_like_the_last_may_be_overwritten(torch: Any) -> None:
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    batch = torch.from_numpy(draw(50))
    add_first(gathered, batch, None)
    copies = [batch.numpy().copy()]
    for factor in (2.0, 3.0):
        batch *= factor
        copies.append(batch.numpy().copy())
        assert add_like(gathered, batch, None) == 50
        batch.zero_()
        batch += torch.from_numpy(copies[0])
    assert_moments(gathered.statistics, np.concatenate(copies))


def freed(H: Any) -> Any:
    H = H.clone()
    H.untyped_storage().resize_(0)
    return H


OTHERS: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "other rows": lambda _, H, Y: (H[:5], Y[:5]),
    "other columns": lambda _, H, Y: (H[:, :-1].contiguous(), Y),
    "other dtype": lambda _, H, Y: (H.half(), Y),
    "other order": lambda _, H, Y: (H.t().contiguous().t(), Y),
    "every other row": lambda torch, H, Y: (torch.cat([H, H])[::2], Y),
    "sparse": lambda _, H, Y: (H.to_sparse(), Y),
    "negated in words only": lambda torch, H, Y: (torch._neg_view(H), Y),
    "a parameter": lambda torch, H, Y: (torch.nn.Parameter(H), Y),
    "an array": lambda _, H, Y: (H.numpy(), Y),
    "without values": lambda _, H, Y: (H.to("meta"), Y),
    "without memory": lambda _, H, Y: (freed(H), Y),
    "without targets": lambda _torch, H, _Y: (H, None),
    "one target": lambda _, H, Y: (H, Y[:, 0].contiguous()),
    "targets in another order": lambda _, H, Y: (H, Y.t().contiguous().t()),
    "targets that are an array": lambda _, H, Y: (H, Y.numpy()),
    "targets of another dtype": lambda _, H, Y: (H, Y.double()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_batches_are_looked_at(torch: Any, name: str) -> None:
    first = tensors(torch, 8, D, "float32", 0)
    gathered = GatheredRows(nrc.FeatureStatistics(D, n_targets=2, nonfinite="skip"))
    add_first(gathered, *first)
    assert add_like(gathered, *OTHERS[name](torch, *first)) is None
    assert add_like(gathered, *first) == 8
    assert_moments(gathered.statistics, *(torch.cat([part, part]).numpy() for part in first))


def test_nothing_is_like_batches_that_do_not_wait(torch: Any) -> None:
    H, _ = tensors(torch, 8, D, "float64", 0)
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    add_first(gathered, H, None)
    assert add_like(gathered, H, None) is None
    add_first(gathered, H.float(), None)
    assert add_like(gathered, H.float(), None) == 8
    assert gathered.statistics.count == 24  # after which nothing waits
    assert add_like(gathered, H.float(), None) is None
    assert_moments(gathered.statistics, torch.cat([H, H.float().double(), H.float().double()]).numpy())


def test_threads_add_batches_like_the_last(torch: Any) -> None:
    batches = [tensors(torch, 64, D, "float32", 2 * seed)[0] for seed in range(200)]
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))

    def take(batch: Any) -> None:
        if add_like(gathered, batch, None) is None:
            add_first(gathered, batch, None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, batches))
    assert_moments(gathered.statistics, torch.cat(batches).numpy())


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_an_interrupt_while_rows_are_added_loses_none_and_counts_none_twice(
    monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """Nor does a fork: its child finds what an interrupted thread would."""
    gathered = GatheredRows(nrc.FeatureStatistics(D, nonfinite="skip"))
    batches = [draw(11, seed=i) for i in range(4)]
    update = nrc.FeatureStatistics.update

    def interrupted(self: nrc.FeatureStatistics, *given: Any) -> None:
        if is_late:
            update(self, *given)
        raise KeyboardInterrupt

    for batch in batches[:2]:
        add(gathered, batch)
    with monkeypatch.context() as patched:
        patched.setattr(nrc.FeatureStatistics, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gathered.flush()
    for batch in batches[2:]:
        add(gathered, batch)
    assert_moments(gathered.statistics, np.concatenate(batches))
