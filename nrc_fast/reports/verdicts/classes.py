"""What NC1 to NC4 of classes say: classes collapsed to their means or not, and the shape of these."""

from __future__ import annotations

from collections.abc import Mapping

from nrc_fast.reports.verdicts.levels import COLLAPSED, NEAR, Known, first_that_holds, known

__all__ = ["classes_verdict"]

# Below it the means are a simplex, and W is their multiple: norms and angles, or matrices of norm 1, differ by a tenth.
EQUAL = 0.1
# Share of rows that are not given the class of the nearest mean, or not the right one, below which these are few.
FEW = 0.01


def classes_verdict(
    values: Mapping[str, float], bounds: Mapping[str, float], *, samples: int, d: int, n_classes: int
) -> tuple[str, ...]:
    """Two or three sentences: whether the classes are collapsed to their means, their shape, what to look at next.

    The rules:

    - NC1 is judged by ``nc1_share``, the share of the variance within classes: collapsed below 1e-3
      (`nrc_fast.reports.verdicts.levels.COLLAPSED`), on the way below 0.05 (``NEAR``), bounds included.
    - The means form a simplex where the spread of their norms (``nc2_equinorm``) and the deviation of their angles
      (``nc2_equiangular``) are both below 0.1. For two classes the angle is that of a simplex whatever they are, and
      more than d + 1 classes have none.
    - W is dual to the means where ``nc3`` is below 0.1.

    Parameters
    ----------
    values, bounds : mapping of str to float
        By the names of `nrc_fast.reports.VARIANTS`.
    samples, d, n_classes : int

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> values = {"nc1_share": 1e-5, "nc2_equinorm": 0.02, "nc2_equiangular": 0.01}
    >>> for sentence in classes_verdict(values, {}, samples=1000, d=64, n_classes=10):
    ...     print(sentence)
    Collapsed: 1e-05 of the variance lies within the classes (nc1_share).
    The class means form a simplex: their norms differ by 0.02 of their mean, their angles from it by 0.01.
    Give W and b for nc3, nc4 and the accuracy.
    """
    share = known("nc1_share", values, bounds)
    sentences = [
        _variability(share, samples, n_classes),
        _simplex(values, bounds, d=d, n_classes=n_classes),
        _head(values, bounds),
    ]
    return tuple(filter(None, sentences))


def _variability(share: Known, samples: int, n_classes: int) -> str:
    within = f"{share} of the variance lies within the classes (nc1_share)."
    rules = [
        (samples <= n_classes, "NC1 says nothing here: with no more rows than classes nothing varies within them."),
        (share.is_nan, "Nothing can be said of collapse: NC1 is not defined for these features."),
        (share.is_below(COLLAPSED), f"Collapsed: {within}"),
        (not share.is_above(COLLAPSED), f"It cannot be told whether the classes are collapsed: {within}"),
        (share.is_below(NEAR), f"On the way, not collapsed: {within}"),
        (True, f"Not collapsed: {within}"),
    ]
    return first_that_holds(rules)


def _simplex(values: Mapping[str, float], bounds: Mapping[str, float], *, d: int, n_classes: int) -> str:
    norms, angles = (known(name, values, bounds) for name in ("nc2_equinorm", "nc2_equiangular"))
    is_simplex = norms.is_below(EQUAL) and angles.is_below(EQUAL)
    off = f"their norms differ by {norms} of their mean, their angles from it by {angles}."
    rules = [
        (norms.is_nan or angles.is_nan, ""),
        (n_classes == 2, "NC2 says little of two classes: their means lie opposite each other whatever they are."),
        (
            n_classes > d + 1,
            f"The means of {n_classes} classes have no room for a simplex in {d} dimensions, and NC2 does not reach 0.",
        ),
        (is_simplex, f"The class means form a simplex: {off}"),
        (True, f"The class means form no simplex: {off}"),
    ]
    return first_that_holds(rules)


def _head(values: Mapping[str, float], bounds: Mapping[str, float]) -> str:
    dual, nearest, accuracy = (known(name, values, bounds) for name in ("nc3", "nc4", "accuracy"))
    disagree = f"W and the nearest mean disagree on {100.0 * nearest.value:.2g}% of the rows (nc4)"
    fit = (
        f"Look at the fit first: the accuracy is {accuracy.value:.4g}, and collapse sets in where it reaches 1 on the "
        "rows of the training."
    )
    rules = [
        (dual.is_nan and nearest.is_nan, "Give W and b for nc3, nc4 and the accuracy."),
        (accuracy.value < 1.0 - FEW, fit),
        (dual.is_nan, f"{disagree}."),
        (dual.is_below(EQUAL), f"W is near a multiple of the class means (nc3 {dual})."),
        (nearest.value < FEW, f"W is no multiple of the class means (nc3 {dual}), and decides as the nearest mean."),
        (nearest.is_nan, f"W is no multiple of the class means (nc3 {dual})."),
        (True, f"W is no multiple of the class means (nc3 {dual}): {disagree}."),
    ]
    return first_that_holds(rules)
