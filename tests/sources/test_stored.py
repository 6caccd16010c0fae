"""Which matrix of a file is meant, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.formats import KINDS, WAYS, write
from support.tables import COLUMNS, assert_table, normal

from nrc_fast.kernels.inputs import as_rows
from nrc_fast.sources.opening import open_table
from nrc_fast.sources.stored import StoredMatrix, Wanted, natural_order, pick
from nrc_fast.sources.table import ArrayTable, Table


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_numbers_are_ordered_as_numbers(numbers: list[int]) -> None:
    names = [f"part-{number}.npy" for number in numbers]
    assert sorted(names, key=natural_order) == [f"part-{number}.npy" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=6), max_size=10))
def test_any_names_can_be_ordered(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_order, reverse=True), key=natural_order) == sorted(names, key=natural_order)


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.holds_several and way.key is None])
def test_keys(name: str, tmp_path: Path) -> None:
    array = normal((9, COLUMNS), "float32")
    path = write(tmp_path, name, array, y=array)
    with pytest.raises(ValueError, match=r"features.* name one with key=.*h.*y"):
        open_table(path)
    with pytest.raises(ValueError, match=r"features.* has no .*'z'.*h"):
        open_table(path, key="z")
    assert_table(open_table(path, key="h"), array, [4])


def test_the_only_matrix_needs_no_key(tmp_path: Path) -> None:
    array = normal((9, COLUMNS), "float32")
    np.savez(tmp_path / "f.npz", label=np.arange(9), h=array, y=array[:, 0], cube=np.zeros((2, 2, 2)))
    assert_table(open_table(tmp_path / "f.npz"), array, [4])
    np.savez(tmp_path / "g.npz", label=np.arange(9), y=array[:, 0])
    with pytest.raises(ValueError, match=r"holds 0 float matrices.*label \(9,\) int64, y \(9,\) float32"):
        open_table(tmp_path / "g.npz")


@pytest.mark.parametrize("name", [name for name in KINDS if name != "parquet_columns"])
def test_dtypes_and_shapes_that_are_refused(name: str, tmp_path: Path) -> None:
    for stem, array, error, text in (
        ("integers", np.ones((9, 5), np.int32), TypeError, "has dtype .*32"),
        ("vector", np.ones(9, np.float32), ValueError, r"\(9,\)|no matrix|one row per sample"),
    ):
        path = write(tmp_path, name, array, stem)
        key = None if name.startswith("npy") else "h"
        with pytest.raises(error, match=text) as raised:
            open_table(path, key=key)
        assert stem in str(raised.value)
    if name.startswith("parquet"):
        return
    path = write(tmp_path, name, np.ones((9, 2, 2), np.float32), "cube") if not name.startswith("zarr") else None
    if path is not None:
        with pytest.raises(ValueError, match=r"cube.* has shape \(9, 2, 2\)"):
            open_table(path)


@pytest.mark.parametrize("name", ["npy", "npz", "npz_compressed", "torch", "safetensors", "hdf5"])
def test_matrices_without_columns_are_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, np.ones((9, 0), np.float32))
    with pytest.raises(ValueError, match=r"has shape \(9, 0\): rows without values"):
        open_table(path)


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("safetensors", "safetensors", "safetensors"),
        ("hdf5", "h5py", "hdf5"),
        ("zarr", "zarr", "zarr"),
        ("parquet", "pyarrow", "parquet"),
    ],
)
def test_missing_library(name: str, library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, name, normal((3, COLUMNS), "float32"))
    for module in [library, *(module for module in sys.modules if module.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{library}, which cannot be imported: pip install 'nrc-fast\[{extra}\]'"):
        open_table(path)


def in_memory(key: str, array: Any, **facts: Any) -> StoredMatrix:
    def make(name: str, _count: int, _columns: int) -> Table:
        return ArrayTable(as_rows(array, name))

    return StoredMatrix(Path("f.h5"), key, array.shape, array.dtype.name, make, **facts)


def test_an_array_with_several_names_counts_once() -> None:
    first, second = normal((9, COLUMNS), "float32"), normal((4, COLUMNS), "float32", 1)
    stored = [in_memory(key, array, identity=id(array)) for key, array in (("a", first), ("b", second), ("c", first))]
    for pattern, wanted in (("*", [first, second]), ("[bc]", [second, first]), ("c", [first]), ("[ac]", [first])):
        table = pick(Path("f.h5"), stored, Wanted(pattern))
        np.testing.assert_array_equal(table.load(0, table.count).array, np.concatenate(wanted))
    # What is left out is left out under all its names.
    np.testing.assert_array_equal(pick(Path("f.h5"), stored, Wanted(excluded="b")).load(0, 9).array, first)
    np.testing.assert_array_equal(pick(Path("f.h5"), stored, Wanted(excluded="c")).load(0, 4).array, second)
    with pytest.raises(
        ValueError, match="holds 2 float matrices that may be the features; name one with key=, or several by a pattern"
    ):
        pick(Path("f.h5"), stored, Wanted())


def test_what_cannot_be_opened_is_an_error_for_those_who_mean_it() -> None:
    array = normal((9, COLUMNS), "float32")
    stored = [in_memory("part_1", array), in_memory("part_2", array[:0], fault=OSError("part_2 is missing"))]
    assert pick(Path("f.h5"), stored, Wanted("part_1")).count == 9
    for key in ("part_2", "part_*"):
        with pytest.raises(OSError, match="part_2 is missing"):
            pick(Path("f.h5"), stored, Wanted(key))
    with pytest.raises(ValueError, match="holds 2 float matrices"):
        pick(Path("f.h5"), stored, Wanted())


def test_keys_that_are_not_there_or_there_twice() -> None:
    array = normal((9, COLUMNS), "float32")
    stored = [in_memory(key, array) for key in ("model.fc.weight", "old/fc.weight", "a", "a")]
    with pytest.raises(ValueError, match=r"no 'weight' \(is 'model\.fc\.weight' or 'old/fc\.weight' meant\?\); it"):
        pick(Path("f.h5"), stored, Wanted("weight"))
    with pytest.raises(ValueError, match=r"f\.h5 has no 'eight'; it holds"):
        pick(Path("f.h5"), stored, Wanted("eight"))
    for key in ("a", "*"):
        with pytest.raises(ValueError, match="two arrays that are called 'a'"):
            pick(Path("f.h5"), stored, Wanted(key))
