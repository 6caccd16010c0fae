"""Chunks of HDF5 files whose sizes or places are damaged are refused before HDF5 decodes them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc

h5py = pytest.importorskip("h5py")

ROWS, COLUMNS, CHUNK_ROWS = 64, 5, 16


def written(path: Path, **filters: Any) -> tuple[Path, np.ndarray]:
    H = np.random.default_rng(3).standard_normal((ROWS, COLUMNS))
    with h5py.File(path, "w", libver="earliest") as file:
        file.create_dataset("h", data=H, chunks=(CHUNK_ROWS, COLUMNS), **filters)
    return path, H


def entry(path: Path, number: int) -> tuple[int, Any]:
    """Where the tree of chunks says how many bytes one of them has, and what it says of it."""
    with h5py.File(path) as file:
        chunk = file["h"].id.get_chunk_info(number)
    said = struct.pack("<II3QQ", chunk.size, 0, *chunk.chunk_offset, 0, chunk.byte_offset)
    content = path.read_bytes()
    assert content.count(said) == 1
    return content.index(said), chunk


def change(path: Path, place: int, number: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(number)] = number
    path.write_bytes(content)


# A chunk without bytes ends the process in HDF5 2.0.0.
@pytest.mark.parametrize("size", [0, 3, 1 << 20])
@pytest.mark.parametrize("number", [0, 3])
def test_a_chunk_of_a_wrong_size_is_refused(size: int, number: int, tmp_path: Path) -> None:
    path, _ = written(tmp_path / "h.h5", compression="gzip", fletcher32=True)
    place, _ = entry(path, number)
    change(path, place, struct.pack("<I", size))
    with pytest.raises(OSError, match=rf"chunk of .*h\.h5\[h\] at \({number * CHUNK_ROWS}, 0\).* {size} bytes at byte"):
        nrc.nrc1(path, 2)


def test_a_chunk_behind_the_end_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path / "h.h5", compression="gzip")
    place, chunk = entry(path, 1)
    change(path, place + struct.calcsize("<II3Q"), struct.pack("<Q", 1 << 40))
    with pytest.raises(OSError, match=f"{chunk.size} bytes at byte {1 << 40} of a file of"):
        nrc.nrc1(path, 2)


def test_chunks_of_a_virtual_dataset_are_looked_at(tmp_path: Path) -> None:
    source, _ = written(tmp_path / "source.h5", fletcher32=True)
    layout = h5py.VirtualLayout(shape=(ROWS, COLUMNS), dtype="f8")
    layout[:] = h5py.VirtualSource(str(source), "h", shape=(ROWS, COLUMNS))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    place, _ = entry(source, 2)
    change(source, place, struct.pack("<I", 2))
    with pytest.raises(OSError, match=r"chunk of .*source\.h5\[h\] at \(32, 0\)"):
        nrc.nrc1(tmp_path / "v.h5", 2)


@pytest.mark.parametrize("filters", [{}, {"compression": "gzip"}, {"fletcher32": True}, {"shuffle": True}])
def test_chunks_that_are_right_pass(filters: dict[str, Any], tmp_path: Path) -> None:
    path, H = written(tmp_path / "h.h5", **filters)
    assert nrc.nrc1(path, 2) == nrc.nrc1(H, 2)


def test_chunks_that_were_not_written_hold_the_fill_value(tmp_path: Path) -> None:
    H = np.random.default_rng(4).standard_normal((ROWS, COLUMNS))
    H[CHUNK_ROWS : 2 * CHUNK_ROWS] = 0.5
    with h5py.File(tmp_path / "h.h5", "w") as file:
        made = file.create_dataset("h", H.shape, "f8", chunks=(CHUNK_ROWS, COLUMNS), fillvalue=0.5)
        made[:CHUNK_ROWS] = H[:CHUNK_ROWS]
        made[2 * CHUNK_ROWS :] = H[2 * CHUNK_ROWS :]
    assert nrc.nrc1(tmp_path / "h.h5", 2) == nrc.nrc1(H, 2)
