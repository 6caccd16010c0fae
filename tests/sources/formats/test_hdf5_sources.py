"""Virtual datasets and raw values of HDF5: every file that holds values is there, large enough and unchanged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tables import assert_table, normal

import nrc_fast as nrc
from nrc_fast.sources.opening import open_table

H = normal((40, 3), "float64")


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py")


def write_part(h5py: Any, path: Path, array: Any, key: str = "g/h") -> None:
    with h5py.File(path, "w") as file:
        file[key] = array


def write_parts(h5py: Any, folder: Path, count: int = 4) -> None:
    for number in range(count):
        write_part(h5py, folder / f"s{number}.h5", H[10 * number : 10 * number + 10])


def write_view(
    h5py: Any, path: Path, parts: Sequence[tuple[Any, str, Any]], rows: int = 40, fill: float | None = None
) -> Path:
    """A virtual dataset: rows of it, the file that they are in, and the rows of that."""
    layout = h5py.VirtualLayout((rows, 3), dtype="f8")
    for ours, file, theirs in parts:
        source = h5py.VirtualSource(file, "g/h", shape=(10, 3))
        layout[ours] = source if theirs is None else source[theirs]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("h", layout, fillvalue=fill)
    return path


def in_order(folder: Path | None = None) -> list[tuple[Any, str, Any]]:
    names = [f"s{number}.h5" for number in range(4)]
    places = [slice(10 * number, 10 * number + 10) for number in range(4)]
    return [
        (place, name if folder is None else str(folder / name), None) for place, name in zip(places, names, strict=True)
    ]


@pytest.mark.parametrize("absolute", [False, True])
def test_values_of_a_view_and_a_file_that_changes(absolute: bool, h5py: Any, tmp_path: Path) -> None:
    write_parts(h5py, tmp_path)
    path = write_view(h5py, tmp_path / "all.h5", in_order(tmp_path if absolute else None))
    table = open_table(path)
    assert_table(table, H, [7, 40])
    before = table.fingerprint()
    write_part(h5py, tmp_path / "s2.h5", 100 * H[20:30])
    table.read(0, 20)  # the rows of other files
    table.read(30, 40)
    with pytest.raises(OSError, match=r"s2\.h5 has changed since it was opened"):
        table.read(15, 25)
    source = open_table(path)
    assert source.fingerprint() != before
    (tmp_path / "s2.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"s2\.h5"):
        source.read(20, 30)
    with pytest.raises(FileNotFoundError, match=r"all\.h5\[h\] is made of .*s2\.h5, which is missing .*looked for as"):
        nrc.measure(path, n=2)


def test_parts_steps_and_other_dtypes_of_a_view(h5py: Any, tmp_path: Path) -> None:
    write_parts(h5py, tmp_path)
    parts = [(slice(0, 12, 2), "s0.h5", slice(4, 10)), (slice(1, 12, 2), "s1.h5", slice(0, 6))]
    wanted = np.empty((12, 3))
    wanted[::2], wanted[1::2] = H[4:10], H[10:16]
    assert_table(open_table(write_view(h5py, tmp_path / "steps.h5", parts, 12)), wanted, [5])
    layout = h5py.VirtualLayout((40, 3), dtype="f4")
    for place, name, _ in in_order():
        layout[place] = h5py.VirtualSource(name, "g/h", shape=(10, 3))
    with h5py.File(tmp_path / "single.h5", "w") as file:
        file.create_virtual_dataset("h", layout)
    assert_table(open_table(tmp_path / "single.h5"), H.astype(np.float32), [7])


def cut(h5py: Any, path: Path) -> None:
    write_part(h5py, path, H[:9])


def rename(h5py: Any, path: Path) -> None:
    write_part(h5py, path, H[:10], "other")


def halve(h5py: Any, path: Path) -> None:
    del h5py
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def replace(h5py: Any, path: Path) -> None:
    del h5py
    path.write_bytes(b"no HDF5" * 1000)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"made of .*s1\.h5\[g/h\], which does not hold what is taken: its shape is \(9, 3\)"),
        (rename, r"made of .*s1\.h5\[g/h\], which is missing"),
        (halve, r"s1\.h5, of which .*all\.h5\[h\] is made, cannot be read"),
        (replace, r"s1\.h5, of which .*all\.h5\[h\] is made, cannot be read"),
    ],
)
@pytest.mark.parametrize("theirs", [None, slice(0, 10)])
def test_files_that_lack_values_are_named(
    damage: Callable[[Any, Path], None], words: str, theirs: Any, h5py: Any, tmp_path: Path
) -> None:
    """HDF5 gives fill values for each of these."""
    write_parts(h5py, tmp_path)
    path = write_view(h5py, tmp_path / "all.h5", [(place, file, theirs) for place, file, _ in in_order()])
    damage(h5py, tmp_path / "s1.h5")
    with pytest.raises(OSError, match=words):
        open_table(path)


def test_rows_that_are_mapped_to_nothing(h5py: Any, tmp_path: Path) -> None:
    """An error, unless the writer has said what they hold."""
    write_parts(h5py, tmp_path)
    for parts in (in_order()[:3], [*in_order()[:3], in_order()[2]]):
        path = write_view(h5py, tmp_path / "gap.h5", parts)
        with pytest.raises(ValueError, match=r"30 of the 120 values of .*gap\.h5\[h\] come from no file"):
            open_table(path)
    for fill in (-1.0, np.nan):
        path = write_view(h5py, tmp_path / "filled.h5", in_order()[:3], fill=fill)
        assert_table(open_table(path), np.vstack([H[:30], np.full((10, 3), fill)]), [7])
    assert nrc.measure(path, n=2, nonfinite="skip").samples == 30
    (tmp_path / "s0.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"made of s0\.h5, which is missing"):
        open_table(path)


def test_views_of_views_and_of_the_same_file(h5py: Any, tmp_path: Path) -> None:
    write_parts(h5py, tmp_path)
    write_view(h5py, tmp_path / "all.h5", in_order())
    layout = h5py.VirtualLayout((40, 3), dtype="f8")
    layout[:] = h5py.VirtualSource("all.h5", "h", shape=(40, 3))
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        file.create_virtual_dataset("h", layout)
    table = open_table(tmp_path / "outer.h5")
    assert_table(table, H, [7])
    os.utime(tmp_path / "s3.h5", ns=(1, 1))
    with pytest.raises(OSError, match=r"s3\.h5 has changed"):
        table.read(0, 5)
    (tmp_path / "s3.h5").unlink()
    with pytest.raises(OSError, match=r"all\.h5\[h\] is made of s3\.h5, which is missing"):
        open_table(tmp_path / "outer.h5")
    with h5py.File(tmp_path / "same.h5", "w") as file:
        file["a"], file["b"] = H[:15], H[15:]
        layout = h5py.VirtualLayout((40, 3), dtype="f8")
        layout[:15], layout[15:] = h5py.VirtualSource(file["a"]), h5py.VirtualSource(file["b"])
        file.create_virtual_dataset("h", layout)
    assert_table(open_table(tmp_path / "same.h5", key="h"), H, [7])


def test_views_without_end_and_numbered_files(h5py: Any, tmp_path: Path) -> None:
    unlimited = h5py.h5s.UNLIMITED
    with h5py.File(tmp_path / "grows.h5", "w") as file:
        file.create_dataset("g/h", data=H, maxshape=(None, 3), chunks=(7, 3))
    layout = h5py.VirtualLayout((40, 3), dtype="f8", maxshape=(None, 3))
    source = h5py.VirtualSource("grows.h5", "g/h", shape=(40, 3), maxshape=(None, 3))
    layout[0:unlimited, :] = source[0:unlimited, :]
    with h5py.File(tmp_path / "view.h5", "w") as file:
        file.create_virtual_dataset("h", layout)
    table = open_table(tmp_path / "view.h5")
    assert_table(table, H, [7])
    os.utime(tmp_path / "grows.h5", ns=(1, 1))
    with pytest.raises(OSError, match=r"grows\.h5 has changed"):
        table.read(0, 5)

    write_parts(h5py, tmp_path)
    with h5py.File(tmp_path / "one.h5", "w") as file:
        for number in range(4):
            file[f"g/h_{number}"] = H[10 * number : 10 * number + 10]
    for name, place in (("numbered.h5", (b"s%b.h5", b"g/h")), ("keys.h5", (b"one.h5", b"g/h_%b"))):
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space = h5py.h5s.create_simple((40, 3), (unlimited, 3))
        space.select_hyperslab((0, 0), (unlimited, 1), (10, 1), (10, 3))
        create.set_virtual(space, *place, h5py.h5s.create_simple((10, 3)))
        with h5py.File(tmp_path / name, "w") as file:
            space = h5py.h5s.create_simple((40, 3), (unlimited, 3))
            h5py.h5d.create(file.id, b"h", h5py.h5t.NATIVE_DOUBLE, space, create)
        assert_table(open_table(tmp_path / name), H, [7])
    table = open_table(tmp_path / "numbered.h5")
    assert_table(table, H, [7])
    os.utime(tmp_path / "s2.h5", ns=(1, 1))
    with pytest.raises(OSError, match=r"s2\.h5 has changed"):
        table.read(0, 40)
    (tmp_path / "s1.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"numbered, of which s1\.h5 is missing and s2\.h5 is there"):
        open_table(tmp_path / "numbered.h5")


def test_files_are_looked_for_where_hdf5_looks(
    h5py: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_alone: Callable[..., Any]
) -> None:
    old, new, elsewhere = (tmp_path / name for name in ("old", "new", "elsewhere"))
    for folder in (old, elsewhere):
        folder.mkdir()
    write_parts(h5py, old)
    write_view(h5py, old / "all.h5", in_order(old))
    shutil.move(old, new)
    table = open_table(new / "all.h5")  # absolute paths that are gone: beside the file
    assert_table(table, H, [7])
    shutil.move(new / "s1.h5", elsewhere / "s1.h5")
    with pytest.raises(FileNotFoundError, match=r"s1\.h5, which is missing"):
        open_table(new / "all.h5")
    np.save(tmp_path / "h.npy", H)
    code = (
        "import numpy; from nrc_fast.sources.opening import open_table\n"
        "table, wanted = open_table('new/all.h5'), numpy.load('h.npy')\n"
        "assert numpy.array_equal(table.load(0, 40).array, wanted)"
    )
    for prefix in (str(elsewhere), "${ORIGIN}/../elsewhere"):
        result = run_alone(code, HDF5_VDS_PREFIX=prefix)
        assert result.returncode == 0, result.stderr
    monkeypatch.chdir(elsewhere)
    assert_table(open_table(new / "all.h5"), H, [7])


def test_raw_values_beside_the_file(h5py: Any, tmp_path: Path) -> None:
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    sizes = [H.nbytes // 2, H.nbytes - H.nbytes // 2]
    for number, size in enumerate(sizes):
        create.set_external(str(tmp_path / f"raw_{number}.bin").encode(), 0, size)
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        kind, space = h5py.h5t.py_create(H.dtype), h5py.h5s.create_simple(H.shape)
        h5py.h5d.create(file.id, b"h", kind, space, create).write(h5py.h5s.ALL, h5py.h5s.ALL, H)
    table = open_table(tmp_path / "outer.h5")
    assert_table(table, H, [7])
    raw = (tmp_path / "raw_1.bin").read_bytes()
    (tmp_path / "raw_1.bin").write_bytes(raw[:-8])
    with pytest.raises(OSError, match=r"raw_1\.bin has changed"):
        table.read(0, 40)
    with pytest.raises(OSError, match=r"raw_1\.bin is truncated: .*outer\.h5\[h\] has 480 bytes .* from byte 0 on"):
        open_table(tmp_path / "outer.h5")
    (tmp_path / "raw_0.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"has its values in .*raw_0\.bin, which is missing"):
        open_table(tmp_path / "outer.h5")
