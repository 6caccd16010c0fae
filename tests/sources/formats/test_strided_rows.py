"""Values that lie in a file with any strides are those of the array."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nrc_fast.sources.formats import strided_rows
from nrc_fast.sources.formats.strided_rows import Placement, StridedTable, stored_rows
from nrc_fast.sources.table import RawTable

VALUES = np.random.default_rng(0).standard_normal(5000).astype(np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("strided") / "values"
    path.write_bytes(b"xyz" + VALUES.tobytes())
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 9)),
    strides=st.tuples(st.integers(0, 70), st.integers(0, 70)),
    piece=st.sampled_from([4, 40, 400, 1 << 20]),
    is_native=st.booleans(),
    is_negated=st.booleans(),
)
def test_any_strides(
    file: Path, shape: tuple[int, int], strides: tuple[int, int], piece: int, is_native: bool, is_negated: bool
) -> None:
    wanted = np.lib.stride_tricks.as_strided(VALUES[7:], shape, (4 * strides[0], 4 * strides[1]))
    if not is_native:
        wanted = wanted.byteswap()
    if is_negated:
        wanted = -wanted
    place = Placement(3 + 28, *strides, is_native=is_native, is_negated=is_negated)
    table = stored_rows(file, "x", shape, "float32", place)
    dense = (shape[0] == 1 or strides[0] == shape[1]) and (shape[1] == 1 or strides[1] == 1)
    assert isinstance(table, RawTable) == (dense and is_native and not is_negated)
    before, strided_rows.PIECE_BYTES = strided_rows.PIECE_BYTES, piece
    try:
        for first, last in ((0, shape[0]), (shape[0] // 2, shape[0]), (0, 0)):
            found = table.read(first, last).loaded().array
            np.testing.assert_array_equal(
                found.view(np.uint32), np.ascontiguousarray(wanted[first:last]).view(np.uint32)
            )
    finally:
        strided_rows.PIECE_BYTES = before


@pytest.mark.parametrize(("strides", "row"), [((7, 2), 3), ((1, 10), 1), ((0, 9), 0)])
def test_rows_that_are_gone_are_named(strides: tuple[int, int], row: int, tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(VALUES.tobytes())
    table = StridedTable(path, "x", (10, 4), "float32", Placement(0, *strides))
    os.truncate(path, 4 * (3 * 7 + 5) if strides[0] == 7 else 4 * 31 if strides[0] else 4 * 20)
    table.stamp.check = lambda: None  # type: ignore[method-assign] # as if it had shrunk after that
    with pytest.raises(OSError, match=f"row {row} of x cannot be read: the file ends before it"):
        table.read(0, 10)
    with pytest.raises(OSError, match="x is truncated"):
        StridedTable(path, "x", (10, 4), "float32", Placement(0, *strides))
