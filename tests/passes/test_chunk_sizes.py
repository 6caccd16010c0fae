"""Chunks fit in the memory that there is, and their size costs no digits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.streams import draw

import nrc_fast as nrc


@pytest.mark.usefixtures("small_chunks")
def test_other_chunks_agree_up_to_rounding() -> None:
    H, Y, W = draw(2, 5000, 20, 2)
    for dtype, allowed in ((np.float64, 1e-12), (np.float32, 1e-7)):
        wanted = nrc.measure(H.astype(dtype), Y, W, np.zeros(2))
        for rows in (1, 97, 4096, 10**6):
            if rows == 1 and dtype is np.float32:
                continue
            found = nrc.measure(H.astype(dtype), Y, W, np.zeros(2), chunk_rows=rows)
            for name in ("nrc1", "nrc2", "nrc3", "mse", "cka"):
                assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=allowed)


STREAM = """
import sys
import numpy as np
import nrc_fast as nrc

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

nrc.nrc1(np.random.default_rng(0).standard_normal((5000, 64)), 2)   # what a first call loads
before = peak()
mapped = np.load(sys.argv[1], mmap_mode="r") if sys.argv[3] == "mapped" else sys.argv[1]
plan = nrc.plan(mapped, n=2, memory=sys.argv[2])
report = nrc.measure(mapped, n=2, memory=sys.argv[2])
print(peak() - before, plan.memory, repr(report.nrc1))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks in /proc")
@pytest.mark.parametrize("kind", ["file", "mapped", "columns"])
def test_a_file_ten_times_the_memory_is_streamed_within_it(tmp_path: Path, kind: str) -> None:
    memory, d = 32 << 20, 64
    rows = 10 * memory // (4 * d)
    path = tmp_path / "features.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.float32, (rows, d), fortran_order=kind == "columns")
    block = np.random.default_rng(0).standard_normal((rows // 10, d), dtype=np.float32)
    for first in range(0, rows, rows // 10):
        stored[first : first + rows // 10] = block
    del stored
    command = [sys.executable, "-c", STREAM, str(path), str(memory), "mapped" if kind == "mapped" else "path"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    peak, planned, value = result.stdout.split()
    assert int(peak) <= memory
    assert int(planned) <= memory
    assert float(value) == pytest.approx(nrc.nrc1(block, 2), rel=1e-4)


def test_small_shards_and_column_maps_stay_within_the_memory(tmp_path: Path) -> None:
    memory = 48 << 20
    block = np.random.default_rng(0).standard_normal((4000, 64), dtype=np.float32)
    for number in range(200):
        np.save(tmp_path / f"part_{number}.npy", block)
    command = [sys.executable, "-c", STREAM, str(tmp_path / "part_*.npy"), str(memory), "path"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    peak, planned, value = result.stdout.split()
    assert int(peak) <= memory
    assert 0.5 * int(peak) <= int(planned) <= memory
    assert float(value) == pytest.approx(nrc.nrc1(block, 2), rel=1e-4)


def test_memory_that_does_not_do_is_refused_with_what_would(tmp_path: Path) -> None:
    H, _, _ = draw(13, 500, 400, 2)
    np.savez_compressed(tmp_path / "H.npz", H)
    with pytest.raises(ValueError, match=r"memory is 1.0 MiB; 400 features need at least \d+ MiB") as caught:
        nrc.measure(tmp_path / "H.npz", n=2, memory="1MiB")
    least = re.search(r"at least (\d+) MiB", str(caught.value))
    assert least is not None
    assert nrc.measure(tmp_path / "H.npz", n=2, memory=f"{least[1]}MiB").samples == 500
    with pytest.raises(ValueError, match="need at least"):
        nrc.measure(tmp_path / "H.npz", n=2, memory=f"{int(least[1]) - 1}MiB")
    for memory in ("much", "-1", "0", -5, "1 XB"):
        with pytest.raises(ValueError, match="a number of bytes such as '2GiB'"):
            nrc.measure(H, n=2, memory=memory)
    with pytest.raises(ValueError, match="chunk_rows is 0"):
        nrc.measure(H, n=2, chunk_rows=0)
