"""numpy's OpenBLAS is held to one thread where that is asked for, and given its threads back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

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
    """Wheels of numpy bring an OpenBLAS; a new place of it or a new name for its functions must not go unseen."""
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


def test_the_last_of_them_may_be_another_thread_than_the_first(threads: Any) -> None:
    first = one_blas_thread()
    first.__enter__()
    inside, leave = Barrier(2), Barrier(2)

    def hold() -> None:
        with one_blas_thread():
            inside.wait()
            leave.wait()

    other = Thread(target=hold)
    other.start()
    inside.wait()
    first.__exit__(None, None, None)
    assert threads() == 1
    leave.wait()
    other.join()
    assert threads() == 2


def test_scipys_openblas_keeps_its_threads(threads: Any) -> None:
    pytest.importorskip("scipy.linalg")
    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    others = [controller for controller in found if "scipy.libs" in controller.filepath]
    if not others:
        pytest.skip("scipy has no OpenBLAS of its own")
    with ThreadpoolController().limit(limits=2, user_api="blas"), one_blas_thread():
        assert threads() == 1
        assert [controller.get_num_threads() for controller in others] == [2]


SITE = "/env/lib/python3.11/site-packages"
OWN = f"{SITE}/numpy.libs/libscipy_openblas64_-32a4b2a6.so"
MAC = f"{SITE}/numpy/.dylibs/libscipy_openblas64_.dylib"
OTHERS = [f"{SITE}/scipy.libs/libscipy_openblas-6cdc3b4a.so", f"{SITE}/torch/lib/libopenblas.so.0"]
CONDA = "/env/lib/libopenblasp-r0.3.30.so"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([*OTHERS, OWN], OWN),
        ([MAC, *OTHERS], MAC),
        ([CONDA, *OTHERS, OWN], OWN),
        ([OTHERS[0], CONDA, OTHERS[1]], CONDA),
        (OTHERS, None),  # numpy has MKL or Accelerate
        ([], None),
    ],
)
def test_the_library_is_numpys(paths: list[str], expected: str | None) -> None:
    assert blas_threads._of_numpy(paths, Path(SITE) / "numpy") == expected


@pytest.mark.parametrize(("width", "expected"), [(1, 1), (blas_threads.NARROW, 1), (blas_threads.NARROW + 1, 2)])
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


FORKS = """
import os, select, signal, sys, threading
import numpy as np
import nrc_fast as nrc
from nrc_fast.base import blas_threads
from nrc_fast.base.blas_threads import one_blas_thread

count, choose = blas_threads._openblas()
choose(2)
sys.setswitchinterval(1e-5)
inside, leave = threading.Event(), threading.Event()

def child():
    answer = [count()]
    with one_blas_thread():
        answer.append(count())
    return [*answer, count()]

def in_a_child():
    reader, writer = os.pipe()
    number = os.fork()
    if number == 0:
        os.write(writer, repr(child()).encode())
        os._exit(0)
    os.close(writer)
    found = os.read(reader, 100).decode() if select.select([reader], [], [], 20)[0] else "it hangs"
    os.close(reader)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return found

def hold():
    with one_blas_thread():
        inside.set()
        leave.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
print(in_a_child(), count())
with one_blas_thread():  # the thread that forks is in it too, and in its child still is
    before = os.fork()
    if before == 0 and count() != 1:
        os._exit(1)
if before == 0:
    os._exit(0 if count() == 2 else 2)
print(os.waitstatus_to_exitcode(os.waitpid(before, 0)[1]))
leave.set()
thread.join()
print(count())

def work():
    while True:
        with one_blas_thread():
            pass
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
print({in_a_child() for _ in range(100)})
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.usefixtures("threads")
def test_a_forked_child_has_its_threads_whatever_its_parent_held(run_alone: Any) -> None:
    answer = run_alone(FORKS, OPENBLAS_NUM_THREADS="2")
    assert answer.stdout.splitlines() == ["[2, 1, 2] 1", "0", "2", "{'[2, 1, 2]'}"], answer.stdout + answer.stderr


def test_an_interrupt_on_the_way_in_or_out_gives_them_back(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = blas_threads._HOLD.enter

    def interrupted(*given: Any) -> None:
        enter(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(blas_threads._HOLD, "enter", interrupted)
    with pytest.raises(KeyboardInterrupt), one_blas_thread():
        pass
    assert threads() == 2
    monkeypatch.setattr(blas_threads._HOLD, "enter", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), one_blas_thread():
        pass
    assert threads() == 2
