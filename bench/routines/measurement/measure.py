"""The whole report of features, targets and a head: ours against the pipeline that a user would write."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case
from features import as_wide, item_size, random_features, random_head, wide_chunks
from harness import Contender, Problem
from limits import Pass
from references import centered_gram, column_means, unit_residual
from rivals import authors_nrc1, contender, gamma_grid, plain_nrc1, torch_rows

WIDE = [Case(20_000, 4096, k=3, kind=kind) for kind in ("power", "collapsed")]
SUITES = {
    "short": [Case(400_000, 256, k=3), WIDE[0]],
    "full": [Case(400_000, 256, k=3), Case(1_000_000, 64, k=3), Case(100_000, 1024, k=16), *WIDE],
}
# What the report cannot do without, timed beside it.
ONE_GRAM = "nrc_fast kernels, one Gram"
GRAM_AND_RESIDUAL = "nrc_fast kernels, Gram, then residuals on both bases"


def problem(case: Case) -> Problem:
    """NRC1, NRC2, NRC3, CKA, MSE and R2; the report has more, which is not compared."""
    import nrc_fast

    H, k = random_features(case), case.k or 1
    W, b, Y = random_head(H, k)
    truth, bases = _in_float64(H, W, b, Y)

    def ours() -> dict[str, float]:
        report = nrc_fast.measure(H, Y, W, b)
        return {name: float(getattr(report, name)) for name in truth if name != "energy"}

    def error(found: dict[str, float]) -> float:
        return max(abs(value / truth[name] - 1.0) for name, value in found.items())

    values, arithmetic = float(case.rows) * case.d, "float64" if case.dtype == "float64" else "float32"
    size = values * item_size(H)
    residual = Pass(values * 2 * (2 * k + 1), size, arithmetic)
    return Problem(
        name="measure",
        contenders=[
            Contender("nrc_fast.measure(H, Y, W, b)", ours),
            *_kernels(H, bases, [Pass(values * (case.d + 1), size, arithmetic), residual]),
            Contender("numpy, the same metrics", lambda: with_numpy(as_wide(H), W, b, Y)),
            contender("torch, the same metrics", "torch", lambda torch: lambda: with_torch(torch, H, W, b, Y)),
            contender(
                "code of arXiv 2409.04180, written anew: NRC1 to NRC3 only",
                "sklearn.decomposition",
                lambda library: lambda: as_the_authors(library, as_wide(H), W, Y),
                flops=2.0 * values * case.d * (k + 1),
            ),
        ],
        error=error,
        facts=case.facts(),
        passes=[Pass(values * (case.d + 1 + 2 * k), size, arithmetic), residual],
        # Without the grid, which would allow anything.
        plain=lambda: {name: value for name, value in with_numpy(as_wide(H), W, b, Y).items() if name != "nrc3"},
        tiny=1e-12,
    )


def _kernels(H: Any, bases: list[np.ndarray], passes: list[Pass]) -> list[Contender]:
    """The two reads alone: their sum of squares, and NRC1 and NRC2 on bases that are known."""
    from nrc_fast.kernels import calls
    from nrc_fast.kernels.inputs import as_rows
    from nrc_fast.kernels.results import Basis

    ours = as_rows(H, "H")

    def one_gram() -> dict[str, float]:
        return {"energy": float(np.trace(calls.gram(ours).gram))}

    def gram_and_residual() -> dict[str, float]:
        found = one_gram()
        sums = calls.residual(ours, [Basis(basis) for basis in bases], double_precision=True)
        nrc1, nrc2 = (float(one.unit[-1]) / len(H) for one in sums)
        return found | {"nrc1": nrc1, "nrc2": nrc2}

    return [
        Contender(ONE_GRAM, one_gram, passes=passes[:1]),
        Contender(GRAM_AND_RESIDUAL, gram_and_residual, passes=passes),
    ]


def _in_float64(H: Any, W: np.ndarray, b: np.ndarray, Y: np.ndarray) -> tuple[dict[str, float], list[np.ndarray]]:
    """From the definitions, some rows at a time; and the bases (n, d) of NRC1 and NRC2."""
    from nrc_fast.testing import reference_nrc3

    head, targets = W.astype(np.float64), Y.astype(np.float64)
    means, target_means = column_means(H), targets.mean(axis=0)
    total, cross, squares = centered_gram(H, means), np.zeros((H.shape[1], len(W))), 0.0
    for first, part in wide_chunks(H):
        rows = targets[first : first + len(part)]
        cross += (part - means).T @ (rows - target_means)
        squares += float(np.sum((part @ head.T + b - rows) ** 2))
    sigma = (targets - target_means).T @ (targets - target_means)
    bases = [np.linalg.eigh(total)[1][:, -len(W) :].T, np.linalg.qr(head.T)[0].T]
    values = {
        "energy": float(np.trace(total) + len(targets) * (means @ means)),
        "nrc1": unit_residual(H, bases[0]),
        "nrc2": unit_residual(H, bases[1]),
        "nrc3": reference_nrc3(W, Y),
        "cka": float(np.linalg.norm(cross) ** 2 / (np.linalg.norm(total) * np.linalg.norm(sigma))),
        "mse": squares / len(targets),
        "r2": 1.0 - squares / float(np.trace(sigma)),
    }
    return values, [np.ascontiguousarray(basis) for basis in bases]


def with_numpy(H: np.ndarray, W: np.ndarray, b: np.ndarray, Y: np.ndarray) -> dict[str, float]:
    """What a user of numpy writes: every metric by its formula, gamma by a grid."""
    errors = H @ W.T + b - Y
    centered, targets = H - H.mean(axis=0), Y - Y.mean(axis=0)
    covariance, sigma, cross = centered.T @ centered, targets.T @ targets, centered.T @ targets
    squares = float((errors * errors).sum())
    return {
        "nrc1": plain_nrc1(H, np.linalg.eigh(covariance)[1][:, -len(W) :].T),
        "nrc2": plain_nrc1(H, np.linalg.qr(W.T)[0].T),
        "nrc3": gamma_grid(W @ W.T, sigma / len(Y))[0],
        "cka": float(np.linalg.norm(cross) ** 2 / (np.linalg.norm(covariance) * np.linalg.norm(sigma))),
        "mse": squares / len(Y),
        "r2": 1.0 - squares / float(np.trace(sigma)),
    }


def with_torch(torch: Any, H: Any, W: np.ndarray, b: np.ndarray, Y: np.ndarray) -> dict[str, float]:
    """The same with torch."""
    rows = torch_rows(torch, H)
    head, bias, targets = torch.from_numpy(W), torch.from_numpy(b), torch.from_numpy(Y)
    errors = rows @ head.T + bias - targets
    centered, deviations = rows - rows.mean(0), targets - targets.mean(0)
    covariance, sigma, cross = centered.T @ centered, deviations.T @ deviations, centered.T @ deviations
    unit = torch.nn.functional.normalize(rows)
    values = {}
    for name, basis in (
        ("nrc1", torch.linalg.eigh(covariance)[1][:, -len(W) :]),
        ("nrc2", torch.linalg.qr(head.T)[0]),
    ):
        rest = unit - (unit @ basis) @ basis.T
        values[name] = float((rest * rest).sum(1).mean())
    squares = float((errors * errors).sum())
    return values | {
        "nrc3": gamma_grid(W @ W.T, (sigma / len(Y)).numpy())[0],
        "cka": float(cross.norm() ** 2 / (covariance.norm() * sigma.norm())),
        "mse": squares / len(Y),
        "r2": 1.0 - squares / float(sigma.trace()),
    }


def as_the_authors(decomposition: Any, H: np.ndarray, W: np.ndarray, Y: np.ndarray) -> dict[str, float]:
    """Their evaluation of one epoch: NRC1 for k = 1, ..., n, NRC2 by the projector of W, NRC3 by the grid."""
    import torch

    n = len(W)
    rows = torch.from_numpy(H)
    unit = torch.nn.functional.normalize(rows, dim=1)
    basis = torch.linalg.qr(torch.from_numpy(W).T)[0].T
    projector = basis.T @ basis
    deviations = Y - Y.mean(axis=0)
    return {
        "nrc1": float(authors_nrc1(decomposition, H, range(1, n + 1))[-1]),
        "nrc2": float(torch.norm(unit @ projector - unit) ** 2 / len(unit)),
        "nrc3": gamma_grid(W @ W.T, deviations.T @ deviations / len(Y))[0],
    }
