"""What the networks of the reproduction learn: recorded torques, targets that are drawn, and rendered images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATA_SETS", "DataSet", "load"]

Rows = NDArray[np.float32]
RECORDED = Path(__file__).resolve().parents[1] / "data"
TRAINING, TEST = 1_000, 200
SIDE = 20  # of a rendered image, in pixels


@dataclass(frozen=True, eq=False)
class DataSet:
    """Inputs and targets of training and test, float32."""

    inputs: Rows
    targets: Rows
    test_inputs: Rows
    test_targets: Rows


def _recorded(name: str) -> DataSet:
    """The first 1,000 recorded steps, and 200 that are spread over episodes after them."""
    with np.load(RECORDED / f"{name}.npz", allow_pickle=False) as file:
        inputs, targets, episode = file["observations"], file["actions"], file["episode"]
    held_out = np.flatnonzero(episode > episode[TRAINING - 1])
    test = held_out[np.linspace(0, len(held_out) - 1, TEST).astype(int)]
    return DataSet(inputs[:TRAINING], targets[:TRAINING], inputs[test], targets[test])


def _standardised(data: DataSet) -> DataSet:
    """Columns of inputs and targets with mean 0 and variance 1 over the training samples; constant ones become 0."""

    def scaled(rows: Rows, test: Rows) -> tuple[Rows, Rows]:
        mean, scale = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        varies = scale > 1e-6 * np.abs(rows).max(axis=0)
        scale = np.where(varies, scale, np.inf)
        return ((rows - mean) / scale).astype(np.float32), ((test - mean) / scale).astype(np.float32)

    inputs, test_inputs = scaled(data.inputs, data.test_inputs)
    targets, test_targets = scaled(data.targets, data.test_targets)
    return DataSet(inputs, targets, test_inputs, test_targets)


def _split(inputs: NDArray[np.float64], targets: NDArray[np.float64], training: int) -> DataSet:
    X, Y = inputs.astype(np.float32), targets.astype(np.float32)
    return DataSet(X[:training], Y[:training], X[training:], Y[training:])


def _curved_directions() -> DataSet:
    """Three uncorrelated signals, each a curved function of its own of white inputs, of three scales and turned."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((TRAINING + TEST, 6))
    planes = np.linalg.qr(rng.standard_normal((6, 6)))[0].reshape(6, 3, 2)
    hidden = np.stack([np.tanh(1.5 * inputs @ planes[:, j, 0]) + 0.5 * inputs @ planes[:, j, 1] for j in range(3)])
    signals = _white(hidden.T)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return _split(inputs, signals * np.array([1.6, 1.0, 0.6]) @ turn, TRAINING)


def _linear_directions() -> DataSet:
    """Three targets that are linear in inputs of identity covariance, of the same scales."""
    rng = np.random.default_rng(0)
    inputs = _white(rng.standard_normal((TRAINING + TEST, 6)))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    return _split(inputs, inputs[:, :3] * np.array([1.6, 1.0, 0.6]) @ turn, TRAINING)


def _white(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows whose first 1,000 have mean 0 and identity covariance."""
    centred = rows - rows[:TRAINING].mean(axis=0)
    values, vectors = np.linalg.eigh(centred[:TRAINING].T @ centred[:TRAINING] / TRAINING)
    return np.asarray(centred @ (vectors / np.sqrt(values)))


def _rank_two() -> DataSet:
    """Ten targets that a random network with two hidden units makes of 20 Gaussian inputs: their rank is two."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2_000 + 400, 20))
    first, second = (np.linalg.qr(rng.standard_normal((size, 2)))[0] for size in (20, 2))
    hidden = np.tanh(2.0 * np.tanh(2.0 * inputs @ first) @ second)
    targets = hidden @ rng.standard_normal((2, 10))
    return _standardised(_split(inputs, targets, 2_000))


def _shapes() -> DataSet:
    """Images of a disc, a square or a triangle, and where it is and how large: three targets of different scales."""
    rng = np.random.default_rng(0)
    count = TRAINING + TEST
    kind, size = rng.integers(3, size=count), rng.uniform(2.5, 5.5, count)
    across, down = rng.uniform(6.0, SIDE - 6.0, (2, count))
    pixels = np.arange(SIDE) + 0.5
    x = (pixels[None, None, :] - across[:, None, None]) / size[:, None, None]
    y = (pixels[None, :, None] - down[:, None, None]) / size[:, None, None]
    reach = np.stack(
        [
            np.sqrt(x**2 + y**2),
            np.maximum(abs(x), abs(y)) / 0.9,
            np.maximum(np.maximum(-2.0 * y, y + np.sqrt(3.0) * abs(x)), 0.0 * x),
        ]
    )[kind, np.arange(count)]
    # The edge is as soft as a pixel is wide.
    images = np.clip((1.0 - reach) * size[:, None, None] + 0.5, 0.0, 1.0)
    noisy = images + 0.05 * rng.standard_normal(images.shape)
    targets = np.stack([(across - SIDE / 2) / 2.0, (down - SIDE / 2) / 4.0, (size - 4.0) / 2.0], axis=1)
    return _split(noisy[:, None], targets, TRAINING)


DATA_SETS = {
    "swimmer": lambda: _recorded("swimmer"),
    "swimmer_jumping": lambda: _recorded("swimmer_jumping"),
    "hopper": lambda: _recorded("hopper"),
    "reacher": lambda: _recorded("reacher"),
    "reacher_standardised": lambda: _standardised(_recorded("reacher")),
    "curved_directions": _curved_directions,
    "linear_directions": _linear_directions,
    "rank_two": _rank_two,
    "shapes": _shapes,
}


@cache
def load(name: str) -> DataSet:
    """A data set by its name; the same on every call and machine up to rounding."""
    return DATA_SETS[name]()
