"""Runs that are killed at any moment end with the same bits, and thousands of updates take no more memory than some."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# One process imports the package; a fork of it is a run, which is killed after a while that grows until it ends.
KILLED = """
import glob, os, random, signal, sys, time
import numpy as np
import nrc_fast as nrc

kills, chance = int(sys.argv[1]), random.Random(int(sys.argv[2]))
W = np.random.default_rng(5).standard_normal((2, 16))

def measure(**options):
    return nrc.measure("H_*.npy", "Y.npy", W, np.zeros(2), convention="id25", by_k="all", chunk_rows=200, **options)

def in_a_child(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child

def wanted():
    open("wanted.json", "w").write(measure().to_json())

def run():
    open("found.json", "w").write(measure(checkpoint="state.npz", checkpoint_every=0.0).to_json())

started = time.monotonic()
assert os.waitpid(in_a_child(wanted), 0)[1] == 0
took = time.monotonic() - started
done = ended = resumed = 0
while done < kills:
    resumed += os.path.exists("state.npz")
    child = in_a_child(run)
    time.sleep(chance.uniform(0.0, 3.0 * took))
    os.kill(child, signal.SIGKILL)
    was_killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    done += was_killed
    ended += not was_killed
    if not was_killed:
        assert open("found.json").read() == open("wanted.json").read()
assert os.waitpid(in_a_child(run), 0)[1] == 0
assert open("found.json").read() == open("wanted.json").read()
left = [name for name in os.listdir(".") if name not in ("H_0.npy", "H_1.npy", "Y.npy", "wanted.json", "found.json")]
print(left, resumed > kills // 4)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.endurance)])
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_bits(tmp_path: Path, run_alone: Any, kills: int) -> None:
    rng = np.random.default_rng(0)
    W = np.random.default_rng(5).standard_normal((2, 16))
    H = (rng.standard_normal((6100, 2)) @ W + 1e-4 * rng.standard_normal((6100, 16))).astype(np.float32)
    for number, part in enumerate(np.split(H, [2500])):
        np.save(tmp_path / f"H_{number}.npy", part)
    np.save(tmp_path / "Y.npy", H @ W.T.astype(np.float32))
    for seed in range(max(kills // 10, 1)):
        code = KILLED.replace("sys.argv[1]", str(min(kills, 10))).replace("sys.argv[2]", str(seed))
        answer = run_alone(code)
        assert answer.stdout.strip() == "[] True", answer.stdout + answer.stderr


UPDATES = """
import gc, os, sys
import numpy as np
import nrc_fast as nrc

updates = int(sys.argv[1])
rng = np.random.default_rng(0)
H, Y = rng.standard_normal((200, 96)).astype("f4"), rng.standard_normal((200, 3))
labels = np.arange(200) % 5
features, classes, total = nrc.FeatureStatistics(96, n_targets=3), nrc.ClassStatistics(96, 5), nrc.FeatureStatistics(96)
part = nrc.FeatureStatistics(96).update(H)

def step(number):
    features.update(H, Y)
    classes.update(H, labels)
    total.merge(part)
    if number % 50 == 0:
        features.report(n=3), classes.report(), features.moments, total.report(n=2)
        features.save("s.npz")

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for number in range(updates // 4):
    step(number)
before, objects, files = resident(), len(gc.get_objects()), len(os.listdir("/proc/self/fd"))
for number in range(updates):
    step(number)
print(features.count == 200 * (updates + updates // 4))
print((resident() - before) // 1024, len(gc.get_objects()) - objects, len(os.listdir("/proc/self/fd")) - files)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell the memory of a process")
@pytest.mark.parametrize("updates", [400, pytest.param(10_000, marks=pytest.mark.endurance)])
def test_updates_do_not_grow(run_alone: Any, updates: int) -> None:
    answer = run_alone(UPDATES.replace("sys.argv[1]", str(updates)))
    assert answer.returncode == 0, answer.stderr
    is_whole, growth = answer.stdout.splitlines()
    kilobytes, objects, files = map(int, growth.split())
    assert is_whole == "True"
    # What allocators keep here and there; a kilobyte for each of 10,000 updates would be ten times as much.
    assert kilobytes <= 1024
    assert objects < 50
    assert files == 0
