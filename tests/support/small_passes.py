"""Every kernel of the CUDA sources on as few rows as take it through all that it does, on an emulated device.

Blocks have several segments, tiles and problems one after the other, rings of copies go around, and sums are folded:
what threads share is used again, which is where a barrier may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast.kernels.cuda.hopper import probes_of
from support import cuda_core
from support.warpgroups import warpgroups

Results = list[NDArray[Any]]


@dataclass(frozen=True)
class SmallPass:
    """A pass, its machine, and what it gives: numbers, and what they must be near to."""

    name: str
    run: Callable[[Any], tuple[Results, Results]]
    machine: dict[str, Any] = field(default_factory=dict)

    def bits(self, backend: Any, **machine: Any) -> bytes:
        """Its numbers, after a check against float64."""
        backend.core.configure(**(self.machine | machine))
        found, exact = self.run(backend)
        for ours, best in zip(found, exact, strict=True):
            np.testing.assert_allclose(ours, best, rtol=1e-5, atol=1e-5 * max(np.abs(best).max(), 1.0))
        return b"".join(array.tobytes() for array in found)


def values(n: int, d: int) -> NDArray[np.float64]:
    return np.random.default_rng(1000 * n + d).standard_normal((n, d))


def gram(dtype: str, n: int, d: int, precision: str = "high", targets: int = 9, **options: Any) -> Callable[[Any], Any]:
    def run(backend: Any) -> tuple[Results, Results]:
        rows = cuda_core.stored(values(n, d), dtype)
        others = cuda_core.stored(values(n, targets), "float32") if targets else None
        sums = cuda_core.gram(backend, rows, targets=others, precision=precision, **options)
        h = rows.values
        units = h / np.linalg.norm(h, axis=1, keepdims=True) if options.get("unit") else np.zeros_like(h)
        found = [sums.gram, sums.column_sums, sums.unit_gram]
        exact = [np.tril(h.T @ h), h.sum(axis=0), np.tril(units.T @ units)]
        if others is None:
            return found, exact
        return [*found, sums.cross], [*exact, others.values.T @ h]

    return run


def gram_without_bad_rows(dtype: str, n: int, d: int, targets: int, precision: str = "high") -> Callable[[Any], Any]:
    """Sums of a batch of which two rows are left out, one because of a target."""

    def run(backend: Any) -> tuple[Results, Results]:
        plain, others = values(n, d), values(n, targets)
        plain[n // 2, d // 2] = np.nan
        others[n // 3, 0] = np.inf
        rows, labels = cuda_core.stored(plain, dtype), cuda_core.stored(others, "float32")
        sums = cuda_core.gram(backend, rows, targets=labels, precision=precision, nonfinite="skip")
        h, y = (np.delete(stored.values, [n // 3, n // 2], axis=0) for stored in (rows, labels))
        counts = np.array([n - 2, 0, 2, 1, 1], np.int64)
        exact = [np.tril(h.T @ h), h.sum(axis=0), y.T @ h, counts]
        return [sums.gram, sums.column_sums, sums.cross, sums.totals[:5]], exact

    return run


def gram_with_totals(dtype: str, n: int, d: int) -> Callable[[Any], Any]:
    """Sums of a batch of which one row is not finite, and is left out; norms, counts and exponents go to totals."""

    def run(backend: Any) -> tuple[Results, Results]:
        plain = values(n, d)
        plain[n // 2, d // 2] = np.nan
        rows = cuda_core.stored(plain, dtype)
        features = cuda_core.place_rows(backend, rows)
        results = [backend.place(np.zeros(shape)) for shape in ((d, d), (d,), (d, d))]
        totals = backend.place(np.zeros(backend.core.total_values, np.int64))
        gram, column_sums, unit_gram = map(backend.address, results)
        request = backend.core.GramRequest(
            features.matrix,
            gram=gram,
            column_sums=column_sums,
            unit_gram=unit_gram,
            totals=backend.address(totals),
            skips_nonfinite=True,
        )
        size = backend.core.gram_workspace(request, 0)
        memory, address = backend.workspace(size)
        backend.core.gram(request, workspace=address, workspace_bytes=size, device=0, stream=backend.stream())
        del memory
        h = np.delete(rows.values, n // 2, axis=0)
        units = h / np.linalg.norm(h, axis=1, keepdims=True)
        exact = [np.tril(h.T @ h), h.sum(axis=0), np.tril(units.T @ units)]
        # Rows, zeros, rows left out, batches given and added.
        counts = np.array([n - 1, 0, 1, 1, 1], np.int64)
        return [*map(backend.fetch, results), backend.fetch(totals)[:5]], [*exact, counts]

    return run


def residual(dtype: str, n: int, d: int, vectors: int, kept: float = 1.0, **options: Any) -> Callable[[Any], Any]:
    """`kept`: of what is outside the basis; little of it takes the pass to its explicit form."""

    def run(backend: Any) -> tuple[Results, Results]:
        basis = np.linalg.qr(values(d, vectors))[0].T
        plain = values(n, d)
        rows = cuda_core.stored(plain - (1.0 - kept) * (plain - plain @ basis.T @ basis), dtype)
        sums = cuda_core.residual(backend, rows, basis, **options)
        # What is left of each row after the first vectors, all of them at last.
        squares = (rows.values @ basis.T) ** 2
        rest = ((rows.values - rows.values @ basis.T @ basis) ** 2).sum(axis=1)
        left = np.cumsum(np.column_stack([rest, squares[:, ::-1]]), axis=1)[:, ::-1]
        energies = (rows.values**2).sum(axis=1)
        raw, unit = left.sum(axis=0), (left / energies[:, None]).sum(axis=0)
        return [sums.raw, sums.unit, sums.row_residuals, sums.row_energies], [raw, unit, rest, energies]

    return run


def products(dtype: str, n: int, d: int, count: int, rows_at_once: int = 0) -> Callable[[Any], Any]:
    """With a number of rows whose coefficients are in memory products with the Gram read them twice."""

    def run(backend: Any) -> tuple[Results, Results]:
        rows = cuda_core.stored(values(n, d), dtype)
        vectors, shift, bias = values(count, d), np.linspace(-1.0, 1.0, d), np.linspace(0.0, 1.0, count)
        targets = cuda_core.stored(values(n, count), "float32")
        sums, _ = cuda_core.gram_product(backend, rows, vectors, shift, rows_at_once=rows_at_once)
        errors, _ = cuda_core.prediction_error(backend, rows, vectors, bias, targets, wants_products=True)
        shifted = rows.values - shift
        images = shifted @ vectors.T
        outputs = rows.values @ vectors.T
        error = outputs + bias - targets.values
        sums_of_products = np.append((-error.T @ outputs).reshape(-1), [(outputs**2).sum(), (rows.values**2).sum()])
        exact = [images.T @ shifted, shifted.sum(axis=0), np.array([(shifted**2).sum()])]
        return [*sums, *errors], [*exact, (error**2).sum(axis=0), sums_of_products]

    return run


def descent(d: int, n: int, problems: int, momentum: float, double_precision: bool = True) -> Callable[[Any], Any]:
    """Two steps of each problem, with the formulas of the model for comparison."""

    def run(backend: Any) -> tuple[Results, Results]:
        dtype = np.dtype(np.float64 if double_precision else np.float32)
        used = d + n + 1
        stride = -(-used * dtype.itemsize // 64) * 64 // dtype.itemsize
        transforms, moments = np.zeros((problems, d, stride)), np.zeros((1, used, stride))
        transforms[..., :used] = values(problems * d, used).reshape(problems, d, used) / np.sqrt(used)
        rows = values(3 * used, used)
        moments[0, :, :used] = rows.T @ rows / len(rows)
        weights = values(problems * d, n).reshape(problems, d, n) / np.sqrt(d)
        rates = np.tile([0.05, 0.06, 0.07, 0.02, 0.03, 0.04, momentum], (problems, 1))
        state = [transforms, weights, values(problems, n)]
        velocities = [np.zeros_like(part) for part in state]
        exact = [part.copy() for part in state]
        for problem in range(problems):
            _descend([part[problem] for part in exact], moments[0, :, :used], rates[problem])
        placed = [backend.place(part.astype(dtype)) for part in [*state, *velocities, moments]]
        whole = [backend.place(np.zeros(problems, np.int64)), backend.place(rates)]
        steps = backend.place(np.full(problems, 2, np.int64))
        addresses = [backend.address(array) for array in placed]
        names = ["transforms", "weights", "biases", "transform_velocities", "weight_velocities", "bias_velocities"]
        request = backend.core.DescentRequest(
            problems=problems,
            d=d,
            n=n,
            stride=stride,
            **dict(zip([*names, "moments"], addresses, strict=True)),
            moment_index=backend.address(whole[0]),
            rates=backend.address(whole[1]),
            steps=backend.address(steps),
            double_precision=double_precision,
        )
        size = backend.core.descent_workspace(request, 0)
        memory, address = backend.workspace(size)
        backend.core.descent(request, workspace=address, workspace_bytes=size, device=0, stream=backend.stream())
        del memory
        return [backend.fetch(array) for array in placed[:3]], exact

    return run


def _descend(state: Results, K: NDArray[np.float64], rates: NDArray[np.float64]) -> None:
    T, W, b = state[0][:, : len(K)], state[1], state[2]
    (d, n), momentum = W.shape, rates[6]
    velocities = [np.zeros_like(part) for part in (T, W, b)]
    for _ in range(2):
        Q = W.T @ T
        Q[range(n), range(d, d + n)] -= 1.0
        Q[:, -1] += b
        P = Q @ K
        gradients = (W @ Q + rates[4] * T, T @ P.T + rates[3] * W, P[:, -1] + rates[5] * b)
        velocities = [momentum * v + gradient for v, gradient in zip(velocities, gradients, strict=True)]
        T -= rates[1] * velocities[0]
        W -= rates[0] * velocities[1]
        b -= rates[2] * velocities[2]


def of_warpgroups(run: Callable[[Any], tuple[Results, Results]]) -> Callable[[Any], Any]:
    """A Gram pass with the kernel of warpgroups."""

    def run_so(backend: Any) -> tuple[Results, Results]:
        with warpgroups(backend.core):
            return run(backend)

    return run_so


def probes(backend: Any) -> tuple[Results, Results]:
    """What is wrong in each probe of Hopper's instructions."""
    found = [probe.wrong for probe in probes_of(backend.device())]
    return [np.array(found)], [np.zeros(len(found))]


ONE = {"multiprocessors": 1}
SMALL_PASSES = [
    SmallPass("gram of pairs of segments, bfloat16", gram("bfloat16", 200, 130), ONE),
    SmallPass("gram of a ring that goes around, float16", gram("float16", 300, 20), ONE),
    SmallPass("gram and column sums in one read, bfloat16", gram("bfloat16", 90, 12, targets=0), ONE),
    SmallPass("gram of warpgroups, pairs of segments", of_warpgroups(gram("bfloat16", 200, 130, targets=0)), ONE),
    SmallPass("gram of warpgroups, a ring that goes around", of_warpgroups(gram("float16", 1100, 20, targets=0)), ONE),
    SmallPass("probes of Hopper's instructions", probes),
    SmallPass("gram of split rows", gram("float32", 70, 130), ONE),
    SmallPass("gram of planes, column sums and norms", gram("float32", 70, 130, targets=0, unit="raw"), ONE),
    SmallPass("gram of planes, kept rows and products", gram("float32", 70, 130, nonfinite="skip"), ONE),
    SmallPass("gram of planes of 16-bit rows", gram("bfloat16", 150, 130, targets=0, unit="raw"), ONE),
    SmallPass("gram of rows split for each tile", gram("float32", 110, 136, targets=0, unit="raw"), ONE),
    SmallPass("gram of split rows, with products", gram("float32", 280, 70, targets=3), ONE),
    SmallPass("gram of split rows, small", gram("float32", 280, 20, unit="raw"), {"multiprocessors": 2}),
    SmallPass("gram of segments of three blocks, float64", gram("float64", 40, 200, unit="raw"), ONE),
    SmallPass("gram and all sums of float64 rows of panels", gram("float64", 40, 200, targets=3), ONE),
    SmallPass("gram and all sums of bfloat16 rows of panels", gram("bfloat16", 150, 130, "highest", 3), ONE),
    SmallPass("gram of float64 without tensor cores", gram("float64", 40, 200), ONE | {"capability": 75}),
    SmallPass("gram of float32 without tensor cores", gram("float32", 60, 70), ONE | {"capability": 86}),
    SmallPass("gram and all sums of float64 rows of one tile", gram("float64", 90, 70, targets=3), ONE),
    SmallPass("gram and all sums of float32 rows of one tile", gram("float32", 150, 70, "highest", 3), ONE),
    SmallPass("gram of narrow float64 rows", gram("float64", 300, 12, unit="raw"), ONE),
    SmallPass("gram of more slabs than a thread adds up", gram("float64", 650, 8, targets=0), {"multiprocessors": 8}),
    SmallPass("gram with totals, bfloat16", gram_with_totals("bfloat16", 90, 12)),
    SmallPass("gram with totals, float32", gram_with_totals("float32", 90, 70)),
    SmallPass("gram with totals, float32 planes", gram_with_totals("float32", 90, 130), ONE),
    SmallPass("gram with totals, float64", gram_with_totals("float64", 90, 12)),
    SmallPass("gram with totals, float64 rows of one tile", gram_with_totals("float64", 90, 70), ONE),
    SmallPass("gram without bad rows, float64 rows of one tile", gram_without_bad_rows("float64", 90, 70, 3), ONE),
    SmallPass("gram without bad rows, float64 rows of panels", gram_without_bad_rows("float64", 40, 200, 3), ONE),
    SmallPass("gram without bad rows, bfloat16", gram_without_bad_rows("bfloat16", 150, 130, 3, "highest"), ONE),
    SmallPass("residual of pairs of tiles", residual("float32", 150, 70, 40), ONE),
    SmallPass("residual of pairs of tiles, explicit", residual("float32", 150, 70, 40, 1e-3), ONE),
    SmallPass("residual of pairs of tiles on sm_75", residual("float32", 150, 70, 40), ONE | {"capability": 75}),
    SmallPass("residual in float64", residual("float64", 80, 40, 5), ONE),
    SmallPass("residual in float64, explicit", residual("bfloat16", 80, 40, 5, double_precision=True), ONE),
    SmallPass("residual of float16 rows", residual("float16", 130, 30, 5), ONE),
    SmallPass("products in two reads", products("float32", 90, 40, 5, rows_at_once=64)),
    SmallPass("products of warps for columns and vectors", products("bfloat16", 150, 130, 17), ONE),
    SmallPass("products of pairs of tiles", products("float32", 500, 8, 3), ONE),
    SmallPass("descent of resident problems", descent(12, 5, 2, 0.9)),
    SmallPass("descent of pairs of problems", descent(30, 36, 3, 0.9), ONE | {"capability": 75}),
]
