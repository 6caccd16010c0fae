"""Data sets of Hugging Face as batches of their columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nrc_fast.kernels.no_arrays import is_of_datasets

__all__ = ["DatasetBatches", "is_dataset"]

# Rows that are read at a time: what lies between them is copied together anyway.
BATCH_ROWS = 1024


def is_dataset(values: object) -> bool:
    """Whether something is a data set of Hugging Face's datasets, in memory, mapped from files or streamed."""
    return is_of_datasets(values) and hasattr(values, "iter")


class DatasetBatches:
    """The rows of a data set, some at a time, as a mapping from names to columns; again for every iteration.

    Parameters
    ----------
    dataset : datasets.Dataset or datasets.IterableDataset
        Not changed; its own format has no effect.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for part in self._dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
            yield {name: part[name] for name in part.column_names}
