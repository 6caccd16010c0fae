"""Features near an affine plane that does not hold the origin, which conventions about the origin do not see."""

from __future__ import annotations

import math

__all__ = ["affine_note", "is_affine"]

# This share of the energy lies outside the components, and ten times less of the variance.
AFFINE_ENERGY = 1e-3
AFFINE_RATIO = 0.1


def is_affine(energy: float, variance: float) -> bool:
    """Whether far less of the variance lies outside the components than of the energy of the rows.

    A plane through the origin would hold the energy of the rows as well as their variance.

    Parameters
    ----------
    energy, variance : float
        Shares of both that lie outside.

    Examples
    --------
    >>> is_affine(0.3, 1e-6), is_affine(0.3, 0.2), is_affine(1e-6, 1e-9)
    (True, False, False)
    """
    return energy > AFFINE_ENERGY and variance < AFFINE_RATIO * energy


def affine_note(
    convention: str, components: int, *, origin: tuple[float, float], mean: tuple[float, float], variance: float
) -> str:
    """What to say of it.

    Parameters
    ----------
    convention : str
        About the origin.
    components : int
    origin : pair of float
        NRC1 and NRC2 under that convention; NaN where they are not known.
    mean : pair of float
        The same under id25; NaN where they are not known.
    variance : float
        Share of the variance that lies outside the components.

    Examples
    --------
    >>> print(affine_note("nrc24", 2, origin=(0.5, 0.6), mean=(1e-6, 0.3), variance=1e-7))
    NRC1 under nrc24 is 0.5 although only 1.0e-07 of the variance lies outside the first 2 components: the features lie near an affine plane that does not hold the origin. Under id25, about the mean, NRC1 is 1e-06 and NRC2 0.3.
    """  # noqa: E501 - what it says is one line
    note = (
        f"NRC1 under {convention} is {origin[0]:.3g} although only {variance:.1e} of the variance lies outside the "
        f"first {components} components: the features lie near an affine plane that does not hold the origin."
    )
    if math.isnan(mean[0]):
        return f"{note} Convention variance measures the collapse to such a plane; id25, too, for rows read again."
    beside = "" if math.isnan(mean[1]) else f" and NRC2 {mean[1]:.3g}"
    return f"{note} Under id25, about the mean, NRC1 is {mean[0]:.3g}{beside}."
