"""Interpreters without a global lock: the modules do not ask for it, and threads at once find what one finds."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from support.tools import ROOT

import nrc_fast as nrc

THREADS, BATCHES, ROWS, D, N = 6, 12, 40, 21, 2


def batches(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Whole numbers, whose sums are exact in every order."""
    rng = np.random.default_rng(seed)
    shapes = (ROWS, D), (ROWS, N)
    return [tuple(rng.integers(-9, 10, shape).astype(np.float64) for shape in shapes) for _ in range(BATCHES)]  # type: ignore[misc]


def at_once(tasks: list[Callable[[], object]]) -> list[object]:
    """What the tasks give, each in a thread of its own; all begin together."""
    barrier = Barrier(len(tasks))

    def begun(task: Callable[[], object]) -> object:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(begun, tasks))


def test_modules_say_that_they_need_no_global_lock() -> None:
    said = {}
    for source in (ROOT / "csrc").rglob("*.cpp"):
        for name, options in re.findall(r"PYBIND11_MODULE\((\w+), module(.*)\) \{", source.read_text()):
            said[name] = options
    # The emulated device of the tests has one machine for all threads.
    emulated = {"_cuda_emulation": False, "_cuda_emulation_races": False}
    declared = {name: "mod_gil_not_used()" in options for name, options in said.items()}
    assert declared == {"_cpu": True, "_cuda": True, **emulated}


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded interpreter")
def test_importing_leaves_the_global_lock_off() -> None:
    code = "import sys, nrc_fast, nrc_fast.ufm; print(sys._is_gil_enabled())"
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"


def test_one_object_takes_batches_of_many_threads() -> None:
    parts = [batches(seed) for seed in range(THREADS)]
    first = parts[0][0]  # which fixes the shift
    alone, shared = (nrc.FeatureStatistics(D, n_targets=N).update(*first) for _ in range(2))
    for part in parts:
        for batch in part:
            alone.update(*batch)

    def adding(part: list[tuple[np.ndarray, np.ndarray]]) -> Callable[[], object]:
        return lambda: [(shared.update(*batch), shared.count) for batch in part]

    counts = at_once([adding(part) for part in parts])
    assert shared.count == alone.count == (THREADS * BATCHES + 1) * ROWS
    for found in counts:
        seen = [count for _, count in found]  # type: ignore[attr-defined]
        assert seen == sorted(seen)
    # The shift is a rounded mean: what is added about it rounds, in another order.
    scale = np.trace(alone.covariance)
    assert np.abs(shared.covariance - alone.covariance).max() <= 2.0**-46 * scale
    assert np.abs(shared.mean - alone.mean).max() <= 2.0**-46 * scale


def test_objects_of_many_threads_share_nothing() -> None:
    parts = [batches(seed) for seed in range(THREADS)]
    W = np.random.default_rng(9).standard_normal((N, D))

    def measured(part: list[tuple[np.ndarray, np.ndarray]]) -> tuple[object, ...]:
        statistics = nrc.FeatureStatistics(D, n_targets=N)
        for batch in part:
            statistics.update(*batch)
        H, Y = (np.concatenate(arrays) for arrays in zip(*part, strict=True))
        return statistics.report(W).to_json(), nrc.measure(H, Y, W).to_json(), nrc.nrc1(H, N), nrc.nrc2(H, W)

    alone = [measured(part) for part in parts]
    for _ in range(3):
        assert at_once([lambda part=part: measured(part) for part in parts]) == alone  # type: ignore[misc]
