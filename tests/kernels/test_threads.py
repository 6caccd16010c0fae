from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.products import prediction_error

from nrc_fast import kernels
from nrc_fast.kernels import calls
from nrc_fast.kernels.calls import gram, gram_product, residual
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis

Run = Callable[..., Any]
SetThreads = Callable[[int], None]

COUNT = "from nrc_fast import kernels; print(kernels.thread_count())"


# ---- how many ----


@pytest.mark.parametrize("count", [0, -1, 65_537, 2**40])
def test_a_count_of_threads_that_is_none_is_refused(set_threads: SetThreads, count: int) -> None:
    before = kernels.thread_count()
    with pytest.raises(ValueError, match=f"the number of threads is {count}; give 1 or more"):
        set_threads(count)
    assert kernels.thread_count() == before


def test_the_number_that_was_set_is_used(set_threads: SetThreads) -> None:
    for count in (1, 3, 2):
        set_threads(count)
        assert kernels.thread_count() == count


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"NRC_FAST_NUM_THREADS": "5"}, 5),
        ({"NRC_FAST_NUM_THREADS": " 6 "}, 6),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"NRC_FAST_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
        ({"NRC_FAST_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, 3),
    ],
    ids=str,
)
def test_the_environment_sets_the_number(run_alone: Run, environment: dict[str, str], count: int) -> None:
    answer = run_alone(COUNT, **environment)
    assert answer.stdout.split() == [str(count)], answer.stderr


@pytest.mark.parametrize("text", ["0", "-1", "four", "2.5", "99999999999"])
def test_a_number_in_the_environment_that_is_none_is_refused(run_alone: Run, text: str) -> None:
    answer = run_alone(COUNT, NRC_FAST_NUM_THREADS=text)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"ValueError: environment variable NRC_FAST_NUM_THREADS is {text!r}")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_processors_that_are_allowed_are_counted(run_alone: Run) -> None:
    allowed = os.sched_getaffinity(0)
    assert run_alone(COUNT).stdout.split() == [str(len(allowed))]
    # What OpenMP would not understand either is no number.
    assert run_alone(COUNT, OMP_NUM_THREADS="many").stdout.split() == [str(len(allowed))]
    pinned = f"import os; os.sched_setaffinity(0, {{{min(allowed)}}}); {COUNT}"
    assert run_alone(pinned).stdout.split() == ["1"]


# ---- the work ----


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7, 16, 100])
def test_any_number_of_threads_gives_the_right_sums(arrays: Any, set_threads: SetThreads, threads: int) -> None:
    rng = np.random.default_rng(0)
    features = arrays.store(rng.standard_normal((5000, 50)), "float32")
    vectors, targets = arrays.orthonormal(3, 50, seed=0), rng.standard_normal((5000, 3))
    rows, y = as_rows(features, "H"), as_rows(targets, "Y")
    set_threads(threads)
    arrays.gram_reference(features, unit="raw", targets=targets).check(gram(rows, unit="raw", targets=y))
    for double_precision in (False, True):
        sums = residual(rows, [Basis(vectors, per_row=True)], double_precision=double_precision)[0]
        arrays.residual_reference(features, vectors, double_precision=double_precision).check(sums)
    x = features.astype(np.float64)
    tolerance = 2.0**-52 * (3.0 + 5000**0.5 + 50**0.5)
    product = gram_product(rows, vectors, np.zeros(50))
    scale = np.abs(vectors) @ np.abs(x).T @ np.abs(x)
    assert np.all(np.abs(product.image - (vectors @ x.T) @ x) <= tolerance * scale)
    assert np.all(np.abs(product.column_sums - x.sum(axis=0)) <= tolerance * np.abs(x).sum(axis=0))
    errors = prediction_error(rows, vectors, np.zeros(3), y)
    wanted = np.sum((x @ vectors.T - targets) ** 2, axis=0)
    scale = np.sum((np.abs(x) @ np.abs(vectors).T + np.abs(targets)) ** 2, axis=0)
    assert np.all(np.abs(errors - wanted) <= tolerance * scale)


def test_python_threads_get_the_bits_that_they_get_alone(arrays: Any, set_threads: SetThreads) -> None:
    set_threads(3)
    vectors = arrays.orthonormal(5, 40, seed=0)
    features = [as_rows(arrays.normal((2000 + i, 40), "float32", seed=i), "H") for i in range(6)]

    def compute(rows: Any) -> list[bytes]:
        sums = gram(rows, unit="raw")
        rest = residual(rows, [Basis(vectors)], double_precision=True)[0]
        image = gram_product(rows, vectors, np.zeros(40)).image
        return [array.tobytes() for array in (sums.gram, sums.unit_gram, sums.column_sums, rest.raw, rest.unit, image)]

    alone = [compute(rows) for rows in features]
    arrays.gram_reference(features[0].array, unit="raw").check(gram(features[0], unit="raw"))
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            assert list(pool.map(compute, features)) == alone


def test_shared_tiles_of_several_python_threads_do_not_mix(arrays: Any, set_threads: SetThreads) -> None:
    set_threads(64)
    assert 64 * 8 * 600 * 601 // 2 > 64 << 20, "private tiles would do"
    features = [arrays.normal((300, 600), "float32", seed=i) for i in range(4)]

    def compute(array: Any) -> bytes:
        return gram(as_rows(array, "H"), unit="raw").unit_gram.tobytes()

    alone = [compute(array) for array in features]
    arrays.gram_reference(features[0], unit="raw").check(gram(as_rows(features[0], "H"), unit="raw"))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(compute, features)) == alone


def test_other_python_threads_run_during_a_call(set_threads: SetThreads) -> None:
    set_threads(1)
    before = kernels.current_isa()
    rows = as_rows(np.broadcast_to(np.linspace(-1.0, 1.0, 256), (30_000, 256)), "H")
    started, finished = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gram(rows)
        finished.set()

    kernels.set_isa("baseline")  # the slowest: the call takes some hundred milliseconds
    try:
        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        ticks = 0
        while not finished.is_set():
            time.sleep(0.001)
            ticks += 1
        thread.join()
    finally:
        kernels.set_isa(before)
    # A call that kept the interpreter would leave us one or two turns, at its start and at its end.
    assert ticks >= 10


# ---- fork ----

FORK = """
import os, sys, threading
import numpy as np
from nrc_fast.kernels import _cpu
from nrc_fast import kernels
from nrc_fast.kernels.results import Basis
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.calls import gram, residual

kernels.set_thread_count(3)
_cpu.set_least_work(4e5)  # so that few rows are shared out
rows = as_rows(np.random.default_rng(0).standard_normal((5000, 60)).astype(np.float32), "H")
small_rows = as_rows(np.ones((250, 60)), "H")

def compute():
    sums = gram(rows, unit="raw")
    rest = residual(rows, [Basis(np.eye(60)[:4])], double_precision=True)[0]
    return b"".join(array.tobytes() for array in (sums.gram, sums.unit_gram, rest.raw))

def threads_of_process():  # with those of an emulator that runs it
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None

def in_a_child():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        before = threads_of_process()
        answer = compute()
        assert before is None or threads_of_process() == before + 2, "none of the parent's threads, two new ones"
        if depth := int(sys.argv[1]):
            sys.argv[1] = str(depth - 1)
            assert in_a_child() == answer
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer

sys.argv.append("1")  # a child of the child
first = in_a_child()  # before the pool was used
wanted = compute()
x = rows.array.astype(np.float64)
exact = np.tril(x.T @ x)
found = np.frombuffer(wanted, dtype=np.float64)[:3600].reshape(60, 60)
scale = np.abs(x).T @ np.abs(x)
assert np.all(np.abs(found - exact) <= 2.0**-23 * (3 + 256**0.5) * scale)
assert first == wanted
assert in_a_child() == wanted  # after it
stop = False
def keep_busy():
    while not stop:
        gram(small_rows)  # takes and gives back the lock of the pool all the time
thread = threading.Thread(target=keep_busy)
thread.start()
for _ in range(50):
    assert in_a_child() == wanted
stop = True
thread.join()
assert compute() == wanted
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_what_its_parent_does(run_alone: Run) -> None:
    answer = run_alone(FORK)
    assert answer.stdout.split() == ["done"], answer.stderr


MULTIPROCESSING = """
import multiprocessing
import numpy as np
from nrc_fast.kernels import _cpu
from nrc_fast import kernels
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.calls import gram

def compute(seed):
    rows = np.random.default_rng(seed).standard_normal((4000, 40))
    return gram(as_rows(rows, "H")).gram.tobytes()

kernels.set_thread_count(2)
_cpu.set_least_work(4e5)
alone = [compute(seed) for seed in range(6)]
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(compute, range(6)) == alone
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_worker_processes(run_alone: Run) -> None:
    answer = run_alone(MULTIPROCESSING)
    assert answer.stdout.split() == ["done"], answer.stderr


# ---- the end ----

EXIT = """
import sys, threading, time
import numpy as np
from nrc_fast import kernels
from nrc_fast.kernels.calls import gram, gram_product, residual
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis

rows = as_rows(np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32), "H")
kinds = (
    lambda: gram(rows, unit="raw"),
    lambda: residual(rows, [Basis(np.eye(64)[:4])], double_precision=True),
    lambda: gram_product(rows, np.eye(64)[:4], np.zeros(64)),
)

def busy(call):
    while True:
        call()

for call in kinds:
    threading.Thread(target=busy, args=(call,), daemon=True).start()
time.sleep(0.3)
print("work done", flush=True)
sys.exit(3)
"""


def test_the_interpreter_ends_beside_threads_that_compute(run_alone: Run) -> None:
    for _ in range(4):
        answer = run_alone(EXIT)
        assert (answer.returncode, answer.stdout, answer.stderr) == (3, "work done\n", "")


@pytest.mark.usefixtures("isa")
def test_changing_the_instruction_set_during_calls_is_safe() -> None:
    # Basis and scratch of one call are laid out for one instruction set, whatever is chosen meanwhile.
    features = as_rows(np.random.default_rng(0).standard_normal((20_000, 33)), "H")
    vectors = np.eye(33)[:3]
    expected = calls.gram_product(features, vectors, np.zeros(33)).image
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            for name in kernels.available_isas():
                kernels.set_isa(name)

    switcher = threading.Thread(target=switch)
    switcher.start()
    try:
        found = [calls.gram_product(features, vectors, np.zeros(33)).image for _ in range(200)]
    finally:
        stop.set()
        switcher.join()
    assert all(np.allclose(image, expected, rtol=1e-12, atol=1e-9) for image in found)
