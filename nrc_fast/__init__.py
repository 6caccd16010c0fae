"""Neural regression collapse of feature sets: NRC1, NRC2 and NRC3, measured fast and with bounds.

>>> import numpy as np, nrc_fast as nrc
>>> H = np.random.default_rng(0).standard_normal((1000, 16))
>>> 0.8 < nrc.nrc1(H, 2) < 0.9
True
"""

from nrc_fast import ufm as ufm
from nrc_fast.base.version import __version__ as __version__
from nrc_fast.measurement.alignment import nrc3, nrc3_curve, nrc3_gamma
from nrc_fast.measurement.all_metrics import measure, plan
from nrc_fast.measurement.class_statistics import ClassStatistics
from nrc_fast.measurement.classes import measure_classes
from nrc_fast.measurement.dimension import intrinsic_dimension
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.measurement.precision import PrecisionWarning
from nrc_fast.measurement.single_metrics import nrc1, nrc2
from nrc_fast.measurement.suspicions import SuspiciousInputWarning
from nrc_fast.metrics.conventions import CONVENTIONS, Convention
from nrc_fast.passes.plans import Plan
from nrc_fast.reports.comparisons import Comparison, compare
from nrc_fast.reports.features import Report
from nrc_fast.sources import Source
from nrc_fast.sources import open_source as open  # noqa: A004 - the natural name, and never imported with *
from nrc_fast.training.layers import measure_layers
from nrc_fast.training.monitor import Monitor
from nrc_fast.training.watching import watch

__all__ = [
    "CONVENTIONS",
    "ClassStatistics",
    "Comparison",
    "Convention",
    "FeatureStatistics",
    "Monitor",
    "Plan",
    "PrecisionWarning",
    "Report",
    "Source",
    "SuspiciousInputWarning",
    "compare",
    "intrinsic_dimension",
    "measure",
    "measure_classes",
    "measure_layers",
    "nrc1",
    "nrc2",
    "nrc3",
    "nrc3_curve",
    "nrc3_gamma",
    "open",
    "plan",
    "watch",
]
