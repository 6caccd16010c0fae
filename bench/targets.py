"""The targets that the kernels are held to, and what a result file says about each."""

from __future__ import annotations

from dataclasses import dataclass

from findings import (
    OURS,
    SIXTEEN,
    Find,
    Row,
    above_kernels,
    above_limits,
    every,
    few,
    grid_error,
    headline,
    least_lead,
    least_share,
    memory_beyond,
    most_error,
    most_ratio,
    most_share,
    of_many_features,
    of_shape,
    reads_of_rows,
    relative_slowdown,
    single,
    sixteen_bits_to_float32,
    speed_up,
    square_array,
    thirty_two,
    update_time,
    watch_overhead,
    wide,
)

__all__ = ["TARGETS", "Target"]


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
    find: Find
    most: bool = False
    form: str = "{:.2f}x"

    def verdict(self, rows: list[Row]) -> tuple[str, str]:
        """What was measured, and "met", "missed" or "not measured"."""
        found = self.find([row for row in rows if "not run" not in row])
        if found is None:
            return "", "not measured"
        met = found.value <= self.bound if self.most else found.value >= self.bound
        return f"{self.form.format(found.value)}, {found.where}", "met" if met else "**missed**"


PERCENT = "{:.0%}"
SKLEARN = ("scikit-learn PCA, numpy",)
AUTHORS = ("code of arXiv 2409.04180",)
PRODUCTS = ("numpy", "torch.mm", "scipy")
FLOAT32_RESIDUAL = "nrc_fast, float32 arithmetic"
FEW = "residual float32, k <= 4, d >= 128"
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
        "nrc1, 20,000 x 4,096, collapsed",
        "8x scikit-learn's PCA as it chooses",
        8.0,
        least_lead("nrc1", SKLEARN, of_shape(20_000, 4096, "collapsed")),
    ),
    Target(
        "nrc1, 20,000 x 4,096, power",
        "4x scikit-learn's PCA as it chooses",
        4.0,
        least_lead("nrc1", SKLEARN, of_shape(20_000, 4096, "power")),
    ),
    Target(
        "nrc1, 20,000 x 4,096, both kinds",
        "error at most 1e-10",
        1e-10,
        most_error("nrc1", of_shape(20_000, 4096, "collapsed", "power")),
        most=True,
        form="{:.0e}",
    ),
    Target(
        "nrc1 beside two busy processes, 20,000 x 4,096",
        "slowed down no more than scikit-learn's PCA",
        1.0,
        relative_slowdown(SKLEARN, of_shape(20_000, 4096, "collapsed", "power")),
        most=True,
    ),
    Target(
        "nrc1, 200,000 x 4,096",
        "at most the time of 6 reads of the rows",
        6.0,
        reads_of_rows(of_shape(200_000, 4096, "collapsed", "power")),
        most=True,
        form="{:.1f} reads",
    ),
    Target(
        "nrc1, 20,000 x 16,384",
        "10x scikit-learn's PCA as it chooses",
        10.0,
        least_lead("nrc1", SKLEARN, of_shape(20_000, 16_384, "collapsed", "power")),
    ),
    Target(
        "nrc1, 20,000 x 16,384",
        "at most 1 GB beyond the rows",
        1.0,
        memory_beyond(of_shape(20_000, 16_384, "collapsed", "power")),
        most=True,
        form="{:.2f} GB",
    ),
    Target(
        "nrc1, d >= 16,384",
        "less memory than one d x d array of float64",
        1.0,
        memory_beyond(of_many_features, square_array),
        most=True,
        form=PERCENT,
    ),
    Target(
        "measure with Y, W, b, 20,000 x 4,096",
        "under 2x one Gram",
        2.0,
        above_kernels("one Gram", of_shape(20_000, 4096, "collapsed", "power")),
        most=True,
    ),
    Target(
        "measure with Y, W, b, 400,000 x 256",
        "at most 1.25x Gram and residuals",
        1.25,
        above_kernels("Gram, then residuals", of_shape(400_000, 256, "layer")),
        most=True,
    ),
    Target(
        "every k at once",
        "d/4 times the all-k loop: 1x here",
        1.0,
        least_lead("all_k", ("loop",), every, lambda row: row["d"] / 4.0),
    ),
    Target("nrc3 at its best gamma", "100x the grid", 100.0, least_lead("nrc3", ("grid",), every)),
    Target("gamma of nrc3", "100x the grid", 100.0, least_lead("nrc3_gamma", ("grid",), every)),
    Target("gamma of nrc3", "error at most 1e-12", 1e-12, most_error("nrc3_gamma"), most=True, form="{:.0e}"),
    Target("gamma of the grid", "its error is 1e-4 or worse", 1e-4, grid_error, form="{:.0e}"),
    Target("gram by two threads", "1.9x as fast as by one", 1.9, speed_up),
    Target("update(), 256 x 64", "under 60 us", 60.0, update_time, most=True, form="{:.0f} us"),
    Target("watch, every 10 steps", "at most 3% of the step", 3.0, watch_overhead, most=True, form="{:.1f}%"),
    Target("every row of ours", "at most the machine's limit", 1.0, most_share, most=True, form=PERCENT),
]
