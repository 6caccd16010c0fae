"""The state of gradient descent on the unconstrained feature model, as the kernels step it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nrc_fast.kernels.arrays import PlacedArray

__all__ = ["DescentState"]


@dataclass
class DescentState:
    """States of gradient descent on the unconstrained feature model, a batch of P of them, float64 or float32.

    With ``Z = [H0, Y, 1]`` the features are ``Z transform^T``. Rows of transforms and moments are padded with zeros to
    whole 64 bytes. Velocities are None where no problem has momentum.
    """

    transforms: PlacedArray  # (P, d, stride)
    weights: PlacedArray  # (P, d, n), transposed
    biases: PlacedArray  # (P, n)
    moments: PlacedArray  # (K, d + n + 1, stride): Z^T Z / M
    moment_index: PlacedArray  # (P,) int64
    rates: PlacedArray  # (P, 7) float64: learning rates of W, T and b, penalties of W, H and b, momentum
    velocities: tuple[PlacedArray, PlacedArray, PlacedArray] | None = field(default=None)
