"""Columns of lists of pyarrow and polars are matrices; lists that are none of one length are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.kernels.inputs import as_rows

H = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)


class Lists:
    """Lists of one length or not, as a series of polars offers them."""

    name, null_count = "h", 0

    def __init__(self, lists: list[Any], dtype: str) -> None:
        self.lists, self.dtype = lists, dtype

    @property
    def list(self) -> Lists:
        return self

    def len(self) -> Any:
        return np_column([len(part) for part in self.lists])

    def is_not_null(self) -> Any:
        return np_column([part is not None for part in self.lists])

    def drop_nulls(self) -> Lists:
        return Lists([part for part in self.lists if part is not None], self.dtype)

    def explode(self) -> Any:
        return np_column(np.concatenate([np.asarray(part) for part in self.lists]))

    def to_numpy(self) -> Any:
        return np.array(self.lists)


def np_column(values: Any) -> Any:
    class Column:
        def to_numpy(self) -> Any:
            return np.asarray(values)

    return Column()


def series(lists: Any, dtype: str) -> Any:
    return Lists(list(lists), dtype)


def of_polars(lists: Any, dtype: str) -> Any:
    polars = pytest.importorskip("polars")
    return polars.Series(
        "h", lists if dtype.startswith("Array") else [None if part is None else list(part) for part in lists]
    )


@pytest.mark.parametrize("made", [series, of_polars])
def test_series_of_polars(made: Any) -> None:
    for column in (made(H, "List(Float32)"), made(H, "Array(Float32, shape=(3,))")):
        np.testing.assert_array_equal(as_rows(column, "H").to_float64(), H.astype(np.float64))
    missing = as_rows(made([H[0], None, H[1]], "List(Float32)"), "H").to_float64()
    np.testing.assert_array_equal(missing, [H[0], [np.nan] * 3, H[1]])
    with pytest.raises(ValueError, match="H holds lists of 1 to 3 numbers; as many in each are expected"):
        as_rows(made([H[0], [1.0]], "List(Float64)"), "H")
    with pytest.raises(ValueError, match="lists of lists"):
        as_rows(made([[[1.0]], [[2.0]]], "List(List(Float64))"), "H")


def lists_of_pyarrow(pyarrow: Any, kind: str, rows: Any = H) -> Any:
    lists = [None if part is None else list(part) for part in rows]
    if kind == "tensors":
        return pyarrow.FixedShapeTensorArray.from_numpy_ndarray(np.asarray(rows))
    value = pyarrow.float32()
    types = {"fixed": pyarrow.list_(value, 3), "lists": pyarrow.list_(value), "large": pyarrow.large_list(value)}
    return pyarrow.array(lists, types[kind])


@pytest.mark.parametrize("kind", ["fixed", "lists", "large", "tensors"])
def test_lists_of_pyarrow(kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    column = lists_of_pyarrow(pyarrow, kind)
    twice = pyarrow.chunked_array([column, column])
    table = pyarrow.table({"h": column})
    expected = H.astype(np.float64)
    np.testing.assert_array_equal(as_rows(column, "H").to_float64(), expected)
    np.testing.assert_array_equal(as_rows(column.slice(2), "H").to_float64(), expected[2:])
    np.testing.assert_array_equal(as_rows(twice, "H").to_float64(), np.concatenate([expected, expected]))
    np.testing.assert_array_equal(as_rows(table, "H").to_float64(), expected)
    assert as_rows(table, "H").dtype == "float32"
    assert nrc.nrc1(table, 1) == nrc.nrc1(H, 1)


@pytest.mark.parametrize("kind", ["fixed", "lists", "large"])
def test_lists_that_are_missing_are_rows_that_are_not_finite(kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    column = lists_of_pyarrow(pyarrow, kind, [*H, None, H[0]])
    with pytest.raises(ValueError, match="1 of 8 rows hold NaN or infinite values, the first is row 6"):
        nrc.measure(column, n=1)
    assert nrc.measure(column, n=1, nonfinite="skip").nrc1 == nrc.measure(np.concatenate([H, H[:1]]), n=1).nrc1


def test_lists_of_pyarrow_that_are_no_matrix() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="column 'h' of H holds lists of 1 to 2 numbers"):
        as_rows(pyarrow.table({"h": [[1.0], [1.0, 2.0]]}), "H")
    with pytest.raises(ValueError, match=r"H has dtype list<.*list<.*: lists of lists"):
        as_rows(pyarrow.array([[[1.0]], [[2.0]]]), "H")
    with pytest.raises(ValueError, match=r"shape .*rows without values"):
        as_rows(pyarrow.array([[], []], pyarrow.list_(pyarrow.float32())), "H")
    with pytest.raises(TypeError, match="H has dtype int64"):
        as_rows(pyarrow.array([[1], [2]]), "H")
    both = pyarrow.table({"h": lists_of_pyarrow(pyarrow, "fixed"), "y": H[:, 0]})
    with pytest.raises(TypeError, match=r"column 'h' of H .* a list in each row; give that column .*: H\['h'\]$"):
        as_rows(both, "H")
    np.testing.assert_array_equal(as_rows(both["h"], "H").to_float64(), H.astype(np.float64))


def test_lists_in_pandas_are_told_how() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"h": list(H), "y": H[:, 0]})
    with pytest.raises(TypeError, match=r"a list in each row; .*: numpy.stack\(H\['h'\]\)$"):
        as_rows(frame, "H")
    np.testing.assert_array_equal(as_rows(np.stack(frame["h"]), "H").to_float64(), H.astype(np.float64))
