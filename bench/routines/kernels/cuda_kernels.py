"""Gram and residual on a CUDA card: ours, torch's products, and a copy of the same bytes; times by CUDA events."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

SHAPES = [(1_000_000, 256), (200_000, 2048)]
DTYPES = ["bfloat16", "float32"]
COMPONENTS = 32
CODES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}


def median_ms(calls: dict[str, Callable[[], Any]], runs: int) -> dict[str, tuple[float, float]]:
    """Median and spread of each call, interleaved, after a warm-up."""
    import torch

    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 2):
        for name, call in calls.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            call()
            end.record()
            end.synchronize()
            if run >= 2:
                times[name].append(start.elapsed_time(end))
    return {name: (statistics.median(values), max(values) - min(values)) for name, values in times.items()}


class Ours:
    """The kernels on a tensor, with torch's memory."""

    def __init__(self, H: Any) -> None:
        import torch

        from nrc_fast.kernels.cuda import cards

        cards.require_cuda_device(H.device.index)
        self.core: Any = cards.cuda_core()
        assert self.core is not None
        self.torch = torch
        self.H = H
        n, d = H.shape
        self.matrix = self.core.Matrix(H.data_ptr(), n, d, H.stride(0), H.stride(1), CODES[str(H.dtype).split(".")[1]])
        self.counts = torch.tensor([0, 0, -1], device=H.device)

    def _workspace(self, size: int) -> Any:
        return self.torch.empty(size, dtype=self.torch.uint8, device=self.H.device)

    def _where(self, memory: Any) -> dict[str, int]:
        stream = self.torch.cuda.current_stream(self.H.device).cuda_stream
        return {
            "workspace": memory.data_ptr(),
            "workspace_bytes": memory.numel(),
            "device": self.H.device.index,
            "stream": stream,
        }

    def gram(self, precision: int) -> tuple[Callable[[], None], Any]:
        """A call that adds the Gram to the tensor beside it."""
        d = self.H.shape[1]
        result = self.torch.zeros(d, d, dtype=self.torch.float64, device=self.H.device)
        request = self.core.GramRequest(
            self.matrix, gram=result.data_ptr(), precision=precision, counts=self.counts.data_ptr()
        )
        memory = self._workspace(self.core.gram_workspace(request, self.H.device.index))
        return lambda: self.core.gram(request, **self._where(memory)), result

    def residual(self, basis: Any) -> tuple[Callable[[], None], Any]:
        """A call that adds the residuals for every k to the tensor beside it."""
        result = self.torch.zeros(2, len(basis) + 1, dtype=self.torch.float64, device=self.H.device)
        request = self.core.ResidualRequest(
            self.matrix,
            basis.data_ptr(),
            len(basis),
            raw_sums=result[0].data_ptr(),
            unit_sums=result[1].data_ptr(),
            counts=self.counts.data_ptr(),
        )
        memory = self._workspace(self.core.residual_workspace(request, self.H.device.index))
        return lambda: self.core.residual(request, **self._where(memory)), result


def reference_gram(H: Any) -> Any:
    """In float64, a part of the rows at a time."""
    return sum(part.double().T @ part.double() for part in H.split(65536))


def relative_error(found: Any, exact: Any) -> float:
    import torch

    scale = exact.diagonal().sqrt()
    return float(((torch.tril(found) - torch.tril(exact)).abs() / torch.outer(scale, scale)).max())


def rows(shapes: list[tuple[int, int]], dtypes: list[str], runs: int) -> list[dict[str, object]]:
    """Rows for every shape and dtype."""
    return [row for count, d in shapes for dtype in dtypes for row in _rows(count, d, dtype, runs)]


def _rows(count: int, d: int, dtype: str, runs: int) -> list[dict[str, object]]:
    """Times and errors of one shape; errors are relative to the norms of the columns."""
    import torch

    torch.manual_seed(0)
    H = torch.randn(count, d, device="cuda", dtype=torch.float32).to(getattr(torch, dtype))
    exact = reference_gram(H)
    basis = torch.linalg.qr(torch.randn(d, min(COMPONENTS, d), device="cuda", dtype=torch.float64))[0].T.contiguous()
    ours = Ours(H)
    copy = torch.empty_like(H)
    calls: dict[str, Callable[[], Any]] = {"copy": lambda: copy.copy_(H)}
    results = {}
    for code, precision in enumerate(("high", "highest", "fast")):
        calls[f"gram {precision}"], results[f"gram {precision}"] = ours.gram(code)
    calls["residual"], residual = ours.residual(basis)

    def with_torch(*, tf32: bool) -> Any:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return torch.mm(H.T, H)

    calls["torch.mm"] = lambda: with_torch(tf32=False)
    if dtype == "float32":
        calls["torch.mm tf32"] = lambda: with_torch(tf32=True)
    times = median_ms(calls, runs)
    table = []
    for name, (median, spread) in times.items():
        row: dict[str, object] = {"routine": name, "ms": round(median, 4), "spread_ms": round(spread, 4)}
        if name in results:
            # Every call added the same Gram once more.
            row["error"] = f"{relative_error(results[name] / (runs + 2), exact):.1e}"
            row["share_of_torch_mm"] = round(median / times["torch.mm"][0], 3)
        elif name.startswith("torch"):
            row["error"] = f"{relative_error(calls[name]().double(), exact):.1e}"
        elif name == "residual":
            total = residual[0] / (runs + 2)
            rest = exact.trace() - (basis @ exact @ basis.T).trace()
            row["error"] = f"{float((total[-1] - rest).abs() / exact.trace()):.1e}"
            # A copy moves every byte twice, the residual reads it once.
            row["share_of_copy_bandwidth"] = round(times["copy"][0] / 2 / median, 3)
        table.append(row)
    return table
