"""zarr arrays at the root and in groups, read a piece at a time."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from support.formats import write
from support.tables import COLUMNS, any_bits, assert_table

from nrc_fast.sources.formats import zarr_arrays
from nrc_fast.sources.opening import open_table


def test_zarr_arrays_at_the_root_and_in_groups(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    array = any_bits((97, COLUMNS), "float32")
    zarr.create_array(tmp_path / "root", data=array, chunks=(10, COLUMNS))
    assert_table(open_table(tmp_path / "root"), array, [7])
    group = zarr.create_group(tmp_path / "group.zarr").create_group("a")
    group.create_array("b", data=array, chunks=(10, COLUMNS))
    group.create_array("c", data=array)
    assert_table(open_table(tmp_path / "group.zarr", key="a/b"), array, [7])


def test_zarr_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_arrays, "PIECE_BYTES", 3 * 7 * COLUMNS * 4 + 1)
    array = any_bits((97, COLUMNS), "float32")
    assert_table(open_table(write(tmp_path, "zarr", array)), array, [21, 49, 97])


def test_zip_files_that_are_no_zarr(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    with zipfile.ZipFile(tmp_path / "f.zarr.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(OSError, match=r"f\.zarr\.zip cannot be read"):
        open_table(tmp_path / "f.zarr.zip")
