"""Sums over the rows of all processes of a group."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.processes import Team
from nrc_fast.kernels.counts import ADDITIVE, LONG_SUMS
from nrc_fast.kernels.long_sums import added_targets

__all__ = ["sums_of_team"]


def sums_of_team(team: Team, state: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """What the parts of all processes add up to, by the names of `kernels.counts.ADDITIVE`.

    Of pairs no sum that is rounded once is enough: each process has those of all, and adds them up in their order.
    """
    total = {name: state[name].copy() for name in ADDITIVE if name not in LONG_SUMS}
    team.sum(list(total.values()))
    parts = [state[name] for name in LONG_SUMS]
    ends = np.cumsum([part.size for part in parts])[:-1]
    targets: dict[str, FloatArray] = {}
    for row in team.gather(np.concatenate([part.ravel() for part in parts]).tolist()):
        pieces = zip(LONG_SUMS, np.split(row, ends), parts, strict=True)
        found = {name: values.reshape(part.shape) for name, values, part in pieces}
        targets = added_targets(targets, found) if targets else found
    return total | targets
