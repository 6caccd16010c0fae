"""Features near an affine plane that does not hold the origin, which conventions about the origin do not see."""

from __future__ import annotations

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


def affine_note(value: float, variance: float, convention: str, components: int) -> str:
    """What to say of it.

    Parameters
    ----------
    value : float
        NRC1 under the convention.
    variance : float
        Share of the variance that lies outside.
    convention : str
    components : int
    """
    return (
        f"NRC1 under {convention} is {value:.3g} although only {variance:.1e} of the variance lies "
        f"outside the first {components} components: the features lie near an affine plane that does "
        "not hold the origin. Conventions id25 and variance measure the collapse to such a plane."
    )
