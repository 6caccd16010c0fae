"""What the Gram kernel of Hopper cards rests on, each instruction by itself; then that kernel, if all is well.

python bench/card_probes.py

Each probe takes less than a second. The kernel is held against float64, and its time against that of the kernel which
runs by default. Other cards have no such instructions: a line says so.
"""

from __future__ import annotations

import argparse
import sys
from types import SimpleNamespace
from typing import Any

from card import Card
from card_ceilings import median
from card_kernels import KERNELS
from card_smoke import tried

from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.hopper import CAPABILITY, probes_of

WIDTHS = (40, 64, 130, 256)
ROWS, TIMED_ROWS = 1_333, 1_000_000
DTYPES = ("bfloat16", "float16")
GRAM = next(kernel for kernel in KERNELS if kernel.name == "gram high")


def emulated_stream() -> Any:
    """On which everything is done at once."""
    return SimpleNamespace(cuda_stream=0)


def device_of(card: Card) -> CudaDevice:
    """The card as the package knows devices, whatever the environment asks for."""
    stream = emulated_stream if card.is_emulated else card.torch.cuda.current_stream
    return CudaDevice(card.core, card.index, card.place, stream)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    card = Card(is_emulated=options.device == "emulated")
    capability = card.core.device_capability(card.index)
    if capability != CAPABILITY:
        print(f"no Hopper card: compute capability {'.'.join(map(str, capability))}")
        return 0
    failed = 0
    for probe in probes_of(device_of(card)):
        failed += probe.wrong != 0
        print(probe, flush=True)
    if failed:
        print(f"{failed} probes have failed: the kernel is not tried")
        return 1
    for d in options.widths:
        for dtype in DTYPES:
            failed += not try_kernel(card, d, dtype, options.rows)
    print("the probes and the kernel give what they must" if failed == 0 else f"{failed} rows of the kernel are wrong")
    return 1 if failed else 0


def try_kernel(card: Card, d: int, dtype: str, rows: int) -> bool:
    """The kernel on a few rows against float64, and on many by time; prints both."""
    card.core.allow_warpgroups(card.index, runs=True)
    try:
        H = card.random(rows, d, dtype)
        H[rows // 2] = 0
        found = tried(card, GRAM, H)
        facts = [f"gram of warpgroups, {rows} x {d} {dtype}", f"error {found['error']}", found["check"]]
        if found["check"] == "ok" and not card.is_emulated:
            H = card.random(TIMED_ROWS, d, dtype)
            own = timed(card, H)
            card.core.allow_warpgroups(card.index, runs=False)
            other = timed(card, H)
            facts.append(f"{TIMED_ROWS:,} rows in {own * 1e3:.3f} ms, by the kernel of all cards in {other * 1e3:.3f}")
            facts.append(f"{H.numel() * H.element_size() / own / 1e12:.2f} TB/s")
        print(", ".join(facts), flush=True)
    finally:
        card.core.allow_warpgroups(card.index, runs=False)
    return bool(found["check"] == "ok")


def timed(card: Card, H: Any) -> float:
    """Seconds of a call."""
    return median(card, GRAM.prepare(card, H).call)


if __name__ == "__main__":
    sys.exit(main())
