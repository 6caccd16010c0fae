"""Arrays of every bit pattern, and what a table of one must give."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nrc_fast.kernels import inputs
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.table import Table, storage_dtype

SIZES = [0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97]
COLUMNS = 5
DTYPES = ["float64", "float32", "float16", "bfloat16"]


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
