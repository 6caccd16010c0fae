"""Children that are forked while threads of the parent are at work go on by themselves, with whole numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nrc_fast.base.forks import Guard
from nrc_fast.sources.opening import open_table

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

Run = Callable[..., Any]

# What `answer` gives in a child, or that there was none in 20 seconds.
CHILD = """
import os, select, signal, sys, threading, time
import numpy as np
import nrc_fast as nrc

def in_a_child(answer):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, repr(answer()).encode())
        os._exit(0)
    os.close(writer)
    found = os.read(reader, 1000).decode() if select.select([reader], [], [], 20)[0] else "it hangs"
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return found

def in_the_background(work):
    def run():
        while True:
            work()
    threading.Thread(target=run, daemon=True).start()
    time.sleep(0.1)

sys.setswitchinterval(1e-5)
H = np.random.default_rng(0).standard_normal((20_000, 64)).astype("f4")
"""

BUSY = {
    "features": """
statistics = nrc.FeatureStatistics(64)
in_the_background(lambda: statistics.update(H))
def answer():
    before = statistics.count
    assert before % len(H) == 0, before
    return statistics.update(H[:10]).count - before
""",
    "classes": """
labels = np.arange(len(H)) % 3
statistics = nrc.ClassStatistics(64, 3)
in_the_background(lambda: statistics.update(H, labels))
def answer():
    before = statistics.count
    assert before % len(H) == 0, before
    return statistics.update(H[:10], labels[:10]).count - before
""",
    "watched": """
import torch
torch.set_num_threads(1)
layer = torch.nn.Linear(64, 2)
watched = nrc.watch(layer)
batch = torch.from_numpy(H[:1000])
def work():
    with torch.no_grad():
        layer(batch)
in_the_background(work)
def answer():
    before = watched.statistics.count
    assert before % 1000 == 0, before
    watched.statistics.update(H[:10])
    return watched.statistics.count - before
""",
}


@pytest.mark.parametrize("busy", BUSY)
def test_statistics_in_a_child_are_not_locked(run_alone: Run, busy: str) -> None:
    if busy == "watched":
        pytest.importorskip("torch")
    code = CHILD + BUSY[busy] + "print({in_a_child(answer) for _ in range(8)})\nsys.stdout.flush()\nos._exit(0)"
    answer = run_alone(code)
    assert answer.stdout.strip() == "{'10'}", answer.stdout + answer.stderr


TABLES = """
from nrc_fast.sources.opening import open_table
table = open_table(sys.argv[1])
wanted = np.load("whole.npy")
at = 0
def work():
    global at
    at = (at + 1) % 50
    table.read(100 * at + 7, 100 * at + 60)
in_the_background(work)
def answer():
    return [bool(np.array_equal(table.read(first, first + 90).to_float64(), wanted[first:first + 90]))
            for first in (30, 250, 4900)]
print({in_a_child(answer) for _ in range(12)})
for first in (30, 250, 4900):  # nor does the child move what its parent reads
    assert np.array_equal(table.read(first, first + 90).to_float64(), wanted[first:first + 90])
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_a_child_reads_files_that_its_parent_is_reading(run_alone: Run, tmp_path: Path, ending: str) -> None:
    array = np.random.default_rng(0).standard_normal((5000, 16))
    np.save(tmp_path / "whole.npy", array)
    if ending == "npz":
        np.savez_compressed(tmp_path / "f.npz", h=array)
    else:
        with pytest.importorskip("h5py").File(tmp_path / "f.h5", "w") as file:
            file.create_dataset("h", data=array, chunks=(64, 16), compression="gzip")
    code = CHILD + TABLES.replace("sys.argv[1]", repr(f"f.{ending}"))
    answer = run_alone(code)
    assert answer.stdout.strip() == "{'[True, True, True]'}", answer.stdout + answer.stderr


def test_a_child_leaves_what_its_parent_was_decoding(tmp_path: Path) -> None:
    """Not by a fork: the library's own threads do not outlive one at any moment."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    array = np.random.default_rng(0).standard_normal((500, 3))
    columns = {f"h{number}": column for number, column in enumerate(array.T)}
    parquet.write_table(arrow.table(columns), tmp_path / "f.parquet")
    table: Any = open_table(tmp_path / "f.parquet")
    table.read(0, 100)
    entered, leave = threading.Event(), threading.Event()

    def decoding() -> Iterator[None]:
        entered.set()
        leave.wait()
        yield

    table._batches = decoding()
    busy = threading.Thread(target=lambda: next(table._batches))
    busy.start()
    entered.wait()
    table._guard.renew()
    found = table.read(100, 300).to_float64()
    leave.set()
    busy.join()
    np.testing.assert_array_equal(found, array[100:300])


def test_whoever_forks_with_the_lock_in_hand_gives_it_back() -> None:
    guard = Guard()
    with guard.lock:
        child = os.fork()
        if child == 0:
            free = not guard.lock.locked() and guard.was_forked() and not guard.was_forked()
    if child == 0:
        os._exit(0 if free and not guard.lock.locked() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not guard.lock.locked()
    assert not guard.was_forked()


def test_a_reentrant_lock_is_free_in_a_child_too() -> None:
    guard = Guard(reentrant=True)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with guard.lock, guard.lock:
            entered.set()
            leave.wait()

    busy = threading.Thread(target=hold)
    busy.start()
    entered.wait()
    assert not guard.lock.acquire(blocking=False)
    child = os.fork()
    if child == 0:
        os._exit(0 if guard.lock.acquire(blocking=False) and guard.was_forked() else 1)
    leave.set()
    busy.join()
    assert os.waitpid(child, 0)[1] == 0
    assert guard.lock.acquire(blocking=False)
