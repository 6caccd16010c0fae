"""Columns that hold a list in each row, of pyarrow and polars, as matrices of numpy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from nrc_fast.base.arrays import IntArray, StoredArray

__all__ = ["holds_lists", "list_matrix"]

# How the libraries write the type of a column of lists.
OF_POLARS = ("array(", "list(")
OF_PYARROW = ("fixed_size_list<", "large_list<", "list<")
OF_TENSORS = "extension<arrow.fixed_shape_tensor"


def holds_lists(dtype: object) -> bool:
    """Whether the dtype of a column is one of lists.

    Examples
    --------
    >>> holds_lists("fixed_size_list<item: float>[4]"), holds_lists("float")
    (True, False)
    """
    return str(dtype).lower().startswith((*OF_POLARS, *OF_PYARROW, OF_TENSORS))


def list_matrix(column: Any, dtype: object, name: str) -> StoredArray:
    """The numbers of a column of lists, (N, d); a list that is missing is a row of NaN.

    Parameters
    ----------
    column : object
        An array or chunked array of pyarrow, or a series of polars.
    dtype : object
        Its type.
    name : str
        How error messages call it.

    Raises
    ------
    ValueError
        The lists differ in their lengths, or hold lists themselves.
    """
    text = str(dtype).lower()
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if text.startswith(OF_TENSORS):
        return np.asarray(column.to_numpy_ndarray())
    if text.startswith("array("):
        return np.asarray(column.to_numpy())
    inside = re.split(r"[<(]", text, maxsplit=1)[-1]
    if any(part in inside for part in (*OF_POLARS, *OF_PYARROW)):
        msg = f"{name} has dtype {dtype}: lists of lists; one list of numbers for each row is expected"
        raise ValueError(msg)
    if text.startswith("list("):
        there = np.asarray(column.is_not_null().to_numpy(), dtype=bool)
        present = column.drop_nulls()
        lengths, numbers = np.asarray(present.list.len().to_numpy(), dtype=np.int64), present.explode().to_numpy()
    else:
        there = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        present = column.drop_null()
        numbers = present.flatten().to_numpy(zero_copy_only=False)
        sizes = present.value_lengths() if hasattr(present, "value_lengths") else None
        lengths = np.full(len(present), column.type.list_size) if sizes is None else np.asarray(sizes)
    return _stacked(np.asarray(numbers), lengths, there, name)


def _stacked(numbers: StoredArray, lengths: IntArray, there: StoredArray, name: str) -> StoredArray:
    """Lists that lie one after the other as rows, and NaN where there is none."""
    least, most = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
    if least != most:
        msg = f"{name} holds lists of {least} to {most} numbers; as many in each are expected, one for each feature"
        raise ValueError(msg)
    if there.all():
        return numbers.reshape(len(there), most) if most else np.empty((len(there), 0), numbers.dtype)
    matrix = np.full((len(there), most), np.nan, np.result_type(numbers, np.float16))
    matrix[there] = numbers.reshape(len(lengths), most)
    return matrix
