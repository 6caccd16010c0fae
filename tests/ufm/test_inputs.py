"""What is no number, or no whole one, is refused by name and never rounded, by every function of `nrc_fast.ufm`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nrc_fast.ufm import bures_wasserstein, deep, descend, minimum, penalties, refine

COVARIANCE = np.diag([4.0, 1.0])
PENALTIES: dict[str, Any] = {"covariance": COVARIANCE, "lambda_W": 0.1, "lambda_H": 0.1}


def descent(**options: Any) -> Any:
    return descend(**(PENALTIES | {"samples": 10, "d": 4, "steps": 6, "lr": 0.1} | options))


WHOLE: dict[str, Callable[[Any], Any]] = {
    "steps": lambda value: descent(steps=value),
    "at": lambda value: descent(at=value),
    "a step of at": lambda value: descent(at=[0, value]),
    "d": lambda value: descent(d=value),
    "samples": lambda value: descent(samples=value),
    "d of weights": lambda value: minimum(**PENALTIES).weights(d=value),
    "d of deep": lambda value: deep(**(PENALTIES | {"lambda_W": [0.1, 0.1]})).weights(d=value),
    "d of refine": lambda value: refine(**PENALTIES, d=value),
    "seed": lambda value: refine(**PENALTIES, seed=value),
    "iterations": lambda value: refine(**PENALTIES, iterations=value),
    "n": lambda value: penalties(0.1, n=value),
    "samples of penalties": lambda value: penalties(0.1, loss="half_sum", samples=value),
}
REAL: dict[str, Callable[[Any], Any]] = {
    "tolerance": lambda value: descent(tolerance=value),
    "feature_scale": lambda value: descent(feature_scale=value),
    "weight_scale": lambda value: descent(weight_scale=value),
    "limit_ratio": lambda value: minimum(**PENALTIES, limit_ratio=value),
    "tolerance of refine": lambda value: refine(**PENALTIES, tolerance=value),
}


@pytest.mark.parametrize("name", list(WHOLE))
def test_whole_numbers(name: str) -> None:
    pytest.importorskip("scipy")
    for value in (4.0, 2.5, "4", True, 3j):
        if (name, type(value)) == ("at", str):
            continue  # a sequence of letters
        with pytest.raises(TypeError, match=f"^{name.partition(' of ')[0]}.* is .*; a whole number is expected"):
            WHOLE[name](value)
    with pytest.raises(TypeError, match="a whole number is expected"):
        descent(at="12")
    WHOLE[name](np.int64(50 if name == "iterations" else 4))


@pytest.mark.parametrize("name", list(REAL))
def test_numbers(name: str) -> None:
    pytest.importorskip("scipy")
    argument = name.partition(" of ")[0]
    for value, error in (("much", TypeError), (None, TypeError), (math.nan, ValueError), (-1.0, ValueError)):
        if (name, value) == ("weight_scale", None):
            continue  # its default
        with pytest.raises(error, match=f"^{argument} "):
            REAL[name](value)
    with pytest.raises(ValueError, match=f"{argument} has shape"):
        REAL[name]([0.1, 0.2])
    REAL[name](np.float32(0.1))


def test_names_of_metrics_and_matrices() -> None:
    with pytest.raises(TypeError, match="record is 5; the name of a metric"):
        descent(record=5)
    with pytest.raises(TypeError, match=r"^other has dtype"):
        bures_wasserstein(COVARIANCE, "a")
