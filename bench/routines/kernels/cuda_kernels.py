"""The kernels of a card against torch's products and a copy of the same bytes; times by the events of its stream."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from card import Card
from card_kernels import KERNELS, Work, gram_passes
from harness import Settings
from limits import Pass, share_of_limit

__all__ = ["SHAPES", "card_rows"]

# Few and many features; those of float64 have a tenth of the rows.
SHAPES = [
    *((4_000_000, 40), (4_000_000, 128), (1_000_000, 256), (1_000_000, 1024)),
    *((200_000, 2048), (250_000, 4096), (20_000, 1024)),
]
DTYPES = ["bfloat16", "float32", "float64", "float16"]
FLOAT64_SHARE = 10
LEAST_ROWS = 20_000  # which float64 rows are not fewer than for it
TIMED = [kernel for kernel in KERNELS if kernel.name != "descent"]


def card_rows(
    card: Card,
    shapes: list[tuple[int, int]] | None,
    dtypes: list[str] | None,
    settings: Settings,
    limits: dict[str, float],
) -> Iterator[dict[str, Any]]:
    """A row for every kernel and rival of every shape and dtype, as it is measured."""
    for rows, d in shapes or SHAPES:
        for dtype in dtypes or DTYPES:
            count = rows
            if shapes is None and dtype == "float64":
                count = max(rows // FLOAT64_SHARE, min(rows, LEAST_ROWS))
            yield from _rows(card, card.random(count, d, dtype), dtype, settings, limits)


def _rows(card: Card, H: Any, dtype: str, settings: Settings, limits: dict[str, float]) -> Iterator[dict[str, Any]]:
    facts = {"routine": "cuda_kernels", "rows": H.shape[0], "d": H.shape[1], "dtype": dtype}
    size = float(H.numel() * H.element_size())
    yield _timed(card, facts, "copy", H.clone, [Pass(0.0, 2.0 * size)], settings, limits)
    exact = None
    for kernel in TIMED:
        name = f"nrc_fast {kernel.name}"
        try:
            work = kernel.prepare(card, H)
            row = _timed(card, facts, name, work.call, work.passes, settings, limits)
            row |= {"error": work.error(row["calls"]), "allowed error": kernel.allowed(dtype)}
            row["check"] = "ok" if row["error"] <= row["allowed error"] else "errs more than allowed"
            if kernel.name == "gram high":
                exact = work
            if "gram" in work.results:
                row["bias of the diagonal"] = _bias(work, row["calls"])
        except Exception as failure:  # the others may well run
            text = f"{type(failure).__name__}: {failure}"[:300]
            row = facts | {"contender": name, "error": text, "check": text}
        yield row
    if exact is None:
        return
    yield _with_torch(card, H, "torch.mm(H.T, H)", exact, settings, limits) | {"dtype": dtype}
    if dtype == "float32" and not card.is_emulated:
        card.torch.backends.cuda.matmul.allow_tf32 = True
        try:
            yield _with_torch(card, H, "torch.mm(H.T, H), tf32", exact, settings, limits) | {"dtype": dtype}
        finally:
            card.torch.backends.cuda.matmul.allow_tf32 = False


def _with_torch(
    card: Card, H: Any, name: str, ours: Work, settings: Settings, limits: dict[str, float]
) -> dict[str, Any]:
    """The product of torch, both triangles, and its error."""
    dtype = str(H.dtype).removeprefix("torch.")
    facts = {"routine": "cuda_kernels", "rows": H.shape[0], "d": H.shape[1], "dtype": dtype}

    def product() -> Any:
        return card.torch.mm(H.T, H)

    row = _timed(card, facts, name, product, gram_passes(H, "fast"), settings, limits)
    exact, scale = ours.exact["gram"]
    found = card.torch.tril(product().double())
    diagonal = found.diagonal() / exact.diagonal().where(exact.diagonal() > 0, exact.new_ones(())) - 1.0
    return row | {"error": float(((found - exact) / scale).abs().max()), "bias of the diagonal": float(diagonal.mean())}


def _bias(work: Work, calls: int) -> float:
    """The mean relative error of sums of squares, where errors of other entries are as often above as below."""
    exact = work.exact["gram"][0].diagonal()
    return float((work.results["gram"].diagonal() / calls / exact - 1.0).mean())


def _timed(
    card: Card,
    facts: dict[str, Any],
    name: str,
    call: Callable[[], Any],
    passes: list[Pass],
    settings: Settings,
    limits: dict[str, float],
) -> dict[str, Any]:
    """The cold call, then as many as there is time for; `calls` are all of them."""
    cold = card.seconds(call)
    runs = settings.warm_runs(cold)
    taken = [card.seconds(call) for _ in range(runs)] or [cold]
    times = {"seconds": statistics.median(taken), "fastest": min(taken), "slowest": max(taken)}
    row = facts | {"contender": name, "cold": cold, "runs": runs, "calls": runs + 1} | times
    return row | share_of_limit(row, passes, limits)
