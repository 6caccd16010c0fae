"""Results of each kind, small and known: two trainings, reports, layers and classes."""

from __future__ import annotations

import numpy as np

import nrc_fast as nrc
from nrc_fast.reports import ClassReport, DeepReport, History, LayerCollapse, Report


def report(seed: int = 0, noise: float = 1.0) -> Report:
    """Features of 2 targets in 6 dimensions with noise."""
    rng = np.random.default_rng(seed)
    Y, W = rng.standard_normal((80, 2)), rng.standard_normal((2, 6))
    return nrc.measure(Y @ W + noise * rng.standard_normal((80, 6)), Y, W, np.zeros(2))


def history(name: str = "", steps: int = 4, seed: int = 0) -> History:
    """A training whose noise falls to a tenth at each record."""
    rng = np.random.default_rng(seed)
    made = History(name)
    for step in range(steps):
        found = report(seed, 10.0**-step)
        made.add(10 * step, found, rng.standard_normal((2, 6)), np.diag([2.0, 1.0]))
    return made


def layers(*noises: float) -> DeepReport:
    """Deep NRC of layers of these noise fractions."""
    found = tuple(
        LayerCollapse(
            name=f"fc{k}",
            d=8,
            n=2,
            noise_fraction=noise,
            signal_alignment=0.9,
            weight_alignment=float("nan"),
            linear_mse=0.1,
            feature_stable_rank=2.0,
            weight_stable_rank=2.5,
            bounds={"noise_fraction": 1e-3},
        )
        for k, noise in enumerate(noises or (0.5, 0.01))
    )
    return DeepReport(found, 10, 2, 0.1, 1.0, 1.5, notes=("a note",))


def classes(seed: int = 0) -> ClassReport:
    """Three classes in 5 dimensions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    return nrc.measure_classes(rng.standard_normal((90, 5)) + 3.0 * np.eye(5)[labels], labels)
