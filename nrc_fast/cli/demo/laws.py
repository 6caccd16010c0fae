"""What the laws of a head say of every run of the demonstration: its table, the laws themselves, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nrc_fast.cli.demo.settings import RunResult
from nrc_fast.measurement.head_powers import head_exponent
from nrc_fast.reports.verdicts.levels import RARE, SHAPED

__all__ = ["LAWS", "finding_on_heads", "laws_table"]

# NRC1 about the mean from which on float32 weights round as much as decay takes away.
ROUNDED = 1e-9
# Shares of gamma in [0, lambda_min] that are called its ends.
ENDS = 0.02, 0.98

# One for each group of columns of the table.
LAWS = (
    (
        "NRC3 at its best gamma, NRC3 at gamma = 0, that gamma over lambda_min, and the random heads that do as well. "
        "At 0 the decay is weak beside the variance of the targets, at 1 a target direction is about to drop out of W."
    ),
    (
        "balance: how far W W^T is from the shape that weight decay gives every head that has come to rest, whatever "
        "is below it; decay: the lambda_W that this implies. No model of the features is in it."
    ),
    "p: W W^T goes like Sigma^p, with p = 1/2 on free features at weak decay and 1/L on top of L - 1 linear layers.",
    (
        "clock: the pace at which the variance outside n components falls late, over the pace of weight decay alone, "
        "which linear features come to. Not defined for ReLU features, nor once float32 has no digits left."
    ),
)


def laws_table(results: Sequence[RunResult]) -> str:
    """What each law says at the end of every run."""
    columns = f"{'NRC3':>8}{'at 0':>8}{'gamma':>6}{'random':>8}{'balance':>9}{'decay':>9}{'p':>6}{'clock':>6}"
    lines = [f"{'what the laws say':<20}{columns}"]
    for result in results:
        report = result.report
        lines.append(
            f"{result.name:<20}{report.nrc3:>8.1e}{report.nrc3_at_zero:>8.1e}{report.gamma_share:>6.2f}"
            f"{f'{100.0 * report.nrc3_quantile:.1f}%':>8}{report.balance_distance:>9.1e}{report.balance_decay:>9.2g}"
            f"{head_exponent(result.W, result.Y).exponent:>6.2f}{_pace(result):>6}"
        )
    return "\n".join(lines)


def _pace(result: RunResult) -> str:
    clock = result.recorded.clock
    if clock is None or not clock.predicted < 0.0 or result.history[-1].nrc1_variance < ROUNDED:
        return ""
    return f"{clock.measured / clock.predicted:.2f}"


def finding_on_heads(results: Sequence[RunResult]) -> str:
    """What NRC3 of the runs with weight decay is decided by; empty where there are none."""
    decayed = [result for result in results if result.weight_decay > 0.0 and math.isnan(result.c)]
    known = [result for result in decayed if not math.isnan(result.report.nrc3)]
    if not known:
        return ""
    shaped = [result for result in known if result.report.nrc3 < SHAPED and result.report.nrc3_quantile < RARE]
    missed = [result for result in known if result not in shaped]
    sentences = []
    if shaped:
        sentences.append(f"NRC3 comes near 0 with {_listed(shaped)}.")
    if missed:
        sentences.append(f"It does not with {_listed(missed)}.")
    sentences.append(_cause(missed))
    at_rest = [result for result in known if result.report.balance_distance < SHAPED]
    if at_rest:
        decays = [f"{result.report.balance_decay:.2g} for {result.weight_decay:g}" for result in at_rest]
        sentences.append(
            f"{len(at_rest)} of these {len(known)} heads have the shape of their balance to within {SHAPED:g}, which "
            f"needs no such model: but for the noise of small batches they are at rest. It implies a decay of "
            f"{', '.join(decays)}."
        )
    return " ".join(filter(None, sentences))


def _cause(missed: Sequence[RunResult]) -> str:
    weak = [result for result in missed if result.report.gamma_share < ENDS[0]]
    if not weak:
        return ""
    return (
        f"{'There' if len(weak) == len(missed) else f'In {len(weak)} of them'} gamma is at 0: that decay is weak "
        "beside the variance of the targets, W W^T is flatter than Sigma^(1/2), and no gamma makes up for it. It is "
        "the strength of the decay that NRC3 depends on, not whether the training has come to rest."
    )


def _listed(results: Sequence[RunResult]) -> str:
    return ", ".join(
        f"{result.name} ({result.report.nrc3:.2g}, gamma/lambda_min {result.report.gamma_share:.2f})"
        for result in results
    )
