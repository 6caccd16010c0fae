"""The public function for the power of the targets' covariance that a head follows, which tells depths apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nrc_fast.base.arrays import Array
from nrc_fast.base.cards import card
from nrc_fast.measurement.head_and_targets import HeadAndTargets, head_and_targets
from nrc_fast.metrics.power_laws import PowerLaw
from nrc_fast.sources import Targets

__all__ = ["HeadExponent", "head_exponent"]

LAYERS = (2, 3, 4)  # that are shown beside what was found


@dataclass(frozen=True, repr=False)
class HeadExponent:
    """The exponent p of ``W W^T ~ Sigma^p``; made by `head_exponent`.

    Attributes
    ----------
    exponent, bound : float
        p, and the absolute bound of its error; NaN where `reason` says why.
    residual_share : float
        Share of ``|W W^T|_F^2`` that is no multiple of ``Sigma^p``: what the power law does not explain.
    outside_share : float
        The part of it that couples different eigenspaces of Sigma, which no function of Sigma has.
    residual_bound, outside_bound : float
        Absolute bounds of the errors of both shares.
    fitted, n : int
        Directions that were fitted, and all; others have a variance or a part of W that may be 0.
    reason : str
        Why there is no exponent; empty where there is one.
    """

    __module__ = "nrc_fast"

    exponent: float
    bound: float
    residual_share: float
    outside_share: float
    residual_bound: float
    outside_bound: float
    fitted: int
    n: int
    reason: str = ""

    @property
    def layers(self) -> float:
        """``1/p``, the layers of a linear network on whitened inputs with this p at weak decay; NaN for p <= 0."""
        return 1.0 / self.exponent if self.exponent > 0.0 else math.nan

    def _sentences(self) -> list[str]:
        if self.reason:
            return [f"No exponent: {self.reason}"]
        directions = f"{self.fitted} of {self.n} directions of the targets"
        weak = ", ".join(f"{1.0 / count:.3g}" for count in LAYERS)
        counts = ", ".join(map(str, LAYERS))
        residual, outside = f"{self.residual_share:.3g} of |W W^T|^2", f"{self.outside_share:.3g}"
        return [
            f"W W^T goes like Sigma^p with p = {self.exponent:.4g} (bound {self.bound:.1g}), by {directions}",
            f"{residual} is no multiple of that power; {outside} lies outside Sigma's eigenbasis",
            f"Linear networks of {counts} layers have p = {weak} at weak decay; more decay makes it larger",
        ]

    def __str__(self) -> str:
        return "\n  ".join(self._sentences())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return card("the power of the targets' covariance that a head follows", [f"{s}." for s in self._sentences()])


def head_exponent(W: Array, Y: Targets | None = None, *, covariance: Array | None = None) -> HeadExponent:
    r"""The exponent p of ``W W^T ~ Sigma^p``, which falls with the number of layers that share weight decay.

    With ``Sigma = U diag(lambda) U^T`` the covariance of the targets (1/N), p is the slope of the line through the
    points ``(ln lambda_j, ln |W^T u_j|^2)``, by least squares. Directions of equal variance count by their mean, and
    those whose variance or part of W cannot be told from 0 are left out. At weak decay p is ``1/(m + 1)`` for m linear
    layers on free features and ``1/L`` for a linear network of L layers on whitened inputs; a direction that is near
    its threshold makes it larger.

    Parameters
    ----------
    W : (n, d) array or tensor
        Weights of the last layer.
    Y : (N, n) or (N,) array or tensor, or path
        Targets. Give either these or `covariance`.
    covariance : (n, n) array or tensor, optional
        Covariance of the targets; its numbers are taken as exact.

    Returns
    -------
    HeadExponent
        With p, its bound, and what it leaves unexplained; NaN with a reason for n = 1, W = 0, and targets without
        variance or with the same variance in all directions.

    Raises
    ------
    TypeError, ValueError
        Arrays that are no finite float matrices or do not fit, or neither or both of Y and a covariance.

    References
    ----------
    This project's; the limit at weak decay follows from the minimum of `nrc_fast.ufm.deep`.

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast import ufm
    >>> sigma = np.array([[2.0, 0.5], [0.5, 1.0]])
    >>> W = ufm.deep(covariance=sigma, lambda_W=[1e-9, 1e-9], lambda_H=1e-9).weights()[-1]
    >>> found = head_exponent(W, covariance=sigma)
    >>> round(found.exponent, 6), round(found.layers, 5), found.bound < 1e-13, found.residual_share < 1e-28
    (0.333333, 3.0, True, True)
    >>> head_exponent(np.ones((1, 4)), covariance=np.eye(1)).reason
    'there is one output, and one direction has no shape'
    """
    return _fitted(head_and_targets(W, Y, covariance, stacklevel=4))


def _fitted(given: HeadAndTargets) -> HeadExponent:
    law = PowerLaw(given.weights, given.covariance.matrix, given.covariance.error)
    given.require_covariance(law.lowest)
    residual_bound, outside_bound = law.share_bounds
    return HeadExponent(
        exponent=law.exponent,
        bound=law.bound,
        residual_share=law.residual_share,
        outside_share=law.outside_share,
        residual_bound=residual_bound,
        outside_bound=outside_bound,
        fitted=law.fitted,
        n=law.n,
        reason=law.reason,
    )
