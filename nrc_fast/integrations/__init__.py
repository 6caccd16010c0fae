"""Other libraries' ways to hold data and to train; each module needs its library, and none is imported before use."""

from nrc_fast.base.listing import listing

__dir__ = listing(__name__, [], ["dask", "lightning", "loggers", "sklearn", "torchmetrics", "transformers"])
