"""HDF5 datasets in chunks of any shape, in other files, and as views."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.formats import write_hdf5
from support.tables import COLUMNS, DTYPES, SIZES, any_bits, assert_table

from nrc_fast.sources.opening import open_table


@pytest.mark.parametrize("chunks", [(1, 5), (7, 2), (64, 3), (97, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_of_hdf5(chunks: tuple[int, int], dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    array = any_bits((97, COLUMNS), dtype)
    write_hdf5(tmp_path / "f.h5", {"group/h": array}, chunks=chunks, compression="gzip")
    assert_table(open_table(tmp_path / "f.h5", key="group/h"), array, SIZES[1:])


def test_hdf5_datasets_that_lie_elsewhere(tmp_path: Path) -> None:
    """Values in another file, and a view of datasets of other files."""
    h5py = pytest.importorskip("h5py")
    array = any_bits((97, COLUMNS), "float32")
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_external(str(tmp_path / "values.bin").encode(), 0, array.nbytes)
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        kind, space = h5py.h5t.py_create(array.dtype), h5py.h5s.create_simple(array.shape)
        dataset = h5py.h5d.create(file.id, b"h", kind, space, create)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    assert (tmp_path / "values.bin").read_bytes() == array.tobytes()
    assert_table(open_table(tmp_path / "outer.h5"), array, [7])
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "outer.h5", "h", array.shape)
    with h5py.File(tmp_path / "view.h5", "w") as file:
        file.create_virtual_dataset("h", layout)
    assert_table(open_table(tmp_path / "view.h5"), array, [7])
