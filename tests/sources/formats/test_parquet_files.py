"""Parquet: lists and columns, a batch at a time; nulls are refused by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import write
from support.tables import COLUMNS, any_bits, assert_table, normal

from nrc_fast.sources.formats import parquet_files
from nrc_fast.sources.opening import open_pair, open_table


def test_targets_in_columns_of_parquet(tmp_path: Path) -> None:
    features, targets = any_bits((33, COLUMNS), "float32", 1), any_bits((33, 2), "float32", 2)
    path = write(tmp_path, "parquet_columns", features, y=targets)
    pair = open_pair(path, target_key="y_*")
    assert pair[1] is not None
    assert_table(pair[0], features, [7])
    assert_table(pair[1], targets, [7])


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


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    calls = [0]
    method = getattr(owner, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)
    return calls


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
