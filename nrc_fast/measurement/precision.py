"""The bounds of functions for one metric: given where they are wanted, and else a warning where no digit is known."""

from __future__ import annotations

import warnings

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON

__all__ = ["PrecisionWarning", "with_bound"]


class PrecisionWarning(UserWarning):
    """A metric is below the bound of its error: it is only known to be no larger, and no digit of it means anything.

    It is raised by `nrc1`, `nrc2`, `nrc3`, `nrc3_gamma` and `intrinsic_dimension` where the bound is not asked for, and
    never where the bound is below the rounding of float64 of what the value could be, as that of exactly collapsed
    features is, or where every number of components is asked for at once. Many rows that are read once, such as those
    of a generator, are the common cause; arrays, files and sources are read again. Components that tie are another:
    neither they nor the value are determined.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np, nrc_fast as nrc
    >>> rng = np.random.default_rng(0)
    >>> H = rng.standard_normal((5000, 2)) @ rng.standard_normal((2, 8)) + 3e-8 * rng.standard_normal((5000, 8))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     value = nrc.nrc1(iter([H]), 2, convention="variance")
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
        What a value of the metric could be: bounds below its rounding are those of zeros.
    """
    below = (values > 0.0) & (values < bounds) & (bounds > EPSILON * largest)
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
