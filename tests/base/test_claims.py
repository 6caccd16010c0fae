"""One process at a time writes a checkpoint; others are told who does, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.base import claims
from nrc_fast.base.claims import Claim

HOLD = """
import sys, time
from pathlib import Path
from nrc_fast.base.claims import Claim
claim = Claim(Path("state.npz"))
assert claim.take() is None
print("taken", flush=True)
time.sleep(60)
"""


def test_a_killed_owner_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        claim = Claim(path)
        assert claim.take() == f"process {process.pid} on {socket.gethostname()}"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert claim.lock_path.exists()
    assert claim.take() is None
    assert Claim(path).take() == f"process {os.getpid()} on {socket.gethostname()}"
    claim.give_back()
    assert not [*tmp_path.iterdir()]


def test_an_object_that_goes_gives_it_back(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "state.npz")
    assert claim.take() is None
    assert claim.take() is None
    del claim
    assert Claim(tmp_path / "state.npz").take() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_it_neither_while_nor_after_its_parent_has(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "state.npz")
    assert claim.take() is None
    reader, writer = os.pipe()
    seen, sees = os.pipe()
    child = os.fork()
    if child == 0:
        claim.give_back()  # nothing: it is the parent's
        is_held = Claim(tmp_path / "state.npz").take() is not None
        os.write(sees, b"x")
        os.read(reader, 1)
        os._exit(0 if is_held else 1)
    os.read(seen, 1)
    assert claim.lock_path.exists()
    claim.give_back()
    second = Claim(tmp_path / "state.npz")
    assert second.take() is None  # though the child is alive
    os.write(writer, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)
    os.close(writer)
    second.give_back()


def test_where_files_cannot_be_locked_nobody_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: Any) -> None:
        raise OSError(38, "no locks here")

    monkeypatch.setattr(claims.fcntl, "flock", flock)
    first, second = Claim(tmp_path / "state.npz"), Claim(tmp_path / "state.npz")
    assert first.take() is None
    assert second.take() is None
    second.give_back()
    first.give_back()
    assert not [*tmp_path.iterdir()]


def test_a_lock_file_that_its_owner_deletes_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, flock, done = Claim(tmp_path / "state.npz"), claims.fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        if not done:
            done.append(claim.lock_path.unlink())

    monkeypatch.setattr(claims.fcntl, "flock", late)
    assert claim.take() is None
    assert claim.lock_path.exists()
    assert Claim(tmp_path / "state.npz").take() is not None


def test_a_second_measurement_is_told_and_the_first_has_its_checkpoint(tmp_path: Path) -> None:
    H, path = np.random.default_rng(0).standard_normal((3000, 16)), tmp_path / "state.npz"
    wanted = nrc.measure(H, n=2, chunk_rows=100).to_json()
    owner = Claim(path)
    assert owner.take() is None
    with pytest.warns(RuntimeWarning, match=rf"state\.npz is in use: process {os.getpid()} on .* without a checkpoint"):
        assert nrc.measure(H, n=2, chunk_rows=100, checkpoint=path, checkpoint_every=0.0).to_json() == wanted
    assert not path.exists()
    owner.give_back()
    assert nrc.measure(H, n=2, chunk_rows=100, checkpoint=path, checkpoint_every=0.0).to_json() == wanted
    assert not [*tmp_path.iterdir()]


def test_a_measurement_that_fails_lets_the_next_have_its_checkpoint(tmp_path: Path) -> None:
    H, path = np.random.default_rng(0).standard_normal((3000, 16)), tmp_path / "state.npz"
    H[2950] = np.nan
    for _ in range(2):  # whoever catches an error holds all that it came through
        with pytest.raises(ValueError, match="row 2950"):
            nrc.measure(H, n=2, chunk_rows=100, checkpoint=path, checkpoint_every=0.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"]
    with pytest.raises(ValueError, match="another measurement"):
        nrc.measure(H, n=3, chunk_rows=100, checkpoint=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"]


SECOND = """
import sys, warnings
import nrc_fast as nrc
warnings.simplefilter("always")
print(nrc.measure("H.npy", n=2, checkpoint="state.npz", checkpoint_every=0.0, chunk_rows=200).to_json())
"""


def test_two_runs_that_start_at_once_both_end_with_the_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "H.npy", np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32))
    told, found = 0, set()
    for _ in range(2):
        runs = [
            subprocess.Popen(
                [sys.executable, "-c", SECOND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
            )
            for _ in range(2)
        ]
        for run in runs:
            out, complaints = run.communicate(timeout=120)
            assert run.returncode == 0, complaints
            told += "state.npz is in use: process" in complaints
            found.add(out)
    assert len(found) == 1
    assert told <= 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["H.npy"]
