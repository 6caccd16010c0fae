"""Files are written all or nothing: on a full disk, at an interrupt, beside others, and with the rights they had."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.base import files
from nrc_fast.base.files import append_text, remove_unfinished, replaced_file, require_writable, write_text
from nrc_fast.integrations.loggers import CsvFile, JsonLines
from nrc_fast.reports.history import History

Write = Callable[[Path], object]


def statistics() -> nrc.FeatureStatistics:
    return nrc.FeatureStatistics(64).update(np.random.default_rng(0).standard_normal((100, 64)))


def history() -> History:
    rng = np.random.default_rng(0)
    H, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 2))
    found = History()
    for step, W in enumerate(rng.standard_normal((30, 2, 6))):
        found.add(step, nrc.measure(H, Y, W), W, np.cov(Y, rowvar=False, bias=True))
    return found


def draw(path: Path) -> None:
    pytest.importorskip("matplotlib")
    from nrc_fast.reports.plots.panels import save_figure

    save_figure(history().plot(), path)


def page(path: Path) -> None:
    pytest.importorskip("matplotlib")
    from nrc_fast.reports.pages import write_page

    write_page(path, [("Run", history())])


def checkpoint(path: Path) -> None:
    nrc.measure(np.random.default_rng(0).standard_normal((300, 64)), n=2, checkpoint=path, checkpoint_every=0.0)


WRITERS: dict[str, Write] = {
    "statistics.npz": lambda path: statistics().save(path),
    "report.json": lambda path: statistics().report(n=2).to_json(path),
    "history.json": lambda path: history().to_json(path),
    "history.csv": lambda path: history().to_csv(path),
    "page.html": page,
    "plot.png": draw,
    "plot.svg": draw,
}


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets how large a file of this process may become; what it writes beyond fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_is_named(
    tmp_path: Path, small_files: Callable[[int], None], name: str
) -> None:
    path = tmp_path / name
    WRITERS[name](path)  # what is imported on the way is there
    if path.suffix != ".npz":  # statistics replace nothing else
        path.write_text("before")
    before = path.read_bytes()
    small_files(500)
    for _ in range(2):
        with pytest.raises(OSError, match=name) as caught:
            WRITERS[name](path)
        assert "make room there, or give another path" in str(caught.value)
        assert caught.value.errno
    small_files(-1)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_checkpoint_on_a_full_disk_leaves_no_pieces(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    small_files(5000)
    with pytest.raises(OSError, match=r"state\.npz cannot be written"):
        checkpoint(tmp_path / "state.npz")
    small_files(-1)
    assert not [*tmp_path.iterdir()]
    checkpoint(tmp_path / "state.npz")


@pytest.mark.parametrize("logger", [CsvFile, JsonLines])
def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path, small_files: Callable[[int], None], logger: Any) -> None:
    path = tmp_path / "run"
    log = logger(path)
    for step in range(10):
        log(step, {"nrc1": step / 3})
    before = path.read_text()
    small_files(len(before) + 5)
    with pytest.raises(OSError, match="run cannot be written"):
        log(10, {"nrc1": 10 / 3})
    assert path.read_text() == before
    small_files(-1)
    log(10, {"nrc1": 10 / 3})
    assert len(path.read_text().splitlines()) == len(before.splitlines()) + 1


INTERRUPTED = """
import signal, sys, threading, os, time
from pathlib import Path
import numpy as np
import nrc_fast as nrc

statistics = nrc.FeatureStatistics(32).update(np.ones((10, 32)))
path = Path("s.npz")
statistics.save(path)
whole = path.read_bytes()
rng, stop = np.random.default_rng(0), []
def interrupt():
    for _ in range(100):
        time.sleep(rng.uniform(0, 0.02))
        os.kill(os.getpid(), signal.SIGINT)
    stop.append(1)
thread = threading.Thread(target=interrupt)
signal.signal(signal.SIGINT, signal.default_int_handler)
count = saved = 0
started = False
while not stop or thread.is_alive():
    try:
        if not started:
            started = True
            thread.start()
        while not stop:
            statistics.save(path)
            saved += 1
    except KeyboardInterrupt:
        count += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
statistics.save(path)  # what two interrupts at once have left goes with the next
print(sorted(os.listdir(".")), count > 20, saved > 0, path.read_bytes() == whole)
"""


def test_interrupts_at_any_moment_leave_whole_files_and_nothing_else(run_alone: Any) -> None:
    answer = run_alone(INTERRUPTED)
    assert answer.stdout.strip() == "['s.npz'] True True True", answer.stdout + answer.stderr


KILLED = """
import numpy as np
import nrc_fast as nrc

statistics = nrc.FeatureStatistics(700).update(np.ones((10, 700)))
while True:
    statistics.save("s.npz")
    print("saved", flush=True)
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    left = 0
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, cwd=tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(0.007 * (attempt + 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left += len([*tmp_path.glob(".*.part")])
        assert nrc.FeatureStatistics.load(tmp_path / "s.npz").count == 10
    (tmp_path / ".s.npz.00000000.part").write_bytes(b"left")
    nrc.FeatureStatistics(2).update(np.ones((3, 2))).save(tmp_path / "s.npz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.npz"], left


def test_what_is_being_written_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "f[1].txt"
    with replaced_file(path) as first:
        first.write(b"first")
        remove_unfinished(path)
        with replaced_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        assert len([*tmp_path.iterdir()]) == 2
    assert path.read_bytes() == b"first"
    assert [*tmp_path.iterdir()] == [path]


def test_many_writers_of_one_file_lose_nothing_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"

    def write(number: int) -> None:
        for _ in range(30):
            write_text(path, str(number) * 1000)
            assert len(set(path.read_text())) == 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_rights_are_those_of_the_mask_or_of_what_is_replaced(run_alone: Any, mask: int) -> None:
    code = f"""
import os, stat
import numpy as np, nrc_fast as nrc
from nrc_fast.base.files import write_text
statistics = nrc.FeatureStatistics(2).update(np.eye(2))
os.umask({mask})
def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)
statistics.save("new.npz"); write_text("new.json", "")
assert mode("new.npz") == mode("new.json") == 0o666 & ~{mask}, oct(mode("new.npz"))
for kept in (0o600, 0o640, 0o666, 0o755, 0o444):
    os.chmod("new.npz", kept)
    statistics.save("new.npz")
    assert mode("new.npz") == kept, (oct(mode("new.npz")), oct(kept))
assert os.umask(0) == {mask}
print("done")
"""
    answer = run_alone(code)
    assert answer.stdout.strip() == "done", answer.stderr


def test_the_mask_of_the_process_never_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def umask(_: int) -> int:
        pytest.fail("it is the mask of every thread")

    monkeypatch.setattr(os, "umask", umask)
    for name, write in WRITERS.items():
        write(tmp_path / name)


def test_a_file_of_its_owner_alone_is_never_open_to_others_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    write_text(path, "")
    path.chmod(0o600)
    with replaced_file(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


def test_the_folder_is_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: the file, its new name."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "f", "text")
    assert done == ["file", "name", "folder"]


def test_links_and_long_names_and_pipes_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "through"
    long = tmp_path / ("ü" * 120)
    write_text(long, "long")
    assert long.read_text() == "long"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_text(tmp_path / "pipe", "piped")
        assert read.result(timeout=20) == "piped"
    append_text(tmp_path / "target", "\nmore")
    assert (tmp_path / "target").read_text() == "through\nmore"


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is no regular file"):
        require_writable(tmp_path)
    with pytest.raises(OSError, match="is no folder that can be written to"):
        write_text(tmp_path / "absent" / "f", "text")
    with pytest.raises(json.JSONDecodeError), replaced_file(tmp_path / "f"):
        json.loads("{")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_was_taken_away_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, taken = files.fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(tmp_path.glob(".*.part"))
            taken[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(files.fcntl, "flock", late)
    write_text(tmp_path / "f", "text")
    assert taken
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not name what a process has open")
def test_what_is_open_is_written_to_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as file:
        file.write("before\n")
        file.flush()
        write_text(f"/proc/self/fd/{file.fileno()}", "between\n")
        assert os.fstat(file.fileno()).st_nlink == 1
    assert (tmp_path / "log").read_text() == "between\n"
