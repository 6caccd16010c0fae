"""What theory predicts of a trained network: the spectrum of its features and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.json_values import JSONValue, plain_numbers
from nrc_fast.base.svg import spark_bars

__all__ = ["PenaltyProduct", "Prediction"]


class PenaltyProduct(Protocol):
    """What knows c = lambda_W lambda_H, such as `nrc_fast.ufm.Penalties` or a minimum."""

    @property
    def c(self) -> float | FloatArray:
        """The product, in the paper's scaling of the loss: one number, NaN where it is not known."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What the UFM says about a trained network, from the covariance of its targets and c alone.

    Here lambda_1 >= ... >= lambda_n are the eigenvalues of the target covariance Sigma = U diag(lambda) U^T,
    and ``a_j = max(sqrt(lambda_j) - sqrt(c), 0)``.

    Attributes
    ----------
    c : float
        lambda_W lambda_H in the paper's scaling of the loss; also the gamma for which NRC3 is 0.
    rank : int
        Rank of W and of the features: how many lambda_j are above c.
    mse : float
        ``sum_j min(lambda_j, c)``, summed over the outputs.
    r2 : float
        ``1 - mse / sum_j lambda_j``; NaN for targets without variance.
    explained_variance_ratio : (n,) float64 array
        ``a_j / sum a``, of the features; all further components have none. NaN for rank 0.
    cka : float
        Linear CKA of features and targets, ``sum lambda_j a_j / sqrt(sum lambda_j^2 sum a_j^2)``; NaN for
        rank 0.
    head_gram_shape : (n, n) float64 array
        ``W W^T`` over its Frobenius norm, ``U diag(a) U^T / |a|``; zeros for rank 0.
    residual_covariance : (n, n) float64 array
        Covariance of ``W h + b - y``, ``U diag(min(lambda, c)) U^T``.
    bounds : mapping of str to float or array
        Absolute bounds of the errors of these for c as it is; of both matrices, of the Frobenius norm of theirs. They
        rest on what is known of the targets and on LAPACK's eigenvalues, and are probable as those of reports are.
    """

    __module__ = "nrc_fast.ufm"

    c: float
    rank: int
    mse: float
    r2: float
    explained_variance_ratio: FloatArray
    cka: float
    head_gram_shape: FloatArray
    residual_covariance: FloatArray
    bounds: Mapping[str, float | FloatArray] = field(default_factory=dict)

    def __repr__(self) -> str:
        n = len(self.residual_covariance)
        return (
            f"the UFM at c = {self.c:.6g}: rank {self.rank} of {n}, MSE {self.mse:.6g} (summed over outputs), "
            f"R2 {self.r2:.6g}, CKA {self.cka:.6g}"
        )

    def _repr_html_(self) -> str:
        shares = self.explained_variance_ratio.tolist()
        bars = spark_bars(shares, f"{len(shares)} shares of the variance", range(self.rank))
        rows: list[tuple[object, ...]] = [
            ("share of the features' variance in each component", bars),
            ("rank of W and of the features", f"{self.rank} of {len(shares)}"),
            ("MSE, summed over outputs", f"{self.mse:.6g}"),
            ("R2", f"{self.r2:.6g}"),
            ("CKA of features and targets", f"{self.cka:.6g}"),
        ]
        return card(f"what the UFM predicts at c = {self.c:.6g}", rows=rows)

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the same numbers as plain ints, floats and lists of floats, and their bounds.

        Examples
        --------
        >>> import numpy as np
        >>> from nrc_fast.ufm import predicted_spectrum
        >>> predicted_spectrum(np.diag([4.0, 1.0]), 1.0).to_dict()["residual_covariance"]
        [[1.0, 0.0], [0.0, 1.0]]
        """
        return {
            "c": self.c,
            "rank": self.rank,
            "mse": self.mse,
            "r2": self.r2,
            "explained_variance_ratio": self.explained_variance_ratio.tolist(),
            "cka": self.cka,
            "head_gram_shape": self.head_gram_shape.tolist(),
            "residual_covariance": self.residual_covariance.tolist(),
            "bounds": plain_numbers(self.bounds),
        }
