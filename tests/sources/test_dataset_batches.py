"""Data sets of Hugging Face are read by the names of their columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.sources import dataset_batches

RNG = np.random.default_rng(0)
H, Y = RNG.standard_normal((50, 4)), RNG.standard_normal((50, 2))


class Part:
    """Some rows, by column, as a table of pyarrow has them."""

    column_names = ("h", "y", "text")

    def __init__(self, rows: slice) -> None:
        self.rows = rows

    def __getitem__(self, name: str) -> Any:
        return {"h": H, "y": Y}[name][self.rows] if name != "text" else ["..."]


class Dataset:
    """The part of datasets.Dataset that is used; one row at a time is what its own iterator gives."""

    __module__ = "datasets.arrow_dataset"
    shape = (50, 3)

    def with_format(self, kind: str) -> Dataset:
        assert kind == "arrow"
        return self

    def iter(self, batch_size: int) -> Iterator[Part]:
        return (Part(slice(first, first + batch_size)) for first in range(0, 50, batch_size))

    def __iter__(self) -> Iterator[Any]:
        pytest.fail("it would be read row by row")


def stand_in(*, streamed: bool) -> Any:
    return type("IterableDataset", (Dataset,), {"__module__": "datasets.iterable_dataset"})() if streamed else Dataset()


def of_library(*, streamed: bool) -> Any:
    datasets = pytest.importorskip("datasets")
    found = datasets.Dataset.from_dict({"h": H.tolist(), "y": Y.tolist(), "text": ["..."] * 50})
    return found.to_iterable_dataset() if streamed else found


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("made", [stand_in, of_library])
def test_columns_are_features_and_targets(made: Any, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_batches, "BATCH_ROWS", 16)
    source = nrc.open(made(streamed=streamed), key="h", target_key="y")
    assert (source.d, source.n_targets, source.rereadable) == (4, 2, True)
    found, expected = nrc.measure(source), nrc.measure(H, Y)
    assert found.samples == 50
    assert found.nrc1 == pytest.approx(expected.nrc1, rel=1e-12)
    assert found.linear_mse == pytest.approx(expected.linear_mse, rel=1e-12)


@pytest.mark.parametrize("made", [stand_in, of_library])
def test_columns_must_be_named(made: Any) -> None:
    line = r"keys h, y, text; name them with key=, as in nrc_fast.open\(..., key='h', target_key=...\)"
    with pytest.raises(TypeError, match=line):
        nrc.nrc1(made(streamed=False), 2)
    with pytest.raises(ValueError, match="batch 0 has no features; it has h, y, text"):
        nrc.open(made(streamed=False), key="features")
    with pytest.raises(TypeError, match=r"Y is a Dataset of data; name its columns: nrc_fast.open\(Y, key="):
        nrc.measure(H, made(streamed=False))


class Column(list[Any]):
    """A column that is not read yet."""

    __module__ = "datasets.arrow_dataset"
    column_name = "h"


def test_a_column_is_read_through_its_data_set() -> None:
    with pytest.raises(TypeError, match=r"H is a column of a data set; .* nrc_fast.open\(dataset, key='h'\)"):
        nrc.nrc1(Column(H), 2)


def test_a_list_of_features_and_targets_is_told_from_batches() -> None:
    with pytest.raises(ValueError, match=r"the first batch has 4 .* give features and targets as two arguments"):
        nrc.measure((H, Y), n=2)
