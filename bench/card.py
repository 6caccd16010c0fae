"""A CUDA card as the benchmarks launch on it, with torch's memory; or the emulated device of the tests in its place."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Card"]

ALIGNMENT = 256  # of a workspace
CODES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}


class Card:
    """The current card of torch.

    Parameters
    ----------
    is_emulated : bool
        Whether the kernels run on the emulated device, in memory of the host: to try the scripts, not to time.
    """

    def __init__(self, *, is_emulated: bool = False) -> None:
        import torch

        self.torch: Any = torch
        self.is_emulated = is_emulated
        self.place = torch.device("cpu" if is_emulated else "cuda")
        self._core: Any = None

    @property
    def core(self) -> Any:
        """The compiled kernels; those of the card are looked at now, so that what needs only torch works without."""
        if self._core is None and self.is_emulated:
            self._core = importlib.import_module("nrc_fast.kernels._cuda_emulation")
        elif self._core is None:
            from nrc_fast.kernels.cuda import cards

            cards.require_cuda_device(self.index)
            self._core = cards.cuda_core()
        return self._core

    @property
    def index(self) -> int:
        """Number of the card."""
        return 0 if self.is_emulated else int(self.torch.cuda.current_device())

    @property
    def name(self) -> str:
        """What card it is."""
        return "emulated device" if self.is_emulated else str(self.torch.cuda.get_device_name())

    def wait(self) -> None:
        """Wait for what was launched."""
        if not self.is_emulated:
            self.torch.cuda.synchronize()

    def seconds(self, call: Callable[[], Any]) -> float:
        """The time of one call on the card, between two events of its stream."""
        if self.is_emulated:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        before, after = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        call()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1e3

    # ---- memory ----

    def random(self, rows: int, columns: int, dtype: str, seed: int = 0) -> Any:
        """Numbers of mean 0.25 and variance 1, drawn in float32 at least."""
        torch = self.torch
        generator = torch.Generator(self.place).manual_seed(seed)
        drawn = torch.float64 if dtype == "float64" else torch.float32
        values = torch.randn(rows, columns, generator=generator, device=self.place, dtype=drawn)
        return values.add_(0.25).to(getattr(torch, dtype))

    def zeros(self, *shape: int) -> Any:
        """Float64 zeros."""
        return self.torch.zeros(shape, dtype=self.torch.float64, device=self.place)

    def place_values(self, values: Any) -> Any:
        """A copy of numbers of the host, in their dtype."""
        return self.torch.as_tensor(values).to(self.place).contiguous()

    def matrix(self, H: Any) -> Any:
        """Rows as the kernels take them."""
        code = CODES[str(H.dtype).removeprefix("torch.")]
        return self.core.Matrix(H.data_ptr(), *H.shape, *H.stride(), code)

    # ---- launches ----

    def launcher(self, name: str, request: Any, **arguments: Any) -> Callable[[], None]:
        """A call that launches a kernel on the current stream; its workspace holds NaN before the first."""
        torch = self.torch
        workspace = getattr(self.core, f"{name}_workspace")(request, self.index)
        memory = torch.full((workspace + ALIGNMENT,), 255, dtype=torch.uint8, device=self.place)
        address = -(-memory.data_ptr() // ALIGNMENT) * ALIGNMENT
        run = getattr(self.core, name)

        def launch() -> None:
            stream = 0 if self.is_emulated else torch.cuda.current_stream().cuda_stream
            where = {"workspace": address, "workspace_bytes": workspace, "device": self.index, "stream": stream}
            run(request, **arguments, **where)

        launch.memory = memory  # type: ignore[attr-defined] # as long as the call
        return launch
