"""How the networks of the demonstration are trained, and what a run gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nrc_fast.base.arrays import SingleArray
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record

__all__ = ["BATCH", "MOMENTUM", "SETTINGS", "WIDTH", "RunResult", "Setting"]

WIDTH = 256
BATCH = 256
MOMENTUM = 0.9


@dataclass(frozen=True)
class Setting:
    """How a network is trained.

    Attributes
    ----------
    name : str
    weight_decay : float
        ``(weight_decay/2) |parameters|^2``, of all layers, or of the head alone where the features are penalised.
    relu : bool
        Whether the third hidden layer, whose outputs are the features, has a ReLU.
    learning_rate : float
    cooling : float
        The share of the steps, at the end, over which the learning rate falls to 0.
    biases_decay : bool
    feature_bias : float
        Added to the initial biases of the third hidden layer.
    feature_penalty : float
        lambda_H of the UFM: ``(lambda_H/2) |h|^2``, averaged over the samples.
    """

    name: str
    weight_decay: float
    relu: bool = False
    learning_rate: float = 0.1
    cooling: float = 0.2
    biases_decay: bool = True
    feature_bias: float = 0.0
    feature_penalty: float = 0.0

    @property
    def c(self) -> float:
        """lambda_W lambda_H where both are known, else NaN."""
        return self.weight_decay * self.feature_penalty if self.feature_penalty > 0.0 else math.nan

    def __str__(self) -> str:
        if self.feature_penalty > 0.0:
            decayed = (
                f"lambda_W = {self.weight_decay:g} on the head, lambda_H = {self.feature_penalty:g} on the features"
            )
        else:
            decayed = (
                f"weight decay {self.weight_decay:g} on {'all' if self.biases_decay else 'weights, not on biases'}"
            )
        shift = f", biases of the ReLU features start {self.feature_bias:g} higher" if self.feature_bias else ""
        rate = (
            f"learning rate {self.learning_rate:g}, falling to 0 over the last {100 * self.cooling:.0f}% of the steps"
        )
        return f"{self.name}: {decayed}{shift}; {rate}"


SETTINGS = (
    Setting("weight decay 5e-3", 5e-3),
    Setting("weight decay 1.5e-3", 1.5e-3),
    Setting("no weight decay", 0.0),
    # Strong beside the variance of the targets, and so W W^T takes the shape of the UFM.
    Setting("ReLU, decay 2.5e-2", 2.5e-2, relu=True, learning_rate=0.05, cooling=0.6),
    # Free biases that start above 0 leave the ReLUs a plane away from the origin to collapse to.
    Setting("ReLU, free biases", 1.5e-2, relu=True, learning_rate=0.02, biases_decay=False, feature_bias=0.5),
    Setting("UFM penalties", 0.2, cooling=0.6, feature_penalty=0.2),
)


@dataclass(frozen=True, eq=False)
class RunResult:
    """One trained network.

    Attributes
    ----------
    name : str
    weight_decay : float
    relu : bool
    steps : int
    c : float
        lambda_W lambda_H where the features were penalised, else NaN.
    history : tuple of Record
        NRC3 for the gamma of the last step.
    recorded : History
        What `history` was taken from, for files.
    report : Report
        The report of the last step; its prediction is that for `c` where `c` is known.
    H, Y, W, b : float32 arrays
        Features (N, 256), standardised targets (N, n), weights (n, 256) and bias (n,) of the head at the last step.
    head_history : (checkpoints, n, 256) float32 array
        The weights of the head at every checkpoint.
    seconds : float
    """

    name: str
    weight_decay: float
    relu: bool
    steps: int
    c: float
    history: tuple[Record, ...]
    recorded: History
    report: Report
    H: SingleArray
    Y: SingleArray
    W: SingleArray
    b: SingleArray
    head_history: SingleArray
    seconds: float
