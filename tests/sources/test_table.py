"""Tables of shards, and of files that change or end too soon."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import KINDS, WAYS, files_of, truncate, write
from support.tables import COLUMNS, SIZES, any_bits, assert_table, normal

from nrc_fast.kernels import calls as kernels_calls
from nrc_fast.kernels.results import Basis
from nrc_fast.sources.opening import open_table
from nrc_fast.sources.table import RawTable, ShardedTable


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
    calls: list[Callable[[], Any]] = [
        lambda: kernels_calls.gram(rows),
        lambda: kernels_calls.residual(rows, [Basis(np.eye(2, COLUMNS))], double_precision=True),
        rows.loaded,
    ]
    for call in calls:
        with pytest.raises(OSError, match=r"row 30 of .*features"):
            call()
