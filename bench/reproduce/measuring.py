"""What is kept of a trained network: curves over the steps, and the numbers of its end."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from reproduce.settings import Run
from reproduce.training import Trained, train
from torch import nn

import nrc_fast as nrc

__all__ = ["curves", "final", "measured"]

GAMMAS = 60  # of the curve of NRC3 against gamma
SCATTER = 200  # samples whose residuals are kept
SINGLE = ("mse", "nrc1", "nrc1_variance", "nrc2", "balance_distance")


def measured(run: Run) -> dict[str, Any]:
    """Train in one thread, and say what was found, with the settings, the versions and the time of the training.

    Raises
    ------
    RuntimeError
        The training diverges.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        trained = train(run)
        seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    drawn = curves(trained)
    if run != run.setting:  # drawn of the first seed alone
        del drawn["explained_variance_ratio"]
    return {
        "settings": asdict(run),
        "versions": {"nrc_fast": nrc.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "seconds": round(seconds, 1),
        "final": final(run, trained),
        "curves": drawn,
    }


def curves(trained: Trained) -> dict[str, list[Any]]:
    """One list for each number, a value for each checkpoint."""
    last, each = trained.history.records("last"), trained.history.records("each")
    found: dict[str, list[Any]] = {"step": [record.step for record in last]}
    found |= {name: [getattr(record, name) for record in last] for name in SINGLE}
    found |= {"nrc3": [record.nrc3 for record in last], "nrc3_each": [record.nrc3 for record in each]}
    return found | {name: [seen[name] for seen in trained.seen] for name in trained.seen[0]}


def final(run: Run, trained: Trained) -> dict[str, Any]:
    """The numbers of the last step, from float64 copies of features and weights."""
    trunk, head = trained.model
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        H = trunk(torch.from_numpy(trained.data.inputs)).double().numpy()
        W = head.weight.double().numpy()
        b = np.zeros(len(W)) if head.bias is None else head.bias.double().numpy()
    Y = trained.data.targets.astype(np.float64)
    covariance = np.cov(Y, rowvar=False, bias=True)
    residuals = Y - H @ W.T - b
    exponent, context = nrc.head_exponent(W, Y), nrc.nrc3_context(W, Y)
    balance = nrc.head_balance(H, W, b, Y)
    report = trained.report
    found: dict[str, Any] = {
        "mse": float(np.square(residuals).sum(axis=1).mean()),
        "test_mse": trained.seen[-1]["test_mse"],
        "r2": report.r2,
        "nrc1": report.nrc1,
        "nrc1_by_k": report.nrc1_by_k[:5].tolist(),
        "nrc2": report.nrc2,
        "nrc3": context.nrc3,
        "gamma": context.gamma,
        "gamma_share": context.gamma_share,
        "nrc3_at_zero": context.at_zero,
        "nrc3_quantile": context.quantile,
        "nrc3_random": [context.untrained_low, context.untrained, context.untrained_high],
        "head_outside": context.outside,
        "exponent": exponent.exponent,
        "exponent_residual": exponent.residual_share,
        "balance_distance": balance.distance,
        "balance_decay": balance.lambda_W,
        "balance_asymmetry": balance.asymmetry,
        "covariance": covariance.tolist(),
        "head_gram": (W @ W.T).tolist(),
        "residual_covariance": (residuals.T @ residuals / len(Y)).tolist(),
        "mean_feature_norm": float(np.linalg.norm(H, axis=1).mean()),
        "mean_squared_feature_norm": float(np.square(H).sum(axis=1).mean()),
        "active_features": int(np.sum(H.std(axis=0) > 1e-6 * H.std())),
        "explained_variance_ratio": trained.seen[-1]["explained_variance_ratio"],
    }
    smallest = float(np.linalg.eigvalsh(covariance)[0])
    if smallest > 1e-9 * float(np.trace(covariance)):  # targets of low rank leave gamma no room
        gammas = np.minimum(np.linspace(0.0, 1.0, GAMMAS) * smallest, 0.999999 * smallest)
        found["nrc3_curve"] = nrc.nrc3_curve(W, Y, gammas).tolist()
        found["nrc3_by_depth"] = [nrc.nrc3(W, Y, depth=depth) for depth in (1, 2, 3, 4)]
    if run.feature_penalty is not None:
        found["nrc3_at_c"] = nrc.nrc3(W, Y, gamma=run.weight_decay * run.feature_penalty)
        predicted = nrc.ufm.minimum(Y, lambda_W=run.weight_decay, lambda_H=run.feature_penalty)
        found["predicted_mse"] = float(predicted.mse)
        found["predicted_gram"] = predicted.gram.tolist()
    if run.group == "norms" and run == run.setting:
        found["residuals"], found["targets"] = residuals[:SCATTER].tolist(), Y[:SCATTER].tolist()
    if run.group == "layers":
        found["layers"] = {f"n = {n}": _layers(trained, n) for n in (2, Y.shape[1])}
    return found


def _layers(trained: Trained, n: int) -> list[dict[str, float]]:
    """The conditions of Deep NRC of every linear layer, for n components."""
    loader = [(torch.from_numpy(trained.data.inputs), torch.from_numpy(trained.data.targets))]
    names = ("noise_fraction", "signal_alignment", "weight_alignment", "linear_mse", "feature_stable_rank")
    report = nrc.measure_layers(trained.model, loader, n=n)
    return [{name: float(getattr(layer, name)) for name in names} for layer in report.layers]
