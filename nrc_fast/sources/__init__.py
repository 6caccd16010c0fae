"""Where features and targets come from: every source is a stream of chunks."""

from nrc_fast.sources.batches import Batch, BatchSource, NoBatchesError
from nrc_fast.sources.dispatch import Features, Targets, as_source, as_table, open_source
from nrc_fast.sources.opening import open_table
from nrc_fast.sources.source import Chunk, Source, TableSource

__all__ = [
    "Batch",
    "BatchSource",
    "Chunk",
    "Features",
    "NoBatchesError",
    "Source",
    "TableSource",
    "Targets",
    "as_source",
    "as_table",
    "open_source",
    "open_table",
]
