"""Formats that are decoded in blocks: each once for reads in order, and errors name its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.formats import WAYS, files_of, write, write_hdf5, write_parquet
from support.tables import COLUMNS, normal

from nrc_fast.sources.opening import open_table


@pytest.mark.parametrize("name", ["npz_compressed", "hdf5_chunked", "zarr", "parquet", "parquet_columns"])
def test_damaged_blocks_name_the_rows(name: str, tmp_path: Path) -> None:
    array = normal((970, COLUMNS), "float64")
    if name == "hdf5_chunked":
        pytest.importorskip("h5py")
        path = tmp_path / "features.h5"
        write_hdf5(path, {"h": array}, chunks=(97, COLUMNS), compression="gzip", fletcher32=True)
    elif name == "parquet_columns":
        pytest.importorskip("pyarrow")
        path = tmp_path / "features.parquet"
        write_parquet(path, {"h": array}, "columns", 97)
    else:
        path = write(tmp_path, name, array)
    for file in files_of(path):
        if file.suffix != ".json":
            content = bytearray(file.read_bytes())
            middle = len(content) // 2
            content[middle : middle + 64] = bytes(64)
            file.write_bytes(content)
    table = open_table(path, key=WAYS[name].key)
    with pytest.raises(OSError, match=r"rows? \d+ (to \d+ )?of .*features.* cannot be read"):  # noqa: PT012
        for first in range(0, 970, 97):
            table.read(first, first + 97)


@pytest.mark.parametrize("name", ["hdf5_chunked", "zarr"])
def test_reads_in_order_decode_every_block_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = normal((97, COLUMNS), "float32")
    path = tmp_path / f"f{WAYS[name].suffix}"
    if name == "zarr":
        write(tmp_path, name, array, "f")
    else:
        pytest.importorskip("h5py")
        write_hdf5(path, {"h": array}, chunks=(7, 2), compression="gzip")
    table: Any = open_table(path)
    spans = []
    load = table._load
    monkeypatch.setattr(table, "_load", lambda first, last, out: (spans.append((first, last)), load(first, last, out)))
    for first in range(0, 97, 10):
        table.read(first, min(first + 10, 97))
    assert spans[0] == (0, 7)
    assert [first for first, _ in spans[1:]] == [last for _, last in spans[:-1]]
    assert spans[-1][1] == 97
