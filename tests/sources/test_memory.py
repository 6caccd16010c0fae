"""Files of formats that are decoded by others are read within the memory that was given, and so are checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.base.npz import save_arrays
from nrc_fast.passes.checkpoint import Checkpoint

STREAM = """
import sys
import nrc_fast as nrc

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

path, small, key, memory = sys.argv[1:]
nrc.measure(nrc.open(small, key=key), n=2)   # what a first call loads
before = peak()
source = nrc.open(path, key=key)
plan = nrc.plan(source, n=2, memory=memory)
report = nrc.measure(source, n=2, memory=memory)
print(peak() - before, plan.memory, report.samples)
"""
D = 16


def write_zarr(path: Path, rows: int, block: Any, chunk_rows: int) -> None:
    zarr = pytest.importorskip("zarr")
    stored = zarr.open_group(path, mode="w").create_array(
        "h", shape=(rows, D), chunks=(min(chunk_rows, rows), D), dtype="float32"
    )
    for first in range(0, rows, len(block)):
        stored[first : first + len(block)] = block[: rows - first]


def write_columns(path: Path, rows: int, block: Any, _: int) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    whole = np.tile(block, (-(-rows // len(block)), 1))[:rows]
    table = arrow.table({f"h_{k}": np.ascontiguousarray(whole[:, k]) for k in range(D)})
    parquet.write_table(table, path, row_group_size=rows)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks in /proc")
@pytest.mark.parametrize(
    ("kind", "chunk_rows", "memory"),
    [("zarr", 1 << 14, 32 << 20), ("zarr", 1 << 17, 144 << 20), ("parquet", 0, 64 << 20)],
)
def test_files_are_decoded_within_the_memory(kind: str, chunk_rows: int, memory: int, tmp_path: Path) -> None:
    write, key = {"zarr": (write_zarr, "h"), "parquet": (write_columns, "h_*")}[kind]
    block = np.random.default_rng(0).standard_normal((1 << 17, D), dtype=np.float32)
    rows = 3 * memory // (4 * D)
    path, small = tmp_path / f"large.{kind}", tmp_path / f"small.{kind}"
    write(path, rows, block, chunk_rows)
    write(small, 1000, block, 100)
    command = [sys.executable, "-c", STREAM, str(path), str(small), key, str(memory)]
    few = os.environ | {"ZARR_THREADING__MAX_WORKERS": "4", "NRC_FAST_NUM_THREADS": "2"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=few, check=False)
    assert result.returncode == 0, result.stderr
    peak, planned, samples = map(int, result.stdout.split())
    assert samples == rows
    assert peak <= memory
    assert planned <= memory


def test_a_plan_counts_no_rows_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "H.npz"
    np.savez_compressed(path, np.ones((5000, D), dtype=np.float32))
    rows = 5000 * 4 * D
    few, many = nrc.plan(path, n=1, chunk_rows=5000), nrc.plan(path, n=1)
    assert many.chunk_rows > 100 * few.chunk_rows
    assert many.memory == few.memory
    assert rows < many.memory < 8 << 20


def test_checkpoints_hold_no_copies(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    rng = np.random.default_rng(0)
    first, second = ({"gram": rng.standard_normal((1024, 1024)), "empty": np.zeros((0, 3))} for _ in range(2))
    checkpoint = Checkpoint(path, {"source": "H"}, 0.0)
    tracemalloc.start()
    try:
        checkpoint.record(0, "statistics", 7, lambda: first, is_finished=True, now=False)
        for chunks in range(1, 4):
            checkpoint.record(1, "residuals", chunks, lambda: second, is_finished=False, now=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < first["gram"].nbytes // 2
    checkpoint.close()
    again = Checkpoint(path, {"source": "H"}, 0.0)
    for number, title, chunks, arrays in ((0, "statistics", 7, first), (1, "residuals", 3, second)):
        saved = again.resume(number, title)
        assert saved is not None
        assert saved[:2] == (chunks, number == 0)
        assert saved[2].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(saved[2][name], array)


def test_files_are_those_of_numpy(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(6.0).reshape(2, 3).T, "c": np.zeros((0, 2))}
    save_arrays(tmp_path / "state.npz", {"kind": "statistics"}, arrays)
    with np.load(tmp_path / "state.npz") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)
            assert file[name].dtype == np.float64
