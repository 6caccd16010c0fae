"""How large the learning rates of gradient descent on the UFM may be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.ufm.solution import Minimum

__all__ = ["stable_factor"]


def stable_factor(
    found: Minimum, index: tuple[int, ...], rates: tuple[float, float, float], momentum: float, width: int
) -> float:
    """What learning rates may be multiplied with at most to be stable at the predicted minimum.

    Descent with momentum m is stable at a minimum iff the largest eigenvalue of the Hessian, scaled by the learning
    rates, is below 2 (1 + m). In the singular bases of the minimum this Hessian falls into blocks of at most 4 x 4.

    Parameters
    ----------
    found : Minimum
        With a free bias or none.
    index : tuple of int
        Which problem of its batch.
    rates : (weights, features, bias)
        Learning rates; that of the features over the number of samples.
    momentum : float
    width : int
        d, of the features.

    Returns
    -------
    float

    Examples
    --------
    >>> from nrc_fast.ufm import minimum
    >>> found = minimum(covariance=[[4.0]], lambda_W=0.5, lambda_H=0.5)
    >>> round(stable_factor(found, (), (1.0, 1.0, 1.0), 0.0, 1), 12)
    0.666666666667
    """
    shape = np.shape(found.scale)
    kept, errors = (
        np.broadcast_to(part, (*np.broadcast_shapes(shape, part.shape[:-1]), found.n))[index]
        for part in (found.shrinkage.kept, found.shrinkage.residual_values)
    )
    ratio = float(np.broadcast_to(found.scale, np.broadcast_shapes(shape, found.moments.batch))[index])
    lambda_W, lambda_H = (
        float(np.broadcast_to(part, np.broadcast_shapes(shape, found.moments.batch))[index])
        for part in (found.lambda_W, found.lambda_H)
    )
    has_bias = found.lambda_b is not None
    blocks = _blocks(
        np.sqrt(kept * ratio),
        np.sqrt(kept / ratio),
        np.sqrt(errors),
        lambda_W=lambda_W,
        lambda_H=lambda_H,
        width=width,
        has_bias=has_bias,
    )
    largest = 0.0
    for block, kinds in blocks:
        steps = np.sqrt([rates[kind] for kind in kinds])
        largest = max(largest, float(np.linalg.eigvalsh(block * steps[:, np.newaxis] * steps)[-1]))
    return 2.0 * (1.0 + momentum) / largest if largest > 0.0 else np.inf


def _blocks(
    p: FloatArray, f: FloatArray, e: FloatArray, *, lambda_W: float, lambda_H: float, width: int, has_bias: bool
) -> Iterator[tuple[FloatArray, tuple[int, ...]]]:
    """Blocks of the Hessian and which learning rates their variables have (0: W, 1: H, 2: b).

    Parameters
    ----------
    p, f, e : (n,) float64 arrays
        Singular values of weights, features and errors.
    lambda_W, lambda_H : float
        Penalties.
    width : int
        d, of the features.
    has_bias : bool
        Whether the model has a bias, which is not penalised.
    """
    n = len(p)
    if width > n:
        yield np.array([[lambda_H]]), (1,)
    for i in range(n):
        if i >= width:  # no feature of its own, only those that move towards it
            if has_bias:
                yield np.array([[1.0]]), (2,)
            for j in range(width):
                yield np.array([[f[j] ** 2 + lambda_W, -e[i]], [-e[i], p[j] ** 2 + lambda_H]]), (0, 1)
            continue
        mixed = p[i] * f[i] - e[i]
        yield np.array([[f[i] ** 2 + lambda_W, mixed], [mixed, p[i] ** 2 + lambda_H]]), (0, 1)
        if width > n:
            yield np.array([[lambda_W, -e[i]], [-e[i], lambda_H]]), (0, 1)
        yield np.array([[p[i] ** 2 + lambda_H]]), (1,)
        if has_bias:
            yield np.array([[1.0, p[i]], [p[i], p[i] ** 2 + lambda_H]]), (2, 1)
        for j in range(i):
            # Features along i moving towards j and back, and the weights that they meet.
            block = np.diag([p[j] ** 2 + lambda_H, p[i] ** 2 + lambda_H, f[i] ** 2 + lambda_W, f[j] ** 2 + lambda_W])
            block[0, 2] = block[2, 0] = p[j] * f[i]
            block[1, 3] = block[3, 1] = p[i] * f[j]
            block[0, 3] = block[3, 0] = -e[i]
            block[1, 2] = block[2, 1] = -e[j]
            yield block, (1, 1, 0, 0)
