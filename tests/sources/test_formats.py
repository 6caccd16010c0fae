"""Every file format gives the array that was written, bit for bit, or an error that names the file."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nrc_fast.kernels import calls as kernels_calls
from nrc_fast.kernels import inputs
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.results import Basis
from nrc_fast.sources.formats import compressed_npz, parquet_files, zarr_arrays
from nrc_fast.sources.opening import READERS, open_pair, open_table
from nrc_fast.sources.stored import natural_order
from nrc_fast.sources.table import RawTable, ShardedTable, Table, storage_dtype

SIZES = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97]
COLUMNS = 5
DTYPES = ["float64", "float32", "float16", "bfloat16"]
NO_BFLOAT16 = DTYPES[:3]

Writer = Callable[[Path, dict[str, Any]], None]


# ---- arrays ----


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)


def any_bits(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Values of every kind: subnormal, infinite, NaN with any payload."""
    kind = numpy_dtype(dtype)
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, kind.itemsize), dtype=np.uint8)
    return raw.view(kind)[..., 0]


def normal(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(numpy_dtype(dtype))


def bits(array: Any) -> Any:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def as_rows(array: Any) -> Rows:
    return inputs.as_rows(np.ascontiguousarray(array), "H")


def assert_rows(table: Table, array: Any, first: int, last: int) -> None:
    rows = table.read(first, last)
    assert (rows.count, rows.columns, rows.dtype) == (last - first, table.columns, table.dtype)
    loaded = rows.loaded().array
    assert loaded.dtype == storage_dtype(table.dtype)
    np.testing.assert_array_equal(bits(loaded), bits(array[first:last]))
    table.release(first, last)


def assert_table(table: Table, array: Any, steps: list[int]) -> None:
    """Reads in order with every step, and then some out of order."""
    assert (table.count, table.columns) == array.shape
    assert table.dtype == array.dtype.name
    json.dumps(table.fingerprint())
    assert_rows(table, array, 0, 0)
    count = len(array)
    for step in steps:
        for first in range(0, count, step):
            assert_rows(table, array, first, min(first + step, count))
    for first, last in ((count // 2, count), (count // 3, count // 2), (0, count), (count, count)):
        assert_rows(table, array, first, last)


# ---- one writer for every way to store an array ----


def write_npy(path: Path, arrays: dict[str, Any], order: str = "C", version: tuple[int, int] | None = None) -> None:
    (array,) = arrays.values()
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(array, order=order), version=version)


def swapped(arrays: dict[str, Any]) -> dict[str, Any]:
    return {key: array.astype(array.dtype.newbyteorder(">")) for key, array in arrays.items()}


def fortran(arrays: dict[str, Any]) -> dict[str, Any]:
    return {key: np.asfortranarray(array) for key, array in arrays.items()}


def tensors(arrays: dict[str, Any]) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    found = {}
    for key, array in arrays.items():
        bfloat16 = array.dtype.name == "bfloat16"
        tensor = torch.from_numpy(np.array(array.view(np.int16) if bfloat16 else array))
        found[key] = tensor.view(torch.bfloat16) if bfloat16 else tensor
    return found


def write_torch(path: Path, arrays: dict[str, Any]) -> None:
    content: dict[str, Any] = {"step": 3, "model": {}}
    for key, tensor in tensors(arrays).items():
        content["model"][key] = tensor
    pytest.importorskip("torch").save(content["model"] if "h" in content["model"] else content, path)


def write_bare_tensor(path: Path, arrays: dict[str, Any]) -> None:
    (tensor,) = tensors(arrays).values()
    pytest.importorskip("torch").save(tensor, path)


def write_strided_tensor(path: Path, arrays: dict[str, Any]) -> None:
    """Every second column of a transposed tensor."""
    torch = pytest.importorskip("torch")
    found = {key: tensor.T.contiguous().repeat_interleave(2, 1).T[::2] for key, tensor in tensors(arrays).items()}
    assert not any(tensor.is_contiguous() for tensor in found.values() if tensor.numel() > 5)
    torch.save(found, path)


def write_safetensors(path: Path, arrays: dict[str, Any]) -> None:
    pytest.importorskip("safetensors.torch").save_file(tensors(arrays), path, metadata={"made": "by a test"})


def write_index(path: Path, arrays: dict[str, Any]) -> None:
    """Every array in two files, under h_9 and h_10."""
    weight_map = {}
    for number, part in ((9, slice(0, 4)), (10, slice(4, None))):
        file = path.with_name(f"{path.name.partition('.')[0]}-{number}.safetensors")
        write_safetensors(file, {f"{key}_{number}": array[part] for key, array in arrays.items()})
        weight_map |= {f"{key}_{number}": file.name for key in arrays}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def bfloat16_type() -> Any:
    h5py = pytest.importorskip("h5py")
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    return kind


def write_hdf5(path: Path, arrays: dict[str, Any], userblock: int = 0, **options: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=userblock) as file:
        for key, array in arrays.items():
            if array.dtype.name != "bfloat16":
                chosen = options if array.ndim == 2 and len(array) else {}
                file.create_dataset(key, data=array, **chosen)
                continue
            create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            if "chunks" in options and len(array):
                create.set_chunk(options["chunks"])
                create.set_deflate(1)
            space = h5py.h5s.create_simple(array.shape)
            links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            links.set_create_intermediate_group(True)
            dataset = h5py.h5d.create(file.id, key.encode(), bfloat16_type(), space, create, links)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, bits(array), bfloat16_type())


def write_compact_hdf5(path: Path, arrays: dict[str, Any]) -> None:
    """The values in the header of the dataset."""
    h5py = pytest.importorskip("h5py")
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.COMPACT)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            kind, space = h5py.h5t.py_create(array.dtype), h5py.h5s.create_simple(array.shape)
            dataset = h5py.h5d.create(file.id, key.encode(), kind, space, create)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array))


def write_zarr(path: Path, arrays: dict[str, Any], **options: Any) -> None:
    zarr = pytest.importorskip("zarr")
    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else zarr.storage.LocalStore(path)
    group = zarr.create_group(store, zarr_format=options.pop("zarr_format", 3))
    for key, array in arrays.items():
        # zarr drops chunks of zeros, and takes -0.0 for one.
        chosen = {"chunks": (7, 2), **options} if array.ndim == 2 else {}
        group.create_array(key, data=array, config={"write_empty_chunks": True}, **chosen)
    store.close()


def write_parquet(path: Path, arrays: dict[str, Any], kind: str = "fixed", row_group_size: int = 30) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns: dict[str, Any] = {}
    for key, array in arrays.items():
        if array.ndim == 1:
            columns[key] = arrow.array(array)
            continue
        values = arrow.array(np.ascontiguousarray(array).reshape(-1))
        if kind == "fixed":
            columns[key] = arrow.FixedSizeListArray.from_arrays(values, array.shape[1])
        elif kind == "list":
            offsets = np.arange(len(array) + 1, dtype=np.int32) * array.shape[1]
            columns[key] = arrow.ListArray.from_arrays(offsets, values)
        else:
            # Out of order, and enough of them that names must be sorted as numbers.
            order = np.random.default_rng(0).permutation(array.shape[1])
            columns |= {f"{key}_{number + 8}": arrow.array(np.ascontiguousarray(array[:, number])) for number in order}
    table = arrow.table(columns)
    parquet.write_table(table, path, row_group_size=row_group_size, data_page_size=64, write_page_checksum=True)


@dataclass(frozen=True)
class Way:
    """A way to store arrays."""

    suffix: str
    write: Writer
    dtypes: list[str]
    key: str | None = None
    library: str | None = None
    holds_several: bool = True


WAYS = {
    "npy": Way(".npy", write_npy, NO_BFLOAT16, holds_several=False),
    "npy_version_2": Way(".npy", lambda path, a: write_npy(path, a, version=(2, 0)), NO_BFLOAT16, holds_several=False),
    "npy_version_3": Way(".npy", lambda path, a: write_npy(path, a, version=(3, 0)), NO_BFLOAT16, holds_several=False),
    "npy_fortran": Way(".npy", lambda path, a: write_npy(path, a, "F"), NO_BFLOAT16, holds_several=False),
    "npy_swapped": Way(".npy", lambda path, a: write_npy(path, swapped(a)), NO_BFLOAT16, holds_several=False),
    "npy_both": Way(".npy", lambda path, a: write_npy(path, swapped(a), "F"), NO_BFLOAT16, holds_several=False),
    "npz": Way(".npz", lambda path, a: np.savez(path, **a), NO_BFLOAT16),
    "npz_fortran": Way(".npz", lambda path, a: np.savez(path, **fortran(a)), NO_BFLOAT16),
    "npz_compressed": Way(".npz", lambda path, a: np.savez_compressed(path, **a), NO_BFLOAT16),
    "npz_compressed_swapped": Way(".npz", lambda path, a: np.savez_compressed(path, **swapped(a)), NO_BFLOAT16),
    "torch": Way(".pt", write_torch, DTYPES, library="torch"),
    "torch_bare": Way(".pth", write_bare_tensor, DTYPES, library="torch", holds_several=False),
    "torch_strided": Way(".pt", write_strided_tensor, DTYPES, library="torch"),
    "safetensors": Way(".safetensors", write_safetensors, DTYPES, library="safetensors"),
    "index": Way(".safetensors.index.json", write_index, DTYPES, key="h_*", library="safetensors"),
    "hdf5": Way(".h5", write_hdf5, DTYPES, library="h5py"),
    "hdf5_userblock": Way(".hdf5", lambda path, a: write_hdf5(path, a, 1024), DTYPES, library="h5py"),
    "hdf5_swapped": Way(".h5", lambda path, a: write_hdf5(path, swapped(a)), NO_BFLOAT16, library="h5py"),
    "hdf5_compact": Way(".h5", write_compact_hdf5, NO_BFLOAT16, library="h5py"),
    "hdf5_chunked": Way(
        ".h5", lambda path, a: write_hdf5(path, a, chunks=(1, 2), compression="gzip"), DTYPES, library="h5py"
    ),
    "zarr": Way(".zarr", write_zarr, NO_BFLOAT16, library="zarr"),
    "zarr_plain": Way(".zarr", lambda path, a: write_zarr(path, a, compressors=None), NO_BFLOAT16, library="zarr"),
    "zarr_sharded": Way(".zarr", lambda path, a: write_zarr(path, a, shards=(14, 4)), NO_BFLOAT16, library="zarr"),
    "zarr_version_2": Way(".zarr", lambda path, a: write_zarr(path, a, zarr_format=2), NO_BFLOAT16, library="zarr"),
    "zarr_zip": Way(".zarr.zip", write_zarr, NO_BFLOAT16, library="zarr"),
    "parquet": Way(".parquet", write_parquet, NO_BFLOAT16, library="pyarrow"),
    "parquet_lists": Way(".parquet", lambda path, a: write_parquet(path, a, "list"), NO_BFLOAT16, library="pyarrow"),
    "parquet_columns": Way(
        ".parquet", lambda path, a: write_parquet(path, a, "columns"), NO_BFLOAT16, "h_*", library="pyarrow"
    ),
}
WAYS_AND_DTYPES = [(name, dtype) for name, way in WAYS.items() for dtype in way.dtypes]
# One way for each way of reading, in float32.
KINDS = [
    *("npy", "npy_fortran", "npy_swapped", "npz", "npz_compressed", "torch", "safetensors"),
    *("hdf5", "hdf5_chunked", "zarr", "zarr_plain", "zarr_sharded", "zarr_zip", "parquet", "parquet_columns"),
]


def write(folder: Path, name: str, array: Any, stem: str = "features", **others: Any) -> Path:
    """Write the array as `h`, and others beside it."""
    path = folder / f"{stem}{WAYS[name].suffix}"
    if WAYS[name].library is not None:
        pytest.importorskip(WAYS[name].library)
    WAYS[name].write(path, {"h": array, **others})
    return path


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


# ---- the same bits ----


@pytest.mark.parametrize(("name", "dtype"), WAYS_AND_DTYPES)
def test_rows_are_those_of_the_array(name: str, dtype: str, tmp_path: Path) -> None:
    for place, count in enumerate(SIZES):
        if count == 0 and name in ("parquet_lists", "npz_fortran"):
            continue  # no list says its length; numpy stores an empty matrix in C order
        array = any_bits((count, COLUMNS), dtype, count)
        path = write(tmp_path, name, array, f"features_{count}")
        table = open_table(path, key=WAYS[name].key)
        assert str(path.parent) in table.name
        assert_table(table, array, SIZES[1:] if count == SIZES[-1] else [SIZES[place - 1] or 1, 4])


@pytest.mark.parametrize("chunks", [(1, 5), (7, 2), (64, 3), (97, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_of_hdf5(chunks: tuple[int, int], dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    array = any_bits((97, COLUMNS), dtype)
    write_hdf5(tmp_path / "f.h5", {"group/h": array}, chunks=chunks, compression="gzip")
    assert_table(open_table(tmp_path / "f.h5", key="group/h"), array, SIZES[1:])


@pytest.mark.parametrize(("name", "dtype"), WAYS_AND_DTYPES)
def test_kernels_give_the_same_for_the_file_and_the_array(name: str, dtype: str, tmp_path: Path) -> None:
    array = normal((97, COLUMNS), dtype)
    rows = as_rows(array)
    table = open_table(write(tmp_path, name, array), key=WAYS[name].key)
    basis = Basis(np.eye(2, COLUMNS))
    for step in (16, 33, 97):
        for first in range(0, 97, step):
            last = min(first + step, 97)
            one, other = (kernels_calls.gram(part.read(first, last), unit="raw") for part in (table, _Memory(rows)))
            np.testing.assert_array_equal(one.gram, other.gram)
            np.testing.assert_array_equal(one.unit_gram, other.unit_gram)
            np.testing.assert_array_equal(one.column_sums, other.column_sums)
            (one_residual,), (other_residual,) = (
                kernels_calls.residual(part.read(first, last), [basis], double_precision=False)
                for part in (table, _Memory(rows))
            )
            np.testing.assert_array_equal(one_residual.raw, other_residual.raw)
            np.testing.assert_array_equal(one_residual.unit, other_residual.unit)


@dataclass
class _Memory:
    rows: Rows

    def read(self, first: int, last: int) -> Rows:
        return self.rows.part(first, last)


@pytest.mark.parametrize("name", KINDS)
def test_shards_in_natural_order(name: str, tmp_path: Path) -> None:
    array = any_bits((97, COLUMNS), "float32")
    ends = [0, 33, 34, 34 if name != "npz_fortran" else 35, 97]
    for number, (first, last) in zip((1, 2, 9, 10), itertools.pairwise(ends), strict=True):
        write(tmp_path, name, array[first:last], f"h_{number}")
    table = open_table(str(tmp_path / f"h_*{WAYS[name].suffix}"), key=WAYS[name].key)
    assert isinstance(table, ShardedTable)
    assert_table(table, array, SIZES[1:])
    assert "h_10" in table.locate(34)
    assert table.locate(34).startswith("row 0 ")


READ_ONCE: dict[str, Any] = {}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Table, Any]]:
    """Two shards in every way, opened once."""

    def open_once(name: str) -> tuple[Table, Any]:
        if name not in READ_ONCE:
            folder = tmp_path_factory.mktemp(name)
            array = any_bits((97, COLUMNS), "float32", 3)
            paths = [write(folder, name, array[:40], "a"), write(folder, name, array[40:], "b")]
            READ_ONCE[name] = open_table(paths, key=WAYS[name].key), array
        table, array = READ_ONCE[name]
        return table, array

    return open_once


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranges=st.lists(st.tuples(st.integers(0, 97), st.integers(0, 97)), max_size=8))
def test_any_ranges_in_any_order(
    opened: Callable[[str], tuple[Table, Any]], name: str, ranges: list[tuple[int, int]]
) -> None:
    table, array = opened(name)
    for first, last in ranges:
        assert_rows(table, array, min(first, last), max(first, last))


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.holds_several])
def test_targets_beside_features(name: str, tmp_path: Path) -> None:
    features, targets = any_bits((33, COLUMNS), "float32", 1), any_bits((33, 2), "float32", 2)
    key = WAYS[name].key
    vector = targets[:, 0].copy()
    path = write(tmp_path, name, features, y=targets)
    pair = open_pair(path, key=key, target_key="y" if key is None else "y_*")
    assert pair[1] is not None
    assert_table(pair[0], features, [7])
    assert_table(pair[1], targets, [7])
    if name in ("index", "hdf5_compact", "torch_strided"):
        return
    path = write(tmp_path, name, features, "vector", y=vector)
    pair = open_pair(path, key=key, target_key="y")
    assert pair[1] is not None
    assert_table(pair[1], vector[:, None], [7])


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


def test_targets_in_columns_of_parquet(tmp_path: Path) -> None:
    features, targets = any_bits((33, COLUMNS), "float32", 1), any_bits((33, 2), "float32", 2)
    path = write(tmp_path, "parquet_columns", features, y=targets)
    pair = open_pair(path, target_key="y_*")
    assert pair[1] is not None
    assert_table(pair[0], features, [7])
    assert_table(pair[1], targets, [7])


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


# ---- which files, which keys ----


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_numbers_are_ordered_as_numbers(numbers: list[int]) -> None:
    names = [f"part-{number}.npy" for number in numbers]
    assert sorted(names, key=natural_order) == [f"part-{number}.npy" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=6), max_size=10))
def test_any_names_can_be_ordered(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_order, reverse=True), key=natural_order) == sorted(names, key=natural_order)


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


def test_nested_keys_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    array = normal((9, COLUMNS), "float32")
    torch.save(
        {"epoch": 3, "model": {"head": {"input": torch.from_numpy(array)}, "x": torch.zeros(3, 3)}}, tmp_path / "f.pt"
    )
    assert_table(open_table(tmp_path / "f.pt", key="model.head.input"), array, [4])


def test_one_array_has_no_key(tmp_path: Path) -> None:
    path = write(tmp_path, "npy", normal((9, COLUMNS), "float32"))
    with pytest.raises(ValueError, match=r"holds one array without a name; leave out the key 'h'"):
        open_table(path, key="h")


def test_tensors_of_an_index(tmp_path: Path) -> None:
    array = normal((9, COLUMNS), "float32")
    path = write(tmp_path, "index", array)
    assert_table(open_table(path, key="h_10"), array[4:], [4])
    with pytest.raises(ValueError, match=r"has no 'h'; it holds h_9 \(4, 5\) float32"):
        open_table(path, key="h")
    index = json.loads(path.read_text())
    index["weight_map"]["h_11"] = "features-9.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(OSError, match=r"features-9\.safetensors has no 'h_11', which .*index\.json says"):
        open_table(path, key="h_*")
    (tmp_path / "features-10.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"features-10"):
        open_table(path, key="h_9")
    path.write_text("{}")
    with pytest.raises(OSError, match=r"index\.json cannot be read"):
        open_table(path)


# ---- what is refused ----


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


@pytest.mark.parametrize("count", [2**62, 2**80])
def test_headers_that_announce_too_much(count: int, tmp_path: Path) -> None:
    with (tmp_path / "f.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, 3)})
    with pytest.raises(ValueError, match=r"f\.npy has shape \(\d+, 3\), which no file can hold"):
        open_table(tmp_path / "f.npy")


def test_one_bad_shard_is_named(tmp_path: Path) -> None:
    for number, columns in enumerate((5, 5, 4)):
        np.save(tmp_path / f"h_{number}.npy", normal((9, columns), "float32"))
    with pytest.raises(ValueError, match=r"h_2\.npy has 4 columns of float32"):
        open_table(str(tmp_path / "h_*.npy"))
    truncate(tmp_path / "h_1.npy", 200)
    with pytest.raises(OSError, match=r"h_1\.npy is truncated: 9 rows are announced"):
        open_table(str(tmp_path / "h_*.npy"))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    array = np.empty((3, 2), object)
    array[:] = Trap()
    np.save(tmp_path / "objects.npy", array, allow_pickle=True)
    np.savez(tmp_path / "objects.npz", h=array)
    for name in ("objects.npy", "objects.npz"):
        with pytest.raises(TypeError, match=r"has dtype object.*never unpickled"):
            open_table(tmp_path / name)
    torch = pytest.importorskip("torch")
    torch.save({"h": torch.zeros(3, 2), "trap": Trap()}, tmp_path / "objects.pt")
    with pytest.raises(OSError, match=r"objects\.pt cannot be read.*[Ww]eights"):
        open_table(tmp_path / "objects.pt")


class Trap:
    """Says when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_bfloat16_of_numpy_is_refused(suffix: str, tmp_path: Path) -> None:
    array = normal((3, 2), "bfloat16")
    path = tmp_path / f"f{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, h=array)
    else:
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["h"] = array
    with pytest.raises(TypeError, match=r"has dtype void16.* bfloat16.* save it as float32"):
        open_table(path)


def test_compressed_fortran_order_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", h=np.asfortranarray(normal((9, COLUMNS), "float32")))
    with pytest.raises(ValueError, match=r"f\.npz\[h\] is compressed and in Fortran order.*numpy\.savez"):
        open_table(tmp_path / "f.npz")


def test_old_torch_files_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(3, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.pt is of the kind that torch wrote before 1\.6.*save it again"):
        open_table(tmp_path / "old.pt")


def test_other_dtypes_of_safetensors_are_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    save({"h": torch.zeros(3, 2, dtype=torch.float8_e4m3fn)}, tmp_path / "f.safetensors")
    with pytest.raises(TypeError, match="has dtype F8_E4M3; float64, float32, float16, bfloat16 are supported"):
        open_table(tmp_path / "f.safetensors")


def test_nulls_and_ragged_lists_of_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kinds = {"fixed": arrow.list_(arrow.float32(), 2), "list": arrow.list_(arrow.float32())}
    for name, kind in kinds.items():
        for stem, values in (("null", [[1, 2]] * 40 + [None]), ("inner", [[1, 2]] * 40 + [[1, None]])):
            path = tmp_path / f"{name}_{stem}.parquet"
            parquet.write_table(arrow.table({"h": arrow.array(values, kind)}), path, row_group_size=30)
            table = open_table(path)
            assert table.read(0, 30).count == 30
            with pytest.raises(ValueError, match=rf"row 40 of .*{name}_{stem}.* is null or holds a null"):
                table.read(30, 41)
            with pytest.raises(ValueError, match="row 40 of"):  # again, after the error
                table.read(0, 41)
    ragged = arrow.array([[1, 2]] * 40 + [[1, 2, 3]], kinds["list"])
    parquet.write_table(arrow.table({"h": ragged}), tmp_path / "ragged.parquet", row_group_size=30)
    with pytest.raises(ValueError, match=r"row 40 of .*ragged.* has 3 values; 2 are expected"):
        open_table(tmp_path / "ragged.parquet").read(0, 41)
    columns = {"h_1": arrow.array([1.0, 2.0]), "h_2": arrow.array([1.0, None])}
    parquet.write_table(arrow.table(columns), tmp_path / "columns.parquet")
    with pytest.raises(ValueError, match=r"row 1 of .*columns.* is null or holds a null"):
        open_table(tmp_path / "columns.parquet").read(0, 2)
    parquet.write_table(arrow.table({"a": [1.0], "b": arrow.array([1.0], arrow.float32())}), tmp_path / "mixed.parquet")
    with pytest.raises(TypeError, match=r"mixed\.parquet differ in their dtypes: a is float64, b is float32"):
        open_table(tmp_path / "mixed.parquet")
    parquet.write_table(arrow.table({"a": [1], "b": ["x"]}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"has no column of floats. Its columns are a \(int64\), b \(string\)"):
        open_table(tmp_path / "none.parquet")
    parquet.write_table(arrow.table({"h": arrow.array([], kinds["list"])}), tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="has no rows, and its type does not say"):
        open_table(tmp_path / "empty.parquet")


def test_zip_files_that_are_no_zarr(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    with zipfile.ZipFile(tmp_path / "f.zarr.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(OSError, match=r"f\.zarr\.zip cannot be read"):
        open_table(tmp_path / "f.zarr.zip")


# ---- missing libraries ----


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


def test_readers_import_nothing_before_use(run_alone: Callable[..., Any]) -> None:
    code = (
        "import sys, nrc_fast.sources.opening\n"
        "print(sorted({'torch', 'h5py', 'zarr', 'pyarrow', 'safetensors'} & set(sys.modules)))"
    )
    result = run_alone(code)
    assert result.stdout.strip() == "[]", result.stderr


# ---- damaged files ----


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", KINDS)
def test_truncated_files(name: str, tmp_path: Path) -> None:
    """Wherever the end is missing: an error that names the file, at opening or at reading."""
    array = normal((97, COLUMNS), "float32")
    whole = write(tmp_path, name, array, "whole")
    for file in files_of(whole)[:6]:
        size = file.stat().st_size
        for cut in sorted({0, 1, 4, 9, 60, size // 4, size // 2, 3 * size // 4, size - 9, size - 1} & set(range(size))):
            path = tmp_path / f"broken{WAYS[name].suffix}"
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            shutil.copytree(whole, path) if whole.is_dir() else shutil.copyfile(whole, path)
            truncate(path if whole.is_file() else path / file.relative_to(whole), cut)
            with pytest.raises((OSError, ValueError), match="broken"):  # noqa: PT012
                table = open_table(path, key=WAYS[name].key)
                for first in range(0, 97, 16):
                    table.read(first, min(first + 16, 97)).loaded()


@pytest.mark.parametrize("name", KINDS)
def test_files_truncated_after_opening(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, normal((97, COLUMNS), "float32"))
    table = open_table(path, key=WAYS[name].key)
    assert table.read(0, 16).count == 16
    for file in files_of(path):
        truncate(file, file.stat().st_size // 2)
    with pytest.raises(OSError, match=r"features.* has changed since"):
        table.read(16, 32)


@pytest.mark.parametrize("name", KINDS)
def test_files_replaced_after_opening(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, normal((97, COLUMNS), "float32"))
    table = open_table(path, key=WAYS[name].key)
    before = table.fingerprint()
    assert open_table(path, key=WAYS[name].key).fingerprint() == before
    for file in files_of(path):
        os.utime(file, ns=(1, 1))
    with pytest.raises(OSError, match=r"features.* has changed since"):
        table.read(16, 32)
    assert open_table(path, key=WAYS[name].key).fingerprint() != before


@pytest.mark.parametrize("name", ["npy", "npz", "safetensors", "hdf5"])
def test_kernels_name_the_row_where_the_file_ends(name: str, tmp_path: Path) -> None:
    array = normal((97, COLUMNS), "float32")
    path = write(tmp_path, name, array)
    table = open_table(path)
    assert isinstance(table, RawTable)
    rows = table.read(10, 97)
    truncate(path, table.offset + 40 * table.row_bytes + 3)
    calls: list[Callable[[], Any]] = [
        lambda: kernels_calls.gram(rows),
        lambda: kernels_calls.residual(rows, [Basis(np.eye(2, COLUMNS))], double_precision=True),
        rows.loaded,
    ]
    for call in calls:
        with pytest.raises(OSError, match=r"row 30 of .*features"):
            call()


@pytest.mark.parametrize("name", ["npy_fortran", "npy_swapped", "npy_both"])
def test_copied_rows_name_the_row_where_the_file_ends(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = normal((97, COLUMNS), "float32")
    path = write(tmp_path, name, array)
    table: Any = open_table(path)
    row_bytes = table.row_bytes if name == "npy_swapped" else 4
    truncate(path, table.raw.offset + 40 * row_bytes + 1)
    # As if the file had shrunk after it was looked at.
    monkeypatch.setattr(table.raw.stamp, "check", lambda: None)
    with pytest.raises(OSError, match=r"row 40 of .*features\.npy cannot be read: the file ends"):
        table.read(10, 97)


@pytest.mark.parametrize("name", ["npz_compressed", "hdf5_chunked", "zarr", "parquet", "parquet_columns"])
def test_damaged_blocks_name_the_rows(name: str, tmp_path: Path) -> None:
    array = normal((970, COLUMNS), "float64")
    if name == "hdf5_chunked":
        pytest.importorskip("h5py")
        path = tmp_path / "features.h5"
        write_hdf5(path, {"h": array}, chunks=(97, COLUMNS), compression="gzip", fletcher32=True)
    elif name == "parquet_columns":
        pytest.importorskip("pyarrow")
        path = tmp_path / "features.parquet"
        write_parquet(path, {"h": array}, "columns", 97)
    else:
        path = write(tmp_path, name, array)
    for file in files_of(path):
        if file.suffix != ".json":
            content = bytearray(file.read_bytes())
            middle = len(content) // 2
            content[middle : middle + 64] = bytes(64)
            file.write_bytes(content)
    table = open_table(path, key=WAYS[name].key)
    with pytest.raises(OSError, match=r"rows? \d+ (to \d+ )?of .*features.* cannot be read"):  # noqa: PT012
        for first in range(0, 970, 97):
            table.read(first, first + 97)


SMALL = np.arange(12, dtype=np.float32).reshape(4, 3)


def small_file(name: str) -> bytes:
    buffer = io.BytesIO()
    if name == "npy":
        np.save(buffer, SMALL)
    elif name == "npz":
        np.savez(buffer, h=SMALL)
    elif name == "npz_compressed":
        np.savez_compressed(buffer, h=SMALL)
    else:
        return bytes(pytest.importorskip("safetensors.numpy").save({"h": SMALL}))
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing:UserWarning")
@pytest.mark.parametrize("name", ["npy", "npz", "npz_compressed", "safetensors"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_an_error_or_a_matrix(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(small_file(name))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content) - 1, len(content) // 2]))]
    path = tmp_path / f"f{WAYS[name].suffix}"
    path.write_bytes(content)
    try:
        table = open_table(path)
        rows = table.read(0, table.count).loaded()
    except (OSError, ValueError, TypeError) as error:
        assert "f." in str(error)  # noqa: PT017
    else:
        assert rows.array.shape == (table.count, table.columns)


def safetensors_file(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("offsets", "other"),
    [((0, 96), (0, 48)), ((0, 48), (40, 96)), ((0, 48), (50, 98)), ((48, 0), (48, 96)), ((-48, 0), (0, 96))],
)
def test_malformed_headers_of_safetensors(offsets: tuple[int, int], other: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    entry = {"dtype": "F32", "shape": [4, 3]}
    header = {"a": entry | {"data_offsets": offsets}, "b": entry | {"data_offsets": other}}
    path = safetensors_file(tmp_path / "f.safetensors", header, bytes(96))
    with pytest.raises(OSError, match=r"f\.safetensors cannot be read"):
        open_table(path, key="a")


def test_a_zip_entry_may_have_a_longer_header_of_its_own(tmp_path: Path) -> None:
    """The extra field of the local header has another length than that of the directory at the end."""
    path = tmp_path / "f.npz"
    np.savez(path, h=SMALL)
    assert isinstance(open_table(path), RawTable)
    content = path.read_bytes()
    extra = int.from_bytes(content[28:30], "little")
    name = int.from_bytes(content[26:28], "little")
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()[0].extra) != extra
    table = open_table(path)
    assert isinstance(table, RawTable)
    assert content[30 + name + extra :][:6] == b"\x93NUMPY"
    assert_table(table, SMALL, [3])


# ---- memory, descriptors, work ----


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


@pytest.mark.parametrize("kind", ["fixed", "list", "columns"])
def test_row_groups_of_parquet_are_never_in_memory(kind: str, tmp_path: Path, run_alone: Callable[..., Any]) -> None:
    pytest.importorskip("pyarrow")
    array = normal((1 << 18, 64), "float32")
    arrow_path = tmp_path / "f.parquet"
    write_large_parquet(arrow_path, array, kind)
    # Of a batch: the values and two levels of 2 bytes for each, twice because buffers grow by doubling, and the batch
    # that is held. For each column: what is read ahead, and a page (20,000 rows or 1 MiB), as stored and decoded.
    columns = 64 if kind == "columns" else 1
    page = min(1 << 20, 4 * 20000 * (64 // columns))
    bound = 5 * parquet_files.BATCH_BYTES + columns * (parquet_files.BUFFER_BYTES + 2 * page)
    assert 3 * bound < array.nbytes
    code = f"""
import pyarrow
from nrc_fast.sources.opening import open_table
table = open_table({str(arrow_path)!r})
for first in range(0, table.count, 4096):
    table.read(first, first + 4096)
print(pyarrow.default_memory_pool().max_memory())
"""
    result = run_alone(code)
    assert result.returncode == 0, result.stderr
    assert 0 < int(result.stdout) <= bound


def write_large_parquet(path: Path, array: Any, kind: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = arrow.array(array.reshape(-1))
    if kind == "fixed":
        table = arrow.table({"h": arrow.FixedSizeListArray.from_arrays(values, 64)})
    elif kind == "list":
        offsets = np.arange(len(array) + 1, dtype=np.int32) * 64
        table = arrow.table({"h": arrow.ListArray.from_arrays(offsets, values)})
    else:
        table = arrow.table({f"h_{k}": np.ascontiguousarray(array[:, k]) for k in range(64)})
    parquet.write_table(table, path, use_dictionary=False, compression="NONE")
    assert parquet.ParquetFile(path).num_row_groups == 1


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("name", KINDS)
def test_files_are_open_only_while_they_are_read(name: str, tmp_path: Path) -> None:
    array = normal((7, COLUMNS), "float32")
    paths = [write(tmp_path, name, array, f"h_{number}") for number in range(12)]
    open_table(paths[0], key=WAYS[name].key).read(0, 7)  # libraries start their threads
    before = open_descriptors()
    table = open_table(paths, key=WAYS[name].key)
    for first in range(0, 84, 4):
        table.read(first, first + 4)
        assert open_descriptors() <= before + 2


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    calls = [0]
    method = getattr(owner, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize("name", ["hdf5_chunked", "zarr"])
def test_reads_in_order_decode_every_block_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = normal((97, COLUMNS), "float32")
    path = tmp_path / f"f{WAYS[name].suffix}"
    if name == "zarr":
        write(tmp_path, name, array, "f")
    else:
        pytest.importorskip("h5py")
        write_hdf5(path, {"h": array}, chunks=(7, 2), compression="gzip")
    table: Any = open_table(path)
    spans = []
    load = table._load
    monkeypatch.setattr(table, "_load", lambda first, last, out: (spans.append((first, last)), load(first, last, out)))
    for first in range(0, 97, 10):
        table.read(first, min(first + 10, 97))
    assert spans[0] == (0, 7)
    assert [first for first, _ in spans[1:]] == [last for _, last in spans[:-1]]
    assert spans[-1][1] == 97


def test_reads_in_order_decode_parquet_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "parquet", normal((97, COLUMNS), "float32"))
    table = open_table(path)
    calls = count_calls(monkeypatch, parquet_files, "_file")
    for first in range(0, 97, 10):
        table.read(first, min(first + 10, 97))
    assert calls == [1]
    table.read(65, 70)  # starts at row 60, the first of its row group
    table.read(95, 97)
    table.read(0, 1)
    assert calls == [4]


@pytest.mark.parametrize("name", KINDS)
def test_reads_on_another_thread(name: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    array = any_bits((97, COLUMNS), "float32")
    table = open_table(write(tmp_path, name, array), key=WAYS[name].key)
    with ThreadPoolExecutor(2) as pool:
        spans = [(first, min(first + 9, 97)) for first in range(0, 97, 9)] * 3
        for (first, last), rows in zip(spans, pool.map(lambda span: table.read(*span).loaded(), spans), strict=True):
            np.testing.assert_array_equal(bits(rows.array), bits(array[first:last]))
