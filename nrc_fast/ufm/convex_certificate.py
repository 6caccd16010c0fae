"""How far a point is from the global minimum at most: its duality gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.convex_newton import Problem

__all__ = ["Certificate", "certificate"]


@dataclass(frozen=True, eq=False)
class Certificate:
    """A loss with penalties, and a bound of how much less any other point has.

    Attributes
    ----------
    loss : float
        ``F = sum p l(z + b) + s |Z D^(1/2)|_*``.
    data_loss : float
        Its first term.
    gap : float
        F minus the dual value, with what rounding may have taken from it.
    gradients : (m, n) float64 array
        u, the dual point: ``|sqrt(p) u|_2 <= s``, of mean 0 with a free bias.
    """

    loss: float
    data_loss: float
    gap: float
    gradients: FloatArray


def certificate(problem: Problem, s: float, predictions: FloatArray, bias: FloatArray, u: FloatArray) -> Certificate:
    """The certificate of predictions without the bias, (m, n), with gradients near which a dual point is taken.

    The gap is added up from terms none of which is negative: what Fenchel's inequality leaves of each sample, and
    what the norm leaves of the product of predictions and gradients. A mean gradient that rounding leaves other than
    0 counts with the size of the bias.
    """
    loss, shares = problem.loss, problem.shares
    root = np.sqrt(shares)[:, np.newaxis]
    errors = predictions + bias - problem.offset
    if problem.has_bias:
        u = loss.balanced(errors, shares, u)
    values: FloatArray = np.asarray(np.linalg.svd(root * u, compute_uv=False), dtype=np.float64)
    norm = float(values[0]) * (1.0 + 4.0 * EPSILON * len(values))
    dual = u * min(1.0, s / norm) if norm > 0.0 else u
    nuclear = float(np.linalg.svd(root * predictions, compute_uv=False).sum())
    costs, conjugates, products = loss.values(errors), loss.conjugates(dual), np.sum(dual * errors, axis=1)
    aligned = float(shares @ np.sum(dual * predictions, axis=1))
    gap = max(float(shares @ (costs + conjugates - products)), 0.0) + max(s * nuclear + aligned, 0.0)
    gap += float(np.abs(shares @ dual) @ np.abs(bias)) if problem.has_bias else 0.0
    sizes = shares @ (np.abs(costs) + np.abs(conjugates) + np.sum(np.abs(dual * errors), axis=1))
    rounding = EPSILON * (problem.offset.shape[1] + 8.0) * (float(sizes) + 2.0 * s * nuclear)
    data_loss = float(shares @ costs)
    return Certificate(data_loss + s * nuclear, data_loss, gap + rounding, dual)
