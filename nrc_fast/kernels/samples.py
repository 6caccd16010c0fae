"""Features and targets that users gave, a row for each sample: how many, their moments, their values in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import from_lower
from nrc_fast.kernels import calls
from nrc_fast.kernels.inputs import as_rows

__all__ = ["JointMoments", "Reader", "joint_moments", "sample_count", "sample_reader"]

# Gives a new float64 matrix on the host.
Reader: TypeAlias = Callable[[], FloatArray]


@dataclass(frozen=True, eq=False)
class JointMoments:
    """Moments of features and of the targets beside them.

    Attributes
    ----------
    mean : (d,) float64 array
        Mean of the features.
    covariance : (d, d) float64 array
        Population covariance (1/M) of the features, both triangles.
    cross_covariance : (d, n) float64 array
        ``(1/M) sum (h - mean)(y - t)^T`` about a point t that is given, usually the mean of the targets.
    """

    mean: FloatArray
    covariance: FloatArray
    cross_covariance: FloatArray


def sample_count(values: object, name: str, *, vector_is_column: bool = False) -> int:
    """How many rows a user's array on the host has.

    Parameters
    ----------
    values : (M, d) array or tensor
    name : str
        How error messages call it.
    vector_is_column : bool
        Accept shape (M,) as (M, 1).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        What `as_rows` raises for what it cannot read.
    """
    return as_rows(values, name, vector_is_column=vector_is_column).count


def sample_reader(values: object, name: str, *, vector_is_column: bool = False) -> Reader:
    """A function that reads a user's array on the host in float64 when it is called; it holds no graph of a tensor.

    Parameters
    ----------
    values : (M, d) array or tensor
        Not copied before the function is called.
    name : str
        How error messages call it.
    vector_is_column : bool
        Accept shape (M,) as (M, 1).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        What `as_rows` raises for what it cannot read.

    Examples
    --------
    >>> sample_reader([1.0, 2.0], "Y", vector_is_column=True)().tolist()
    [[1.0], [2.0]]
    """
    return as_rows(values, name, vector_is_column=vector_is_column).to_float64


def joint_moments(features: object, targets: object, target_mean: FloatArray) -> JointMoments:
    """Moments of features and targets on the host in float64, in two reads, the second one of what lies about the mean.

    Parameters
    ----------
    features : (M, d) array or tensor
    targets : (M, n) or (M,) array or tensor
    target_mean : (n,) float64 array
        What is subtracted from the targets.

    Raises
    ------
    ValueError
        Features or targets are not finite, or differ in their number of rows.
    TypeError, RuntimeError
        What `as_rows` raises for what it cannot read.

    Examples
    --------
    >>> import numpy as np
    >>> found = joint_moments([[1.0], [3.0]], [0.0, 2.0], np.ones(1))
    >>> found.mean.tolist(), found.covariance.tolist(), found.cross_covariance.tolist()
    ([2.0], [[1.0]], [[1.0]])
    """
    rows, target_rows = as_rows(features, "features"), as_rows(targets, "Y", vector_is_column=True)
    if rows.count != target_rows.count:
        msg = f"features has {rows.count} rows and Y has {target_rows.count}; one for each sample is expected"
        raise ValueError(msg)
    mean = calls.gram(rows, plain=False, precision="highest").column_sums / rows.count
    sums = calls.gram(rows, shift=mean, targets=target_rows, target_shift=target_mean, precision="highest")
    covariance = from_lower(sums.gram) / rows.count
    return JointMoments(mean, covariance, sums.cross.T / rows.count)
