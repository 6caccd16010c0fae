"""One writer for every way to store arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.tables import DTYPES, bits

NO_BFLOAT16 = DTYPES[:3]
Writer = Callable[[Path, dict[str, Any]], None]


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
            # The names say nothing about the order.
            order = np.random.default_rng(0).permutation(array.shape[1])
            columns |= {f"{key}_{name + 8}": np.ascontiguousarray(array[:, place]) for place, name in enumerate(order)}
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
    "torch": Way(".pt", write_torch, DTYPES),
    "torch_bare": Way(".pth", write_bare_tensor, DTYPES, holds_several=False),
    "torch_strided": Way(".pt", write_strided_tensor, DTYPES),
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


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
