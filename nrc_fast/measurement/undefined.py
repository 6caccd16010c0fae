"""Why a number is NaN, in sentences: one for each thing that its definition leaves open on what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.metrics.alignment import HeadAlignment
from nrc_fast.metrics.angles import leading_angle_bound
from nrc_fast.reports.layers import LayerCollapse

__all__ = [
    "LEAST_DEBIASED",
    "notes_of_classes",
    "notes_of_components",
    "notes_of_features",
    "notes_of_gamma",
    "notes_of_layers",
    "notes_of_targets",
]

LEAST_DEBIASED = 4  # samples
EQUAL = 1e-14  # relative difference of eigenvalues that are equal up to the rounding of a decomposition
OF_WEIGHTS = ("nc2_etf_weights", "nc3", "nc3_squared", "nc3_etf")


def notes_of_features(stable_rank: float, *, all_zero: bool) -> list[str]:
    """Why nothing is known of the components of features whose stable rank is NaN."""
    if not math.isnan(stable_rank):
        return []
    reason = "All rows are zero" if all_zero else "The features do not vary"
    return [f"{reason}: they have no components, and what is relative to their variance is NaN."]


def notes_of_components(pairs: LeadingPairs, k: int, matrix_error: float) -> list[str]:
    """Why the span of k components is not determined, and NRC1 only up to what that leaves open.

    Parameters
    ----------
    pairs : LeadingPairs
        Of the matrix that the components are of.
    k : int
    matrix_error : float
        How far that matrix is off in norm.

    Examples
    --------
    >>> pairs = LeadingPairs(np.array([2.0, 1.0, 1.0]), np.eye(3), np.zeros(3), 4.0)
    >>> notes_of_components(pairs, 1, 1e-10)
    []
    >>> notes_of_components(pairs, 2, 1e-10)
    ['Components 2 and 3 tie within the error of their variances: NRC1 may be all that its bound says.']
    """
    values = pairs.values
    rank = int(np.count_nonzero(values[:k] > matrix_error))
    if 0 < rank < k:
        return [f"Only {rank} of {k} components can be told from the rounding of what was added up."]
    if rank == 0 or leading_angle_bound(pairs, k, matrix_error) < 1.0:
        return []
    return [f"Components {k} and {k + 1} tie within the error of their variances: NRC1 may be all that its bound says."]


def notes_of_targets(variance: float, *, n: int, count: int, has_head: bool) -> list[str]:
    """Why CKA, R2, gamma and NRC3 are NaN, of `count` targets of n numbers with that variance.

    Examples
    --------
    >>> notes_of_targets(1.0, n=2, count=100, has_head=True)
    []
    >>> notes_of_targets(0.0, n=2, count=100, has_head=True)
    ['The targets do not vary: CKA, R2, gamma and NRC3 are NaN.']
    """
    notes = []
    if not variance > 0.0:
        notes.append("The targets do not vary: CKA, R2, gamma and NRC3 are NaN.")
    elif count < LEAST_DEBIASED:
        notes.append(f"The debiased CKA is NaN: it needs {LEAST_DEBIASED} samples.")
    if n == 1 and has_head:
        notes.append("One target: W W^T and Sigma are numbers without a shape, and NRC3 and gamma are NaN.")
    return notes


def notes_of_gamma(alignment: HeadAlignment, gamma: float, bound: float, *, covariance_error: float) -> list[str]:
    """Why gamma may be any number of its interval, where its bound says so."""
    if math.isnan(gamma):
        return []
    largest, smallest = float(alignment.eigenvalues[0]), float(alignment.eigenvalues[-1])
    if not (gamma - bound <= 0.0 and gamma + bound >= smallest > 0.0):
        return []
    is_isotropic = largest - smallest <= 2.0 * covariance_error + EQUAL * largest
    reason = (
        "is a multiple of the identity within its error"
        if is_isotropic
        else "is too near a multiple of the identity for the shape of W W^T to tell"
    )
    note = "Gamma is not determined, and may be any number from 0 to the smallest eigenvalue of the targets' covariance"
    return [f"{note}: that {reason}."]


def notes_of_layers(layers: Sequence[LayerCollapse], mse: float, *, target_variance: float) -> list[str]:
    """Why numbers of layers are NaN."""
    notes = []
    if math.isnan(mse):
        notes.append("The outputs of the model do not have the shape of the targets: the MSE of the network is NaN.")
    if not target_variance > 0.0:
        notes.append("The targets do not vary: their stable rank and the signal alignment of every layer are NaN.")
    constant = [layer.name for layer in layers if math.isnan(layer.noise_fraction)]
    if constant:
        notes.append(
            f"The features of {', '.join(constant)} do not vary: they have no components, and what is relative to "
            "their variance is NaN."
        )
    without = [layer.name for layer in layers if math.isnan(layer.weight_stable_rank)]
    if without:
        notes.append(
            f"The weights of {', '.join(without)} are zero or no matrix of the features: weight alignment and stable "
            "rank are NaN."
        )
    return notes


def notes_of_classes(
    values: Mapping[str, float], *, counts: FloatArray, centred: FloatArray, weights: FloatArray | None
) -> list[str]:
    """Why numbers of classes are NaN or infinite.

    Parameters
    ----------
    values : mapping of str to float
        What was found, by the names of `nrc_fast.metrics.classes.VARIANTS`.
    counts : (K,) float64 array
        Rows of each class.
    centred : (K, d) float64 array
        The centred class means as rows.
    weights : (K, d) float64 array, optional
    """
    notes = []
    undefined = [name for name, value in values.items() if not math.isfinite(value)]
    single = int(np.count_nonzero(counts == 1.0))
    if single and "cdnv_unbiased" in undefined:
        notes.append(f"{single} classes have a single row, and no unbiased variance: cdnv_unbiased is not defined.")
        undefined.remove("cdnv_unbiased")
    if weights is not None and not weights.any():
        notes.append(f"W is zero and has no shape: {_listed([name for name in undefined if name in OF_WEIGHTS])}.")
        undefined = [name for name in undefined if name not in OF_WEIGHTS]
    if undefined:
        reason = "Some classes have the same mean, or one at the mean of all rows"
        reason = reason if centred.any() else "The means of all classes are equal"
        notes.append(f"{reason}: {_listed(undefined)}.")
    return notes


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not defined"
