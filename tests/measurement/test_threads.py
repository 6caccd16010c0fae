"""Looks at statistics while other threads add rows: every number of a look is of one state, and so is the last."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.kernels.cpu.sums import HostSums

D, N, CLASSES, ROWS, BATCHES = 48, 3, 4, 64, 80


@pytest.fixture(autouse=True)
def quick_turns() -> Iterator[None]:
    """Threads take turns so often that a look comes in the midst of an update."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def batches() -> list[np.ndarray]:
    """Later ones are larger and of another shape, so that numbers of two states do not resemble each other."""
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((ROWS, D)) * (1 + i) * np.exp(rng.standard_normal(D)) + i).astype(np.float32)
        for i in range(BATCHES)
    ]


def labels() -> np.ndarray:
    return np.arange(ROWS) % CLASSES


def look(statistics: Any) -> tuple[int, list[float]]:
    """The rows of a report and the numbers that it says of them."""
    if isinstance(statistics, nrc.ClassStatistics):
        found = statistics.report()
        return found.samples, [found.nc1, found.cdnv, found.nc2_etf, found.bounds["nc1"]]
    report = statistics.report(n=N)
    return report.samples, [report.nrc1, report.effective_rank, report.stable_rank, report.bounds["nrc1"]]


def saved(statistics: Any, folder: Path) -> Any:
    path = folder / f"{threading.get_ident()}.npz"
    statistics.save(path)
    return nrc.FeatureStatistics.load(path)


def merged(statistics: Any, _: Path) -> Any:
    return nrc.FeatureStatistics(D).merge(statistics)


def restored(statistics: Any, _: Path) -> Any:
    return nrc.FeatureStatistics(D).restore(statistics.arrays())


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "report": lambda statistics, _: statistics,
    "pickle": lambda statistics, _: pickle.loads(pickle.dumps(statistics)),
    "copy": lambda statistics, _: copy.deepcopy(statistics),
    "save": saved,
    "merge": merged,
    "arrays": restored,
}


def watch_from_threads(add: Callable[[int], object], taken: Callable[[], Any], known: dict[int, list[float]]) -> None:
    """Check every look of two threads beside the updates of a third, and the last."""
    running, wrong = [True], []

    def looks() -> int:
        count = 0
        while running or not count:
            samples, numbers = look(taken())
            count += 1
            if not np.allclose(numbers, known[samples], rtol=2e-5, atol=1e-12):
                wrong.append((samples, numbers, known[samples]))
        return count

    add(0)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(looks) for _ in range(2)]
        for number in range(1, BATCHES):
            add(number)
        running.clear()
        counts = [future.result() for future in found]
    assert min(counts) > 0
    assert not wrong
    samples, numbers = look(taken())
    assert samples == BATCHES * ROWS
    np.testing.assert_allclose(numbers, known[samples], rtol=2e-5)


def states_of(statistics: Any, add: Callable[[Any, int], object]) -> dict[int, list[float]]:
    known = {}
    for number in range(BATCHES):
        add(statistics, number)
        samples, numbers = look(statistics)
        known[samples] = numbers
    return known


@pytest.mark.parametrize("way", WAYS)
def test_looks_at_features_beside_updates(tmp_path: Path, way: str) -> None:
    data = batches()
    known = states_of(nrc.FeatureStatistics(D), lambda statistics, number: statistics.update(data[number]))
    statistics = nrc.FeatureStatistics(D)
    watch_from_threads(lambda number: statistics.update(data[number]), lambda: WAYS[way](statistics, tmp_path), known)


@pytest.mark.parametrize("way", ["report", "pickle", "copy"])
def test_looks_at_classes_beside_updates(tmp_path: Path, way: str) -> None:
    data, classes = batches(), labels()
    known = states_of(
        nrc.ClassStatistics(D, CLASSES), lambda statistics, number: statistics.update(data[number], classes)
    )
    statistics = nrc.ClassStatistics(D, CLASSES)
    watch_from_threads(
        lambda number: statistics.update(data[number], classes), lambda: WAYS[way](statistics, tmp_path), known
    )


def test_looks_at_what_is_merged() -> None:
    parts = [nrc.FeatureStatistics(D).update(batch) for batch in batches()]
    known = states_of(nrc.FeatureStatistics(D), lambda statistics, number: statistics.merge(parts[number]))
    statistics = nrc.FeatureStatistics(D)
    watch_from_threads(lambda number: statistics.merge(parts[number]), lambda: statistics, known)


@pytest.mark.usefixtures("many_rows")
def test_looks_at_a_watched_layer() -> None:
    torch = pytest.importorskip("torch")
    data = [torch.from_numpy(batch) for batch in batches()]
    known = states_of(nrc.FeatureStatistics(D), lambda statistics, number: statistics.update(data[number]))
    layer = torch.nn.Linear(D, N)

    def step(number: int) -> None:
        with torch.no_grad():
            layer(data[number])

    with nrc.watch(layer) as watched:
        watch_from_threads(step, lambda: watched.statistics, known)


def test_looks_beside_a_new_start_see_one_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows about one shift do not get the other's, at whatever point of a look the start comes."""
    near, far = np.random.default_rng(0).standard_normal((2, 500, 8))
    statistics = nrc.FeatureStatistics(8).update(near)
    fetch, starts = HostSums.fetch, []

    def fetch_slowly(self: HostSums) -> list[dict[str, np.ndarray]]:
        parts = fetch(self)
        if not starts:
            starts.append(statistics.reset().update(far + 1e6))
        return parts

    monkeypatch.setattr(HostSums, "fetch", fetch_slowly)
    np.testing.assert_allclose(statistics.mean, near.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(statistics.mean, far.mean(axis=0) + 1e6, rtol=1e-12)


@pytest.mark.parametrize("kind", ["features", "classes"])
def test_no_batch_of_several_threads_is_lost(kind: str) -> None:
    data, classes = batches(), labels()
    statistics: Any = nrc.FeatureStatistics(D) if kind == "features" else nrc.ClassStatistics(D, CLASSES)

    def add(batch: np.ndarray) -> None:
        statistics.update(batch, *([] if kind == "features" else [classes]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, data * 3))
    assert statistics.count == 3 * BATCHES * ROWS


def test_a_history_beside_a_training() -> None:
    rng = np.random.default_rng(0)
    H, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 2))
    history, weights, sigma = nrc.reports.History(), rng.standard_normal((300, 2, 6)), np.cov(Y.T, bias=True)
    report = nrc.measure(H, Y, weights[0])
    running = [True]

    def looks() -> int:
        count = 0
        while running or not count:
            values = history.to_dict()
            assert len(values["records"]) == len(values["head_grams"]) == len(values["replayed_nrc3"])
            assert len(history.records()) >= len(values["records"])
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(looks) for _ in range(2)]
        for step, W in enumerate(weights):
            history.add(300 - step, report, W, sigma)
        running.clear()
        assert min(future.result() for future in found) > 0
    assert [record.step for record in history.records()] == list(range(1, 301))
