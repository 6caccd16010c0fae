"""The CUDA kernels called the same way on a card, with torch's memory, and on the emulated device of the host."""

from __future__ import annotations

import functools
import importlib
import os
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.guarded import guarded_bytes, guarded_copy, guarded_tensor

CODES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}
PRECISIONS = {"high": 0, "highest": 1, "fast": 2}
FloatArray = NDArray[np.float64]


def emulation(name: str = "_cuda_emulation") -> Any:
    """A module of the emulated device; CI fails without it, elsewhere the tests are skipped.

    That named `_cuda_emulation_races` looks for races.
    """
    name = f"nrc_fast.kernels.{name}"
    if os.environ.get("NRC_FAST_CUDA") == "ON":
        return importlib.import_module(name)
    return pytest.importorskip(name, reason="built without NRC_FAST_CUDA_EMULATION=ON")


def emulated_device(core: Any) -> Any:
    """A device whose memory is that of the host, with a stream on which everything is done at once.

    Its tensors are of a class that refuses what tensors on a card refuse: to be read by the host, and to be mixed with
    those of the host.
    """
    import torch

    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    return emulated_devices()(core, 0, torch.device("cpu"), lambda: stream)


@functools.cache
def emulated_devices() -> Any:  # noqa: C901 - its methods are counted
    import torch

    from nrc_fast.kernels.cuda.device import CudaDevice

    kind = emulated_tensors()

    class EmulatedDevice(CudaDevice):
        def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
            return guarded_tensor(self.core, shape, dtype).as_subclass(kind)

        def place(self, array: NDArray[Any]) -> Any:
            return torch.from_numpy(guarded_copy(self.core, np.array(array, order="C"))).as_subclass(kind)

        def move(self, tensor: Any) -> Any:
            if not tensor.is_contiguous():
                return tensor.clone().as_subclass(kind)
            placed = guarded_tensor(self.core, tuple(tensor.shape), tensor.dtype)
            return placed.copy_(tensor.detach().as_subclass(torch.Tensor)).as_subclass(kind)

        def bring(self, tensor: Any) -> Any:
            return tensor.detach().clone().as_subclass(torch.Tensor)

        def is_capturing(self) -> bool:
            return False

        def host_buffer(self, size: int) -> Any:
            buffer = super().host_buffer(size)
            buffer.memory.fill_(255)
            return buffer

        def free(self, buffer: Any) -> None:
            buffer.memory.fill_(255)  # a copy that is late shows
            super().free(buffer)

        def copy_stream(self) -> Any:
            return self.stream()

        def copy_from(self, values: Any, stream: Any) -> tuple[Any, Any]:
            # As late as may be: when the copy is waited for. Until then there are NaN.
            copy = self.empty(tuple(values.shape), values.dtype)

            lock = threading.Lock()

            def arrive() -> None:
                with lock:  # both threads may wait for it
                    if not event.has_come:
                        copy.copy_(values)
                        event.has_come = True

            event = SimpleNamespace(synchronize=arrive, has_come=False, stream=stream)
            return copy, event

        def use_after(self, event: Any, *tensors: Any) -> None:
            assert all(tensor.is_cuda for tensor in tensors)
            assert event.stream is self.stream()
            event.synchronize()

        def mark(self) -> Any:
            return SimpleNamespace(synchronize=lambda: None, stream=self.stream())

        def wait_for_all_streams(self) -> None:
            pass

    return EmulatedDevice


@functools.cache
def emulated_tensors() -> Any:
    import torch

    class EmulatedTensor(torch.Tensor):  # type: ignore[misc]
        is_cuda = True
        device = torch.device("cuda", 0)

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            if name in ("numpy", "__array__", "tolist"):
                message = "can't convert cuda:0 device type tensor to numpy"
                raise TypeError(message)
            others = [a for a in args if type(a) is torch.Tensor and a.ndim > 0]
            if others and name not in ("copy_", "__setitem__", "gram", "residual"):
                message = f"Expected all tensors to be on the same device ({name})"
                raise RuntimeError(message)
            result = super().__torch_function__(func, types, args, kwargs or {})
            if name == "cpu" or (name == "to" and "cpu" in map(str, args[1:])):
                return result.clone().as_subclass(torch.Tensor)
            return result

        def __array__(self, *_: Any, **__: Any) -> Any:
            message = "can't convert cuda:0 device type tensor to numpy"
            raise TypeError(message)

    return EmulatedTensor


class Emulation:
    """Memory of the host, between pages that nobody may touch."""

    def __init__(self, module: str = "_cuda_emulation") -> None:
        self.core = emulation(module)
        self.core.configure()

    def place(self, array: NDArray[Any]) -> NDArray[Any]:
        return guarded_copy(self.core, array)

    def address(self, placed: NDArray[Any]) -> int:
        return placed.ctypes.data

    def fetch(self, placed: NDArray[Any]) -> NDArray[Any]:
        return placed

    def workspace(self, size: int) -> tuple[Any, int]:
        buffer = guarded_bytes(self.core, max(size, 1), 256)
        return buffer, buffer.ctypes.data

    def stream(self) -> int:
        return 0

    def device(self) -> Any:
        """The emulated machine as the package knows devices."""
        return emulated_device(self.core)


class Card:
    """Memory of the current CUDA device, by torch."""

    def __init__(self) -> None:
        from nrc_fast.kernels.cuda import cards

        self.core = cards.cuda_core()
        why = "this build has no CUDA kernels" if self.core is None else self.core.device_problem()
        try:
            import torch
        except ImportError:
            why = "torch is not there"
        else:
            why = why or ("" if torch.cuda.is_available() else "this torch has no CUDA")
            self.torch = torch
        if why and os.environ.get("NRC_REQUIRE_GPU") == "1":
            pytest.fail(f"NRC_REQUIRE_GPU=1, but {why}")
        if why:
            pytest.skip(why)
        cards.require_cuda_device(0)

    def place(self, array: NDArray[Any]) -> Any:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy()
        return self.torch.from_numpy(flat).to("cuda:0"), array.dtype, array.shape

    def address(self, placed: Any) -> int:
        return int(placed[0].data_ptr())

    def fetch(self, placed: Any) -> NDArray[Any]:
        tensor, dtype, shape = placed
        return np.asarray(tensor.cpu().numpy()).view(dtype).reshape(shape)

    def workspace(self, size: int) -> tuple[Any, int]:
        buffer = self.torch.full((size + 256,), 255, dtype=self.torch.uint8, device="cuda:0")
        return buffer, buffer.data_ptr() + -buffer.data_ptr() % 256

    def stream(self) -> int:
        return int(self.torch.cuda.current_stream(0).cuda_stream)


BACKENDS = {"emulation": Emulation, "card": Card}


@dataclass
class Stored:
    """Rows of any strides in one flat array of bits, and their values in float64."""

    bits: NDArray[Any]
    values: FloatArray
    dtype: str
    offset: int
    row_stride: int
    column_stride: int


def as_bits(values: FloatArray, dtype: str) -> tuple[NDArray[Any], FloatArray]:
    """Values rounded to a dtype, as numbers that numpy can hold and as float64."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            rounded = values.astype(dtype)
        return rounded, rounded.astype(np.float64)
    words = values.astype(np.float32).view(np.uint32)
    nan = np.isnan(values)
    high = ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)
    high[nan] = 0x7FC0
    return high, (high.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def stored(values: Any, dtype: str, layout: str = "rows") -> Stored:
    """`values` (N, d) in memory as contiguous "rows", "columns", "padded" rows, "apart" in both, or "backward"."""
    bits, exact = as_bits(np.asarray(values, dtype=np.float64), dtype)
    n, d = bits.shape
    if layout == "rows":
        return Stored(bits.reshape(-1), exact, dtype, 0, d, 1)
    if layout == "columns":
        return Stored(np.ascontiguousarray(bits.T).reshape(-1), exact, dtype, 0, 1, max(n, 1))
    if layout == "broadcast":
        assert n == 0 or (exact == exact[:1]).all()
        return Stored(bits[:1].reshape(-1), exact, dtype, 0, 0, 1)
    width = {"padded": -(-d // 8) * 8 + 8, "apart": 3 * d, "backward": d}[layout]
    # What lies between the rows is not theirs: NaN.
    field_of_rows = np.full((n, width), 0x7FC0 if dtype == "bfloat16" else np.nan, bits.dtype)
    if layout == "apart":
        field_of_rows[:, ::3] = bits
        return Stored(field_of_rows.reshape(-1), exact, dtype, 0, width, 3)
    if layout == "backward":
        return Stored(bits[::-1].reshape(-1).copy(), exact, dtype, max(n - 1, 0) * d, -d, 1)
    field_of_rows[:, :d] = bits
    return Stored(field_of_rows.reshape(-1), exact, dtype, 0, width, 1)


@dataclass
class Placed:
    matrix: Any
    memory: Any = field(repr=False)


def place_rows(backend: Any, rows: Stored) -> Placed:
    memory = backend.place(rows.bits)
    n, d = rows.values.shape
    address = backend.address(memory) + rows.offset * rows.bits.itemsize
    matrix = backend.core.Matrix(address, n, d, rows.row_stride, rows.column_stride, CODES[rows.dtype])
    return Placed(matrix, memory)


@dataclass
class Gram:
    gram: FloatArray
    column_sums: FloatArray
    unit_gram: FloatArray
    cross: FloatArray
    counts: tuple[int, int, int]
    totals: NDArray[np.int64]


def gram(
    backend: Any,
    rows: Stored,
    *,
    shift: FloatArray | None = None,
    unit: str | None = None,
    targets: Stored | None = None,
    target_shift: FloatArray | None = None,
    precision: str = "high",
    start: float = 0.0,
    workspace_change: int = 0,
    rows_at_once: int = 0,
    nonfinite: str = "count",
) -> Gram:
    """One Gram pass, into arrays that hold `start`.

    Rows that are not finite are only counted, or with totals "refuse" the batch, or are left out: "skip".
    """
    d = rows.values.shape[1]
    n_targets = 0 if targets is None else targets.values.shape[1]
    features = place_rows(backend, rows)
    placed_targets = None if targets is None else place_rows(backend, targets)
    results = [backend.place(np.full(shape, start)) for shape in ((d, d), (d,), (d, d), (n_targets, d))]
    counts = backend.place(np.array([0, 0, -1], dtype=np.int64))
    totals = backend.place(np.zeros(backend.core.total_values, dtype=np.int64))
    shifts = [None if value is None else backend.place(value) for value in (shift, target_shift)]
    request = backend.core.GramRequest(
        features.matrix,
        gram=backend.address(results[0]),
        column_sums=backend.address(results[1]),
        unit_gram=backend.address(results[2]) if unit else 0,
        shift=0 if shifts[0] is None else backend.address(shifts[0]),
        unit_rows_are_shifted=unit == "shifted",
        targets=None if placed_targets is None else placed_targets.matrix,
        target_shift=0 if shifts[1] is None else backend.address(shifts[1]),
        cross=backend.address(results[3]) if targets is not None else 0,
        precision=PRECISIONS[precision],
        rows_at_once=rows_at_once,
        counts=backend.address(counts),
        totals=0 if nonfinite == "count" else backend.address(totals),
        skips_nonfinite=nonfinite == "skip",
    )
    size = backend.core.gram_workspace(request, 0)
    memory, address = backend.workspace(size)
    backend.core.gram(
        request, workspace=address, workspace_bytes=size + workspace_change, device=0, stream=backend.stream()
    )
    fetched = [backend.fetch(result) for result in results]
    del memory
    zero, bad, first = (int(value) for value in backend.fetch(counts))
    counted = zero, bad, first
    return Gram(fetched[0], fetched[1], fetched[2], fetched[3], counted, backend.fetch(totals))


@dataclass
class Residual:
    raw: FloatArray
    unit: FloatArray
    row_residuals: FloatArray
    row_energies: FloatArray
    counts: tuple[int, int, int]


def residual(
    backend: Any,
    rows: Stored,
    basis: FloatArray,
    *,
    shift: FloatArray | None = None,
    double_precision: bool = False,
    start: float = 0.0,
) -> Residual:
    """One residual pass, into sums that hold `start`."""
    n = len(rows.values)
    k = len(basis)
    features = place_rows(backend, rows)
    vectors = backend.place(np.ascontiguousarray(basis))
    shifts = None if shift is None else backend.place(shift)
    results = [backend.place(np.full(size, start)) for size in (k + 1, k + 1, n, n)]
    counts = backend.place(np.array([0, 0, -1], dtype=np.int64))
    request = backend.core.ResidualRequest(
        features.matrix,
        backend.address(vectors),
        k,
        raw_sums=backend.address(results[0]),
        unit_sums=backend.address(results[1]),
        shift=0 if shifts is None else backend.address(shifts),
        row_residuals=backend.address(results[2]),
        row_energies=backend.address(results[3]),
        double_precision=double_precision,
        counts=backend.address(counts),
    )
    size = backend.core.residual_workspace(request, 0)
    memory, address = backend.workspace(size)
    backend.core.residual(request, workspace=address, workspace_bytes=size, device=0, stream=backend.stream())
    fetched = [backend.fetch(result) for result in results]
    del memory
    zero, nonfinite, first = (int(value) for value in backend.fetch(counts))
    return Residual(fetched[0], fetched[1], fetched[2], fetched[3], (zero, nonfinite, first))


def _product(
    backend: Any,
    rows: Stored,
    vectors: FloatArray,
    name: str,
    results: list[FloatArray],
    rows_at_once: int,
    **inputs: Any,
) -> Any:
    """One pass with a few vectors: its results, and the counts."""
    features = place_rows(backend, rows)
    placed_vectors = backend.place(np.ascontiguousarray(vectors))
    placed = [backend.place(result) for result in results]
    counts = backend.place(np.array([0, 0, -1], dtype=np.int64))
    request = backend.core.ProductRequest(
        features.matrix,
        backend.address(placed_vectors),
        len(vectors),
        rows_at_once=rows_at_once,
        counts=backend.address(counts),
    )
    size = getattr(backend.core, f"{name}_workspace")(request, 0)
    memory, address = backend.workspace(size)
    kept = {key: place_rows(backend, v) if isinstance(v, Stored) else backend.place(v) for key, v in inputs.items()}
    arguments = {key: v.matrix if isinstance(v, Placed) else backend.address(v) for key, v in kept.items()}
    names = ("image", "column_sums", "energy") if name == "gram_product" else ("errors", "products")[: len(placed)]
    arguments |= {key: backend.address(array) for key, array in zip(names, placed, strict=True)}
    getattr(backend.core, name)(
        request, **arguments, workspace=address, workspace_bytes=size, device=0, stream=backend.stream()
    )
    fetched = [backend.fetch(result) for result in placed]
    del memory
    return fetched, tuple(int(value) for value in backend.fetch(counts))


def gram_product(
    backend: Any, rows: Stored, vectors: FloatArray, shift: FloatArray, start: float = 0.0, rows_at_once: int = 0
) -> Any:
    d = rows.values.shape[1]
    results = [np.full((len(vectors), d), start), np.full(d, start), np.full(1, start)]
    return _product(backend, rows, vectors, "gram_product", results, rows_at_once, shift=shift)


def prediction_error(
    backend: Any,
    rows: Stored,
    weights: FloatArray,
    bias: FloatArray,
    targets: Stored,
    start: float = 0.0,
    rows_at_once: int = 0,
    *,
    wants_products: bool = False,
) -> Any:
    n = len(weights)
    results = [np.full(n, start), *([np.full(n * n + 2, start)] if wants_products else [])]
    return _product(backend, rows, weights, "prediction_error", results, rows_at_once, bias=bias, targets=targets)
