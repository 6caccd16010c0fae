"""The tables and sentences of the demonstration, worded by what was measured."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from nrc_fast.base.arrays import FloatArray, SingleArray
from nrc_fast.cli.demo.laws import finding_on_heads
from nrc_fast.cli.demo.settings import BATCH, MOMENTUM, WIDTH, RunResult, Setting
from nrc_fast.measurement.alignment import nrc3
from nrc_fast.reports.affine import is_affine
from nrc_fast.reports.verdicts.levels import COLLAPSED, NEAR, percent_inside

__all__ = ["finding", "findings", "header", "history_table", "item", "summary_table"]

ROWS = 8  # of a printed table, after that of step 0
LINE = 80

# Beside the levels of `nrc_fast.reports.verdicts.levels`:
FALLEN = 0.1  # of the NRC1 of step 0 is left
AT_C = 1e-3  # NRC3 is below, for the gamma of the theory
AGREES = 0.1  # relative difference of measured and predicted MSE


# ---- tables ----


def header(
    path: Path, about: str, inputs: SingleArray, actions: FloatArray, steps: int, settings: Sequence[Setting]
) -> str:
    """What is trained on what."""
    n = actions.shape[1]
    source = (
        f"Data: {path}, {len(inputs):,} rows of {inputs.shape[1]} observations and {n} actions, each column "
        "standardised: weight decay is weighed against targets of variance 1 instead of "
        f"{', '.join(f'{variance:.2g}' for variance in actions.var(axis=0))}."
    )
    model = (
        f"Model: {inputs.shape[1]}-{WIDTH}-{WIDTH}-{WIDTH}-{n} with ReLUs; the features are the outputs of the third "
        f"hidden layer, linear unless a run says ReLU. SGD, batches of {min(BATCH, len(inputs))}, momentum "
        f"{MOMENTUM}, {steps:,} steps a run."
    )
    paragraphs = [textwrap.fill(paragraph, LINE) for paragraph in (source, about, model) if paragraph]
    return "\n".join([*paragraphs, *(item(str(setting)) for setting in settings)])


def history_table(result: RunResult) -> str:
    """Some records of one run."""
    last = len(result.history) - 1
    rows = sorted({round(last * k / ROWS) for k in range(ROWS + 1)})
    n = result.report.n
    title = f"{result.name} ({result.seconds:.0f} s; NRC3 with gamma = {result.report.gamma:.4g}, the best at the end)"
    names = (
        f"{'step':>6}{'train MSE':>10}{'R2':>8}{'NRC1':>9}{'(id25)':>9}{'NRC2':>9}{'NRC3':>9}{f'variance in {n}':>17}"
    )
    lines = [title, names]
    lines += [
        f"{record.step:>6}{record.mse:>10.5f}{record.r2:>8.4f}{record.nrc1:>9.1e}{record.nrc1_id25:>9.1e}"
        f"{record.nrc2:>9.1e}{record.nrc3:>9.1e}{percent_inside(record.nrc1_variance):>17}"
        for record in (result.history[row] for row in rows)
    ]
    return "\n".join(lines)


def summary_table(results: Sequence[RunResult]) -> str:
    """The last record of every run."""
    names = (
        f"{'at the end of':<20}{'train MSE':>10}{'R2':>8}{'NRC1':>8}{'(id25)':>8}{'NRC2':>8}{'NRC3':>8}{'UFM: MSE':>10}"
    )
    lines = [names]
    for result in results:
        record = result.history[-1]
        # Without known penalties the prediction follows from gamma, and gamma = 0 predicts nothing but MSE = 0.
        predicted = "" if math.isnan(result.c) or result.report.ufm is None else f"{result.report.ufm.mse:.4f}"
        lines.append(
            f"{result.name:<20}{record.mse:>10.4f}{record.r2:>8.4f}{record.nrc1:>8.1e}{record.nrc1_id25:>8.1e}"
            f"{record.nrc2:>8.1e}{record.nrc3:>8.1e}{predicted:>10}"
        )
    return "\n".join(lines)


def item(text: str) -> str:
    """A paragraph of a list."""
    return textwrap.fill(text, LINE, initial_indent="- ", subsequent_indent="  ")


# ---- what the numbers say ----


def findings(results: Sequence[RunResult]) -> list[str]:
    """A finding for each run and one on the heads under weight decay, worded by what was measured."""
    on_heads = finding_on_heads(results)
    return [*(f"{result.name}: {finding(result)}" for result in results), *([on_heads] if on_heads else [])]


def finding(result: RunResult) -> str:
    """What one run shows."""
    first, last = result.history[0], result.history[-1]
    if math.isnan(last.nrc1) or math.isnan(last.nrc1_variance):
        return "the features are all equal; there is nothing to measure."
    if not math.isnan(result.c):
        return _ufm_finding(result)
    n = result.report.n
    change = f"NRC1 went from {first.nrc1:.2g} to {last.nrc1:.2g} and NRC2 from {first.nrc2:.2g} to {last.nrc2:.2g}"
    if max(last.nrc1, last.nrc2) < COLLAPSED:
        return f"collapse. {change}: the features lie in the space that the {n} rows of W span."
    near_plane = last.nrc1_variance < NEAR
    if near_plane and is_affine(result.report.energy_outside, last.nrc1_variance):
        return (
            f"collapse towards an affine plane, the trap. {percent_inside(last.nrc1_variance)} of the variance lies "
            f"in {n} components ({percent_inside(first.nrc1_variance)} at step 0), and yet NRC1 under nrc24 is "
            f"{last.nrc1:.2g}: that plane does not hold the origin, and nrc24 projects the rows as they are. id25, "
            f"which subtracts their mean, went from {first.nrc1_id25:.2g} to {last.nrc1_id25:.2g}."
        )
    if near_plane or last.nrc1 < FALLEN * first.nrc1:
        return f"on the way, not collapsed in {result.steps:,} steps. {change}."
    return f"no collapse. {change}, with R2 = {last.r2:.4f}."


def _ufm_finding(result: RunResult) -> str:
    last, prediction = result.history[-1], result.report.ufm
    if prediction is None:
        return "there is no prediction."
    # A c above the smallest eigenvalue is no gamma that NRC3 is defined for.
    gamma = result.c if prediction.rank == result.report.n else last.gamma
    at_c = nrc3(result.W, result.Y, gamma=gamma)
    agrees = not at_c > AT_C and abs(last.mse - prediction.mse) < AGREES * prediction.mse
    verdict = "as the theory says" if agrees else "not yet what the theory says"
    return (
        f"{verdict}. With penalties on the features and on W the minimum is known: NRC3 = 0 at gamma = lambda_W "
        f"lambda_H = {result.c:.4g} and MSE = {prediction.mse:.4g}. Measured: NRC3 = {at_c:.2g} there "
        f"({last.nrc3:.2g} at {last.gamma:.4g}) and MSE = {last.mse:.4g}. NRC1 went from "
        f"{result.history[0].nrc1:.2g} to {last.nrc1:.2g}."
    )
