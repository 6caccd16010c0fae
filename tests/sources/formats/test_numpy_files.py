""".npy and .npz files: stored in any order of bytes and axes, with one name or none."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import truncate, write
from support.tables import COLUMNS, assert_table, normal

from nrc_fast.sources.opening import open_table
from nrc_fast.sources.table import RawTable

SMALL = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("name", ["npy_fortran", "npy_swapped", "npy_both"])
def test_copied_rows_name_the_row_where_the_file_ends(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = normal((97, COLUMNS), "float32")
    path = write(tmp_path, name, array)
    table: Any = open_table(path)
    row_bytes = table.row_bytes if name == "npy_swapped" else 4
    truncate(path, table.placement.offset + 40 * row_bytes + 1)
    # As if the file had shrunk after it was looked at.
    monkeypatch.setattr(table.stamp, "check", lambda: None)
    with pytest.raises(OSError, match=r"row 40 of .*features\.npy cannot be read: the file ends"):
        table.read(10, 97)


def test_one_array_has_no_key(tmp_path: Path) -> None:
    path = write(tmp_path, "npy", normal((9, COLUMNS), "float32"))
    with pytest.raises(ValueError, match=r"holds one array without a name; leave out the key 'h'"):
        open_table(path, key="h")


@pytest.mark.parametrize("count", [2**62, 2**80])
def test_headers_that_announce_too_much(count: int, tmp_path: Path) -> None:
    with (tmp_path / "f.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, 3)})
    with pytest.raises(ValueError, match=r"f\.npy has shape \(\d+, 3\), which no file can hold"):
        open_table(tmp_path / "f.npy")


def test_a_zip_entry_may_have_a_longer_header_of_its_own(tmp_path: Path) -> None:
    """The extra field of the local header has another length than that of the directory at the end."""
    path = tmp_path / "f.npz"
    np.savez(path, h=SMALL)
    assert isinstance(open_table(path), RawTable)
    content = path.read_bytes()
    extra = int.from_bytes(content[28:30], "little")
    name = int.from_bytes(content[26:28], "little")
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()[0].extra) != extra
    table = open_table(path)
    assert isinstance(table, RawTable)
    assert content[30 + name + extra :][:6] == b"\x93NUMPY"
    assert_table(table, SMALL, [3])
