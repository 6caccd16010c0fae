"""Which options a callback of another library may hand on to its monitor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from nrc_fast.training.monitor import Monitor

__all__ = ["require_monitor_options"]


def require_monitor_options(options: Mapping[str, object], taken: Sequence[str], owner: str) -> None:
    """Check that what a callback hands on to its `Monitor` are options of one.

    Parameters
    ----------
    options : mapping of str to object
    taken : sequence of str
        Parameters of `Monitor` that the callback gives itself.
    owner : str
        What the message calls the callback.

    Raises
    ------
    TypeError
        One is none.
    """
    parameters = inspect.signature(Monitor).parameters.values()
    known = [part.name for part in parameters if part.kind is part.KEYWORD_ONLY and part.name not in taken]
    unknown = [name for name in options if name not in known]
    if unknown:
        msg = f"{owner} has no option {', '.join(unknown)}; those of nrc_fast.Monitor are {', '.join(known)}"
        raise TypeError(msg)
