"""Calls that are valid and probably not what was meant: sentences for a report, a warning for a number alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.measurement.head import Head
from nrc_fast.metrics.targets import prediction_error_from_moments
from nrc_fast.passes.moments import Moments

__all__ = [
    "SuspiciousInputWarning",
    "notes_on_call",
    "notes_on_files",
    "notes_on_offset",
    "notes_on_sizes",
    "notes_on_targets",
    "notes_on_wide_rows",
    "warn_of",
]

# Features for each row from which on these may be the features: rows of a feature set are samples, and many.
WIDE = 10
# Means of products of one-hot targets are sums of zeros and ones, and off by roundings.
ROUNDINGS = 1e-9
# The slope of W fits where less than this share of the targets' variance is left about the mean of the errors,
# and an offset is large from this share on: the errors of a head that was fitted with b have a mean of about 0.
FITTED, OFFSET = 0.1, 0.01
# A part of a path that numbers trainings, such as run_2, seed=1 or lr0.1; what numbers shards is none.
RUN = re.compile(
    r"(?:^|[^a-z])(?:runs?|seed|trial|fold|exp|experiment|epoch|lr|wd|weight_?decay|ckpt|checkpoint)[-_=. ]?\d",
    re.IGNORECASE,
)


class SuspiciousInputWarning(UserWarning):
    """What a function of one number was given is valid, and probably not what was meant.

    `nrc1` warns of features with far more columns than rows, which may be transposed; `nrc2` of weights with more rows
    than the features have, which may be swapped with them; `nrc3`, `nrc3_gamma` and `nrc3_curve` of one-hot targets,
    which `measure_classes` is for; `nrc1` and `nrc2` of files that look like several trainings, taken for parts of one
    feature set. Reports hold the same sentences as notes.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np, nrc_fast as nrc
    >>> rng = np.random.default_rng(0)
    >>> H, W = rng.standard_normal((500, 8)), rng.standard_normal((2, 8))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     value = nrc.nrc2(W, H)
    >>> [warning.category.__name__ for warning in caught]
    ['SuspiciousInputWarning']
    """

    __module__ = "nrc_fast"


def warn_of(sentences: Sequence[str], *, stacklevel: int = 3) -> None:
    """Warn of each of some sentences, by default the caller of the public function that calls this."""
    for sentence in sentences:
        warnings.warn(sentence, SuspiciousInputWarning, stacklevel=stacklevel)


def notes_on_call(moments: Moments, head: Head) -> list[str]:
    """What a report says of what it was asked for."""
    has_pairs = bool(moments.n_targets) or head.weights is not None
    notes = [] if has_pairs else notes_on_wide_rows(moments.count, moments.d)
    if head.weights is not None:
        notes += notes_on_sizes(moments.count, len(head.weights))
    if moments.n_targets:
        notes += notes_on_targets(moments.target_mean, moments.target_covariance)
    if moments.n_targets and head.weights is not None:
        notes += notes_on_offset(moments, head.weights, head.bias)
    return notes


def notes_on_wide_rows(rows: int | None, d: int) -> list[str]:
    """Features with far more columns than rows.

    Examples
    --------
    >>> notes_on_wide_rows(1000, 64), notes_on_wide_rows(200, 1024), notes_on_wide_rows(None, 64)
    ([], [], [])
    >>> notes_on_wide_rows(64, 10_000)[0].split(":")[0]
    'H has 64 rows of 10,000 features'
    """
    if rows is None or d <= WIDE * rows:
        return []
    note = (
        f"H has {rows:,} rows of {d:,} features: a row is a sample. If a column is one, give H.T; so few samples say "
        "little of so many features."
    )
    return [note]


def notes_on_sizes(rows: int | None, outputs: int) -> list[str]:
    """Weights with more rows than the features have.

    Examples
    --------
    >>> notes_on_sizes(1000, 2), notes_on_sizes(None, 2)
    ([], [])
    >>> notes_on_sizes(2, 1000)
    ['W has 1,000 rows and H has 2: H is (N, d) and W is (n, d), are they swapped?']
    """
    if rows is None or outputs <= rows:
        return []
    return [f"W has {outputs:,} rows and H has {rows:,}: H is (N, d) and W is (n, d), are they swapped?"]


def notes_on_targets(mean: FloatArray, covariance: FloatArray) -> list[str]:
    """Targets that are one-hot, by their moments: E[y y^T] is diagonal, its diagonal is E[y], and that sums to 1.

    Examples
    --------
    >>> labels = np.eye(3)[[0, 1, 2, 2]]
    >>> notes_on_targets(labels.mean(axis=0), np.cov(labels, rowvar=False, bias=True))[0].split(":")[0]
    'The targets are one-hot'
    >>> notes_on_targets(np.zeros(2), np.eye(2))
    []
    """
    if len(mean) < 2:
        return []
    with np.errstate(over="ignore"):
        second = covariance + np.outer(mean, mean)
    off = max(float(np.abs(second - np.diag(mean)).max()), abs(float(mean.sum()) - 1.0))
    if not off < ROUNDINGS:
        return []
    return [
        "The targets are one-hot: for labels of classes measure_classes has the numbers of neural collapse, NC1 to NC4."
    ]


def notes_on_offset(moments: Moments, weights: FloatArray, bias: FloatArray | None) -> list[str]:
    """A head whose W fits the targets and whose b does not: it was forgotten, or belongs elsewhere."""
    sigma = moments.target_covariance
    variance, centre = float(np.trace(sigma)), np.zeros(len(sigma))
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit at all may be out of range
        offset = weights @ moments.mean - moments.target_mean + (0.0 if bias is None else bias)
        square = float(offset @ offset)
        if not square > OFFSET * variance:  # before the product of d x d
            return []
        left = prediction_error_from_moments(
            weights,
            bias=centre,
            feature_mean=np.zeros(moments.d),
            target_mean=centre,
            feature_covariance=moments.matrix("covariance"),
            target_covariance=sigma,
            cross_covariance=moments.cross_covariance,
        )
    if not (left < FITTED * variance and square > left):
        return []
    head, reason = (
        ("W h", "b was not given") if bias is None else ("W h + b", "b is zero" if not bias.any() else "b does not fit")
    )
    note = (
        f"{head} fits the targets but for an offset, whose square is {square:.2g} where they have the variance "
        f"{variance:.2g}: {reason}, and that of this head is probably another."
    )
    return [note]


def notes_on_files(files: Sequence[Path]) -> list[str]:
    """Several files of features whose names say that they are of several trainings.

    Examples
    --------
    >>> notes_on_files([Path("a/rank_0.npy"), Path("a/rank_1.npy")])
    []
    >>> notes_on_files([Path("seed_0/h.npy"), Path("seed_1/h.npy")])[0].split(" are ")[0]
    '2 files (seed_0/h.npy, seed_1/h.npy)'
    """
    parts = [file.parts for file in files]
    if len(files) < 2 or len(set(map(len, parts))) > 1:
        return []
    differing = [column for column in zip(*parts, strict=True) if len(set(column)) > 1]
    if not any(all(RUN.search(part) for part in column) for column in differing):
        return []
    names = f"{_shown(files[0])}, {_shown(files[1])}{', ...' if len(files) > 2 else ''}"
    note = (
        f"{len(files)} files ({names}) are taken for parts of one feature set, and their names look like several "
        "trainings: rows of different networks have no features in common. Measure each by itself."
    )
    return [note]


def _shown(file: Path) -> str:
    return "/".join(file.parts[-2:])
