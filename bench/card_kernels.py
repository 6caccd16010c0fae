"""The table of kernels of a card that the benchmarks know: how each is launched, what it must give, what it reads.

A new kernel is a function here and a line of `KERNELS`: the smoke test, the timings and the profiler take them from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from card import Card
from cases import DTYPES
from limits import Pass

__all__ = ["KERNELS", "Kernel", "Work"]

PRECISIONS = {"high": 0, "highest": 1, "fast": 2}
# Components, vectors and outputs; fewer where there are fewer features.
BASIS, VECTORS, OUTPUTS = 32, 16, 3
PROBLEMS, STEPS = 3, 4
RATES = (0.05, 0.06, 0.07, 0.02, 0.03, 0.04)  # of learning and of penalties, of W, T and b
# Rows of which a reference is in float64 at a time.
CHUNK = 65_536
# Relative to the sums of magnitudes: float64 sums of millions of rows; float32 sums that are folded, with the bias of
# tensor cores that truncate; products of bfloat16.
DOUBLE, SINGLE, FAST = 1e-12, 8e-6, 8e-3


@dataclass
class Work:
    """A kernel with its rows.

    Attributes
    ----------
    call : callable
        Launches it.
    results : dict
        What it adds to, by name.
    exact : dict
        What one call adds, in float64, and what its error is relative to: two tensors that broadcast.
    counts : tensor or None
        Rows of zeros, rows that are not finite, and the first of these.
    zero_rows : int
        What one call must count.
    passes : list of Pass
        What limits it.
    adds : bool
        Whether every call adds the same once more.
    kept : list
        Memory that the call reads.
    """

    call: Callable[[], None]
    results: dict[str, Any]
    exact: dict[str, tuple[Any, Any]]
    counts: Any = None
    zero_rows: int = 0
    passes: list[Pass] = field(default_factory=list)
    adds: bool = True
    kept: list[Any] = field(default_factory=list)

    def errors(self, calls: int) -> dict[str, float]:
        """The largest error of each result after so many calls; NaN where one holds NaN."""
        times = calls if self.adds else 1
        return {
            name: float(((self.results[name] / times - exact).abs() / scale).max())
            for name, (exact, scale) in self.exact.items()
        }

    def error(self, calls: int) -> float:
        """The largest of all; infinite where rows were miscounted."""
        found = [*self.errors(calls).values()]
        if self.counts is not None and self.counts.tolist() != [calls * self.zero_rows, 0, -1]:
            found.append(float("inf"))
        return max(found, key=lambda error: (math.isnan(error), error))


@dataclass(frozen=True)
class Kernel:
    """A line of the table.

    Attributes
    ----------
    name : str
    prepare : callable
        From a card and rows to `Work`.
    allowed : callable
        The largest error, by the dtype of the rows.
    dtypes : tuple
        Of rows that it takes.
    """

    name: str
    prepare: Callable[[Card, Any], Work]
    allowed: Callable[[str], float]
    dtypes: tuple[str, ...] = DTYPES


def _dtype(H: Any) -> str:
    return str(H.dtype).removeprefix("torch.")


def _chunks(H: Any) -> Any:
    return (part.double() for part in H.split(CHUNK))


def _counts(card: Card) -> Any:
    return card.place_values([0, 0, -1])


def _zero_rows(H: Any) -> int:
    return int((H == 0).all(1).sum())


def _norms(gram: Any) -> Any:
    """Norms of columns from a Gram; 1 for those that are zero."""
    norms = gram.diagonal().sqrt()
    return norms.where(norms > 0, norms.new_ones(()))


def _basis(card: Card, d: int, k: int, seed: int) -> Any:
    """Orthonormal rows."""
    return card.torch.linalg.qr(card.random(d, min(k, d), "float64", seed))[0].T.contiguous()


# ---- Gram ----


def gram_passes(H: Any, precision: str) -> list[Pass]:
    """One read, and the products that the precision takes: three bfloat16 parts of float32 rows are six."""
    (rows, d), dtype = H.shape, _dtype(H)
    flops, size = float(rows) * d * (d + 1), float(rows) * d * H.element_size()
    if dtype == "float64" or precision == "highest":
        return [Pass(flops, size, "float64")]
    if dtype != "float32":
        return [Pass(flops, size, dtype)]
    return [Pass(flops if precision == "fast" else 6.0 * flops, size, "bfloat16")]


def plain_gram(card: Card, H: Any, *, precision: str) -> Work:
    """``sum h h^T`` alone; of the result the lower triangle counts."""
    torch, d = card.torch, H.shape[1]
    result, counts = card.zeros(d, d), _counts(card)
    request = card.core.GramRequest(
        card.matrix(H), gram=result.data_ptr(), precision=PRECISIONS[precision], counts=counts.data_ptr()
    )
    exact = sum(part.T @ part for part in _chunks(H))
    norms = _norms(exact)
    exact, scale = torch.tril(exact), torch.outer(norms, norms)
    call = card.launcher("gram", request)
    passes = gram_passes(H, precision)
    return Work(call, {"gram": result}, {"gram": (exact, scale)}, counts, _zero_rows(H), passes, kept=[H])


def whole_gram(card: Card, H: Any) -> Work:
    """All that one read adds up: shifted Gram, Gram of unit rows, sums, cross moments, targets."""
    torch, (rows, d) = card.torch, H.shape
    Y = card.random(rows, OUTPUTS, _dtype(H), seed=1)
    shift, target_shift = card.zeros(d) + 0.25, card.zeros(OUTPUTS) + 0.125
    shapes = {
        "gram": (d, d),
        "unit_gram": (d, d),
        "column_sums": (d,),
        "cross": (OUTPUTS, d),
        "target_gram": (OUTPUTS, OUTPUTS),
        "target_sums": (OUTPUTS,),
    }
    results, counts = {name: card.zeros(*shape) for name, shape in shapes.items()}, _counts(card)
    request = card.core.GramRequest(
        card.matrix(H),
        **{name: result.data_ptr() for name, result in results.items()},
        shift=shift.data_ptr(),
        targets=card.matrix(Y),
        target_shift=target_shift.data_ptr(),
        counts=counts.data_ptr(),
    )
    sums: dict[str, Any] = dict.fromkeys(shapes, 0.0)
    for part, targets in zip(_chunks(H), _chunks(Y), strict=True):
        X, T = part - shift, targets - target_shift
        norms = part.norm(dim=1, keepdim=True)
        U = part / norms.where(norms > 0, norms.new_ones(()))
        sums["gram"] += X.T @ X
        sums["unit_gram"] += U.T @ U
        sums["column_sums"] += X.sum(0)
        sums["cross"] += T.T @ X
        sums["target_gram"] += T.T @ T
        sums["target_sums"] += T.sum(0)
    norms, units, targets = (_norms(sums[name]) for name in ("gram", "unit_gram", "target_gram"))
    scales = {
        "gram": torch.outer(norms, norms),
        "unit_gram": torch.outer(units, units),
        "column_sums": norms * rows**0.5,
        "cross": torch.outer(targets, norms),
        "target_gram": torch.outer(targets, targets),
        "target_sums": targets * rows**0.5,
    }
    for name in ("gram", "unit_gram", "target_gram"):
        sums[name] = torch.tril(sums[name])
    call = card.launcher("gram", request)
    (plain,) = gram_passes(H, "high")
    passes = [Pass(2.0 * plain.flops, plain.bytes_read, plain.arithmetic)]
    exact = {name: (sums[name], scales[name]) for name in shapes}
    return Work(call, results, exact, counts, _zero_rows(H), passes, kept=[H, Y, shift, target_shift])


# ---- a few vectors ----


def residual(card: Card, H: Any, *, double_precision: bool) -> Work:
    """Residuals of rows and unit rows on the leading vectors of a basis, for every number of them."""
    torch, (rows, d) = card.torch, H.shape
    basis = _basis(card, d, BASIS, seed=2)
    k = len(basis)
    results, counts = {"raw": card.zeros(k + 1), "unit": card.zeros(k + 1)}, _counts(card)
    request = card.core.ResidualRequest(
        card.matrix(H),
        basis.data_ptr(),
        k,
        raw_sums=results["raw"].data_ptr(),
        unit_sums=results["unit"].data_ptr(),
        double_precision=double_precision,
        counts=counts.data_ptr(),
    )
    raw, unit = card.zeros(k + 1), card.zeros(k + 1)
    for part in _chunks(H):
        squares = part.square().sum(1, keepdim=True)
        along = torch.cat([squares, -(part @ basis.T).square()], 1).cumsum(1)
        raw += along.sum(0)
        unit += (along / squares.where(squares > 0, squares.new_ones(()))).sum(0)
    call = card.launcher("residual", request)
    arithmetic = "float64" if double_precision or _dtype(H) == "float64" else "float32"
    passes = [Pass(float(rows) * d * (2 * k + 2), float(rows) * d * H.element_size(), arithmetic)]
    exact = {"raw": (raw, raw[0]), "unit": (unit, unit[0])}
    return Work(call, results, exact, counts, _zero_rows(H), passes, kept=[H, basis])


def gram_product(card: Card, H: Any) -> Work:
    """A few vectors times the Gram of shifted rows, which is not formed."""
    (rows, d), vectors = H.shape, _basis(card, H.shape[1], VECTORS, seed=3)
    k, shift = len(vectors), card.zeros(d) + 0.25
    results, counts = {"image": card.zeros(k, d), "column_sums": card.zeros(d), "energy": card.zeros(1)}, _counts(card)
    request = card.core.ProductRequest(card.matrix(H), vectors.data_ptr(), k, counts=counts.data_ptr())
    addresses = {name: result.data_ptr() for name, result in results.items()}
    image, sums, magnitude, energy = card.zeros(k, d), card.zeros(d), card.zeros(k, d), card.zeros(1)
    for part in _chunks(H):
        X = part - shift
        image += (X @ vectors.T).T @ X
        magnitude += (X @ vectors.T).abs().T @ X.abs()
        sums += X.sum(0)
        energy += X.square().sum()
    call = card.launcher("gram_product", request, shift=shift.data_ptr(), **addresses)
    exact = {"image": (image, magnitude), "column_sums": (sums, energy.sqrt() * rows**0.5), "energy": (energy, energy)}
    passes = [Pass(4.0 * rows * d * k, float(rows) * d * H.element_size(), "float64")]
    return Work(call, results, exact, counts, _zero_rows(H), passes, kept=[H, vectors, shift])


def prediction_error(card: Card, H: Any) -> Work:
    """Squared errors of a linear model of the rows."""
    (rows, d), weights = H.shape, _basis(card, H.shape[1], OUTPUTS, seed=4)
    n = len(weights)
    bias, Y = card.zeros(n) + 0.5, card.random(rows, n, _dtype(H), seed=5)
    results, counts = {"errors": card.zeros(n)}, _counts(card)
    request = card.core.ProductRequest(card.matrix(H), weights.data_ptr(), n, counts=counts.data_ptr())
    errors = sum(
        (part @ weights.T + bias - targets).square().sum(0)
        for part, targets in zip(_chunks(H), _chunks(Y), strict=True)
    )
    call = card.launcher(
        "prediction_error",
        request,
        bias=bias.data_ptr(),
        targets=card.matrix(Y),
        errors=results["errors"].data_ptr(),
    )
    passes = [Pass(2.0 * rows * d * n, float(rows) * (d + n) * H.element_size(), "float64")]
    exact = {"errors": (errors, errors)}
    return Work(call, results, exact, counts, _zero_rows(H), passes, kept=[H, weights, bias, Y])


# ---- descent ----


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
        double_precision=_dtype(H) == "float64",
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
    return Work(call, results, found, adds=False, kept=kept)


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


# ---- the table ----


def _folded(dtype: str) -> float:
    return DOUBLE if dtype == "float64" else SINGLE


def _fast(dtype: str) -> float:
    return FAST if dtype == "float32" else _folded(dtype)


def _double(dtype: str) -> float:  # noqa: ARG001
    return DOUBLE


KERNELS = (
    Kernel("gram high", partial(plain_gram, precision="high"), _folded),
    Kernel("gram highest", partial(plain_gram, precision="highest"), _double),
    Kernel("gram fast", partial(plain_gram, precision="fast"), _fast),
    Kernel("gram, shift, unit rows, targets", whole_gram, _folded),
    Kernel("residual", partial(residual, double_precision=False), _folded),
    Kernel("residual in float64", partial(residual, double_precision=True), _double),
    Kernel("gram_product", gram_product, _double),
    Kernel("prediction_error", prediction_error, _double),
    Kernel("descent", descent, _folded, ("float64", "float32")),
)
