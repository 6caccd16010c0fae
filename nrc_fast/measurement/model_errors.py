"""The error of a model of the targets and the balance of its head, by the surest way that a reading allows.

From moments; from sums over the rows where these leave too little; from the rows themselves where all are held.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.measurement.balance_metrics import balance_of_moments, summed_balance
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.exact_targets import ExactErrors, exact_errors
from nrc_fast.measurement.moment_errors import error_of_moments
from nrc_fast.metrics.head_balances import BalanceMatrix
from nrc_fast.metrics.targets import explicit_error_bound
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.explicit_sums import PredictionErrors
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.rereading import require_same_errors
from nrc_fast.passes.residual_sums import Residuals

__all__ = ["ModelErrors"]

# Outputs up to which products of errors and predictions cost little beside the read that they come with.
MOST_OUTPUTS = 64


class ModelErrors:
    """What is known of the errors of a model.

    Parameters
    ----------
    evidence : Evidence
    model : LinearModel
    rtol : float
        Where the bound of the MSE exceeds `rtol` of it, the rows are read for it, if they can be read again and no
        other read has given it.

    Attributes
    ----------
    sums : Residuals or PredictionErrors or None
        Where the errors were added up row by row.
    exact : ExactErrors or None
        Where all rows were held.
    mse_is_of_moments : bool
        Whether the mean squared error came from the moments although the errors were added up.
    """

    def __init__(self, evidence: Evidence, model: LinearModel, rtol: float) -> None:
        self.evidence = evidence
        self.model = model
        self.rtol = rtol
        self.sums: Residuals | PredictionErrors | None = None
        self.exact: ExactErrors | None = None
        self.mse_is_of_moments = False
        self._of_moments: tuple[Moments, BalanceMatrix] | None = None

    def wanted(self) -> LinearModel:
        """The model as a read is given it: with the balance, where the moments leave too little of that."""
        if len(self.model.bias) > MOST_OUTPUTS:
            return self.model
        return replace(self.model, wants_balance=self._balance_of_moments().relative_error > self.rtol)

    def take(self, residuals: Residuals, held: tuple[FloatArray, FloatArray] | None) -> None:
        """What a read for other numbers has found besides, with all rows and targets where these are held."""
        self.sums = None if residuals.errors is None else residuals
        self.exact = None if held is None else exact_errors(*held, self.model)

    def mse(self) -> tuple[float, float]:
        """Mean of ``|W h + b - y|^2``, and its bound.

        Raises
        ------
        OSError, RuntimeError
            Rows cannot be read again, or have changed.
        """
        moments = self.evidence.moments
        value, bound, size = error_of_moments(moments, self.model)
        if self.exact is not None:
            require_same_errors(self.exact.mse, value, 4.0 * bound, size)
            return self.exact.mse, self.exact.mse_error
        if self.sums is None and self.evidence.can_read_again and bound > self.rtol * value:
            self.sums = self.evidence.prediction_errors(self.wanted())
        if self.sums is None:
            return value, bound
        explicit = float(np.sum(np.asarray(self.sums.errors))) / moments.count
        require_same_errors(explicit, value, 4.0 * bound, size)
        found = explicit, explicit_error_bound(explicit, size, d=moments.d, chunks=self.sums.chunks)
        # Far from 0 moments know more than rows, which are rounded in proportion to their mean.
        self.mse_is_of_moments = bound < found[1]
        return (value, bound) if self.mse_is_of_moments else found

    def balance(self) -> BalanceMatrix:
        """``(1/N) sum (y - W h - b)(W h)^T``."""
        if self.exact is not None:
            return self.exact.balance
        matrix = self._balance_of_moments()
        if self.sums is not None and self.sums.balance is not None:
            matrix = min(matrix, summed_balance(self.sums.balance), key=lambda found: found.error)
        return matrix

    def _balance_of_moments(self) -> BalanceMatrix:
        moments = self.evidence.moments
        if self._of_moments is None or self._of_moments[0] is not moments:
            self._of_moments = moments, balance_of_moments(moments, self.model)
        return self._of_moments[1]
