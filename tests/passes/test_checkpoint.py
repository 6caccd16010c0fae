"""Runs that are stopped, by Ctrl-C or with SIGKILL, go on from their checkpoint and end with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.passes import chunk_sizes, component_costs
from nrc_fast.passes.checkpoint import Checkpoint
from nrc_fast.passes.reading import Reading

W = np.random.default_rng(5).standard_normal((2, 16))


@pytest.fixture
def stored(tmp_path: Path) -> tuple[str, str]:
    """Collapsed float32 features in three shards, which need all kinds of passes; the last chunk is short."""
    rng = np.random.default_rng(0)
    H = (rng.standard_normal((6100, 2)) @ W + 1e-4 * rng.standard_normal((6100, 16))).astype(np.float32)
    for number, part in enumerate(np.split(H, [1000, 3500])):
        np.save(tmp_path / f"H_{number}.npy", part)
    np.save(tmp_path / "Y.npy", H @ W.T.astype(np.float32))
    return str(tmp_path / "H_*.npy"), str(tmp_path / "Y.npy")


def run(stored: tuple[str, str], **options: Any) -> str:
    return nrc.measure(*stored, W, np.zeros(2), convention="id25", by_k="all", chunk_rows=300, **options).to_json()


class StopError(Exception):
    """Stands for whatever ends a run."""


@contextmanager
def stopped_after(chunks: int) -> Iterator[None]:
    """Runs end when they have recorded so many chunks, of all their passes; 0 is never."""
    record, calls = Reading._record, 0

    def stopping(self: Reading, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        record(self, *arguments, **options)
        calls += 1
        if calls == chunks:
            raise StopError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reading, "_record", stopping)
        yield


@pytest.mark.usefixtures("many_rows")
@pytest.mark.parametrize("stop", [0, 1, 7, 20, 21, 22, 33, 43, 44, 62, 80])
def test_a_run_stopped_after_any_chunk_ends_with_the_same_bits(
    stored: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    wanted = run(stored)
    path = tmp_path / "state.npz"
    with stopped_after(stop):
        if stop:
            with pytest.raises(StopError):
                run(stored, checkpoint=path, checkpoint_every=0.0)
            assert path.exists()
        else:
            assert run(stored, checkpoint=path, checkpoint_every=0.0) == wanted
    read = count_chunks(monkeypatch)
    assert run(stored, checkpoint=path) == wanted
    assert not path.exists()
    if stop == 80:
        assert len(read) < 20  # what was done is not done again


def count_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []
    add = Reading._add

    def counting(self: Reading, *arguments: Any) -> None:
        read.append(1)
        add(self, *arguments)

    monkeypatch.setattr(Reading, "_add", counting)
    return read


SCRIPT = """
import sys, time
import numpy as np
import nrc_fast as nrc
from nrc_fast.passes.reading import Reading

add = Reading._add
def slow(self, sums, chunk):
    time.sleep(0.02)
    add(self, sums, chunk)
    print(chunk.first, flush=True)
Reading._add = slow
features, targets, state = sys.argv[1:]
W = np.random.default_rng(5).standard_normal((2, 16))
report = nrc.measure(features, targets, W, np.zeros(2), convention="id25", by_k="all", chunk_rows=300, checkpoint=state,
                     checkpoint_every=0.1)
print(report.to_json())
"""


@pytest.mark.parametrize(("number", "chunks"), [(signal.SIGKILL, 30), (signal.SIGINT, 5), (signal.SIGTERM, 50)])
def test_a_run_that_is_killed_goes_on(
    stored: tuple[str, str], tmp_path: Path, number: signal.Signals, chunks: int
) -> None:
    wanted = run(stored)
    state = tmp_path / "state.npz"
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *stored, str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(chunks)]
        assert all(line.strip().isdigit() for line in lines), process.stderr.read()
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert state.exists()
    saved = json.loads(bytes(np.load(state)["header"]))
    assert saved["passes"][-1]["title"]
    assert run(stored, checkpoint=state) == wanted
    assert not [*tmp_path.glob("state*"), *tmp_path.glob(".state*")]


def test_ctrl_c_waits_for_the_end_of_the_chunk(
    stored: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.npz"
    add = Reading._add
    done = []

    def interrupted(self: Reading, sums: Any, chunk: Any) -> None:
        if len(done) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # where Python would raise
        add(self, sums, chunk)
        done.append(chunk.first)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(Reading, "_add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(stored, checkpoint=path, checkpoint_every=1e9)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(done) == 4
    saved = Checkpoint(path, {}, 1e9).resume(0, "statistics")
    assert saved is not None
    assert saved[0] == 4
    assert run(stored, checkpoint=path) == run(stored)


def test_what_was_done_before_a_bad_shard_is_kept(stored: tuple[str, str], tmp_path: Path) -> None:
    wanted = run(stored)
    path, shard = tmp_path / "state.npz", tmp_path / "H_1.npy"
    good = shard.read_bytes(), shard.stat()
    bad = np.load(shard)
    bad[1500] = np.nan
    np.save(shard, bad)
    with pytest.raises(ValueError, match=r"the first is row 1500 of .*H_1\.npy"):
        run(stored, checkpoint=path, checkpoint_every=1e9)
    saved = Checkpoint(path, {}, 1e9).resume(0, "statistics")
    assert saved is not None
    assert saved[0] == 8  # 2,400 of the first 2,500 rows
    # A mended file is another file.
    shard.write_bytes(good[0])
    with pytest.raises(ValueError, match="is the checkpoint of another measurement: source differ"):
        run(stored, checkpoint=path)
    path.unlink()
    assert run(stored, checkpoint=path) == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"convention": "raw"}, "convention differ"),
        ({"precision": "highest"}, "precision differ"),
        ({"nonfinite": "skip"}, "nonfinite differ"),
        ({"chunk_rows": 200}, "chunk rows differ"),
        ({"W": 2 * W}, "W differ"),
        ({"b": np.ones(2)}, "b differ"),
        ({"rtol": 1e-5}, "rtol differ"),
    ],
)
def test_a_checkpoint_of_another_measurement_is_refused(
    stored: tuple[str, str], tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    path = tmp_path / "state.npz"
    arguments: dict[str, Any] = {"W": W, "b": np.zeros(2), "convention": "id25", "chunk_rows": 300}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reading, "finish", lambda _: None)
        nrc.measure(*stored, **arguments, checkpoint=path)
    with pytest.raises(ValueError, match=f"another measurement: {words}"):
        nrc.measure(*stored, **(arguments | options), checkpoint=path)


def test_damaged_checkpoints_are_refused(stored: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(b"PK not a zip")
    with pytest.raises(OSError, match="is damaged or was not written by nrc_fast"):
        run(stored, checkpoint=path)
    path.unlink()
    nrc.FeatureStatistics(3).save(path)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        run(stored, checkpoint=path)


@pytest.mark.usefixtures("many_rows")
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_checkpoint_that_is_removed_while_it_is_in_use_is_written_anew(
    stored: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    wanted = run(stored)
    path, other = tmp_path / "state.npz", tmp_path / "other.npz"
    record = Reading._record
    calls = 0

    def removing(self: Reading, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        record(self, *arguments, **options)
        calls += 1
        if calls == 80:
            raise StopError
        if calls < 80:
            path.unlink()
        if calls < 80 and replaced:
            nrc.FeatureStatistics(3).save(other)
            other.rename(path)

    with monkeypatch.context() as patched:
        patched.setattr(Reading, "_record", removing)
        with pytest.raises(StopError):
            run(stored, checkpoint=path, checkpoint_every=0.0)
    read = count_chunks(monkeypatch)
    assert run(stored, checkpoint=path) == wanted
    assert len(read) < 20  # earlier passes were not done again
    # Removed between the start of a run that goes on and its first write.
    with monkeypatch.context() as patched:
        patched.setattr(Reading, "finish", lambda _: None)
        run(stored, checkpoint=path)
    checkpoint = Checkpoint(path, {}, 1e9)
    path.unlink()
    saved = checkpoint.resume(0, "statistics")
    assert saved is not None
    assert saved[1]


def test_a_checkpoint_that_is_written_to_by_others_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    checkpoint = Checkpoint(path, {}, 0.0)
    checkpoint.record(0, "statistics", 3, lambda: {"sums": np.ones(3)}, is_finished=True, now=True)
    path.write_bytes(b"something else")
    with pytest.raises(OSError, match=r"something else has written to .*state\.npz"):
        checkpoint.record(1, "residuals", 1, lambda: {"sums": np.ones(3)}, is_finished=False, now=True)
    checkpoint.close()
    assert sorted(tmp_path.iterdir()) == [path]


def test_generators_have_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="checkpoints need arrays or files"):
        nrc.measure(iter([np.eye(4)]), n=1, checkpoint=tmp_path / "state.npz")


def test_arrays_have_checkpoints_too(tmp_path: Path) -> None:
    H = np.random.default_rng(0).standard_normal((1000, 16))
    path = tmp_path / "state.npz"
    wanted = nrc.measure(H, n=2, chunk_rows=100).to_json()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reading, "finish", lambda _: None)
        nrc.measure(H, n=2, chunk_rows=100, checkpoint=path)
    read = count_chunks(patched)
    assert nrc.measure(H, n=2, chunk_rows=100, checkpoint=path).to_json() == wanted
    patched.undo()
    assert read == []


@pytest.mark.parametrize("stop", [0, 3, 9, 17])
@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "gram"])
def test_single_metrics_go_on_to_the_same_bits(
    stored: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, by_rows: bool
) -> None:
    monkeypatch.setattr(chunk_sizes, "CHUNK_BYTES", 40_000)
    if by_rows:
        monkeypatch.setattr(component_costs, "MOST_SQUARE_BYTES", 0)
    path = tmp_path / "state.npz"

    def metrics(**options: Any) -> list[float]:
        found = [nrc.nrc1(stored[0], 2, **options), nrc.nrc1(stored[0], [1, 3], convention="id25", **options)]
        return [*np.hstack(found), nrc.nrc2(stored[0], W, convention="variance", **options)]

    wanted = metrics()
    with stopped_after(stop):
        if stop:
            with pytest.raises(StopError):
                metrics(checkpoint=path, checkpoint_every=0.0)
            with pytest.raises(ValueError, match=r"state\.npz is the checkpoint of another measurement: .*metric"):
                nrc.nrc2(stored[0], 2.0 * W, checkpoint=path)
    assert metrics(checkpoint=path, checkpoint_every=0.0) == wanted
    assert not path.exists()


def interrupted(stored: tuple[str, str], path: Path, chunks: int = 25) -> None:
    """Leave a checkpoint in the middle of a pass."""
    with stopped_after(chunks), pytest.raises(StopError):
        run(stored, checkpoint=path, checkpoint_every=0.0)


@pytest.mark.parametrize(
    "passes",
    [
        None,
        3,
        [3],
        [{"title": "statistics"}],
        [{"title": "statistics", "chunks": "2", "is_finished": False}],
        [{"title": "statistics", "chunks": True, "is_finished": False}],
        [{"title": "statistics", "chunks": -3, "is_finished": False}],
        [{"title": "statistics", "chunks": 10**9, "is_finished": False}],
        [{"title": "statistics", "chunks": 1, "is_finished": True}],
        [{"title": "statistics", "chunks": 21, "is_finished": 1}],
    ],
)
def test_passes_that_nobody_made_are_refused(stored: tuple[str, str], tmp_path: Path, passes: Any) -> None:
    path = tmp_path / "state.npz"
    interrupted(stored, path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.dumps(json.loads(bytes(arrays["header"])) | {"passes": passes}).encode()
    np.savez(path, **(arrays | {"header": np.frombuffer(header, np.uint8)}))
    with pytest.raises(OSError, match=r"state\.npz is damaged: it .*; remove it to start anew"):
        run(stored, checkpoint=path)


@pytest.mark.usefixtures("many_rows")
@pytest.mark.parametrize("change", ["gone", "other shape", "not finite"])
def test_sums_that_nobody_added_are_refused(stored: tuple[str, str], tmp_path: Path, change: str) -> None:
    path = tmp_path / "state.npz"
    interrupted(stored, path, 30)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    # Sums without vectors, counts or errors are of an earlier version, and start anew; products may be no numbers.
    others = ("1/vectors", "1/counts", "1/paired", "1/errors", "1/balance")
    begun = [name for name in arrays if name.startswith("1/") and arrays[name].size > 1 and not name.startswith(others)]
    assert begun
    for name in begun:
        broken = dict(arrays)
        if change == "gone":
            del broken[name]
        else:
            broken[name] = np.pad(arrays[name], 1) if change == "other shape" else np.full_like(arrays[name], np.inf)
        np.savez(path, **broken)
        with pytest.raises(OSError, match=r"state\.npz is damaged: the saved .* is "):
            run(stored, checkpoint=path)


def test_a_call_that_fails_before_it_reads_keeps_no_checkpoint_from_the_next(
    stored: tuple[str, str], tmp_path: Path
) -> None:
    path, kept = tmp_path / "state.npz", []
    for options in ({"nonfinite": "oops"}, {"chunk_rows": 0}, {"memory": "1KiB"}):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - each has its own words
            nrc.measure(*stored, W, checkpoint=path, **options)
        kept.append(caught)  # as a notebook keeps the last one
    assert nrc.measure(*stored, W, checkpoint=path).samples == 6100  # a warning would be an error
