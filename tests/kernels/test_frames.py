"""Data frames become the numbers of their columns; what numbers are not in is named by its column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.kernels.frames import frame_array
from nrc_fast.kernels.inputs import as_rows

H = np.random.default_rng(0).standard_normal((40, 4)) * [3, 2, 1, 1]
NAMES = ["a", "b", "c", "d"]


@dataclass
class Column:
    """A column of a library whose dtypes numpy does not know, as the extension types of pandas are."""

    values: Any
    dtype: Any
    name: str = "a"
    iloc: None = None
    missing: list[int] = field(default_factory=list)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        del dtype, copy
        return np.array(self.values, dtype=object)

    def __len__(self) -> int:
        return len(self.values)

    def to_numpy(self, dtype: Any, na_value: float) -> Any:
        found = np.array(self.values).astype(dtype)
        found[self.missing] = na_value
        return found


@dataclass
class Frame:
    """Columns by place, as pandas has them."""

    parts: list[Column]

    @property
    def columns(self) -> list[str]:
        return [part.name for part in self.parts]

    @property
    def iloc(self) -> Frame:
        return self

    def __getitem__(self, key: tuple[slice, int]) -> Column:
        return self.parts[key[1]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        pytest.fail("numpy would make objects of it")


def framed(dtype: str | list[str], array: Any = H) -> Frame:
    kinds = [dtype] * 4 if isinstance(dtype, str) else dtype
    return Frame([Column(array[:, place], kind, NAMES[place]) for place, kind in enumerate(kinds)])


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("Float64", "float64"),
        ("Float32", "float32"),
        ("double[pyarrow]", "float64"),
        ("float[pyarrow]", "float32"),
        ("halffloat[pyarrow]", "float16"),
        (["Float32", "Float64", "Float32", "Float32"], "float64"),
        (["Float32", "Int64", "Float32", "Float32"], "float64"),
        (["Float32", "Int16", "Float32", "UInt8"], "float32"),
    ],
)
def test_extension_dtypes_of_pandas(dtype: str | list[str], wanted: str) -> None:
    whole = np.abs(np.round(H)) if not isinstance(dtype, str) else H
    rows = as_rows(framed(dtype, whole), "H")
    assert rows.dtype == wanted
    np.testing.assert_array_equal(rows.to_float64(), whole.astype(wanted).astype(np.float64))


def test_missing_values_are_not_finite() -> None:
    frame = framed("Float64")
    frame.parts[1].missing = [3, 17]
    wanted = H.copy()
    wanted[[3, 17], 1] = np.nan
    np.testing.assert_array_equal(as_rows(frame, "H").to_float64(), wanted)
    with pytest.raises(ValueError, match=r"2 of 40 rows hold NaN .* the first is row 3"):
        nrc.nrc1(frame, 2)
    report = nrc.measure(frame, n=2, nonfinite="skip")
    assert (report.samples, report.nrc1) == (38, nrc.measure(H[np.isfinite(wanted[:, 1])], n=2).nrc1)


@pytest.mark.parametrize("dtype", ["boolean", "string", "object", "datetime64[us]", "decimal128(5, 1)[pyarrow]"])
def test_columns_without_numbers_are_named(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"column 'c' of H has dtype .*; floats are expected. Leave it out") as raised:
        as_rows(framed(["Float64", "Float64", dtype, "Float64"]), "H")
    assert f"dtype {dtype};" in str(raised.value)
    with pytest.raises(TypeError, match=r"^Y has dtype "):
        as_rows(Column(H[:, 0], dtype), "Y", vector_is_column=True)


def test_columns_of_integers_alone_are_refused_as_arrays_are() -> None:
    with pytest.raises(TypeError, match="H has columns of int64, and none of floats"):
        as_rows(framed("Int64"), "H")
    with pytest.raises(TypeError, match="H is a Frame without columns"):
        as_rows(Frame([]), "H")


def test_a_column_is_a_vector_of_targets() -> None:
    column = Column(H[:, 0], "Float64", missing=[1])
    rows = as_rows(column, "Y", vector_is_column=True)
    np.testing.assert_array_equal(rows.to_float64()[:, 0], np.where(np.arange(40) == 1, np.nan, H[:, 0]))


def test_frames_that_are_not_computed_yet() -> None:
    class LazyFrame:
        def collect(self) -> Any:
            pytest.fail("computed")

    with pytest.raises(TypeError, match=r"H is a LazyFrame, which is not computed yet; give what it collects"):
        nrc.nrc1(LazyFrame(), 2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whatever_has_to_numpy(dtype: str) -> None:
    """Frames of libraries that are not known, that do not let numpy convert them, and whose iterator gives names."""

    class Other:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __iter__(self) -> Any:
            return iter(NAMES)

        def to_numpy(self) -> Any:
            return self.array

    array = H.astype(dtype)
    assert as_rows(Other(array), "H").array is array
    found = nrc.measure(Other(array), Other(array[:, 0]))
    assert (found.dtype, found.nrc1) == (dtype, nrc.measure(array, array[:, 0]).nrc1)
    with pytest.raises(TypeError, match="H has dtype int64; float64, float32"):
        as_rows(Other(H.astype(np.int64)), "H")


def test_frames_that_numpy_must_not_convert() -> None:
    """As those on a device do, whose columns numpy knows the dtypes of."""

    class Part(Column):
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            pytest.fail("converted")

        def to_numpy(self, dtype: Any = None, na_value: Any = None) -> Any:
            assert dtype is None
            assert na_value is None
            return self.values

    whole = np.round(H)
    kinds = [np.dtype(kind) for kind in ("float32", "int64", "float64", "float32")]
    columns: list[Column] = [Part(whole[:, place].astype(kind), kind, NAMES[place]) for place, kind in enumerate(kinds)]
    rows = as_rows(Frame(columns), "H")
    assert rows.dtype == "float64"
    np.testing.assert_array_equal(rows.array, whole)


def arrow_columns(array: Any) -> dict[str, Any]:
    arrow = pytest.importorskip("pyarrow")
    return {name: arrow.array(array[:, place]) for place, name in enumerate(NAMES)}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_tables_of_pyarrow(dtype: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    array = H.astype(dtype)
    table = arrow.table(arrow_columns(array))
    twice = arrow.concat_tables([table, table])
    for given, wanted in ((table, array), (table.to_batches()[0], array), (twice, np.vstack([array, array]))):
        rows = as_rows(given, "H")
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows.array, wanted)
    for column in (table["b"], table["b"].chunk(0)):
        np.testing.assert_array_equal(as_rows(column, "Y", vector_is_column=True).array, array[:, 1:2])
    report = nrc.measure(table, table["b"])
    assert report.nrc1 == nrc.measure(array, array[:, 1]).nrc1
    batches = nrc.measure(iter(table.to_batches(max_chunksize=7)), n=1)
    assert batches.samples == 40


def test_tables_of_pyarrow_with_other_columns() -> None:
    arrow = pytest.importorskip("pyarrow")
    columns = arrow_columns(H)
    null = arrow.array([None, *H[1:, 1]])
    rows = as_rows(arrow.table({**columns, "b": null, "c": arrow.array(range(40))}), "H").to_float64()
    assert np.isnan(rows[0, 1])
    np.testing.assert_array_equal(rows[1:], np.column_stack([H[:, 0], H[:, 1], np.arange(40), H[:, 3]])[1:])
    others = {"bool": [True] * 40, "string": ["x"] * 40, "list<item: double>": H.tolist()}
    for kind, values in others.items():
        with pytest.raises(TypeError, match="column 'e' of H has dtype ") as raised:
            as_rows(arrow.table({**columns, "e": arrow.array(values)}), "H")
        assert kind in str(raised.value)


PANDAS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda frame: frame,
    "masked": lambda frame: frame.astype("Float64"),
    "arrow": lambda frame: frame.astype("float64[pyarrow]"),
    "mixed": lambda frame: frame.astype({"a": "Float64", "c": "float64[pyarrow]"}),
    "converted": lambda frame: frame.convert_dtypes(),
    "category": lambda frame: frame.astype({"a": "category"}),
    "two_levels": lambda frame: frame.astype("Float64").set_axis([("x", 1), ("x", 2), ("y", 1), ("y", 1)], axis=1),
    "indexed": lambda frame: frame.astype("Float64").set_index(0.1 * np.arange(40)),
}


@pytest.mark.parametrize("name", PANDAS)
def test_frames_of_pandas(name: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = PANDAS[name](pandas.DataFrame(H, columns=NAMES))
    np.testing.assert_array_equal(as_rows(frame, "H").to_float64(), H)
    column = frame.iloc[:, 0]
    np.testing.assert_array_equal(as_rows(column, "Y", vector_is_column=True).to_float64()[:, 0], H[:, 0])
    assert nrc.nrc1(frame, 2) == pytest.approx(nrc.nrc1(H, 2), rel=1e-12)


def test_plain_frames_of_pandas_are_not_copied() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(H, columns=NAMES)
    found = frame_array(frame, "H")
    assert found is not None
    assert np.shares_memory(found, frame.to_numpy())


def test_frames_of_pandas_with_missing_values_and_others() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(H, columns=NAMES).astype("Float64")
    frame.iloc[5, 2] = pandas.NA
    wanted = H.copy()
    wanted[5, 2] = np.nan
    np.testing.assert_array_equal(as_rows(frame, "H").to_float64(), wanted)
    for values in (True, "x", pandas.Timestamp("2020"), [H[0]] * 40):
        with pytest.raises(TypeError, match="column 'e' of H has dtype "):
            as_rows(frame.assign(e=values), "H")


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({name: H[:, place] for place, name in enumerate(NAMES)})
    np.testing.assert_array_equal(as_rows(frame, "H").array, H)
    np.testing.assert_array_equal(as_rows(frame["b"], "Y", vector_is_column=True).array, H[:, 1:2])
    single = frame.cast(polars.Float32)
    assert as_rows(single, "H").dtype == "float32"
    holes = frame.with_columns(b=polars.when(polars.col("b") > 0).then(polars.col("b")))
    wanted = H.copy()
    wanted[H[:, 1] <= 0, 1] = np.nan
    np.testing.assert_array_equal(as_rows(holes, "H").array, wanted)
    for other in (True, "x", [1.0, 2.0]):
        with pytest.raises(TypeError, match="column 'e' of H has dtype "):
            as_rows(frame.with_columns(e=polars.lit(other)), "H")
    with pytest.raises(TypeError, match="LazyFrame, which is not computed yet"):
        nrc.nrc1(frame.lazy(), 2)
