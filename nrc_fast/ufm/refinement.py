"""The minimum of the UFM found by descent, for options without a closed form and to check those with one.

For given weights the best features and bias are known, which leaves a smooth function of W alone. With G = W W^T and
``P = (G + lambda_H I)^-1`` it is ``(lambda_H/2) tr(T P) + (lambda_W/2) |W|^2 + (lambda_b/2) |b|^2``, where T is the
second moment of the targets about the bias ``b = (lambda_H P + lambda_b I)^-1 lambda_H P ybar``. It is convex in G.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.libraries import require_library
from nrc_fast.base.linalg import EPSILON
from nrc_fast.base.options import as_integer
from nrc_fast.base.svg import spark_bars
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.ufm.closed_form import product_of_penalties
from nrc_fast.ufm.inputs import as_number, as_penalty, as_width
from nrc_fast.ufm.targets import TargetMoments, Targets, target_moments

__all__ = ["Refinement", "refine"]

ROUNDS = 8  # restarts of the quasi-Newton memory, which forget what rounding has put into it


@dataclass(frozen=True, eq=False, repr=False)
class Refinement:
    """A minimum of the UFM found by descent.

    Attributes
    ----------
    weights : (n, d) float64 array
    bias : (n,) float64 array
    gram : (n, n) float64 array
        ``W W^T``.
    loss, mse : float
        The loss with all penalties, and the mean squared error summed over the outputs.
    lambda_H : float
    gradient : float
        Largest entry of the gradient by W, in units in which the targets have mean square 1 and both penalties are
        equal, over the penalty.
    iterations : int
    """

    __module__ = "nrc_fast.ufm"

    weights: FloatArray
    bias: FloatArray
    gram: FloatArray
    loss: float
    mse: float
    lambda_H: float
    gradient: float
    iterations: int

    def __repr__(self) -> str:
        n, d = self.weights.shape
        return (
            f"minimum of the UFM by descent, n = {n}, d = {d}, {self.iterations:,} iterations to a gradient of "
            f"{self.gradient:.1e}\n  loss {self.loss:.6g}, MSE {self.mse:.6g} (summed over outputs)"
        )

    def features(self, Y: Array) -> FloatArray:
        """``h = W^T (W W^T + lambda_H I)^-1 (y - b)``, the best features for these weights, (M, d).

        Raises
        ------
        ValueError
            Y does not have n columns.
        """
        targets = as_matrix(Y, "Y", vector_is_column=True)[0]
        n = len(self.bias)
        if targets.shape[1] != n:
            msg = f"Y has {targets.shape[1]} columns; {n} are expected, one for each output"
            raise ValueError(msg)
        inner = self.gram + self.lambda_H * np.eye(n)
        return np.asarray(np.linalg.solve(inner, (targets - self.bias).T).T @ self.weights)

    def _repr_html_(self) -> str:
        n, d = self.weights.shape
        values = np.linalg.eigvalsh(self.gram)[::-1].clip(min=0.0).tolist()
        rows: list[tuple[object, ...]] = [
            ("eigenvalues of W W^T", spark_bars(values, f"{n} eigenvalues of W W^T", range(n))),
            ("loss, penalties included", f"{self.loss:.6g}"),
            ("MSE, summed over outputs", f"{self.mse:.6g}"),
            ("largest entry of the gradient", f"{self.gradient:.2g}"),
            ("iterations", f"{self.iterations:,}"),
        ]
        return card(f"minimum of the UFM found by descent, n = {n}, d = {d}", rows=rows)


def refine(
    Y: Targets | None = None,
    *,
    lambda_W: float,
    lambda_H: float,
    covariance: Array | None = None,
    mean: Array | None = None,
    bias: bool = True,
    lambda_b: float = 0.0,
    d: int | None = None,
    seed: int = 0,
    tolerance: float = 1e-7,
    iterations: int = 10_000,
) -> Refinement:
    """Minimise the UFM by L-BFGS on the loss with features and bias profiled out, from a random start.

    There are no spurious minima, so every start ends at a global one. Needs scipy: ``pip install 'nrc-fast[ufm]'``.

    Parameters
    ----------
    Y, covariance, mean, bias
        The targets or their moments, and whether the model has a bias, see `minimum`; one problem at a time.
    lambda_W, lambda_H, lambda_b : float
        Penalties; the first two positive. The mean of the targets may be any, whatever lambda_b is.
    d : int, optional
        Width of the features, from 1 on; n if not given.
    seed : int
        Seed of the random start.
    tolerance : float
        Largest `Refinement.gradient` that is accepted, or its rounding where that is more. Near the minimum the loss
        changes with the square of the gradient: below about 1e-8 (the root of eps) a line search sees nothing.
    iterations : int
        The number of iterations after which to give up.

    Returns
    -------
    Refinement

    Raises
    ------
    ImportError
        scipy is not installed.
    ValueError
        Targets or penalties cannot be used, see `minimum`, or d is below 1.
    RuntimeError
        The tolerance was not reached.

    References
    ----------
    The profiled form with a free bias is that of Ma and Obuchi (2026), "Understanding head geometry and dynamics in
    federated regression", equation 6.

    Examples
    --------
    >>> found = refine(covariance=np.diag([4.0, 1.0]), lambda_W=0.5, lambda_H=0.5)
    >>> round(found.loss, 9), found.gram.round(6).tolist()
    (1.25, [[1.5, 0.0], [0.0, 0.5]])
    """
    optimise = require_library("scipy.optimize", "ufm", "refine needs scipy")
    moments = target_moments(Y, covariance, mean)
    weight, feature = (
        as_penalty(value, name, positive=True) for value, name in ((lambda_W, "lambda_W"), (lambda_H, "lambda_H"))
    )
    bias_penalty = as_penalty(lambda_b, "lambda_b")
    if moments.batch or any(part.ndim for part in (weight, feature, bias_penalty)):
        msg = "refine solves one problem at a time; give single penalties and one covariance, and loop over others"
        raise ValueError(msg)
    if not bias and bias_penalty > 0.0:
        msg = "lambda_b penalises a bias, and bias=False leaves it out; give one of them"
        raise ValueError(msg)
    width = as_width(d) or moments.n
    root_c = float(product_of_penalties(weight, feature)[1])
    profile = _Profile(moments, root_c, float(bias_penalty) if bias else None)
    tolerance, iterations = as_number(tolerance, "tolerance"), as_integer(iterations, "iterations")
    start = np.random.default_rng(as_integer(seed, "seed")).standard_normal((moments.n, width)) / np.sqrt(width)
    point, gradient, used = _descend(optimise, profile, start, tolerance, iterations)
    _, _, offset = profile.value(point)
    # G in the user's units: lambda_H/mu times that of the profile, mu = sqrt(c)/scale.
    weights = point * np.sqrt(float(feature) / profile.mu)
    found_bias = profile.bias_of(offset)
    gram = weights @ weights.T
    residual = float(feature) * np.linalg.inv(gram + float(feature) * np.eye(moments.n))
    second = moments.covariance + np.outer(moments.mean - found_bias, moments.mean - found_bias)
    mse = float(np.trace(residual @ second @ residual))
    norms = float(np.trace(gram @ residual @ second @ residual)) / float(feature)  # lambda_H |H|^2/M
    loss = 0.5 * (mse + norms + float(weight) * float(np.sum(weights**2)))
    loss += 0.5 * float(bias_penalty) * float(found_bias @ found_bias)
    return Refinement(
        weights=weights,
        bias=found_bias,
        gram=gram,
        loss=loss,
        mse=mse,
        lambda_H=float(feature),
        gradient=gradient,
        iterations=used,
    )


class _Profile:
    """The loss as a function of W, in units in which the targets have mean square 1 and both penalties are mu."""

    def __init__(self, moments: TargetMoments, root_c: float, lambda_b: float | None) -> None:
        mean = moments.mean
        energy = float(np.trace(moments.covariance)) + float(mean @ mean)
        self.scale = float(np.sqrt(energy / moments.n)) if energy > 0.0 else 1.0
        self.mu = root_c / self.scale
        self.lambda_b = lambda_b
        self.covariance = moments.covariance / self.scale**2
        self.mean = mean / self.scale

    def value(self, V: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """The loss over mu, its gradient, and the mean minus the bias."""
        # Columns of zeros, which have no part in it, complete the basis of the outputs where there are fewer than n.
        whole = np.pad(V, ((0, 0), (0, max(len(V) - V.shape[1], 0))))
        left, singular_values, right = np.linalg.svd(whole, full_matrices=False)
        inverse = 1.0 / (singular_values**2 + self.mu)
        offset = self._offset(left, inverse)
        second = left.T @ (self.covariance + np.outer(offset, offset)) @ left
        loss = 0.5 * float(np.diagonal(second) @ inverse) + 0.5 * float(np.sum(singular_values**2))
        if self.lambda_b is not None:
            loss += 0.5 * self.lambda_b / self.mu * float(np.sum((self.mean - offset) ** 2))
        pull = inverse[:, np.newaxis] * second * inverse * singular_values
        self.rounding = 16 * len(V) * EPSILON * float(inverse.max() ** 2 * singular_values.max())
        return loss, (whole - (left @ pull) @ right)[:, : V.shape[1]], offset

    def _offset(self, left: FloatArray, inverse: FloatArray) -> FloatArray:
        if self.lambda_b is None:
            return self.mean
        if self.lambda_b == 0.0:
            return np.zeros_like(self.mean)
        share = self.lambda_b / (self.mu * inverse + self.lambda_b)
        return np.asarray(left @ (share * (left.T @ self.mean)))

    def bias_of(self, offset: FloatArray) -> FloatArray:
        """The bias in the user's units."""
        return np.asarray((self.mean - offset) * self.scale)


def _descend(
    optimise: ModuleType, profile: _Profile, start: FloatArray, tolerance: float, iterations: int
) -> tuple[FloatArray, float, int]:
    """The point, the largest entry of its gradient, and the iterations it took."""

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        loss, gradient, _ = profile.value(flat.reshape(start.shape))
        return loss, gradient.ravel()

    point, used, largest = start, 0, np.inf
    for _ in range(ROUNDS):
        options = {"maxiter": max(iterations - used, 1), "maxfun": 4 * iterations, "ftol": 0.0, "maxcor": 20}
        options["gtol"] = tolerance
        found = optimise.minimize(objective, point.ravel(), jac=True, method="L-BFGS-B", options=options)
        point, used = found.x.reshape(start.shape), used + int(found.nit)
        largest = float(np.abs(profile.value(point)[1]).max())
        if largest <= max(tolerance, profile.rounding):
            return point, largest, used
        if used >= iterations:
            break
    msg = (
        f"after {used} iterations the gradient is {largest:.3g}, above the tolerance of {tolerance:.3g}; "
        "raise iterations= or tolerance="
    )
    raise RuntimeError(msg)
