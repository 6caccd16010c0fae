"""Which matrix of a file is meant, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.formats import KINDS, WAYS, write
from support.tables import COLUMNS, assert_table, normal

from nrc_fast.sources.opening import open_table
from nrc_fast.sources.stored import natural_order


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
    with pytest.raises(ValueError, match=r"features.* name .*key=.*h.*y"):
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
        ("torch", "torch", "torch"),
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
