"""zarr arrays at the root and in groups, read a piece at a time."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
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


# Fields of the archive's directory: version, flags (encrypted, patched) and method of every member.
@pytest.mark.parametrize(("field", "number"), [(6, 255), (8, 1), (8, 32), (10, 99)])
def test_zip_files_that_cannot_be_unpacked(field: int, number: int, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "f.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_group(store).create_array("h", data=np.eye(5), chunks=(2, 5))
    content = bytearray(path.read_bytes())
    for found in re.finditer(rb"PK\x01\x02", bytes(content)):
        content[found.start() + field] = number
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"f\.zarr\.zip cannot be read; is it damaged"):
        open_table(path)


class Runs:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def hostile(kind: str, codec: str) -> dict[str, str]:
    """The files of metadata of an array that is to be unpickled."""
    coder = {"id": codec, "protocol": 5}
    version_2 = {
        "zarr_format": 2,
        "shape": [8, 4],
        "chunks": [8, 4],
        "dtype": "|O" if kind == "objects" else "<f8",
        "fill_value": None,
        "order": "C",
        "compressor": coder if kind == "compressor" else None,
        "filters": None if kind == "compressor" else [coder],
    }
    if kind != "version 3":
        return {".zarray": json.dumps(version_2)}
    version_3 = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8, 4],
        "data_type": "float64",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 4]}},
        "chunk_key_encoding": {"name": "v2"},
        "fill_value": 0.0,
        "codecs": [{"name": f"numcodecs.{codec}", "configuration": {}}, {"name": "bytes"}],
    }
    return {"zarr.json": json.dumps(version_3)}


@pytest.mark.parametrize("kind", ["compressor", "filter", "objects", "version 3"])
@pytest.mark.parametrize("where", ["root", "group", "zip"])
def test_nothing_is_unpickled(kind: str, where: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / ("f.zarr.zip" if where == "zip" else "f.zarr")
    inner = "" if where == "root" else "bad/"
    files = {inner + name: text.encode() for name, text in hostile(kind, "pickle").items()}
    files[f"{inner}0.0"] = pickle.dumps(Runs(tmp_path / "run"))
    if where == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        if where == "group":
            zarr.create_group(path).create_array("h", data=any_bits((8, 4), "float64"))
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    for key in (None, "h", "bad"):
        with pytest.raises(OSError, match=r"is decoded by '(numcodecs\.)?pickle' .*nothing is ever unpickled"):
            open_table(path, key=key)
    assert not (tmp_path / "run").exists()


def test_what_users_note_is_no_codec(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    array = any_bits((8, 4), "float64")
    zarr.create_array(tmp_path / "f.zarr", data=array, attributes={"name": "pickle", "made": {"id": "pickle"}})
    assert_table(open_table(tmp_path / "f.zarr"), array, [3])


@pytest.mark.parametrize("version", ["2.18.7", "3.0.10"])
def test_versions_that_unpickle_are_refused(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    path = write(tmp_path, "zarr", any_bits((97, COLUMNS), "float32"))
    monkeypatch.setattr(zarr, "__version__", version)
    with pytest.raises(ImportError, match=rf"zarr {version} is too old; 3.1 or newer"):
        open_table(path)


@pytest.mark.parametrize("place", ["c/1/0", "a/zarr.json", "a/deep/c/0", "linked/c/0"])
def test_pipes_in_a_directory_are_not_waited_for(place: str, tmp_path: Path) -> None:
    path = write(tmp_path, "zarr", any_bits((97, COLUMNS), "float32"))
    assert_table(open_table(path, key="h"), any_bits((97, COLUMNS), "float32"), [50])
    (tmp_path / "elsewhere").mkdir()
    (path / "linked").symlink_to(tmp_path / "elsewhere")
    (path / "back").symlink_to(path)
    (path / place).parent.mkdir(parents=True, exist_ok=True)
    (path / place).unlink(missing_ok=True)
    os.mkfifo(path / place)
    with pytest.raises(OSError, match="is no regular file; a pipe"):
        open_table(path, key="h")


def test_a_pipe_that_comes_later_is_not_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path, "zarr", any_bits((97, COLUMNS), "float32"))
    table = open_table(path)
    chunk = next(file for file in path.rglob("*") if "/c/" in str(file) and file.is_file())
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(OSError, match=r"no regular file|has changed"):
        table.read(0, 97)


def test_chunks_that_are_larger_than_the_array_are_counted(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    array = any_bits((8, 4), "float64")
    zarr.create_array(tmp_path / "f.zarr", data=array, chunks=(1 << 16, 64))
    assert open_table(tmp_path / "f.zarr").held_bytes >= 8 * 64 << 16
