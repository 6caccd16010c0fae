"""The worst value of the rows that a target speaks of: what it is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "OURS",
    "SIXTEEN",
    "Find",
    "Finding",
    "Row",
    "above_kernels",
    "above_limits",
    "every",
    "few",
    "grid_error",
    "headline",
    "least_lead",
    "least_share",
    "memory_beyond",
    "most_error",
    "most_ratio",
    "most_share",
    "of_many_features",
    "of_shape",
    "reads_of_rows",
    "relative_slowdown",
    "single",
    "sixteen_bits_to_float32",
    "speed_up",
    "square_array",
    "thirty_two",
    "update_time",
    "watch_overhead",
    "wide",
]

Row = dict[str, Any]
Find = Callable[[list[Row]], "Finding | None"]
OURS = "nrc_fast"
SIXTEEN = ("float16", "bfloat16")


@dataclass(frozen=True)
class Finding:
    """The worst value of all rows that a target speaks of, and where it was measured."""

    value: float
    where: str


def every(_: Row) -> bool:
    """Whether a row is chosen that need not be anything."""
    return True


def one(_: Row) -> float:
    """What a lead is divided by where the target does not grow."""
    return 1.0


def where(row: Row) -> str:
    """The shape, and what else tells it from the others."""
    parts = [f"{row['rows']:,} x {row['d']:,}", row["dtype"]]
    if row.get("layout") == "strided":
        parts.append("strided")
    if "k" in row:
        parts.append(f"k = {row['k']}")
    if "kind" in row:
        parts.append(row["kind"])
    return " ".join(parts)


def chosen(rows: list[Row], routine: str, keep: Callable[[Row], bool] = every) -> list[Row]:
    """Rows of a routine."""
    return [row for row in rows if row["routine"] == routine and "d" in row and keep(row)]


def _ours(rows: list[Row], routine: str, keep: Callable[[Row], bool]) -> list[Row]:
    return chosen(rows, routine, lambda row: row["contender"].startswith(OURS) and keep(row))


def worst(candidates: Iterable[tuple[float, str]], *, most: bool = False) -> Finding | None:
    """The smallest value, or the largest."""
    listed = sorted(candidates, reverse=most)
    return Finding(*listed[0]) if listed else None


def least_share(routine: str, contender: str, keep: Callable[[Row], bool]) -> Find:
    """Of the machine's limit, by one contender."""

    def find(rows: list[Row]) -> Finding | None:
        ours = [row for row in chosen(rows, routine, keep) if row["contender"] == contender]
        return worst((row["share of limit"], where(row)) for row in ours if "share of limit" in row)

    return find


def least_lead(
    routine: str,
    rivals: tuple[str, ...],
    keep: Callable[[Row], bool],
    divisor: Callable[[Row], float] = one,
) -> Find:
    """How many times our time the nearest rival takes whose name holds one of `rivals`."""

    def find(rows: list[Row]) -> Finding | None:
        near = [
            row
            for row in chosen(rows, routine, keep)
            if not row["contender"].startswith(OURS) and any(name in row["contender"] for name in rivals)
        ]
        return worst((row["times ours"] / divisor(row), f"{where(row)}, {row['contender']}") for row in near)

    return find


def most_ratio(routine: str, contenders: tuple[str, ...]) -> Find:
    """Of contenders of ours to the first of them."""

    def find(rows: list[Row]) -> Finding | None:
        more = chosen(rows, routine, lambda row: row["contender"] in contenders)
        return worst(((row["times ours"], f"{where(row)}, {row['contender']}") for row in more), most=True)

    return find


def sixteen_bits_to_float32(rows: list[Row]) -> Finding | None:
    """Our time for 16-bit features, as a multiple of ours for float32."""
    ours = chosen(rows, "gram", lambda row: row["contender"] == OURS and row["layout"] == "contiguous")
    single = {(row["rows"], row["d"]): row["seconds"] for row in ours if row["dtype"] == "float32"}
    pairs = [row for row in ours if row["dtype"] in SIXTEEN and (row["rows"], row["d"]) in single]
    return worst(((row["seconds"] / single[row["rows"], row["d"]], where(row)) for row in pairs), most=True)


def above_limits(rows: list[Row]) -> Finding | None:
    """NRC1's time, as a multiple of the limits of its two passes."""
    ours = chosen(rows, "nrc1", lambda row: row["contender"].startswith(OURS) and headline(row))
    return worst(((1.0 / row["share of limit"], where(row)) for row in ours if "share of limit" in row), most=True)


def most_error(routine: str, keep: Callable[[Row], bool] = every) -> Find:
    """Of ours."""

    def find(rows: list[Row]) -> Finding | None:
        return worst(((row["error"], where(row)) for row in _ours(rows, routine, keep)), most=True)

    return find


def most_share(rows: list[Row]) -> Finding | None:
    """Of the machine's limit, by any row of ours: above 1 the limit is none."""
    found = [row for row in rows if row["contender"].startswith(OURS) and "share of limit" in row]
    return worst(((row["share of limit"], f"{row['routine']}, {where(row)}") for row in found), most=True)


def reads_of_rows(keep: Callable[[Row], bool]) -> Find:
    """NRC1's time, as a number of reads of the features at the machine's bandwidth."""

    def find(rows: list[Row]) -> Finding | None:
        ours = [row for row in _ours(rows, "nrc1", keep) if "passes" in row]
        reads = ((len(row["passes"]) * row["seconds"] / row["seconds to read"], where(row)) for row in ours)
        return worst(reads, most=True)

    return find


def relative_slowdown(rivals: tuple[str, ...], keep: Callable[[Row], bool]) -> Find:
    """Our slowdown beside busy processes, relative to that of a rival on the same features."""

    def find(rows: list[Row]) -> Finding | None:
        slowed = [row for row in chosen(rows, "busy", keep) if "slowdown" in row]
        ours = {where(row): row["slowdown"] for row in slowed if row["contender"].startswith(OURS)}
        theirs = [row for row in slowed if row["contender"] in rivals and where(row) in ours]
        return worst(((ours[where(row)] / row["slowdown"], where(row)) for row in theirs), most=True)

    return find


def gigabyte(_: Row) -> float:
    """In MB."""
    return 1e3


def square_array(row: Row) -> float:
    """One of d x d float64 numbers, in MB."""
    return 8e-6 * float(row["d"]) ** 2


def memory_beyond(keep: Callable[[Row], bool], unit: Callable[[Row], float] = gigabyte) -> Find:
    """Ours for NRC1, beyond the features."""

    def find(rows: list[Row]) -> Finding | None:
        return worst(((row["MB beyond H"] / unit(row), where(row)) for row in _ours(rows, "memory", keep)), most=True)

    return find


def above_kernels(part: str, keep: Callable[[Row], bool]) -> Find:
    """The time of the whole report, as a multiple of that of kernels alone."""

    def find(rows: list[Row]) -> Finding | None:
        kernels = [row for row in _ours(rows, "measure", keep) if part in row["contender"]]
        return worst(((1.0 / row["times ours"], where(row)) for row in kernels), most=True)

    return find


def grid_error(rows: list[Row]) -> Finding | None:
    """The smallest of the grid."""
    return worst(
        (row["error"], where(row))
        for row in chosen(rows, "nrc3_gamma", lambda row: row["contender"].startswith("grid"))
    )


def speed_up(rows: list[Row]) -> Finding | None:
    """Of all threads over one."""
    ours = chosen(rows, "scaling", lambda row: row["contender"].startswith(OURS) and row["threads"] == 2)
    return worst((row["faster than one thread"], where(row)) for row in ours if row["rows"] >= 100_000)


def update_time(rows: list[Row]) -> Finding | None:
    """In microseconds."""
    ours = chosen(rows, "update", lambda row: row["contender"] == "nrc_fast update" and row["rows"] == 256)
    return worst(((1e6 * row["seconds"], where(row)) for row in ours if row["d"] == 64), most=True)


def watch_overhead(rows: list[Row]) -> Finding | None:
    """In percent of a training step."""
    watched = [row for row in rows if row["routine"] == "watch" and row["contender"] == "watched every 10 steps"]
    return worst(((row["overhead %"], f"batch {row['batch']}, width {row['width']}") for row in watched), most=True)


def wide(dtype: str, least: int) -> Callable[[Row], bool]:
    """Rows in one piece of a dtype with at least so many features."""
    return lambda row: row["dtype"] == dtype and row["d"] >= least and row["layout"] == "contiguous"


def single(row: Row) -> bool:
    """Whether the rows are float32 and in one piece."""
    return wide("float32", 1)(row)


def of_shape(count: int, d: int, *kinds: str) -> Callable[[Row], bool]:
    """Float32 rows of one shape and of some kinds of features."""
    return lambda row: single(row) and (row["rows"], row["d"]) == (count, d) and row.get("kind", "layer") in kinds


def of_many_features(row: Row) -> bool:
    """Where a d x d array takes 2 GiB or more."""
    return bool(row["d"] >= 16_384)


def headline(row: Row) -> bool:
    """The size that the NRC1 targets speak of."""
    return single(row) and (row["rows"], row["d"], row["k"]) == (400_000, 256, 3)


def few(row: Row) -> bool:
    """Rows of the first residual target."""
    return single(row) and row["d"] >= 128 and row["k"] <= 4


def thirty_two(row: Row) -> bool:
    """Rows of the second."""
    return single(row) and row["d"] >= 128 and row["k"] == 32
