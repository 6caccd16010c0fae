"""The unconstrained feature model (UFM): what regression collapse looks like where it is exact."""

from nrc_fast.ufm.closed_form import Prediction, predicted_spectrum

__all__ = ["Prediction", "predicted_spectrum"]
