"""The public function that says what an NRC3 is worth."""

from __future__ import annotations

import math

from nrc_fast.base.arrays import Array
from nrc_fast.base.options import as_integer
from nrc_fast.measurement.head_and_targets import head_and_targets
from nrc_fast.metrics.alignment import HeadAlignment, long_head_shape
from nrc_fast.metrics.head_context import head_context
from nrc_fast.metrics.random_heads import DRAWS, random_heads
from nrc_fast.reports.head_context import NRC3Context
from nrc_fast.sources import Targets

__all__ = ["nrc3_context"]

# What reports call the numbers of a context.
NAMES = {
    "nrc3": "nrc3",
    "gamma": "gamma",
    "at_zero": "nrc3_at_zero",
    "gamma_share": "gamma_share",
    "outside": "head_outside",
    "quantile": "nrc3_quantile",
}
# What the percent points of random heads are called.
POINTS = {"untrained": 0.5, "untrained_low": 0.05, "untrained_high": 0.95}


def nrc3_context(
    W: Array,
    Y: Targets | None = None,
    *,
    covariance: Array | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> NRC3Context:
    r"""What an NRC3 is worth: beside NRC3 of random heads, at gamma = 0, and what gamma and the eigenvectors say.

    NRC3 is at its best gamma, as in `nrc3`. A random head is a W of independent Gaussian numbers, as large as this one
    and also at its own best gamma; NRC3 of these has a law that depends on n, d and the eigenvalues of Sigma alone. It
    is drawn from that of ``W W^T`` (Wishart, by Bartlett's decomposition), so that d costs nothing.

    Parameters
    ----------
    W : (n, d) array or tensor
        Weights of the last layer.
    Y : (N, n) or (N,) array or tensor, or path
        Targets. Give either these or `covariance`.
    covariance : (n, n) array or tensor, optional
        Covariance of the targets; its numbers are taken as exact.
    draws : int
        Random heads at the most. Fewer are drawn where these would take more than about a tenth of a second (of the
        10,000 of the default for n above 23), 20 at the least, and none for n above about 770.
    seed : int
        Of the draws, which are the same at every call.

    Returns
    -------
    NRC3Context
        Printed, it says in a sentence or two what this NRC3 is worth.

    Raises
    ------
    TypeError, ValueError
        Arrays are no finite float matrices or do not fit, draws is no positive number, or the seed is negative.

    References
    ----------
    NRC3: arXiv 2409.04180 (NeurIPS 2024), section 3.1. What it is compared with here is this project's.

    Examples
    --------
    >>> import numpy as np
    >>> W = np.random.default_rng(0).standard_normal((2, 64))
    >>> context = nrc3_context(W, covariance=np.diag([4.0, 1.0]))
    >>> round(context.nrc3, 3), round(context.quantile, 2), round(context.untrained, 2)
    (0.184, 0.77, 0.12)
    >>> print(context.verdict[0])
    W W^T does not have the shape that the UFM predicts: NRC3 is 0.18, and 77% of random heads do as well.
    """
    most, start = as_integer(draws, "draws", least=1), as_integer(seed, "seed", least=0)
    given = head_and_targets(W, Y, covariance, stacklevel=4)
    sigma, d = given.covariance, given.weights.shape[1]
    alignment = HeadAlignment(long_head_shape(given.weights), sigma.long)
    given.require_covariance(alignment.lowest)
    values, bounds = head_context(alignment, sigma.long_error, features=d, draws=most, seed=start)
    heads = random_heads(alignment.eigenvalues, d, draws=most, seed=start)
    found = {name: (values[kept], bounds[kept]) for name, kept in NAMES.items()}
    found |= {name: (heads.point(share), heads.point_bound(share)) for name, share in POINTS.items()}
    return NRC3Context(
        n=len(alignment.eigenvalues),
        d=d,
        draws=len(heads.nrc3),
        seed=start,
        **{name: value for name, (value, _) in found.items()},
        bounds={name: bound for name, (value, bound) in found.items() if not math.isnan(value)},
    )
