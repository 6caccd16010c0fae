"""NRC3 of the steps of a training for one gamma, which may be that of a later step, that of the last, and the null."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import covariance_spectrum
from nrc_fast.metrics.alignment import GammaChoice, HeadAlignment
from nrc_fast.metrics.random_heads import LEAST_FOR_BAND, random_heads, typical_nrc3
from nrc_fast.reports.records import NAN
from nrc_fast.reports.steps import Record

__all__ = ["beside_heads", "last_curve", "null_points", "replayed"]

# Of random heads, the shares that are below the lower and the upper edge of a band.
BAND = (0.05, 0.95)


def replayed(
    records: tuple[Record, ...], grams: Sequence[FloatArray], sigma: FloatArray, gamma: GammaChoice
) -> tuple[Record, ...]:
    """The records with NRC3 for one gamma; see `nrc_fast.reports.History.records`.

    Parameters
    ----------
    records : tuple of Record
        With NRC3 for the gamma of their own.
    grams : sequence of (n, n) float64 arrays
        The shape of W W^T at each of them.
    sigma : (n, n) float64 array
        Covariance of the targets.
    gamma : {"last", "each"} or float

    Raises
    ------
    ValueError
        `gamma` is another text or a negative number.
    """
    if not isinstance(gamma, str) and gamma >= 0.0:
        value = float(gamma)
    elif gamma == "last":
        value = next((record.gamma for record in reversed(records) if not math.isnan(record.gamma)), NAN)
    elif gamma == "each":
        return records
    else:
        msg = f"gamma is {gamma!r}; 'last', 'each' or a number from 0 on is expected"
        raise ValueError(msg)
    return tuple(
        replace(record, nrc3=NAN if _is_unknown(gram, sigma) else HeadAlignment(gram, sigma).nrc3(value))
        for record, gram in zip(records, grams, strict=True)
    )


def last_curve(grams: Sequence[FloatArray], sigma: FloatArray, points: int) -> tuple[FloatArray, FloatArray]:
    """NRC3 of the last W that is finite against gamma; see `nrc_fast.reports.History.nrc3_curve`."""
    gram = next((gram for gram in reversed(grams) if not _is_unknown(gram, sigma)), None)
    if gram is None:
        return np.full(points, NAN), np.full(points, NAN)
    alignment = HeadAlignment(gram, sigma)
    gammas = np.linspace(0.0, float(alignment.eigenvalues[-1]), points)
    return gammas, alignment.nrc3_curve(gammas)


def null_points(records: Sequence[Record], sigma: FloatArray) -> tuple[float, float, float]:
    """NRC3 that 5, 50 and 95 of 100 random heads are below; see `nrc_fast.reports.History.nrc3_null`."""
    eigenvalues, features = _eigenvalues_of(sigma), _most_features(records)
    heads = random_heads(eigenvalues, features)
    low, high = map(heads.point, BAND) if len(heads.nrc3) >= LEAST_FOR_BAND else (NAN, NAN)
    return low, typical_nrc3(eigenvalues, features)[0], high


def beside_heads(records: Sequence[Record], sigma: FloatArray) -> dict[str, float]:
    """What NRC3 and gamma are to be seen beside: the median of random heads, and the smallest eigenvalue of Sigma."""
    eigenvalues = _eigenvalues_of(sigma)
    smallest = float(eigenvalues[-1]) if eigenvalues.size else NAN
    untrained, _ = typical_nrc3(eigenvalues, _most_features(records))
    return {"untrained_nrc3": untrained, "smallest_eigenvalue": smallest}


def _most_features(records: Sequence[Record]) -> int:
    return max((record.d for record in records), default=0)


def _eigenvalues_of(sigma: FloatArray) -> FloatArray:
    """The eigenvalues of a covariance, descending; NaN where it is not finite, and none without records."""
    return covariance_spectrum(sigma)[0] if sigma.size and np.isfinite(sigma).all() else np.full(len(sigma), NAN)


def _is_unknown(gram: FloatArray, sigma: FloatArray) -> bool:
    return not (np.isfinite(gram).all() and np.isfinite(sigma).all())
