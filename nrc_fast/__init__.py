"""Neural regression collapse of feature sets: NRC1, NRC2 and NRC3, measured fast and with bounds.

>>> import numpy as np, nrc_fast as nrc
>>> H = np.random.default_rng(0).standard_normal((1000, 16))
>>> 0.8 < nrc.nrc1(H, 2) < 0.9
True

The same word means the same everywhere: H are features (N, d), Y targets (N, n), W (n, d) and b the last layer, n the
target dimension, which is how many components count unless another number is given, `n_targets` the columns of targets
that were given (0 without targets), `n_classes` the number of classes, and rank how many singular values are not 0.
"""

from nrc_fast import ufm as ufm

# isort: split
# After ufm, which its classes name as their module, wherever they are defined.
from nrc_fast import kernels as kernels
from nrc_fast import reports as reports
from nrc_fast import typing as typing
from nrc_fast.base.listing import listing
from nrc_fast.base.version import __version__ as __version__
from nrc_fast.measurement.alignment import nrc3, nrc3_curve, nrc3_gamma
from nrc_fast.measurement.all_metrics import measure, plan
from nrc_fast.measurement.class_statistics import ClassStatistics
from nrc_fast.measurement.classes import measure_classes
from nrc_fast.measurement.dimension import IntrinsicDimension, intrinsic_dimension
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.measurement.head_balances import HeadBalance, head_balance
from nrc_fast.measurement.head_context import nrc3_context
from nrc_fast.measurement.head_powers import HeadExponent, head_exponent
from nrc_fast.measurement.precision import PrecisionWarning
from nrc_fast.measurement.single_metrics import nrc1, nrc2
from nrc_fast.measurement.suspicions import SuspiciousInputWarning
from nrc_fast.metrics.conventions import CONVENTIONS, Convention
from nrc_fast.passes.plans import Plan
from nrc_fast.reports import (
    Balance,
    ClassReport,
    Clock,
    Comparison,
    DeepReport,
    History,
    NRC3Context,
    Record,
    Report,
)
from nrc_fast.reports.comparisons import compare
from nrc_fast.sources import Source
from nrc_fast.sources import open_source as open  # noqa: A004 - the natural name, and never imported with *
from nrc_fast.training.layer_balance import balance
from nrc_fast.training.layers import measure_layers
from nrc_fast.training.monitor import Monitor
from nrc_fast.training.watched_layers import WatchedLayer, WatchedLayers
from nrc_fast.training.watching import watch

__all__ = [
    "CONVENTIONS",
    "Balance",
    "ClassReport",
    "ClassStatistics",
    "Clock",
    "Comparison",
    "Convention",
    "DeepReport",
    "FeatureStatistics",
    "HeadBalance",
    "HeadExponent",
    "History",
    "IntrinsicDimension",
    "Monitor",
    "NRC3Context",
    "Plan",
    "PrecisionWarning",
    "Record",
    "Report",
    "Source",
    "SuspiciousInputWarning",
    "WatchedLayer",
    "WatchedLayers",
    "balance",
    "compare",
    "head_balance",
    "head_exponent",
    "intrinsic_dimension",
    "measure",
    "measure_classes",
    "measure_layers",
    "nrc1",
    "nrc2",
    "nrc3",
    "nrc3_context",
    "nrc3_curve",
    "nrc3_gamma",
    "open",
    "plan",
    "watch",
]

__dir__ = listing(
    __name__, [*__all__, "__version__"], ["integrations", "kernels", "reports", "testing", "torch_ops", "typing", "ufm"]
)
