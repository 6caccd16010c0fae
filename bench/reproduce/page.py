"""The tables of docs/papers.md, from the committed results: what a reader compares, and every run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from reproduce.claims import CLAIMS, Claim
from reproduce.results import RESULTS, is_done
from reproduce.seeds import Setting, number, settings, spread
from reproduce.settings import RUNS, SEEDS

__all__ = ["PAGE", "TABLES", "with_tables"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "papers.md"
NOT_RUN = "not yet run"
DATA = {
    "swimmer": "Swimmer-v5",
    "swimmer_jumping": "Swimmer-v5, jumping torques",
    "reacher": "Reacher-v5",
    "reacher_standardised": "Reacher-v5, standardised",
    "hopper": "Hopper-v5",
    "linear_directions": "linear in white inputs",
    "curved_directions": "curved in white inputs",
    "rank_two": "ten targets of rank two",
    "shapes": "rendered shapes",
}
GROUPS = {
    "decay": "decay on all parameters",
    "ufm": "UFM loss, lambda_H = lambda_W",
    "norms": "UFM loss, lambda_W = 0.01",
    "depth": "depth",
    "layers": "Deep NRC",
    "vision": "convolutions",
}


def with_tables(text: str, folder: Path = RESULTS) -> str:
    """The page with what stands between its markers replaced.

    Raises
    ------
    ValueError
        A table has no markers in the page.
    """
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: generated -->\n", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            msg = f"the page has no markers {start.strip()} and {end}"
            raise ValueError(msg)
        lines = "\n".join(table(folder))
        text = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", f"{start}\n{lines}\n\n{end}", text, flags=re.DOTALL)
    return text


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _table(*headings: str) -> list[str]:
    return [_row(*headings), _row(*["---"] * len(headings))]


def claims_table(folder: Path = RESULTS) -> list[str]:
    """What the papers say, what is seen here, and why."""
    lines = _table("the paper says", "we see", "why")
    return lines + [_row(f"**{claim.source}:** {claim.says}", _seen(claim, folder), claim.why) for claim in CLAIMS]


def _seen(claim: Claim, folder: Path) -> str:
    chosen = [_only(settings(group, data, folder), decay) for group, data, decay in claim.needs]
    if not all(chosen):
        return NOT_RUN
    return claim.see(*(one for one in chosen if one is not None))


def _only(found: list[Setting], decay: float | None) -> list[Setting] | None:
    """All settings, or the one of a decay; None where there is none."""
    kept = [setting for setting in found if decay in (None, setting.run.weight_decay)]
    return kept or None


def data_table(folder: Path = RESULTS) -> list[str]:
    """Eigenvalues and correlations of the targets."""
    lines = _table("data", "samples", "n", "eigenvalues of Sigma", "correlations of the targets")
    for data, title in DATA.items():
        one = next((setting for group in GROUPS for setting in settings(group, data, folder)), None)
        if one is None:
            continue
        sigma = np.array(one.found[0]["final"]["covariance"])
        scale = np.sqrt(np.diag(sigma))
        pairs = (sigma / np.outer(scale, scale))[np.triu_indices(len(sigma), 1)]
        values = np.linalg.eigvalsh(sigma)
        samples = "2,000" if data == "rank_two" else "1,000"
        if len(sigma) > 3:
            shown = f"{number(float(values[-1]))}, {number(float(values[-2]))}, others 0 to rounding"
            between = f"{number(float(pairs.min()))} to {number(float(pairs.max()))}"
        else:
            shown = ", ".join(number(float(value)) for value in values)
            between = ", ".join(f"{pair:.2f}" for pair in pairs)
        lines.append(_row(title, samples, str(len(sigma)), shown, between))
    return lines


def _runs_of(setting: Setting) -> list[str]:
    run = setting.run
    depth = f", {run.hidden + 1} layers, {run.activation}" if run.group in ("depth", "layers") else ""
    penalty = "" if run.feature_penalty is None else f", lambda_H {run.feature_penalty:g}"
    return [f"{DATA[run.data]}{depth}", f"{run.weight_decay:g}{penalty}", f"{run.steps:,}", str(len(setting.found))]


def runs_table(folder: Path = RESULTS) -> list[str]:
    """Every setting: the median of its seeds, and the least and largest of them."""
    names = ("mse", "test_mse", "nrc1", "nrc2", "nrc3", "gamma_share", "nrc3_quantile", "exponent", "balance_distance")
    lines: list[str] = []
    for group, title in GROUPS.items():
        headings = ("data", "decay", "steps", "seeds", "MSE", "test MSE", "NRC1", "NRC2", "NRC3", "gamma/lambda_min")
        lines += ["", f"**{title}**", "", *_table(*headings, "random heads below", "exponent", "balance")]
        for setting in settings(group, None, folder):
            cells = [spread(setting.final(name)) for name in names]
            lines.append(_row(*_runs_of(setting), *cells))
    left = [run for run in RUNS if not is_done(run, folder)]
    missing = [run.name for run in left if run.seed == SEEDS[0]]
    lines += ["", f"{len(RUNS) - len(left)} of {len(RUNS)} runs, all seeds counted, are done."]
    return lines[1:] + [f"Not yet run with any seed: {', '.join(missing)}."] * bool(missing)


def about_table(folder: Path = RESULTS) -> list[str]:
    """With what was trained, and how long it took."""
    found: list[dict[str, Any]] = [
        one for group in GROUPS for each in settings(group, None, folder) for one in each.found
    ]
    seconds = sum(one["seconds"] for one in found)
    versions = sorted({", ".join(f"{name} {version}" for name, version in one["versions"].items()) for one in found})
    line = f"{len(found)} trainings, {seconds / 60:.0f} minutes one after the other on a machine that other work shared"
    return [f"{line}; on a free one it is less. Versions: {'; '.join(versions)}."]


TABLES: dict[str, Callable[[Path], list[str]]] = {
    "claims": claims_table,
    "data": data_table,
    "runs": runs_table,
    "about": about_table,
}
