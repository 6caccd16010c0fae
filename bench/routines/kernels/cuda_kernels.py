"""The kernels of a card against torch's products and a copy of the same bytes; times by the events of its stream."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

from card import Card
from card_attempts import Attempt, attempts
from card_grams import gram_passes
from card_kernels import GRAM, KERNELS, Kernel
from card_work import positive
from harness import Settings
from limits import Pass, share_of_limit

__all__ = ["SHAPES", "card_rows"]

# Many features first: the times that are wanted most, as the rest may be cut off. Those of float64 have a tenth of the
# rows.
SHAPES = [
    *((1_000_000, 1024), (250_000, 4096), (4_000_000, 128), (1_000_000, 256)),
    *((200_000, 2048), (4_000_000, 40), (20_000, 1024)),
]
DTYPES = ["bfloat16", "float32", "float64", "float16"]
FLOAT64_SHARE = 10
LEAST_ROWS = 20_000  # which float64 rows are not fewer than for it
TIMED = [kernel for kernel in KERNELS if kernel.is_timed]


def card_rows(
    card: Card,
    shapes: list[tuple[int, int]] | None,
    dtypes: list[str] | None,
    settings: Settings,
    limits: dict[str, float],
    *,
    skip: int = 0,
) -> Iterator[dict[str, Any]]:
    """A row for every kernel and rival of every shape and dtype, as it is measured."""
    yield from attempts(card, _calls(card, shapes, dtypes, settings, limits), skip)


def _calls(
    card: Card,
    shapes: list[tuple[int, int]] | None,
    dtypes: list[str] | None,
    settings: Settings,
    limits: dict[str, float],
) -> Iterator[Attempt]:
    for rows, d in shapes or SHAPES:
        for dtype in dtypes or DTYPES:
            count = rows
            if shapes is None and dtype == "float64":
                count = max(rows // FLOAT64_SHARE, min(rows, LEAST_ROWS))
            facts = {"routine": "cuda_kernels", "rows": count, "d": d, "dtype": dtype}
            problem = _Problem(card, (count, d), dtype, settings, limits)
            for name, call in problem.contenders():
                yield facts | {"contender": name}, call


class _Problem:
    """Rows of one shape and dtype, drawn when they are first asked for."""

    def __init__(
        self, card: Card, shape: tuple[int, int], dtype: str, settings: Settings, limits: dict[str, float]
    ) -> None:
        self.card, self.shape, self.dtype, self.settings, self.limits = card, shape, dtype, settings, limits

    def contenders(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Each by its name, with the call that measures it."""
        yield "copy", self._copy
        for kernel in (each for each in TIMED if self.dtype in each.dtypes):
            yield f"nrc_fast {kernel.name}", partial(self._kernel, kernel)
        yield "torch.mm(H.T, H)", self._with_torch
        if self.dtype == "float32" and not self.card.is_emulated:
            yield "torch.mm(H.T, H), tf32", self._with_tf32

    @cached_property
    def H(self) -> Any:
        return self.card.random(*self.shape, self.dtype)

    @cached_property
    def gram(self) -> tuple[Any, Any]:
        """The exact Gram matrix, and what errors are relative to."""
        return GRAM.prepare(self.card, self.H).exact["gram"]

    def _copy(self) -> dict[str, Any]:
        size = float(self.H.numel() * self.H.element_size())
        return self._timed(self.H.clone, [Pass(0.0, 2.0 * size)])

    def _kernel(self, kernel: Kernel) -> dict[str, Any]:
        work = kernel.prepare(self.card, self.H)
        row = self._timed(work.call, work.passes)
        row |= {"error": work.error(row["calls"]), "allowed error": kernel.allowed(self.dtype)}
        row["check"] = "ok" if row["error"] <= row["allowed error"] else "errs more than allowed"
        if kernel is GRAM:
            self.gram = work.exact["gram"]
        if "gram" in work.results:
            diagonal = work.exact["gram"][0].diagonal()
            row["bias of the diagonal"] = _bias(work.results["gram"].diagonal() / row["calls"], diagonal)
        return row

    def _with_torch(self) -> dict[str, Any]:
        """The product of torch, both triangles, and its error."""

        def product() -> Any:
            return self.card.torch.mm(self.H.T, self.H)

        row = self._timed(product, gram_passes(self.H, "fast"))
        exact, scale = self.gram
        found = self.card.torch.tril(product().double())
        error = float(((found - exact) / scale).abs().max())
        return row | {"error": error, "bias of the diagonal": _bias(found.diagonal(), exact.diagonal())}

    def _with_tf32(self) -> dict[str, Any]:
        self.card.torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return self._with_torch()
        finally:
            self.card.torch.backends.cuda.matmul.allow_tf32 = False

    def _timed(self, call: Callable[[], Any], passes: list[Pass]) -> dict[str, Any]:
        """The cold call, then as many as there is time for; `calls` are all of them."""
        cold = self.card.seconds(call)
        runs = self.settings.warm_runs(cold)
        taken = [self.card.seconds(call) for _ in range(runs)] or [cold]
        times = {"seconds": statistics.median(taken), "fastest": min(taken), "slowest": max(taken)}
        row = {"cold": cold, "runs": runs, "calls": runs + 1} | times
        return row | share_of_limit(row, passes, self.limits)


def _bias(found: Any, exact: Any) -> float:
    """The mean relative error of sums of squares, where errors of other entries are as often above as below."""
    return float((found / positive(exact) - 1.0).mean())
