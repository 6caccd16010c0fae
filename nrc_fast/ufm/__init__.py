"""The unconstrained feature model (UFM): what regression collapse looks like where it is exact."""

from nrc_fast.ufm.closed_form import Prediction, interpolating_features, minimum, predicted_spectrum
from nrc_fast.ufm.deep import DeepMinimum, deep
from nrc_fast.ufm.refine import Refinement, refine
from nrc_fast.ufm.scaling import Penalties, penalties
from nrc_fast.ufm.solution import Minimum

__all__ = [
    "DeepMinimum",
    "Minimum",
    "Penalties",
    "Prediction",
    "Refinement",
    "deep",
    "interpolating_features",
    "minimum",
    "penalties",
    "predicted_spectrum",
    "refine",
]
