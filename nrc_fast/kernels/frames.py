"""Data frames and their columns, of pandas, polars, pyarrow and their like, as arrays of numpy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from nrc_fast.base.arrays import StoredArray, StoredDtype
from nrc_fast.kernels.list_columns import holds_lists, list_matrix

__all__ = ["frame_array"]

# What pyarrow calls floats; all others have the names of numpy, with a capital letter in pandas and polars.
ARROW_FLOATS = {"double": "float64", "float": "float32", "halffloat": "float16"}


def frame_array(values: Any, name: str) -> StoredArray | None:
    """The numbers of a data frame, (N, d), or of one column, (N,); None for everything else.

    The columns become floats of the widest dtype among them, and missing values NaN. Columns that pandas keeps as
    floats of one dtype of numpy are not copied. A column of lists of one length (of pyarrow, polars) is a matrix, where
    it is the only one.

    Parameters
    ----------
    values : object
        A frame of pandas, polars, pyarrow, narwhals or whatever has the methods of one of them; nothing is imported.
        Of everything else that has a method `to_numpy`, what that gives.
    name : str
        How error messages call it.

    Raises
    ------
    TypeError
        A column holds no numbers, such as text, dates, truth values, decimals or lists, no column holds floats, or the
        frame is not computed yet. The message names the column.

    Examples
    --------
    >>> class Frame:
    ...     column_names = ["a", "b"]
    ...     columns = [np.ones(2, np.float32), np.arange(2)]
    ...     to_pylist = None
    >>> frame_array(Frame(), "H")
    array([[1., 0.],
           [1., 1.]])
    """
    if isinstance(values, np.ndarray):
        return None
    if hasattr(values, "collect") and not hasattr(values, "shape"):
        msg = (
            f"{name} is a {type(values).__name__}, which is not computed yet; give what it collects ({name}.collect())"
        )
        raise TypeError(msg)
    columns = _columns(values)
    called = _called(values, name, columns or [])
    if columns is not None and len(columns) == 1 and holds_lists(_dtype(columns[0][1])):
        column = columns[0][1]
        return list_matrix(column, _dtype(column), called[0][0])
    if columns is None:
        return np.asarray(values.to_numpy()) if hasattr(values, "to_numpy") else None
    if not columns:
        msg = f"{name} is a {type(values).__name__} without columns; one for each feature is expected"
        raise TypeError(msg)
    pairs = zip(columns, called, strict=True)
    common = np.result_type(*(_checked_dtype(column, text, given) for (_, column), (text, given) in pairs))
    if common.kind != "f":
        msg = f"{name} has columns of {common}, and none of floats. Convert it, for example to float32"
        raise TypeError(msg)
    if hasattr(values, "iloc") and all(_dtype(column) == common for _, column in columns):
        plain: StoredArray = values.to_numpy()
        return plain
    if _is_column(values):
        return _floats(values, common)
    array = np.empty((len(columns[0][1]), len(columns)), common)
    for place, (_, column) in enumerate(columns):
        array[:, place] = _floats(column, common)
    return array


def _columns(values: Any) -> list[tuple[object, Any]] | None:
    """Columns with their names; None for what is neither a frame nor a column."""
    if _is_column(values):
        return [(getattr(values, "name", None), values)]
    if hasattr(values, "iloc") and hasattr(values, "columns"):  # pandas and its like: names may be there twice
        return [(label, values.iloc[:, place]) for place, label in enumerate(values.columns)]
    if hasattr(values, "column_names") and hasattr(values, "to_pylist"):  # pyarrow
        return list(zip(values.column_names, values.columns, strict=True))
    if hasattr(values, "iter_columns"):  # polars and narwhals
        return [(column.name, column) for column in _iterated(values)]
    return None


def _iterated(values: Any) -> Iterator[Any]:
    found: Iterator[Any] = values.iter_columns()
    return found


def _is_column(values: Any) -> bool:
    if hasattr(values, "iloc"):
        return not hasattr(values, "columns")
    # Of polars, narwhals and pyarrow.
    return hasattr(values, "null_count") and hasattr(values, "to_numpy") and _dtype(values) is not None


def _dtype(column: Any) -> object:
    dtype: object = getattr(column, "dtype", None)
    return getattr(column, "type", None) if dtype is None else dtype


def _called(values: Any, name: str, columns: list[tuple[object, Any]]) -> list[tuple[str, str]]:
    """What columns are called in messages, and how a program has each by itself."""
    if _is_column(values):
        return [(name, name)]
    return [(f"column {label!r} of {name}", f"{name}[{label!r}]") for label, _ in columns]


def _checked_dtype(column: Any, name: str, given: str) -> StoredDtype:
    """The dtype of numpy that has the values of a column."""
    text = str(_dtype(column)).lower().removesuffix("[pyarrow]")
    text = ARROW_FLOATS.get(text, text)
    if re.fullmatch(r"float(16|32|64)|u?int(8|16|32|64)", text):
        return np.dtype(text)
    array = np.asarray(column)  # sparse columns and categories that are numbers
    if array.ndim == 1 and array.dtype.kind in "fiu":
        return array.dtype
    if holds_lists(text) or (array.size and len(np.shape(array.flat[0])) == 1):
        line = given if holds_lists(text) and not hasattr(column, "iloc") else f"numpy.stack({given})"
        msg = f"{name} has dtype {_dtype(column)}, a list in each row; give that column alone, as one matrix: {line}"
        raise TypeError(msg)
    msg = f"{name} has dtype {_dtype(column)}; floats are expected. Leave it out or convert it"
    raise TypeError(msg)


def _floats(column: Any, dtype: StoredDtype) -> StoredArray:
    """The values of a column, NaN where they are missing."""
    if not hasattr(column, "iloc"):
        return np.asarray(column).astype(dtype, copy=False)
    if isinstance(_dtype(column), np.dtype):
        return np.asarray(column.to_numpy(), dtype)
    values: StoredArray = column.to_numpy(dtype=dtype, na_value=np.nan)
    return values
