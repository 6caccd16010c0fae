"""Interpreters without a global lock: the modules do not ask for it, and threads at once find what one finds."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest
from support.tools import ROOT

import nrc_fast as nrc
from nrc_fast import kernels
from nrc_fast.kernels.calls import gram, gram_product, residual
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis

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


def checked_passes(seed: int, dtype: type) -> Callable[[], bool]:
    """Whether the passes over rows of whole numbers give their sums, which are exact in every order."""
    rng = np.random.default_rng(seed)
    H = rng.integers(-9, 10, (1500, 29)).astype(np.float64)
    Y, vectors = rng.integers(-9, 10, (1500, N)).astype(np.float64), rng.integers(-3, 4, (N, 29)).astype(np.float64)
    rows, targets = as_rows(H.astype(dtype), "H"), as_rows(Y.astype(dtype), "Y")
    left = [float(np.sum(H[:, j:] ** 2)) for j in range(4)]  # by the first j axes

    def passed() -> bool:
        sums = gram(rows, targets=targets)
        (rest,) = residual(rows, [Basis(np.eye(3, 29))], double_precision=True)
        product = gram_product(rows, vectors, np.zeros(29))
        assert sums.cross is not None
        found = (np.tril(sums.gram), sums.column_sums, sums.cross, rest.raw, product.image, product.column_sums)
        wanted = (np.tril(H.T @ H), H.sum(axis=0), Y.T @ H, left, (vectors @ H.T) @ H, H.sum(axis=0))
        return all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))

    return passed


def test_passes_of_many_threads_find_what_is_true_whatever_is_chosen_meanwhile(
    set_threads: Callable[[int], None],
) -> None:
    """Beside a thread that changes the instruction set, the number of threads and the memory that is kept."""
    before = kernels.current_isa()
    ended = Event()

    def choose() -> int:
        changes = 0
        while not ended.is_set() or changes == 0:
            for threads, isa in enumerate(kernels.available_isas(), 1):
                kernels.set_isa(isa)
                set_threads(threads)
                kernels.release_memory()
                changes += 1
        return changes

    tasks = [checked_passes(seed, dtype) for seed in range(3) for dtype in (np.float64, np.float32)]
    try:
        with ThreadPoolExecutor(1) as other:
            changes = other.submit(choose)
            try:
                passed = at_once([lambda task=task: [task() for _ in range(20)] for task in tasks])  # type: ignore[misc]
            finally:
                ended.set()
            assert changes.result() > 0
    finally:
        kernels.set_isa(before)
    assert passed == [[True] * 20] * len(tasks)


def test_descents_and_files_of_many_threads_give_the_bits_that_they_give_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    H, Y = rng.standard_normal((2000, D)), rng.standard_normal((2000, N))
    path = tmp_path / "features.npy"
    np.save(path, H)

    def descended() -> bytes:
        decays = {"lambda_W": [0.05, 0.0], "lambda_H": [0.05, 0.0]}
        run = nrc.ufm.descend(Y[:300], d=6, steps=200, lr=0.1, lr_H=30.0, record=["loss", "nrc1", "distance"], **decays)
        return b"".join(np.asarray(run.history[name]).tobytes() for name in ("loss", "nrc1", "distance"))

    def read() -> str:
        return str(nrc.measure(path, Y).to_json())

    assert np.array_equal(nrc.measure(path, Y).nrc1_by_k, nrc.measure(H, Y).nrc1_by_k)
    tasks = [descended, read] * 3
    alone = [task() for task in tasks]
    for _ in range(3):
        assert at_once(tasks) == alone
