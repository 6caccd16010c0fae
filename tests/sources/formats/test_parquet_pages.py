"""The sizes of pages are those that were written; a file that lies of them is not believed and ends nothing."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from nrc_fast.sources.formats import parquet_pages
from nrc_fast.sources.formats.parquet_pages import largest_pages
from nrc_fast.sources.opening import open_table

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def written(path: Path, rows: int = 20000, **options: object) -> np.ndarray:
    H = np.random.default_rng(0).standard_normal((rows, 3))
    columns = {f"h_{k}": H[:, k] for k in range(3)} | {"words": ["some words"] * rows}
    parquet.write_table(arrow.table(columns), path, **options)
    return H


@pytest.mark.parametrize("compression", ["none", "snappy"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_known_sizes(compression: str, version: str, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    for rows, most in ((20000, 1 << 22), (1000, 1 << 22), (20000, 1 << 14)):
        options = {"compression": compression, "data_page_version": version, "write_statistics": True}
        written(path, rows, use_dictionary=False, data_page_size=most, max_rows_per_page=rows, **options)
        found = largest_pages(path, ["h_0", "h_2"])
        assert found is not None
        assert found.keys() == {"h_0", "h_2"}
        for size in found.values():
            expected = min(8 * rows, most)
            assert expected <= size <= 1.5 * expected + 1000


def test_dictionaries_and_lists_count(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    written(path, dictionary_pagesize_limit=1 << 24)
    found = largest_pages(path, ["h_0"])
    assert found is not None
    assert found["h_0"] >= 8 * 20000
    lists = arrow.FixedSizeListArray.from_arrays(np.zeros(60000) + np.arange(60000), 3)
    parquet.write_table(arrow.table({"h": lists}), path, use_dictionary=False, data_page_size=1 << 24)
    found = largest_pages(path, ["h"])
    assert found is not None
    assert found["h"] >= 8 * 20000


def test_large_pages_are_counted_as_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    rows = 400_000
    written(path, rows, use_dictionary=False, compression="none", data_page_size=1 << 26, max_rows_per_page=rows)
    assert open_table(path, key="h_*").held_bytes > 2 * 3 * 8 * rows


def test_a_file_that_cannot_be_looked_at_counts_whole_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.parquet"
    written(path)
    monkeypatch.setattr(parquet_pages, "MOST_FOOTER_BYTES", 10)
    assert largest_pages(path, ["h_0"]) is None
    assert open_table(path, key="h_*").held_bytes > 3 * 3 * 8 * 20000


def test_what_is_damaged_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    written(path, 300, row_group_size=100)
    good = path.read_bytes()
    chance = random.Random(0)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.choice([1, 1, 3])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), len(data), chance.randrange(len(data))])])
        found = largest_pages(path, ["h_0", "h_1"])
        assert found is None or all(size >= 0 for size in found.values())
        try:
            table = open_table(path, key="h_*")
            assert table.held_bytes >= 0
            table.load(0, table.count)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            assert "f.parquet" in str(error)  # noqa: PT017
        except MemoryError:
            pass
