"""Paths and patterns become tables, and pairs of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import WAYS, write
from support.streams import draw
from support.tables import COLUMNS, any_bits, assert_table, normal

import nrc_fast as nrc
from nrc_fast.sources.opening import READERS, open_pair, open_table


def test_patterns_of_directories(tmp_path: Path) -> None:
    array = any_bits((6, COLUMNS), "float32")
    for number, part in enumerate(("a/1", "a/b/2", "a/b/10")):
        (tmp_path / part).mkdir(parents=True)
        np.save(tmp_path / part / "h.npy", array[2 * number : 2 * number + 2])
    for pattern in ("**/*.npy", "**"):
        assert_table(open_table(str(tmp_path / pattern)), array, [4])
    np.save(tmp_path / "h[1].npy", array)
    assert_table(open_table(tmp_path / "h[1].npy"), array, [4])


def test_patterns_do_not_look_into_zarr_directories(tmp_path: Path) -> None:
    array = any_bits((6, COLUMNS), "float32")
    write(tmp_path, "zarr", array[:2], "part_1")
    write(tmp_path, "zarr", array[2:], "part_2")
    assert_table(open_table(str(tmp_path / "**")), array, [4])


def test_paths_in_the_order_given(tmp_path: Path) -> None:
    array = any_bits((6, COLUMNS), "float32")
    for name, part in (("b", array[:3]), ("a_1", array[3:5]), ("a_2", array[5:])):
        np.save(tmp_path / f"{name}.npy", part)
    assert_table(open_table([tmp_path / "b.npy", str(tmp_path / "a_*.npy")]), array, [4])
    with pytest.raises(ValueError, match="there are no files"):
        open_table([])


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*none_\*\.npy'"):
        open_table(str(tmp_path / "none_*.npy"))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.npy"):
        open_table(tmp_path / "none.npy")
    (tmp_path / "features.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"features\.csv is of an unknown kind; .*" + r".*".join(READERS)):
        open_table(tmp_path / "features.csv")
    with pytest.raises(ValueError, match="is a directory and no zarr array"):
        open_table(tmp_path)
    with pytest.raises(ValueError, match="role is 'W'"):
        open_table(tmp_path, role="W")


def test_targets_in_other_files(tmp_path: Path) -> None:
    features, targets = any_bits((33, COLUMNS), "float32", 1), any_bits((33,), "float64", 2)
    np.savez(tmp_path / "h.npz", h=features)
    for number, part in enumerate((targets[:10], targets[10:])):
        np.save(tmp_path / f"y_{number}.npy", part)
    table, other = open_pair(tmp_path / "h.npz", str(tmp_path / "y_?.npy"))
    assert_table(table, features, [7])
    assert other is not None
    assert_table(other, targets[:, None], [7])
    assert open_pair(tmp_path / "h.npz")[1] is None


def test_shards_whose_targets_are_fewer_are_refused(tmp_path: Path) -> None:
    array = normal((8, COLUMNS), "float32")
    np.savez(tmp_path / "a.npz", h=array[:3], y=array[:4])
    np.savez(tmp_path / "b.npz", h=array[3:], y=array[4:])
    with pytest.raises(ValueError, match=r"a\.npz\[h\] has 3 rows and .*a\.npz\[y\] has 4"):
        open_pair([tmp_path / "a.npz", tmp_path / "b.npz"], key="h", target_key="y")


def test_readers_import_nothing_before_use(run_alone: Callable[..., Any]) -> None:
    code = (
        "import sys, nrc_fast.sources.opening\n"
        "print(sorted({'torch', 'h5py', 'zarr', 'pyarrow', 'safetensors'} & set(sys.modules)))"
    )
    result = run_alone(code)
    assert result.stdout.strip() == "[]", result.stderr


def test_files_that_are_listed_twice_or_are_no_files_are_refused(tmp_path: Path) -> None:
    import os

    H, _, _ = draw(22, 30, 4, 2)
    np.save(tmp_path / "H.npy", H)
    with pytest.raises(ValueError, match=r"H\.npy is listed more than once"):
        nrc.open([tmp_path / "H.npy", str(tmp_path / "*.npy")])
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ValueError, match=r"pipe\.npy is no regular file"):
        nrc.open(tmp_path / "pipe.npy")
    with pytest.raises(TypeError, match="in which nothing has a name"):
        nrc.open([H[:10], H[10:]], key="h")
    np.save(tmp_path / "I.npy", np.zeros((0, 4), np.float32))  # an empty shard has no say in the dtype
    assert nrc.measure([tmp_path / "I.npy", tmp_path / "H.npy"], n=1).dtype == "float64"


@pytest.mark.parametrize("link", ["soft", "hard", "spelt"])
@pytest.mark.parametrize("listed", [True, False])
def test_one_file_under_two_names_does_not_count_twice(link: str, listed: bool, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "h_1.npy", np.eye(3))
    other = tmp_path / "h_2.npy"
    if link == "soft":
        other.symlink_to(tmp_path / "h_1.npy")
    elif link == "hard":
        other.hardlink_to(tmp_path / "h_1.npy")
    elif listed:
        other = tmp_path / "in" / ".." / "h_1.npy"
    else:
        return
    files = [str(tmp_path / "h_1.npy"), str(other)] if listed else str(tmp_path / "h_*.npy")
    with pytest.raises(ValueError, match=r"is listed more than once, as .*h_1\.npy too"):
        open_table(files)


@pytest.mark.parametrize("stem", ["~root", "~", "$HOME", "h_${x}", "a%20b", "-n"])
def test_names_are_taken_as_they_are(stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = normal((9, COLUMNS), "float32")
    for name in ("npy", "npz", "torch", "safetensors", "hdf5", "zarr", "parquet"):
        (tmp_path / stem).mkdir(exist_ok=True)
        for place in (Path(), Path(stem)):
            path = write(tmp_path / place, name, array, stem)
            assert_table(open_table(path.relative_to(tmp_path), key=WAYS[name].key), array, [4])
