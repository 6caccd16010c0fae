"""Tables of files, maps and shards: the bits of the array, and errors where files change or end too soon."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import KINDS, WAYS, files_of, truncate, write
from support.streams import draw, shards
from support.tables import COLUMNS, SIZES, any_bits, assert_table, normal

import nrc_fast as nrc
from nrc_fast import kernels
from nrc_fast.kernels import calls
from nrc_fast.kernels.cpu import machine
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis
from nrc_fast.sources.opening import open_table
from nrc_fast.sources.shards import ShardedTable
from nrc_fast.sources.table import RawTable

DTYPES = ["float64", "float32", "float16", "torch.bfloat16"]


@pytest.mark.parametrize("name", KINDS)
def test_shards_in_natural_order(name: str, tmp_path: Path) -> None:
    array = any_bits((97, COLUMNS), "float32")
    ends = [0, 33, 34, 34 if name != "npz_fortran" else 35, 97]
    for number, (first, last) in zip((1, 2, 9, 10), itertools.pairwise(ends), strict=True):
        write(tmp_path, name, array[first:last], f"h_{number}")
    table = open_table(str(tmp_path / f"h_*{WAYS[name].suffix}"), key=WAYS[name].key)
    assert isinstance(table, ShardedTable)
    assert_table(table, array, SIZES[1:])
    assert "h_10" in table.locate(34)
    assert table.locate(34).startswith("row 0 ")


def test_one_bad_shard_is_named(tmp_path: Path) -> None:
    for number, columns in enumerate((5, 5, 4)):
        np.save(tmp_path / f"h_{number}.npy", normal((9, columns), "float32"))
    with pytest.raises(ValueError, match=r"h_2\.npy has 4 columns of float32"):
        open_table(str(tmp_path / "h_*.npy"))
    truncate(tmp_path / "h_1.npy", 200)
    with pytest.raises(OSError, match=r"h_1\.npy is truncated: 9 rows are announced"):
        open_table(str(tmp_path / "h_*.npy"))


@pytest.mark.parametrize("name", KINDS)
def test_files_truncated_after_opening(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, normal((97, COLUMNS), "float32"))
    table = open_table(path, key=WAYS[name].key)
    assert table.read(0, 16).count == 16
    for file in files_of(path):
        truncate(file, file.stat().st_size // 2)
    with pytest.raises(OSError, match=r"features.* has changed since"):
        table.read(16, 32)


@pytest.mark.parametrize("name", KINDS)
def test_files_replaced_after_opening(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, normal((97, COLUMNS), "float32"))
    table = open_table(path, key=WAYS[name].key)
    before = table.fingerprint()
    assert open_table(path, key=WAYS[name].key).fingerprint() == before
    for file in files_of(path):
        os.utime(file, ns=(1, 1))
    with pytest.raises(OSError, match=r"features.* has changed since"):
        table.read(16, 32)
    assert open_table(path, key=WAYS[name].key).fingerprint() != before


@pytest.mark.parametrize("name", ["npy", "npz", "safetensors", "hdf5"])
def test_kernels_name_the_row_where_the_file_ends(name: str, tmp_path: Path) -> None:
    array = normal((97, COLUMNS), "float32")
    path = write(tmp_path, name, array)
    table = open_table(path)
    assert isinstance(table, RawTable)
    rows = table.read(10, 97)
    truncate(path, table.offset + 40 * table.row_bytes + 3)
    runs: list[Callable[[], Any]] = [
        lambda: calls.gram(rows),
        lambda: calls.residual(rows, [Basis(np.eye(2, COLUMNS))], double_precision=True),
        rows.loaded,
    ]
    for call in runs:
        with pytest.raises(OSError, match=r"row 30 of .*features"):
            call()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 7, 97, 300])
def test_kernels_read_files_to_the_same_bits(arrays: Any, isa: str, tmp_path: Path, dtype: str, d: int) -> None:
    """Rows in a file and the same rows in memory: every kernel, from any offset."""
    del isa
    features = as_rows(arrays.normal((1001, d), dtype, seed=3), "H")
    path = tmp_path / "rows.bin"
    path.write_bytes(b"x" * 13 + features.array.tobytes())
    stored = nrc.sources.table.RawTable(path, "rows.bin", 13, 1001, d, features.dtype)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((d, min(d, 5))))[0].T
    shift = np.full(d, 0.25)
    for first, last in ((0, 1001), (1, 1001), (255, 700), (1000, 1001), (17, 17)):
        memory, file = features.part(first, last), stored.read(first, last)
        assert file.loaded().array.tobytes() == memory.array.tobytes()
        results = []
        for rows in (memory, file):
            sums = calls.gram(rows, shift=shift, unit="raw")
            (rest,) = calls.residual(rows, [Basis(basis, shift)], double_precision=True)
            product = calls.gram_product(rows, basis, shift)
            products = [product.image, product.column_sums, np.array(product.energy)]
            results.append([sums.gram, sums.unit_gram, sums.column_sums, rest.raw, rest.unit, *products])
        assert all(a.tobytes() == b.tobytes() for a, b in zip(*results, strict=True))


def test_wide_rows_share_their_tiles_in_files_too(arrays: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 64 MiB of tiles all threads work on one block: another way to read it."""
    monkeypatch.setattr(machine, "MOST_THREADS", 8)
    before = kernels.thread_count()
    kernels.set_thread_count(8)
    try:
        features = as_rows(arrays.normal((600, 1500), "float32", seed=0), "H")
        (tmp_path / "wide.bin").write_bytes(features.array.tobytes())
        stored = nrc.sources.table.RawTable(tmp_path / "wide.bin", "wide", 0, 600, 1500, "float32").read(0, 600)
        assert calls.gram(stored).gram.tobytes() == calls.gram(features).gram.tobytes()
    finally:
        kernels.set_thread_count(before)


def test_a_file_that_ends_early_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    H, _, _ = draw(0, 5000, 16, 2)
    path = tmp_path / "H.npy"
    np.save(path, H)
    table = nrc.sources.opening.open_table(path)
    rows = table.read(0, 5000)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 16 * 8 * 700 - 3)
    for run in (
        lambda: calls.gram(rows),
        lambda: calls.residual(rows, [Basis(np.eye(2, 16))], double_precision=True),
        lambda: calls.gram_product(rows, np.eye(2, 16), np.zeros(16)),
        rows.loaded,
    ):
        with pytest.raises(OSError, match=r"row 4299 of .*H\.npy cannot be read: the file ends before it"):
            run()
    with pytest.raises(OSError, match="has changed since it was opened"):
        table.read(0, 10)


def test_shards_of_other_widths_or_dtypes_are_named(tmp_path: Path) -> None:
    H, _, _ = draw(10, 60, 6, 2)
    pattern = shards(tmp_path, "H", H, [20, 40])
    np.save(tmp_path / "H_1.npy", H[20:40, :5])
    with pytest.raises(ValueError, match=r"H_1\.npy has 5 columns of float64; .*H_0\.npy and all before it have 6"):
        nrc.measure(pattern, n=2)
    np.save(tmp_path / "H_1.npy", H[20:40].astype(np.float32))
    with pytest.raises(ValueError, match=r"H_1\.npy has 6 columns of float32"):
        nrc.measure(pattern, n=2)


def test_a_shard_that_changes_between_two_passes_is_named(tmp_path: Path) -> None:
    H, _, _ = draw(12, 60, 6, 2)
    pattern = shards(tmp_path, "H", H, [20, 40])
    source = nrc.open(pattern)
    nrc.measure(source, n=2)
    np.save(tmp_path / "H_1.npy", H[20:39])
    with pytest.raises(OSError, match=r"H_1\.npy has changed since it was opened"):
        nrc.measure(source, n=2)


@pytest.mark.parametrize("mode", ["r", "r+", "w+", "c"])
def test_maps_that_are_released_are_those_that_files_hold(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "H.bin"
    H, _, _ = draw(20, 5000, 64, 2)
    H.tofile(path)
    mapped = np.memmap(path, np.float64, mode, shape=H.shape)
    if mode != "r":
        mapped[:] = 2 * H  # of a private map these are the only copy
    wanted = mapped.copy()
    nrc.measure(mapped, n=2, chunk_rows=500)
    assert np.array_equal(mapped, wanted)


@pytest.mark.parametrize("how", ["written", "replaced", "pipe"])
def test_a_file_whose_times_were_set_back_has_changed(how: str, tmp_path: Path) -> None:
    path = tmp_path / "h.npy"
    np.save(path, normal((97, COLUMNS), "float32"))
    table = open_table(path)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    if how == "written":
        path.write_bytes(content)
    else:
        path.rename(tmp_path / "before.npy")
        os.mkfifo(path) if how == "pipe" else path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(OSError, match=r"h\.npy has changed since it was opened"):
        table.read(0, 97)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come between a look at the file and the opening of it."""
    path = tmp_path / "h.npy"
    np.save(path, normal((97, COLUMNS), "float32"))
    table: Any = open_table(path)
    monkeypatch.setattr(table.stamp, "check", lambda: None)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"cannot be read|[Ii]llegal seek"):
        table.load(0, 97)
