"""Every file format gives the array that was written, bit for bit, or an error that names the file."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.formats import KINDS, WAYS, WAYS_AND_DTYPES, files_of, truncate, write
from support.tables import COLUMNS, SIZES, any_bits, as_rows, assert_rows, assert_table, bits, normal

from nrc_fast.kernels import calls as kernels_calls
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.results import Basis
from nrc_fast.sources.opening import open_pair, open_table
from nrc_fast.sources.table import Table

SMALL = np.arange(12, dtype=np.float32).reshape(4, 3)


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


@pytest.mark.parametrize("name", KINDS)
def test_reads_on_another_thread(name: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    array = any_bits((97, COLUMNS), "float32")
    table = open_table(write(tmp_path, name, array), key=WAYS[name].key)
    with ThreadPoolExecutor(2) as pool:
        spans = [(first, min(first + 9, 97)) for first in range(0, 97, 9)] * 3
        for (first, last), rows in zip(spans, pool.map(lambda span: table.read(*span).loaded(), spans), strict=True):
            np.testing.assert_array_equal(bits(rows.array), bits(array[first:last]))
