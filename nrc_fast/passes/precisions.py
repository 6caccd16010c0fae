"""The precision that a pass works in, where the one that was asked for leaves it open."""

from __future__ import annotations

import math

from nrc_fast.passes.reading import Reading

__all__ = ["SMALL", "double_rows", "working_precision"]

# Products of features, N d^2, up to which float64 costs a few milliseconds more than float32, beside passes and a
# decomposition that take longer: 24,000 x 64 float32 rows take 21 ms either way, 6,100 x 128 take 17 ms for 13.
SMALL = 1e8


def working_precision(reading: Reading, precision: str) -> str:
    """The precision to sum a reading in: "highest" for "high" where there are few rows, else what was asked for.

    Parameters
    ----------
    reading : Reading
        Rows whose number is not known, such as those of batches, are not few; see `double_rows`. A group counts the
        rows of all.
    precision : {"high", "highest", "fast"}
    """
    if precision != "high":
        return precision
    count = math.inf if reading.source.count is None else float(reading.source.count)
    if reading.team is not None:
        count = float(reading.team.gather([count]).sum())
    return "highest" if count * reading.source.d**2 <= SMALL else "high"


def double_rows(d: int, precision: str) -> int:
    """Up to how many rows whose number is not known before are summed in float64: as many as are few.

    Parameters
    ----------
    d : int
    precision : {"high", "highest", "fast"}

    Examples
    --------
    >>> double_rows(64, "high"), double_rows(64, "fast")
    (24414, 0)
    """
    return int(SMALL) // d**2 if precision == "high" else 0
