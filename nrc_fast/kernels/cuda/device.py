"""A CUDA device as the kernels and torch see it: memory, copies, workspaces and the stream to launch on."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.libraries import require_library
from nrc_fast.kernels.cuda.cards import cuda_core, require_cuda_device
from nrc_fast.kernels.cuda.hopper import enable_if_asked

if TYPE_CHECKING:
    from torch import Tensor, device, dtype
    from torch.cuda import Event, Stream

__all__ = ["CudaDevice", "HostBuffer", "cuda_device"]

ALIGNMENT = 256  # of a workspace


@dataclass(frozen=True)
class HostBuffer:
    """Bytes of the host, a uint8 tensor, that are copied to a device.

    Attributes
    ----------
    memory : tensor
    problem : str
        Why they could not be pinned, so that copies take longer and do not go on by themselves; empty where they are.
    """

    memory: Tensor
    problem: str


@dataclass(frozen=True)
class CudaDevice:
    """Where kernels run and torch allocates; those of one device are equal.

    Attributes
    ----------
    core : module
        The compiled kernels.
    index : int
        Number of the device, as the kernels count.
    memory : torch.device
        How torch names the device.
    stream : callable
        Gives the stream to launch on, with `cuda_stream` and `synchronize`: the caller's current one of this device.
    """

    core: ModuleType
    index: int
    memory: device
    stream: Callable[[], Stream] = field(compare=False)

    @property
    def name(self) -> str:
        """As torch calls it."""
        return f"cuda:{self.index}"

    @property
    def torch(self) -> ModuleType:
        """The torch that owns the memory."""
        return require_library("torch", "torch")

    # ---- memory ----

    def empty(self, shape: tuple[int, ...], dtype: dtype) -> Tensor:
        """Memory without content, a tensor of a torch dtype."""
        tensor: Tensor = self.torch.empty(shape, dtype=dtype, device=self.memory)
        return tensor

    def zeros(self, *shape: int) -> Tensor:
        """Zeros, a float64 tensor; they are written on the current stream."""
        return self.empty(shape, self.torch.float64).zero_()

    def place(self, array: StoredArray) -> Tensor:
        """A copy of an array in the memory of the device."""
        tensor: Tensor = self.torch.from_numpy(np.ascontiguousarray(array)).to(self.memory, copy=True)
        return tensor

    def move(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor of the host in the memory of the device; one that lies there as it is."""
        return tensor.to(self.memory)

    def bring(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor on the host; waits for what was launched before."""
        return tensor.detach().cpu()

    def fetch(self, tensor: Tensor) -> StoredArray:
        """A copy of a tensor on the host, as an array; waits for what was launched before."""
        return np.asarray(self.bring(tensor).numpy())

    # ---- copies that nothing waits for ----

    def host_buffer(self, size: int) -> HostBuffer:
        """Bytes of the host to copy from; give them back by `free`.

        They are whole pages of their own, where torch's pinned memory takes the next power of two.
        """
        memory: Tensor = self.torch.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=self.torch.uint8)
        return HostBuffer(memory, self.core.register_host_memory(memory.data_ptr(), len(memory), self.index))

    def free(self, buffer: HostBuffer) -> None:
        """Give a buffer back; no copy from it may be under way."""
        if not buffer.problem:
            self.core.unregister_host_memory(buffer.memory.data_ptr(), self.index)

    def copy_stream(self) -> Stream:
        """A new stream for copies beside the computation."""
        stream: Stream = self.torch.cuda.Stream(self.memory)
        return stream

    def copy_from(self, values: Tensor, stream: Stream) -> tuple[Tensor, Event]:
        """Start to copy values in a buffer on a stream: the copy, and an event that comes when it is there.

        From memory that is not pinned the driver copies through its own, and this waits until it has taken it over.
        """
        with self.torch.cuda.stream(stream):
            copy = self.empty(tuple(values.shape), values.dtype)
            copy.copy_(values, non_blocking=True)
            event: Event = self.torch.cuda.Event()
            event.record(stream)
        return copy, event

    def use_after(self, event: Event, *tensors: Tensor) -> None:
        """Make the current stream wait for an event, and the memory of tensors for the current stream.

        The event is that of a copy of `copy_from`, or of `mark`.
        """
        stream = self.stream()
        stream.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(stream)

    def mark(self) -> Event:
        """An event that comes when what was launched on the current stream is done."""
        event: Event = self.torch.cuda.Event()
        event.record(self.stream())
        return event

    # ---- launches ----

    def launch(self, name: str, request: object, workspace: int, **arguments: object) -> None:
        """Launch a pass on the current stream, with a workspace of so many bytes from torch's allocator.

        The workspace goes back to the allocator at once: what is allocated from it next is used on the same stream,
        after the pass.
        """
        buffer = self.empty((workspace + ALIGNMENT,), self.torch.uint8)
        address = -(-buffer.data_ptr() // ALIGNMENT) * ALIGNMENT
        getattr(self.core, name)(
            request,
            **arguments,
            workspace=address,
            workspace_bytes=workspace,
            device=self.index,
            stream=self.stream().cuda_stream,
        )

    def is_capturing(self) -> bool:
        """Whether the current stream records a CUDA graph, in which nothing may wait."""
        with self.torch.cuda.device(self.memory):
            return bool(self.torch.cuda.is_current_stream_capturing())

    def wait(self) -> None:
        """Wait for what was launched on the current stream."""
        self.stream().synchronize()

    def wait_for_all_streams(self) -> None:
        """Wait for what anybody has launched on the device."""
        self.torch.cuda.synchronize(self.memory)


def cuda_device(index: int | None) -> CudaDevice:
    """A CUDA device by its number; None is torch's current one.

    Raises
    ------
    RuntimeError
        This build has no kernels for it, the machine has no such device, or torch is missing or sees none; or
        NRC_FAST_HOPPER=1 asks for what the device cannot run.
    """
    require_cuda_device(index or 0)
    try:
        torch = require_library("torch", "torch")
    except ImportError as error:
        msg = f"device 'cuda:{index or 0}' cannot be used: its memory is torch's ({error})"
        raise RuntimeError(msg) from error
    if not torch.cuda.is_available():
        msg = f"device 'cuda:{index or 0}' cannot be used: torch {torch.__version__} sees no CUDA device; install a "
        msg += "build of torch with CUDA, or compute on the CPU"
        raise RuntimeError(msg)
    if index is None:
        index = int(torch.cuda.current_device())
        require_cuda_device(index)
    core = cuda_core()
    assert core is not None  # as a device could be required
    device = CudaDevice(core, index, torch.device("cuda", index), lambda: torch.cuda.current_stream(index))
    enable_if_asked(device)
    return device
