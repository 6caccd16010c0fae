"""Where a `nrc_fast.Monitor` sends its numbers: CSV, lines of JSON, TensorBoard, Weights & Biases."""

from nrc_fast.base.listing import listing
from nrc_fast.training.loggers import CsvFile, JsonLines, TensorBoard, WeightsAndBiases

__all__ = ["CsvFile", "JsonLines", "TensorBoard", "WeightsAndBiases"]

__dir__ = listing(__name__, __all__)
