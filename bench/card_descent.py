"""Steps of gradient descent on a card, with what they must give."""

from __future__ import annotations

from typing import Any

import numpy as np
from card import Card
from card_work import OUTPUTS, Work, dtype_of

__all__ = ["descent"]

PROBLEMS, STEPS = 3, 4
RATES = (0.05, 0.06, 0.07, 0.02, 0.03, 0.04)  # of learning and of penalties, of W, T and b


def descent(card: Card, H: Any) -> Work:
    """Steps of gradient descent on transforms of ``[H0, Y, 1]``, whose moments the rows give; in their dtype."""
    torch, d, n = card.torch, min(H.shape[1], 24), OUTPUTS
    dtype, used = H.dtype, d + n + 1
    stride = -(-used * H.element_size() // 64) * 64 // H.element_size()
    T, W, b = (
        card.random(PROBLEMS, size, "float64", seed).mul_(0.1).to(dtype)
        for seed, size in ((6, d * used), (7, d * n), (8, n))
    )
    Z = card.random(4 * used, used, "float64", seed=9)
    transforms, moments = (
        torch.zeros(shape, dtype=dtype, device=card.place) for shape in ((PROBLEMS, d, stride), (1, used, stride))
    )
    transforms[..., :used] = T.view(PROBLEMS, d, used)
    moments[0, :, :used] = (Z.T @ Z / len(Z)).to(dtype)
    weights, biases = W.view(PROBLEMS, d, n).clone(), b.view(PROBLEMS, n).clone()
    rates = card.zeros(PROBLEMS, 7) + card.place_values(np.array([*RATES, 0.0]))
    index, steps = card.place_values([0] * PROBLEMS), card.place_values([STEPS] * PROBLEMS)
    request = card.core.DescentRequest(
        problems=PROBLEMS,
        d=d,
        n=n,
        stride=stride,
        transforms=transforms.data_ptr(),
        weights=weights.data_ptr(),
        biases=biases.data_ptr(),
        transform_velocities=0,
        weight_velocities=0,
        bias_velocities=0,
        moments=moments.data_ptr(),
        moment_index=index.data_ptr(),
        rates=rates.data_ptr(),
        steps=steps.data_ptr(),
        double_precision=dtype_of(H) == "float64",
    )
    exact = _plain_steps(transforms[..., :used].double(), weights.double(), biases.double(), moments[0, :, :used])
    launch = card.launcher("descent", request)
    kept = [transforms, moments, weights, biases, rates, index, steps]
    start = [part.clone() for part in (transforms, weights, biases)]

    def call() -> None:
        for part, first in zip((transforms, weights, biases), start, strict=True):
            part.copy_(first)
        launch()

    results = {"transforms": transforms[..., :used], "weights": weights, "biases": biases}
    found = {name: (part, part.abs().max()) for name, part in zip(results, exact, strict=True)}
    return Work(call, results, found, written=list(results), kept=kept)


def _plain_steps(T: Any, W: Any, b: Any, K: Any) -> tuple[Any, Any, Any]:
    """The same steps from the formulas, in float64: W is (P, d, n)."""
    lr_W, lr_T, lr_b, lambda_W, lambda_T, lambda_b = RATES
    (_, d, n), K = W.shape, K.double()
    for _ in range(STEPS):
        Q = W.mT @ T
        Q[:, range(n), range(d, d + n)] -= 1.0
        Q[:, :, -1] += b
        P = Q @ K
        by_T, by_W, by_b = W @ Q + lambda_T * T, T @ P.mT + lambda_W * W, P[:, :, -1] + lambda_b * b
        T, W, b = T - lr_T * by_T, W - lr_W * by_W, b - lr_b * by_b
    return T, W, b
