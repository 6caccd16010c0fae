"""The unconstrained feature model (UFM): what regression collapse looks like where it is exact."""

from nrc_fast.base.listing import listing
from nrc_fast.metrics.prediction import Prediction
from nrc_fast.ufm.closed_form import interpolating_features, minimum, predicted_spectrum
from nrc_fast.ufm.convex_minimum import ConvexMinimum
from nrc_fast.ufm.convex_path import convex
from nrc_fast.ufm.deep_floor import DeepErrorFloor
from nrc_fast.ufm.deep_head import DeepMinimum, deep
from nrc_fast.ufm.descent.outcome import Descent
from nrc_fast.ufm.descent.runs import descend
from nrc_fast.ufm.error_floor import ErrorFloor
from nrc_fast.ufm.floors import predict
from nrc_fast.ufm.geometry import aligned_distance, bures_wasserstein, optimal_gram, relative_gram_error
from nrc_fast.ufm.refinement import Refinement, refine
from nrc_fast.ufm.scaling import LOSSES, Penalties, penalties, scaled_weight_decay
from nrc_fast.ufm.solution import Minimum

__all__ = [
    "LOSSES",
    "ConvexMinimum",
    "DeepErrorFloor",
    "DeepMinimum",
    "Descent",
    "ErrorFloor",
    "Minimum",
    "Penalties",
    "Prediction",
    "Refinement",
    "aligned_distance",
    "bures_wasserstein",
    "convex",
    "deep",
    "descend",
    "interpolating_features",
    "minimum",
    "optimal_gram",
    "penalties",
    "predict",
    "predicted_spectrum",
    "refine",
    "relative_gram_error",
    "scaled_weight_decay",
]

__dir__ = listing(__name__, __all__)
