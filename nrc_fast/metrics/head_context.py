"""What NRC3 of a head is worth, in numbers: NRC3 at gamma = 0, where gamma lies, what is turned, and random heads."""

from __future__ import annotations

from nrc_fast.metrics.alignment import HeadAlignment
from nrc_fast.metrics.eigenbasis import share_outside
from nrc_fast.metrics.random_heads import DRAWS, random_heads

__all__ = ["head_context"]


def head_context(
    alignment: HeadAlignment, covariance_error: float, *, features: int, draws: int = DRAWS, seed: int = 0
) -> tuple[dict[str, float], dict[str, float]]:
    """NRC3 at its best gamma and what it is to be seen beside, by name, and their bounds.

    Parameters
    ----------
    alignment : HeadAlignment
        The head beside its targets.
    covariance_error : float
        Bound of the Frobenius norm of the error of Sigma.
    features : int
        The width d of W.
    draws, seed : int
        Of the random heads, see `random_heads`.

    Returns
    -------
    values : dict of str to float
        ``nrc3`` and ``gamma``, ``nrc3_at_zero``, ``gamma_share`` (gamma over the smallest eigenvalue of Sigma),
        ``head_outside`` (see `share_outside`) and ``nrc3_quantile`` (the share of random heads with a smaller NRC3).
        NaN where they are not defined.
    bounds : dict of str to float

    Examples
    --------
    >>> import numpy as np
    >>> values, bounds = head_context(HeadAlignment(np.diag([1.5, 0.5]), np.diag([4.0, 1.0])), 0.0, features=8)
    >>> round(values["gamma_share"], 12), values["nrc3_at_zero"] > 0.01, values["nrc3_quantile"]
    (0.25, True, 0.0)
    """
    gamma = alignment.best_gamma()
    gamma_bound, nrc3_bound = alignment.bounds(gamma, covariance_error)
    nrc3 = alignment.smallest_nrc3()
    heads = random_heads(alignment.eigenvalues, features, draws=draws, seed=seed)
    found = {
        "nrc3": (nrc3, nrc3_bound),
        "gamma": (gamma, gamma_bound),
        "nrc3_at_zero": (alignment.nrc3(0.0), alignment.nrc3_bound(0.0, covariance_error)),
        "gamma_share": alignment.gamma_share(covariance_error),
        "head_outside": share_outside(alignment, covariance_error),
        "nrc3_quantile": heads.quantile(nrc3, nrc3_bound),
    }
    return {name: value for name, (value, _) in found.items()}, {name: bound for name, (_, bound) in found.items()}
