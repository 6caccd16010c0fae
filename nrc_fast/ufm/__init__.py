"""The unconstrained feature model (UFM): what regression collapse looks like where it is exact."""

from nrc_fast.ufm.closed_form import Prediction, predicted_spectrum
from nrc_fast.ufm.scaling import Penalties, penalties

__all__ = ["Penalties", "Prediction", "penalties", "predicted_spectrum"]
