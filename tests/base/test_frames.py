"""Frames hold the columns, in the library that the user works with."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from nrc_fast.base.frames import make_frame

COLUMNS = {"step": [0, 10], "nrc1": [0.5, float("nan")], "run": ["a", "b"], "count": [3, None]}


class FakePolars:
    """As much of polars as is called."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self.columns = columns


@pytest.fixture
def polars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(DataFrame=FakePolars))


def test_pandas_holds_the_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = make_frame(COLUMNS, "pandas")
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["step"].tolist() == [0, 10]
    assert frame["step"].dtype == np.int64
    assert frame["nrc1"].dtype == np.float64
    assert frame["nrc1"].isna().tolist() == [False, True]
    assert frame["count"].isna().tolist() == [False, True]
    assert frame["run"].tolist() == ["a", "b"]


@pytest.mark.usefixtures("polars")
def test_the_library_that_is_imported_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    frame = make_frame(COLUMNS)
    assert isinstance(frame, FakePolars)
    assert frame.columns == COLUMNS
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    assert make_frame(COLUMNS) == list(COLUMNS)  # both are imported
    assert isinstance(make_frame(COLUMNS, "polars"), FakePolars)


@pytest.mark.usefixtures("polars")
def test_one_that_cannot_be_imported_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(make_frame(COLUMNS), FakePolars)
    with pytest.raises(ImportError, match="a data frame needs pandas: pip install pandas"):
        make_frame(COLUMNS, "pandas")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="needs pandas or polars: pip install pandas"):
        make_frame(COLUMNS)


def test_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match="library is 'dask'; 'pandas' or 'polars' is expected"):
        make_frame(COLUMNS, "dask")  # type: ignore[call-overload]
