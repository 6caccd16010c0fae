"""Thousands of damaged files of every format: the numbers of the format's own library, or a line that refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mutations import FORMATS, check

LIBRARIES = {
    "torch": "torch",
    "safetensors": "safetensors",
    "hdf5": "h5py",
    "latest hdf5": "h5py",
    "zarr": "zarr",
    "parquet": "pyarrow",
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [50, pytest.param(20_000, marks=pytest.mark.endurance)])
def test_damaged_files_are_read_as_their_library_reads_them_or_refused(tmp_path: Path, name: str, count: int) -> None:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    counts, wrong = check(tmp_path, name, 0, count)
    assert not wrong, "\n".join(wrong[:20])
    assert sum(counts.values()) == count
    assert counts["refused"] > count // 10
