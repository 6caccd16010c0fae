"""Columns as a data frame of pandas or polars, whichever the user works with."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args, overload

from nrc_fast.base.options import require_choice

if TYPE_CHECKING:
    from types import ModuleType

    import pandas
    import polars

__all__ = ["FrameLibrary", "make_frame"]

FrameLibrary: TypeAlias = Literal["pandas", "polars"]

LIBRARIES: tuple[str, ...] = get_args(FrameLibrary)


@overload
def make_frame(columns: Mapping[str, Sequence[object]], library: Literal["pandas"]) -> pandas.DataFrame: ...
@overload
def make_frame(columns: Mapping[str, Sequence[object]], library: Literal["polars"]) -> polars.DataFrame: ...
@overload
def make_frame(
    columns: Mapping[str, Sequence[object]], library: FrameLibrary | None = None
) -> pandas.DataFrame | polars.DataFrame: ...
def make_frame(
    columns: Mapping[str, Sequence[object]], library: FrameLibrary | None = None
) -> pandas.DataFrame | polars.DataFrame:
    """A data frame of columns that are equally long.

    Parameters
    ----------
    columns : mapping of str to sequence
    library : {"pandas", "polars"}, optional
        By default the one that is imported already, else the one that is installed; pandas where both are.

    Raises
    ------
    ImportError
        The library, or where none is named both, are not installed.
    ValueError
        The library is another one.

    Examples
    --------
    >>> make_frame({"step": [0, 10], "nrc1": [0.5, 0.25]}, "pandas").shape
    (2, 2)
    """
    found: pandas.DataFrame | polars.DataFrame = _library(library).DataFrame(dict(columns))
    return found


def _library(name: str | None) -> ModuleType:
    if name is not None:
        require_choice("library", name, LIBRARIES)
    imported = [known for known in LIBRARIES if sys.modules.get(known) is not None]
    names = [name] if name is not None else [*imported, *LIBRARIES]
    for known in names:
        try:
            return importlib.import_module(known)
        except ImportError:
            continue
    msg = f"a data frame needs {name or 'pandas or polars'}: pip install {name or 'pandas'}"
    raise ImportError(msg)
