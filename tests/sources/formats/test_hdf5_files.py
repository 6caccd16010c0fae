"""HDF5 datasets in chunks of any shape, in other files, and as views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import write_hdf5
from support.tables import COLUMNS, DTYPES, SIZES, any_bits, assert_table, normal

from nrc_fast.sources.opening import open_pair, open_table


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


ROWS = normal((40, COLUMNS), "float64")


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A file whose datasets have links of all kinds, to itself and to the shards beside it."""
    h5py = pytest.importorskip("h5py")
    for number in range(4):
        options = {"chunks": (3, 2), "compression": "gzip"} if number % 2 else {}
        with h5py.File(tmp_path / f"s{number}.h5", "w") as file:
            file.create_dataset("g/h", data=ROWS[10 * number : 10 * number + 10], **options)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["data/h"] = ROWS
        file["data/y"] = ROWS[:, 0]
        file["hard"] = file["data/h"]
        file["soft"], file["folder"], file["up"] = (h5py.SoftLink(path) for path in ("/data/h", "data", "/"))
        file["data/target"] = h5py.SoftLink("y")
        file["whole"] = h5py.ExternalLink("s3.h5", "/")
        file["back"] = h5py.ExternalLink("master.h5", "/data")
        for number in range(4):
            file[f"part_{number}"] = h5py.ExternalLink(f"s{number}.h5", "g/h")
    return tmp_path / "master.h5"


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        *((key, ROWS) for key in ("data/h", "/data/h", "hard", "soft", "folder/h", "up/data/h", "back/h", "part_*")),
        *((key, ROWS) for key in ("[hs]*t", "h*", "*a/h")),  # several names of one dataset
        *(("part_0", ROWS[:10]), ("part_3", ROWS[30:]), ("whole/g/h", ROWS[30:]), ("part_[12]", ROWS[10:30])),
        ("whole/*", ROWS[30:]),
    ],
)
def test_links_lead_where_h5py_finds_them(key: str, rows: Any, linked: Path) -> None:
    assert_table(open_table(linked, key=key), rows, [7])


def test_a_dataset_with_several_names_is_one(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["h"], file["y"] = ROWS, ROWS[:, :2]
        file["again"], file["label"] = h5py.SoftLink("/h"), h5py.SoftLink("/y")
        file["up"] = h5py.SoftLink("/")
    features, targets = open_pair(tmp_path / "f.h5", target_key="label")
    assert targets is not None
    assert_table(features, ROWS, [7])
    assert_table(targets, ROWS[:, :2].copy(), [7])


def test_files_behind_links_are_watched(linked: Path) -> None:
    for number, kind in enumerate(("contiguous", "chunked")):
        table = open_table(linked, key=f"part_{number}")
        assert table.read(0, 5).count == 5, kind
        with (linked.parent / f"s{number}.h5").open("ab") as file:
            file.write(b"more")
        with pytest.raises(OSError, match=rf"s{number}\.h5 has changed"):
            table.read(0, 5)


def test_links_to_nothing_are_errors_for_those_who_follow_them(linked: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (linked.parent / "s2.h5").unlink()
    with h5py.File(linked.parent / "s1.h5", "w") as file:
        file["other"] = 1
    with h5py.File(linked, "r+") as file:
        file["gone"], file["loop"] = h5py.SoftLink("/no/where"), h5py.SoftLink("/loop")
    for key, words in (
        ("part_2", r"master\.h5\[part_2\] is a link to g/h in s2\.h5, which cannot be opened: .*can't open file"),
        ("part_1", r"master\.h5\[part_1\] is a link to g/h in s1\.h5, which cannot be opened"),
        ("part_*", r"master\.h5\[part_1\] is a link"),
        ("gone", r"master\.h5\[gone\] is a link to /no/where, which cannot be opened"),
        ("loop", r"master\.h5\[loop\] is a link to /loop, which cannot be opened"),
    ):
        with pytest.raises(OSError, match=words):
            open_table(linked, key=key)
    np.testing.assert_array_equal(open_table(linked, key="soft").load(0, 40).array, ROWS)
    with pytest.raises(
        ValueError, match=r"holds \d+ float matrices that .*; name one with key=.*gone \(a link to nothing\)"
    ):
        open_table(linked)
    with pytest.raises(ValueError, match=r"has no 'h' \(is 'back/h' or 'data/h' or"):
        open_table(linked, key="h")


@pytest.mark.parametrize(("options", "times"), [({"compression": "lzf"}, 3), ({}, 1)])
def test_chunks_that_are_decoded_beside_the_block_are_counted(
    options: dict[str, Any], times: int, tmp_path: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    array = normal((500, COLUMNS), "float32")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("h", data=array, chunks=(500, COLUMNS), **options)
        # One that is larger than what is in it.
        file.create_dataset("few", data=array[:5], chunks=(500, 100), maxshape=(None, None), **options)
        layout = h5py.VirtualLayout((500, COLUMNS), "f4")
        layout[:] = h5py.VirtualSource(file["h"])
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        layout = h5py.VirtualLayout((500, COLUMNS), "f4")
        layout[:] = h5py.VirtualSource("f.h5", "h", shape=(500, COLUMNS))
        file.create_virtual_dataset("h", layout)
    assert open_table(tmp_path / "f.h5", key="h").held_bytes == array.nbytes + times * array.nbytes
    assert open_table(tmp_path / "f.h5", key="few").held_bytes == 5 * COLUMNS * 4 + times * 500 * 100 * 4
    assert open_table(tmp_path / "v.h5", key="h").held_bytes >= times * array.nbytes
    assert open_table(tmp_path / "f.h5", key="virtual").held_bytes >= times * array.nbytes
