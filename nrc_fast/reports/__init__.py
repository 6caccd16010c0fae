"""What was found: reports of features, classes and layers, and the history of a training."""

from nrc_fast.base.listing import listing
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.metrics.grounds import GROUNDS, KINDS
from nrc_fast.reports.balances import Balance, LayerBalance
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.clocks import Clock
from nrc_fast.reports.comparisons import Comparison
from nrc_fast.reports.features import Report
from nrc_fast.reports.head_context import NRC3Context
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport, LayerCollapse
from nrc_fast.reports.steps import Record

__all__ = [
    "GROUNDS",
    "KINDS",
    "VARIANTS",
    "Balance",
    "ClassReport",
    "Clock",
    "Comparison",
    "DeepReport",
    "History",
    "LayerBalance",
    "LayerCollapse",
    "NRC3Context",
    "Record",
    "Report",
]

__dir__ = listing(__name__, __all__)
