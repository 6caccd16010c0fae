"""What A100, H100 and H200 do in a clock, and where each figure is from. No figure was measured for this project."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CARDS", "H200", "SOURCES", "Card"]


@dataclass(frozen=True)
class Card:
    """One card. Rates are of one multiprocessor and one clock, unless said otherwise."""

    name: str
    architecture: str  # that the module has code for
    multiprocessors: int
    clock: float  # Hz
    bandwidth: float  # bytes a second, of device memory
    cache: float  # bytes a second, of the second-level cache
    tensor: float  # multiply-adds by mma.sync, of 16-bit numbers
    tensor_float64: float
    float32: int  # lanes
    float64: int
    integer: int = 64
    special: int = 16  # conversions, reciprocals
    shared: int = 128  # bytes
    schedulers: int = 4
    latency: float = 715e-9  # seconds from a load to its number, of device memory that is busy
    shared_latency: int = 30  # clocks from a load of shared memory to its number


# Of the peak of H100's tensor cores, which wgmma reaches.
MMA_SYNC = 0.62
CARDS = (
    Card(
        name="A100 80 GB SXM",
        architecture="80",
        multiprocessors=108,
        clock=1.41e9,
        bandwidth=2.039e12,
        cache=3840 * 1.41e9,
        tensor=1024,
        tensor_float64=64,
        float32=64,
        float64=32,
    ),
    Card(
        name="H100 SXM",
        architecture="90a",
        multiprocessors=132,
        clock=1.755e9,
        bandwidth=3.35e12,
        cache=3840 * 1.755e9,
        tensor=2048 * MMA_SYNC,
        tensor_float64=128,
        float32=128,
        float64=64,
    ),
)
# The same multiprocessors before faster memory.
H200 = replace(CARDS[1], name="H200 SXM", bandwidth=4.8e12)
SOURCES = """\
- Multiprocessors, clocks, lanes, tensor cores and bandwidths: NVIDIA's white papers of A100 (312 TFLOP/s of dense
  16-bit products = 108 x 1.41 GHz x 2,048; 2.039 TB/s) and H100 SXM (4,096 a clock and multiprocessor; 3.35 TB/s),
  and the data sheet of H200 (4.8 TB/s, else as H100 SXM);
  how many instructions a clock: the table of arithmetic instructions in the CUDA C++ Programming Guide.
- mma.sync reaches about 62% of the peak of H100's tensor cores, which only wgmma reaches (Luo et al. 2024, arXiv
  2402.13499: 62.9% on average). Shares of the peak are of that rate; shares of wgmma's peak are 0.62 of them.
- float64 products: 64 (A100) and 128 (H100) multiply-adds a clock. Whether H100 reaches that with the small shape
  m8n8k4 is not known.
- Second-level cache: 3,840 bytes a clock for asynchronous copies, as others have measured on A100
  (smallscientist1/cuda_microbenchmark); the same is assumed of H100, which makes 6.7 TB/s. Of the PCIe card 5.5 TB/s
  are reported for plain loads (Chips and Cheese 2023): shares with that are given beside the targets.
- Latency of device memory under load: 715 ns, at which the 4.8 TB/s of H200 need 26 KB in flight on each
  multiprocessor. An idle card takes about 270 ns to 330 ns (Luo et al. 2024): a kernel may do better than its bound
  of bandwidth here.
- Shared memory moves 128 bytes a clock; no bank conflicts, and no lanes that ask for the same number, are assumed.
- A warp starts at most one instruction a clock and scheduler. An instruction takes as many clocks of its unit as a
  quarter of the unit's lanes needs for a warp.
"""
