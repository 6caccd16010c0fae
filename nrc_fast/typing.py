"""Types of what users give and get, for annotations; the words that options know are those that a type checker knows.

>>> import nrc_fast as nrc
>>> def collapse(H: nrc.typing.Features, convention: nrc.typing.ConventionName = "nrc24") -> float:
...     return nrc.nrc1(H, 2, convention=convention)
"""

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.listing import listing
from nrc_fast.base.options import ByK, NonFinite, Precision, Spectrum
from nrc_fast.kernels.devices import Device
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.conventions import ConventionName
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.metrics.training_losses import TrainingLossName
from nrc_fast.sources import Batch, Features, Targets
from nrc_fast.training.evaluation import Split
from nrc_fast.training.given_features import FeatureChoice
from nrc_fast.training.head_batches import FeatureReading
from nrc_fast.training.layer_balance import Biases
from nrc_fast.training.layer_rows import Positions
from nrc_fast.training.optimizers import Optimizers
from nrc_fast.training.watch_options import Mode
from nrc_fast.ufm.scaling import LossName

__all__ = [
    "Array",
    "Batch",
    "Biases",
    "ByK",
    "ConventionName",
    "Device",
    "FeatureChoice",
    "FeatureReading",
    "Features",
    "FloatArray",
    "GammaChoice",
    "LossName",
    "Mode",
    "NonFinite",
    "Optimizers",
    "PenaltyProduct",
    "Positions",
    "Precision",
    "Spectrum",
    "Split",
    "Targets",
    "TrainingLossName",
]

__dir__ = listing(__name__, __all__)
