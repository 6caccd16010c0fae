"""Damaged files: each is read by this package and by the format's own library, in a process that may die of it.

``python mutations.py FOLDER FORMAT FIRST LAST`` prints a line for each file from number FIRST on: "equal", "refused" or
what is wrong. The damage depends on the format and the number only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS, COLUMNS = 60, 5
# What users are told that a file is wrong with.
REFUSALS = (OSError, ValueError, TypeError, MemoryError)
SECONDS = 60


def array() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((ROWS, COLUMNS)).astype(np.float32)


# ---- writers, and readers of the formats' own libraries ----


def write_npz(path: Path) -> None:
    np.savez(path, h=array(), other=np.arange(3))


def write_compressed(path: Path) -> None:
    np.savez_compressed(path, h=array())


def read_npz(path: Path) -> Any:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return stored["h"]


def write_torch(path: Path) -> None:
    import torch

    torch.save({"h": torch.from_numpy(array()), "step": 3}, path)


def read_torch(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)["h"].numpy()


def write_safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"h": array()}, path)


def read_safetensors(path: Path) -> Any:
    from safetensors.numpy import load_file

    return load_file(path)["h"]


def write_hdf5(path: Path, version: str = "earliest") -> None:
    import h5py

    with h5py.File(path, "w", libver=version) as file:
        file.create_dataset("h", data=array(), chunks=(16, COLUMNS), compression="gzip", fletcher32=True)


def read_hdf5(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        return file["h"][:]


def write_zarr(path: Path) -> None:
    import zarr

    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_group(store).create_array("h", data=array(), chunks=(16, COLUMNS))


def read_zarr(path: Path) -> Any:
    import zarr

    with zarr.storage.ZipStore(path, mode="r") as store:
        return zarr.open_group(store, mode="r")["h"][:]


def write_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {f"h{number}": column for number, column in enumerate(array().T)}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=25, write_page_checksum=True)


def read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    table = parquet.read_table(path, page_checksum_verification=True)
    return np.column_stack([column.to_numpy() for column in table.columns])


def write_statistics(path: Path) -> None:
    import nrc_fast as nrc

    nrc.FeatureStatistics(COLUMNS, n_targets=2).update(array(), array()[:, :2]).save(path)


def read_statistics(path: Path) -> Any:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if name != "header"}


def read_ours(path: Path) -> Any:
    from nrc_fast.sources.opening import open_table

    table = open_table(path, key={".parquet": "h*", ".npy": None}.get(path.suffix, "h"))
    return table.read(0, table.count).to_float64()


def read_our_statistics(path: Path) -> Any:
    import nrc_fast as nrc

    return nrc.FeatureStatistics.load(path).arrays()


Reader = Callable[[Path], Any]
FORMATS: dict[str, tuple[str, Reader, Reader, Reader]] = {
    "npy": (".npy", lambda path: np.save(path, array()), np.load, read_ours),
    "npz": (".npz", write_npz, read_npz, read_ours),
    "compressed npz": (".npz", write_compressed, read_npz, read_ours),
    "torch": (".pt", write_torch, read_torch, read_ours),
    "safetensors": (".safetensors", write_safetensors, read_safetensors, read_ours),
    "hdf5": (".h5", write_hdf5, read_hdf5, read_ours),
    "latest hdf5": (".h5", lambda path: write_hdf5(path, "latest"), read_hdf5, read_ours),
    "zarr": (".zarr.zip", write_zarr, read_zarr, read_ours),
    "parquet": (".parquet", write_parquet, read_parquet, read_ours),
    "statistics": (".npz", write_statistics, read_statistics, read_our_statistics),
}


# ---- damage ----


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut, written over, put in or doubled, or a field that may be a length."""
    found = bytearray(content)
    place = int(rng.integers(len(found)))
    if rng.random() < 0.5:  # headers and directories are at the ends
        place = min(place, len(found) - 1 - place, 400)
        place = place if rng.random() < 0.5 else len(found) - 1 - place
    kind = int(rng.integers(6))
    if kind == 0:
        for _ in range(int(rng.integers(1, 5))):
            found[min(place + int(rng.integers(8)), len(found) - 1)] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del found[place:]
    elif kind == 2:
        size = int(rng.choice([2, 4, 8]))
        number = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, len(content), int(rng.integers(2**40))]))
        found[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    elif kind == 3:
        size = int(rng.integers(1, 64))
        found[place : place + size] = bytes([int(rng.choice([0, 255]))]) * len(found[place : place + size])
    elif kind == 4:
        found[place:place] = rng.bytes(int(rng.integers(1, 32)))
    else:
        size = int(rng.integers(1, 64))
        found[place : place + size] = found[max(place - size, 0) : place]
    return bytes(found)


def outcome(path: Path, library: Reader, ours: Reader, before: Any = None) -> str:
    """What comes of a file: "equal", "refused", or what is wrong.

    The numbers from before the damage are right whatever its library makes of the file: damage may be in what is not
    needed for them, and torch gives what was in memory for a record that the archive calls a folder.
    """
    try:
        found = ours(path)
    except REFUSALS as error:
        return "refused" if "\n" not in str(error) and str(error) else f"no line: {type(error).__name__} {error!r}"
    except Exception as error:
        return f"an error of another kind: {type(error).__name__} {error!r}"
    if before is not None and is_equal(found, before):
        return "equal"
    try:
        wanted = library(path)
    except Exception as error:
        return f"accepted what its library refuses: {type(error).__name__} {str(error)[:100]!r}"
    return "equal" if is_equal(found, wanted) else "other numbers than its library's"


def is_equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, dict):
        # Counts of later versions are more.
        return all(np.array_equal(np.ravel(found[key])[: array.size], np.ravel(array)) for key, array in wanted.items())
    return np.array_equal(found, np.asarray(wanted, dtype=np.float64), equal_nan=True)


def main(folder: Path, name: str, first: int, last: int) -> None:
    suffix, write, library, ours = FORMATS[name]
    whole = folder / f"whole{suffix}"
    if not whole.exists():
        write(whole)
    content = whole.read_bytes()
    assert outcome(whole, library, ours) == "equal"
    before = library(whole)
    print("begun", flush=True)
    for number in range(first, last):
        path = folder / f"damaged{suffix}"
        path.write_bytes(damaged(content, np.random.default_rng([zlib.crc32(name.encode()), number])))
        print(json.dumps([number, outcome(path, library, ours, before)]), flush=True)


# ---- in processes of their own ----


def check(folder: Path, name: str, first: int, last: int) -> tuple[dict[str, int], list[str]]:
    """How many of the files had each good end, and the others in words; who dies of a file goes on after it."""
    counts, wrong = {"equal": 0, "refused": 0}, []
    while first < last:
        command = [sys.executable, "-W", "ignore", __file__, str(folder), name, str(first), str(last)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS + (last - first) / 10, cwd=folder, check=False
            )
            said, status, complaints = done.stdout, done.returncode, done.stderr[-300:]
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else error.stdout or ""
            status, complaints = -9, "no end"
        if not said.startswith("begun"):
            msg = f"the whole file of {name} was not read: {complaints}"
            raise RuntimeError(msg)
        lines = [json.loads(line) for line in said.splitlines() if line.endswith("]")]
        for number, result in lines:
            if result in counts:
                counts[result] += 1
            else:
                wrong.append(f"{name} {number}: {result}")
        first = lines[-1][0] + 1 if lines else first
        if status == 0 and first == last:
            break
        wrong.append(f"{name} {first}: the process ended with {status} {complaints}")
        first += 1
    return counts, wrong


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
