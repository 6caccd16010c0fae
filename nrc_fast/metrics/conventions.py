"""The definitions of NRC1 and NRC2 that are in use, each under its own name, never silently exchanged.

They agree where features collapse to a subspace through the origin and differ where the mean lies outside it:
``nrc24`` then stays large while ``id25`` and ``variance`` go to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np

from nrc_fast.base.arrays import FloatArray

__all__ = ["CONVENTIONS", "Convention", "ConventionName", "in_range", "needs_unit_rows", "resolve_convention"]


# The keys of `CONVENTIONS`.
ConventionName: TypeAlias = Literal["nrc24", "id25", "raw", "uncentered", "variance"]


@dataclass(frozen=True)
class Convention:
    """One definition of NRC1 and NRC2.

    Attributes
    ----------
    name : str
    centered_basis : bool
        The basis of NRC1: eigenvectors of the covariance (True) or of the second moment (False) of the features.
    centered_rows : bool
        The rows that are projected: h - mean (True) or h (False).
    unit_rows : bool
        Each row is divided by its norm before it is projected.
    relative : bool
        The mean residual is divided by the mean energy of the rows.
    source : str
        Who uses it.
    """

    __module__ = "nrc_fast"

    name: str
    centered_basis: bool
    centered_rows: bool
    unit_rows: bool
    relative: bool
    source: str

    @property
    def projects_its_matrix(self) -> bool:
        """Whether the basis is of the rows that are projected, so that no other leaves less of them."""
        return not self.unit_rows and self.centered_rows == self.centered_basis


CONVENTIONS: dict[ConventionName, Convention] = {
    cast("ConventionName", convention.name): convention
    for convention in (
        Convention(
            name="nrc24",
            centered_basis=True,
            centered_rows=False,
            unit_rows=True,
            relative=False,
            source="arXiv 2409.04180 (NeurIPS 2024), sec. 3.1, and its code",
        ),
        Convention(
            name="id25",
            centered_basis=True,
            centered_rows=True,
            unit_rows=True,
            relative=False,
            source="arXiv 2510.01105",
        ),
        Convention(
            name="raw",
            centered_basis=True,
            centered_rows=False,
            unit_rows=False,
            relative=False,
            source="the first version of the code of arXiv 2409.04180",
        ),
        Convention(
            name="uncentered",
            centered_basis=False,
            centered_rows=False,
            unit_rows=True,
            relative=False,
            source="nc-toolbox",
        ),
        Convention(
            name="variance",
            centered_basis=True,
            centered_rows=True,
            unit_rows=False,
            relative=True,
            source="Deep NRC, arXiv 2603.23805",
        ),
    )
}


def resolve_convention(convention: str | Convention) -> Convention:
    """Look up a convention by name; a `Convention` of one's own is passed through.

    Raises
    ------
    ValueError
        The name is unknown.

    Examples
    --------
    >>> resolve_convention("id25").centered_rows
    True
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        msg = f"unknown convention {convention!r}; the known ones are {', '.join(CONVENTIONS)}"
        raise ValueError(msg)
    return CONVENTIONS[convention]


def needs_unit_rows(convention: Convention) -> bool:
    """Whether the moments of a convention are those of rows divided by their norm."""
    return convention.unit_rows and not convention.centered_rows


def in_range(convention: Convention, values: FloatArray) -> FloatArray:
    """Values of NRC1 or NRC2 of a convention, in the range that its definition gives them; NaN stays NaN.

    Residuals of unit rows, and shares of the energy, lie in [0, 1], which rounding passes by its own size. The truth
    lies there too, so that a bound of the value before holds for the one in the range.

    Examples
    --------
    >>> in_range(CONVENTIONS["nrc24"], np.array([1.0 + 1e-15, 0.5])).tolist()
    [1.0, 0.5]
    """
    largest = 1.0 if convention.unit_rows or convention.relative else np.inf
    return np.clip(values, 0.0, largest)
