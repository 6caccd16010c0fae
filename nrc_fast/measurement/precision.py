"""The bounds of functions for one metric: given where they are wanted, and else a warning where no digit is known."""

from __future__ import annotations

import warnings

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON

__all__ = ["PrecisionWarning", "with_bound"]

# Values below this share of what they could be are zero to the square of the rounding of float64, whatever their bound.
ZERO = (2.0**14 * EPSILON) ** 2


class PrecisionWarning(UserWarning):
    """A metric is below the bound of its error: it is only known to be no larger, and no digit of it means anything.

    It is raised by `nrc1`, `nrc2`, `nrc3` and `nrc3_gamma` where the bound is not asked for, and never for a value that
    is zero up to the square of the rounding of float64, as that of exactly collapsed features is. Rows that are read
    once, such as those of a generator, are the common cause; arrays, files and sources are read again.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np, nrc_fast as nrc
    >>> rng = np.random.default_rng(0)
    >>> H = rng.standard_normal((500, 2)) @ rng.standard_normal((2, 8)) + 1e-6 * rng.standard_normal((500, 8))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     value = nrc.nrc1(iter([H.astype(np.float32)]), 2)
    >>> [warning.category.__name__ for warning in caught]
    ['PrecisionWarning']
    """

    __module__ = "nrc_fast"


def with_bound(
    name: str, values: FloatArray, bounds: FloatArray, *, return_bound: bool, largest: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """The same values and bounds, after a warning if values are below their bounds and these are not asked for.

    Parameters
    ----------
    name : str
        Of the metric, as the warning calls it.
    values, bounds : float64 arrays
    return_bound : bool
        Whether the user sees the bounds.
    largest : float
        What a value of the metric could be, to tell those that are zero.
    """
    below = (values > 0.0) & (values < bounds) & (bounds > ZERO * largest)
    if below.any() and not return_bound:
        first = int(np.argmax(below))
        value, bound = values.ravel()[first], bounds.ravel()[first]
        warnings.warn(
            f"{name} is {value:.3g} and its bound {bound:.1g}: it is only known to be no larger than their sum. "
            "return_bound=True gives both; features in arrays or files are read again where that helps.",
            PrecisionWarning,
            stacklevel=3,
        )
    return values, bounds
