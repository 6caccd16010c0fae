"""The targets that the kernels are held to, and what a result file says about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["TARGETS", "Finding", "Target"]

Row = dict[str, Any]
OURS = "nrc_fast"


@dataclass(frozen=True)
class Finding:
    """The worst value of all rows that a target speaks of, and where it was measured."""

    value: float
    where: str


@dataclass(frozen=True)
class Target:
    """A number that must be reached.

    Attributes
    ----------
    work : str
    target : str
        For people.
    bound : float
    find : callable
        From rows to the worst of them, or None where nothing was measured.
    most : bool
        Whether `bound` is the most that is allowed, instead of the least.
    form : str
        Format of the values.
    """

    work: str
    target: str
    bound: float
    find: Callable[[list[Row]], Finding | None]
    most: bool = False
    form: str = "{:.2f}x"

    def verdict(self, rows: list[Row]) -> tuple[str, str]:
        """What was measured, and "met", "missed" or "not measured"."""
        found = self.find([row for row in rows if "not run" not in row])
        if found is None:
            return "", "not measured"
        met = found.value <= self.bound if self.most else found.value >= self.bound
        return f"{self.form.format(found.value)}, {found.where}", "met" if met else "**missed**"


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
    return " ".join(parts)


def chosen(rows: list[Row], routine: str, keep: Callable[[Row], bool] = every) -> list[Row]:
    """Rows of a routine."""
    return [row for row in rows if row["routine"] == routine and "d" in row and keep(row)]


def worst(candidates: Iterable[tuple[float, str]], *, most: bool = False) -> Finding | None:
    """The smallest value, or the largest."""
    listed = sorted(candidates, reverse=most)
    return Finding(*listed[0]) if listed else None


def least_share(routine: str, contender: str, keep: Callable[[Row], bool]) -> Callable[[list[Row]], Finding | None]:
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
) -> Callable[[list[Row]], Finding | None]:
    """How many times our time the nearest rival takes whose name holds one of `rivals`."""

    def find(rows: list[Row]) -> Finding | None:
        near = [
            row
            for row in chosen(rows, routine, keep)
            if not row["contender"].startswith(OURS) and any(name in row["contender"] for name in rivals)
        ]
        return worst((row["times ours"] / divisor(row), f"{where(row)}, {row['contender']}") for row in near)

    return find


def most_ratio(routine: str, contenders: tuple[str, ...]) -> Callable[[list[Row]], Finding | None]:
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


def gamma_error(rows: list[Row]) -> Finding | None:
    """Of ours."""
    ours = chosen(rows, "nrc3_gamma", lambda row: row["contender"].startswith(OURS))
    return worst(((row["error"], where(row)) for row in ours), most=True)


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


SIXTEEN = ("float16", "bfloat16")


def wide(dtype: str, least: int) -> Callable[[Row], bool]:
    """Rows in one piece of a dtype with at least so many features."""
    return lambda row: row["dtype"] == dtype and row["d"] >= least and row["layout"] == "contiguous"


def single(row: Row) -> bool:
    """Whether the rows are float32 and in one piece."""
    return wide("float32", 1)(row)


def headline(row: Row) -> bool:
    """The size that the NRC1 targets speak of."""
    return single(row) and (row["rows"], row["d"], row["k"]) == (400_000, 256, 3)


PERCENT = "{:.0%}"
AUTHORS = ("code of arXiv 2409.04180",)
PRODUCTS = ("numpy", "torch.mm", "scipy")
FLOAT32_RESIDUAL = "nrc_fast, float32 arithmetic"
FEW = "residual float32, k <= 4, d >= 128"


def few(row: Row) -> bool:
    """Rows of the first residual target."""
    return single(row) and row["d"] >= 128 and row["k"] <= 4


def thirty_two(row: Row) -> bool:
    """Rows of the second."""
    return single(row) and row["d"] >= 128 and row["k"] == 32


TARGETS = [
    Target(
        "gram float32, d >= 256",
        "85% of the peak",
        0.85,
        least_share("gram", OURS, wide("float32", 256)),
        form=PERCENT,
    ),
    Target(
        "gram float32, d = 64",
        "60% of the limit",
        0.60,
        least_share("gram", OURS, lambda row: single(row) and row["d"] == 64),
        form=PERCENT,
    ),
    Target(
        "gram float32, every shape",
        "never slower than numpy, scipy, torch",
        1.0,
        least_lead("gram", PRODUCTS, lambda row: row["dtype"] == "float32"),
    ),
    Target(
        "gram float64, d >= 256",
        "80% of the peak",
        0.80,
        least_share("gram", OURS, wide("float64", 256)),
        form=PERCENT,
    ),
    Target(
        "gram float64, d >= 256",
        "never slower than dsyrk",
        1.0,
        least_lead("gram", ("dsyrk",), wide("float64", 256)),
    ),
    Target("gram of 16 bits", "at most 1.05x our float32 time", 1.05, sixteen_bits_to_float32, most=True),
    Target(
        "gram of 16 bits",
        "8x torch's own product",
        8.0,
        least_lead("gram", ("torch.mm",), lambda row: row["dtype"] in SIXTEEN),
    ),
    Target(
        "shift, sums, counts or unit rows beside gram",
        "at most 1.10x gram alone",
        1.10,
        most_ratio("fused", ("nrc_fast gram, shift, sums, counts", "nrc_fast gram of unit rows instead")),
        most=True,
    ),
    Target(
        f"{FEW}, in float32",
        "85% of the bandwidth",
        0.85,
        least_share("residual", FLOAT32_RESIDUAL, few),
        form=PERCENT,
    ),
    Target(f"{FEW}, in float64 (default)", "85% of the limit", 0.85, least_share("residual", OURS, few), form=PERCENT),
    Target(
        "residual float32, k = 32, in float32",
        "60% of the larger limit",
        0.60,
        least_share("residual", FLOAT32_RESIDUAL, thirty_two),
        form=PERCENT,
    ),
    Target(
        "residual float32, k = 32, in float64 (default)",
        "60% of the larger limit",
        0.60,
        least_share("residual", OURS, thirty_two),
        form=PERCENT,
    ),
    Target("nrc1, 400,000 x 256", "at most 1.25x the sum of the limits", 1.25, above_limits, most=True),
    Target("nrc1, 400,000 x 256", "5x the best rival", 5.0, least_lead("nrc1", ("",), headline)),
    Target("nrc1, 400,000 x 256", "20x the authors' pipeline", 20.0, least_lead("nrc1", AUTHORS, headline)),
    Target(
        "every k at once",
        "d/4 times the all-k loop: 1x here",
        1.0,
        least_lead("all_k", ("loop",), every, lambda row: row["d"] / 4.0),
    ),
    Target("nrc3 at its best gamma", "100x the grid", 100.0, least_lead("nrc3", ("grid",), every)),
    Target("gamma of nrc3", "100x the grid", 100.0, least_lead("nrc3_gamma", ("grid",), every)),
    Target("gamma of nrc3", "error at most 1e-12", 1e-12, gamma_error, most=True, form="{:.0e}"),
    Target("gamma of the grid", "its error is 1e-4 or worse", 1e-4, grid_error, form="{:.0e}"),
    Target("gram by two threads", "1.9x as fast as by one", 1.9, speed_up),
    Target("update(), 256 x 64", "under 60 us", 60.0, update_time, most=True, form="{:.0f} us"),
    Target("watch, every 10 steps", "at most 3% of the step", 3.0, watch_overhead, most=True, form="{:.1f}%"),
]
