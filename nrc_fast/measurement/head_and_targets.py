"""A head and its targets as users give them for NRC3 and its kin: weights beside the covariance of the targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.measurement.exact_targets import TargetCovariance
from nrc_fast.measurement.few_row_components import held_rows
from nrc_fast.measurement.suspicions import notes_on_targets, warn_of
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.target_moments import gather_targets
from nrc_fast.sources import TableSource, Targets, as_table

__all__ = ["HeadAndTargets", "head_and_targets"]


@dataclass(frozen=True, eq=False)
class HeadAndTargets:
    """Weights beside the covariance of their targets.

    Attributes
    ----------
    weights : (n, d) float64 array
    covariance : TargetCovariance
        Without error where it was given.
    least_eigenvalue : float
        What an eigenvalue that rounding made negative may be at least; -inf for measured targets.
    """

    weights: FloatArray
    covariance: TargetCovariance
    least_eigenvalue: float

    def require_covariance(self, lowest: float) -> None:
        """Refuse what is no covariance, by its lowest eigenvalue as it was computed.

        Raises
        ------
        ValueError
            It is negative by more than rounding.
        """
        if lowest < self.least_eigenvalue:
            msg = f"covariance has the negative eigenvalue {lowest:.3g}; a covariance has none"
            raise ValueError(msg)


def head_and_targets(W: Array, Y: Targets | None, covariance: Array | None, *, stacklevel: int) -> HeadAndTargets:
    """What a public function was given, after its checks.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) or (N,) array or tensor, or path, optional
    covariance : (n, n) array or tensor, optional
        In place of Y.
    stacklevel : int
        Of warnings about the targets, from the caller of `warnings.warn` up to that of the public function.

    Raises
    ------
    TypeError, ValueError
        Arrays that are no finite float matrices or do not fit, or neither or both of Y and a covariance.

    Examples
    --------
    >>> head_and_targets(np.eye(2), None, np.diag([4.0, 1.0]), stacklevel=4).covariance.error
    0.0
    """
    weights, _ = as_matrix(W, "W")
    n = len(weights)
    if (Y is None) == (covariance is None):
        msg = "give either the targets Y or their covariance"
        raise ValueError(msg)
    if covariance is not None:
        return _with_covariance(weights, covariance)
    assert Y is not None  # as one of them is given
    targets = begin_reading(TableSource(as_table(Y, "Y")))
    if targets.source.d != n:
        msg = f"W has {n} rows and Y has {targets.source.d} columns; both are the target dimension n"
        raise ValueError(msg)
    moments = gather_targets(targets)
    warn_of(notes_on_targets(moments.target_mean, moments.target_covariance), stacklevel=stacklevel)
    if moments.long_targets is None and Evidence(moments, targets).holds_rows:
        found = TargetCovariance.of_rows(held_rows(targets))
    else:
        found = TargetCovariance.of_moments(moments)
    return HeadAndTargets(weights, found, -math.inf)


def _with_covariance(weights: FloatArray, covariance: Array) -> HeadAndTargets:
    sigma, epsilon = as_matrix(covariance, "covariance")
    n = len(weights)
    if sigma.shape != (n, n):
        msg = f"covariance has shape {sigma.shape}; with {n} rows of W it must be ({n}, {n})"
        raise ValueError(msg)
    scale = float(np.abs(sigma).max())
    if float(np.abs(sigma - sigma.T).max()) > 8 * n * epsilon * scale:
        msg = "covariance is not symmetric"
        raise ValueError(msg)
    return HeadAndTargets(weights, TargetCovariance.known_to(0.0, sigma), -8 * n * epsilon * scale)
