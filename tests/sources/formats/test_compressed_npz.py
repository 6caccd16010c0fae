"""Compressed .npz files are decompressed a piece at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tables import COLUMNS, normal

from nrc_fast.sources.formats import compressed_npz
from nrc_fast.sources.opening import open_table


def test_compressed_npz_is_never_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    chunk, chunks = 4096, 16
    array = np.tile(normal((chunk, 128), "float64"), (chunks, 1))
    np.savez_compressed(tmp_path / "f.npz", h=array)
    # The rows that are read. Of pieces: the compressed bytes and what zlib left of them, what it gave, that joined to
    # what zipfile had before, and one for all else.
    bound = chunk * 128 * 8 + 6 * compressed_npz.PIECE_BYTES
    assert 4 * bound < array.nbytes
    table = open_table(tmp_path / "f.npz")
    tracemalloc.start()
    try:
        for first in (*range(0, len(array), chunk), 0, len(array) - chunk):
            table.read(first, first + chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= bound


def test_compressed_fortran_order_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", h=np.asfortranarray(normal((9, COLUMNS), "float32")))
    with pytest.raises(ValueError, match=r"f\.npz\[h\] is compressed and in Fortran order.*numpy\.savez"):
        open_table(tmp_path / "f.npz")
