"""How much a report tells of what grows with the number of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from nrc_fast.base.options import ByK, Spectrum, require_choice

__all__ = ["Extent", "extent_of"]

# Numbers of components that NRC1 is told for at least, and beyond twice those of the targets.
LEAST_COMPONENTS = 16
MORE_COMPONENTS = 2
# Features up to which the whole spectrum costs little beside the moments.
WHOLE_SPECTRUM = 1024


@dataclass(frozen=True)
class Extent:
    """What is wanted beyond the leading components.

    Attributes
    ----------
    all_k : bool
        NRC1 for every number of components.
    whole_spectrum : bool
        Every eigenvalue, however many features there are.
    """

    all_k: bool = False
    whole_spectrum: bool = False

    def components(self, n: int, d: int) -> int:
        """How many components of d features are found for n targets."""
        return min(d, max(LEAST_COMPONENTS, 2 * n + MORE_COMPONENTS))

    def numbers(self, n: int, d: int) -> int:
        """The largest number of components that NRC1 is told for."""
        return d if self.all_k else self.components(n, d)

    def has_whole_spectrum(self, d: int) -> bool:
        """Whether every eigenvalue of d features is found."""
        return self.whole_spectrum or d <= WHOLE_SPECTRUM


def extent_of(by_k: str, spectrum: str) -> Extent:
    """The extent that options name.

    Parameters
    ----------
    by_k : {"leading", "all"}
    spectrum : {"auto", "full"}

    Raises
    ------
    ValueError
        An option is unknown.
    """
    require_choice("by_k", by_k, get_args(ByK))
    require_choice("spectrum", spectrum, get_args(Spectrum))
    return Extent(by_k == "all", spectrum == "full")
