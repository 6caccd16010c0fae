"""Parquet: lists and columns, a batch at a time; nulls are refused by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.formats import write
from support.tables import COLUMNS, any_bits, assert_table, normal

import nrc_fast as nrc
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


def write_columns(path: Path, columns: dict[str, Any], index: Any = None) -> Path:
    """Columns in their order and, if an index is given, what pandas writes beside them."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table(columns)
    if index is not None:
        table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": index, "columns": []})})
    parquet.write_table(table, path, row_group_size=7)
    return path


NAMES = ["torque", "angle", "y_right", "speed", "h_10", "h_2", "y_left", "accel"]
TARGETS = ["y_right", "y_left"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_columns_have_the_order_of_the_file(dtype: str, tmp_path: Path) -> None:
    columns = {name: any_bits((33,), dtype, seed) for seed, name in enumerate(NAMES)}
    path = write_columns(tmp_path / "f.parquet", columns)

    def beside(*names: str) -> Any:
        return np.stack([columns[name] for name in names], axis=1)

    assert_table(open_table(path), beside(*NAMES), [7])
    assert_table(open_table(path, key="h_*"), beside("h_10", "h_2"), [7])
    assert_table(open_table(path, key="*e*"), beside("torque", "angle", "speed", "y_left", "accel"), [7])
    features, targets = open_pair(path, target_key="y_*")
    assert targets is not None
    assert_table(features, beside(*(name for name in NAMES if name not in TARGETS)), [7])
    assert_table(targets, beside(*TARGETS), [7])


def test_a_head_fits_the_columns_that_it_was_trained_on(tmp_path: Path) -> None:
    """Metrics that know W: their values against plain sums over the columns as they were written."""
    rng = np.random.default_rng(0)
    Y, W = rng.standard_normal((60, 2)) * [3, 1], rng.standard_normal((2, 6))
    H = Y @ np.linalg.pinv(W).T + 0.1 * rng.standard_normal((60, 6))
    columns = dict(zip([name for name in NAMES if name not in TARGETS], H.T, strict=True))
    path = write_columns(tmp_path / "f.parquet", {**columns, "y_right": Y[:, 0], "y_left": Y[:, 1]})
    report = nrc.measure(nrc.open(path, target_key="y_*"), W=W, b=np.zeros(2))
    unit, basis = H / np.linalg.norm(H, axis=1, keepdims=True), np.linalg.qr(W.T)[0]
    assert report.mse == pytest.approx(np.mean(np.sum((H @ W.T - Y) ** 2, axis=1)), rel=1e-12)
    assert report.nrc2 == pytest.approx(np.mean(np.sum((unit - unit @ basis @ basis.T) ** 2, axis=1)), rel=1e-12)


@pytest.mark.parametrize(("key", "chosen"), [(None, ["b", "h_2", "a", "h_10"]), ("h_*", ["h_2", "h_10"])])
def test_shards_are_matched_by_the_names_of_their_columns(key: str | None, chosen: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    names = ["b", "h_2", "a", "h_10"]
    array = any_bits((30, 4), "float32")
    orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]
    paths = [
        write_columns(
            tmp_path / f"part_{number}.parquet",
            {names[place]: array[10 * number : 10 * number + 10, place] for place in order},
        )
        for number, order in enumerate(orders)
    ]
    wanted = array[:, [names.index(name) for name in chosen]]
    for given in (str(tmp_path / "part_*.parquet"), paths):
        assert_table(open_table(given, key=key), wanted, [7])
    rows = {"b": wanted[:3, 0], "h_2": wanted[:3, 0], "a": wanted[:3, 0]}
    write_columns(tmp_path / "part_3.parquet", {**rows, "h_11": wanted[:3, 0]})
    with pytest.raises(ValueError, match=r"part_3.* it has no column 'h_10', .* has a column 'h_11'.* h_11 \(float\)"):
        open_table(str(tmp_path / "part_*.parquet"), key=key)
    write_columns(tmp_path / "part_3.parquet", {**rows, "h_10": wanted[:3, 0], "h_11": wanted[:3, 0]})
    with pytest.raises(ValueError, match=r"part_3.* it has a column 'h_11', which they have not"):
        open_table(str(tmp_path / "part_*.parquet"), key=key)


def test_lists_of_shards_are_matched_by_name(tmp_path: Path) -> None:
    lists = [[1.0, 2.0], [3.0, 4.0]]
    paths = [write_columns(tmp_path / f"{name}.parquet", {name: lists}) for name in ("h", "g")]
    with pytest.raises(ValueError, match=r"g\.parquet does not fit the files before it: it has no column 'h'"):
        open_table(paths)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_arrays([arrow.array([1.0]), arrow.array([2.0]), arrow.array([3.0])], ["a", "a", "b"])
    parquet.write_table(table, tmp_path / "f.parquet")
    for key in (None, "a", "*"):
        with pytest.raises(ValueError, match=r"f\.parquet has two columns that are called 'a'"):
            open_table(tmp_path / "f.parquet", key=key)
    assert open_table(tmp_path / "f.parquet", key="b*").read(0, 1).to_float64() == 3.0


@pytest.mark.parametrize(
    "index",
    [
        ["time"],
        ["__index_level_0__"],
        ["time", "run"],
        [{"kind": "range", "name": None, "start": 0, "stop": 20, "step": 1}],
        None,
    ],
    ids=["named", "unnamed", "multi", "range", "dropped"],
)
def test_the_index_of_pandas_is_no_feature(index: Any, tmp_path: Path) -> None:
    array = any_bits((20, 3), "float64")
    columns = {f"h_{k}": array[:, k] for k in range(3)}
    seconds = np.arange(20) * 0.01
    # Writers that do not know pandas keep its column and drop what it wrote about it.
    levels = ["__index_level_0__", "__index_level_1__"] if index is None else [x for x in index if isinstance(x, str)]
    path = write_columns(tmp_path / "f.parquet", {**dict.fromkeys(levels, seconds), **columns}, index)
    assert_table(open_table(path), array, [7])
    assert_table(open_table(path, key="*"), array, [7])
    for level in levels:
        assert_table(open_table(path, key=level, role="Y"), seconds[:, None], [7])
        features, targets = open_pair(path, target_key=level)
        assert targets is not None
        assert_table(features, array, [7])
        with pytest.raises(ValueError, match="has no column"):
            open_table(path, key=f"{level[:-1]}[{level[-1]}]")  # a pattern that matches nothing else


def test_frames_that_pandas_wrote(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    array = any_bits((20, 3), "float32")
    frame = pandas.DataFrame(array, columns=["zeta", "h_10", "h_2"])
    several = pandas.MultiIndex.from_arrays([np.arange(20) * 0.5, np.arange(20) * 0.1], names=["run", None])
    indexes = [None, pandas.Index(np.arange(20) * 0.01, name="time"), pandas.Index(np.arange(20) * 0.01), several]
    for number, index in enumerate(indexes):
        path = tmp_path / f"f_{number}.parquet"
        (frame if index is None else frame.set_index(index)).to_parquet(path, engine="pyarrow")
        assert_table(open_table(path), array, [7])
