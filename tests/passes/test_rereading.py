"""Rows that are read again must be those of the first read: what is found out, and what is no reason for suspicion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc

pytestmark = pytest.mark.usefixtures("no_kept_rows")

CONVENTIONS = list(nrc.CONVENTIONS)


class Changing:
    """Batches that are others from some read on."""

    def __init__(self, H: Any, change: Callable[[Any], Any], Y: Any = None, change_targets: Any = None) -> None:
        self.H, self.Y = H, Y
        self.change, self.change_targets = change, change_targets
        self.reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        H = self.H if self.reads == 1 else np.ascontiguousarray(self.change(self.H))
        if self.Y is None:
            yield H
        else:
            yield H, self.Y if self.reads < 2 else self.change_targets(self.Y)


def features(seed: int, dtype: Any) -> Any:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((3000, 8)) @ rng.standard_normal((8, 8)) + rng.standard_normal(8)
    return mixed.astype(dtype)


def reversed_columns(H: Any) -> Any:
    return H[:, ::-1]


def reversed_rows(H: Any) -> Any:
    return H[::-1]


HEAD = np.random.default_rng(0).standard_normal((2, 8))
METRICS = {
    "nrc1": lambda H, convention: nrc.nrc1(H, 2, convention=convention),
    "nrc2": lambda H, convention: nrc.nrc2(H, HEAD, convention=convention),
    "measure": lambda H, convention: nrc.measure(H, W=HEAD, convention=convention),
    "every k": lambda H, convention: nrc.nrc1(H, None, convention=convention),
}
# Metrics whose numbers all come from one read under most conventions, so that there is nothing to compare.
FROM_ONE_READ = {"nrc2": ("nrc24", "raw", "uncentered"), "every k": ("nrc24", "raw", "uncentered", "variance")}
COMPARED = [(m, c) for m in METRICS for c in CONVENTIONS if c not in FROM_ONE_READ.get(m, ())]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(("metric", "convention"), COMPARED)
def test_columns_in_another_order_are_found_out(metric: str, convention: str, dtype: Any) -> None:
    source = Changing(features(1, dtype), reversed_columns)
    with pytest.raises(RuntimeError, match="other features when it was read again"):
        METRICS[metric](source, convention)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("metric", list(METRICS))
def test_rows_may_come_in_another_order(metric: str, convention: str, dtype: Any) -> None:
    H = features(2, dtype)
    shuffled, stored = (METRICS[metric](H_or_source, convention) for H_or_source in (Changing(H, reversed_rows), H))
    if metric == "measure":
        shuffled, stored = shuffled.nrc1, stored.nrc1
    np.testing.assert_allclose(shuffled, stored, rtol=1e-4 if dtype == np.float32 else 1e-11, atol=1e-12)


def test_collapsed_features_that_change_are_found_out_when_every_k_is_read_again() -> None:
    rng = np.random.default_rng(5)
    H = rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 8)) + 1e-11 * rng.standard_normal((2000, 8))
    source = Changing(H, reversed_columns)
    with pytest.raises(RuntimeError, match="other features when it was read again"):
        nrc.nrc1(source, None)
    assert source.reads == 2


def test_targets_that_are_paired_otherwise_are_found_out() -> None:
    rng = np.random.default_rng(3)
    H = features(3, np.float64)
    Y = H @ HEAD.T + 1e-8 * rng.standard_normal((len(H), 2))
    source = Changing(H, lambda rows: rows, Y, reversed_rows)
    with pytest.raises(RuntimeError, match="other features or targets when it was read again"):
        nrc.measure(source, W=HEAD, b=np.zeros(2))
    assert source.reads == 2
    report = nrc.measure(Changing(H, lambda rows: rows, Y, lambda rows: rows), W=HEAD, b=np.zeros(2))
    assert report.mse == pytest.approx(np.mean(np.sum((H @ HEAD.T - Y) ** 2, axis=1)), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("exponent", [-12, 0, 12])
@pytest.mark.filterwarnings("ignore::nrc_fast.PrecisionWarning")  # no digits are left beside such a mean
def test_no_scale_or_mean_is_a_reason_for_suspicion(exponent: int, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    for H in (
        rng.standard_cauchy((5000, 6)),
        rng.standard_normal((5000, 6)) * 10.0 ** np.arange(-3, 3) + 1e4,
        rng.standard_normal((5000, 1)) @ rng.standard_normal((1, 6)) + 3.0 + 1e-7 * rng.standard_normal((5000, 6)),
        np.where(rng.random((5000, 6)) < 0.9, 0.0, 1.0),
    ):
        scaled = (H * 10.0**exponent).astype(dtype)
        Y = scaled.astype(np.float64) @ HEAD[:, :6].T
        for convention in CONVENTIONS:
            nrc.measure(scaled, Y, HEAD[:, :6], np.zeros(2), convention=convention, chunk_rows=700)
            nrc.nrc1(scaled, None, convention=convention)
            nrc.nrc2(scaled, HEAD[:, :6], convention=convention)


def test_a_source_whose_rows_change_is_found_out() -> None:
    class Augmented:
        """As a loader with random augmentation or dropout."""

        def __init__(self, shrinks: bool) -> None:
            self.rng = np.random.default_rng(0)
            self.reads = 0
            self.shrinks = shrinks

        def __iter__(self) -> Iterator[np.ndarray]:
            self.reads += 1
            for _ in range(10):
                yield self.rng.standard_normal((50 - self.shrinks * self.reads, 4))

    with pytest.raises(RuntimeError, match="other features when it was read again"):
        nrc.measure(Augmented(shrinks=False), n=1)
    with pytest.raises(RuntimeError, match="gave 480 rows at this reading and 490 before"):
        nrc.measure(Augmented(shrinks=True), n=1)


def test_a_second_read_of_one_metric_is_checked_too() -> None:
    class Dropout:
        def __init__(self) -> None:
            self.rng = np.random.default_rng(0)

        def __iter__(self) -> Iterator[np.ndarray]:
            H = np.random.default_rng(24).standard_normal((400, 6)) * 0.7 ** np.arange(6) + 0.3
            yield H * (self.rng.random(H.shape) > 0.1)

    for convention in ("nrc24", "id25", "variance"):
        with pytest.raises(RuntimeError, match="other features when it was read again"):
            nrc.nrc1(Dropout(), 2, convention=convention)


def test_large_means_are_no_reason_to_suspect_the_source() -> None:
    rng = np.random.default_rng(0)
    for H in (np.ones((50_000, 4)) + 1e-9 * rng.standard_normal((50_000, 4)), rng.standard_normal((50_000, 4)) + 1e6):
        for dtype in (np.float64, np.float32):
            nrc.measure(H.astype(dtype), n=2)
            nrc.nrc1(H.astype(dtype), 2, convention="variance")


@pytest.mark.parametrize("spread", [1e-10, 1e-11, 1e-12, 0.0])
def test_rows_that_hardly_differ_from_their_mean_have_not_changed(spread: float) -> None:
    """The mean is rounded by about as much as the rows vary."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        mean = 1e3 * rng.standard_normal(8)
        H = mean * (1.0 + spread * rng.standard_normal((300, 8)))
        for convention in nrc.CONVENTIONS:
            report = nrc.measure(H, n=2, convention=convention)
            assert report.samples == 300
