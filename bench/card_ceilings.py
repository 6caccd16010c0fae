"""What a card can do: its facts, the bandwidth of copies, torch.mm in each dtype and what that errs by; torch alone.

python bench/card_ceilings.py --out ceilings.jsonl
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from card import Card
from cases import DTYPES
from record import append

__all__ = ["card_limits", "facts"]

# Bytes of a copy, sides of square products, and rows of the tall product whose bias is known of a model of tensor
# cores; where a card is emulated, few.
COPY_BYTES, SIDE, TALL = 1 << 32, 8192, (32_768, 1024)
SMALL_COPY, SMALL_SIDE, SMALL_TALL = 1 << 16, 64, (512, 16)
RUNS = 5


def median(card: Card, call: Callable[[], Any]) -> float:
    """Seconds of a call, after one that warms up."""
    call()
    card.wait()
    return statistics.median(card.seconds(call) for _ in range(RUNS))


def copy_bandwidth(card: Card) -> float:
    """Bytes read and written in a second by a copy from device memory to device memory."""
    count = (SMALL_COPY if card.is_emulated else COPY_BYTES) // 4
    source = card.torch.randn(count, device=card.place)
    target = card.torch.empty_like(source)
    return 2.0 * 4.0 * count / median(card, lambda: target.copy_(source))


def product_rate(card: Card, dtype: str) -> float:
    """Operations in a second of the product of square matrices of random numbers."""
    side = SMALL_SIDE if card.is_emulated else SIDE
    A, B = (card.random(side, side, dtype, seed) for seed in (0, 1))
    return 2.0 * side**3 / median(card, lambda: card.torch.mm(A, B))


def card_limits(card: Card) -> dict[str, float]:
    """What limits work, by the names that `limits.Pass` knows."""
    limits = {"read bytes": copy_bandwidth(card)}
    return limits | {f"{dtype} flops": product_rate(card, dtype) for dtype in DTYPES}


def facts(card: Card) -> dict[str, Any]:
    """The card and the versions of what it runs with."""
    found: dict[str, Any] = {"what": "card", "name": card.name, "torch": card.torch.__version__}
    if card.is_emulated:
        return found
    properties = card.torch.cuda.get_device_properties(card.index)
    names = [*("major", "minor", "multi_processor_count", "total_memory", "L2_cache_size", "regs_per_multiprocessor")]
    names += ["shared_memory_per_block_optin", "shared_memory_per_multiprocessor"]
    found |= {name: getattr(properties, name) for name in names if hasattr(properties, name)}
    return found | {"cuda of torch": card.torch.version.cuda, "cards": card.torch.cuda.device_count()}


def biases(card: Card) -> Iterator[dict[str, Any]]:
    """What torch.mm of H^T H errs by: on the diagonal, a sum of squares, on average and at most.

    The mean is the bias of accumulators that are cut off; results of 16 bits have an error of their own.
    """
    torch, (rows, d) = card.torch, SMALL_TALL if card.is_emulated else TALL
    ways: list[tuple[str, str, dict[str, Any]]] = [(dtype, dtype, {}) for dtype in DTYPES]
    if not card.is_emulated:
        ways += [(dtype, f"{dtype}, float32 out", {"out_dtype": torch.float32}) for dtype in ("float16", "bfloat16")]
        ways.append(("float32", "float32, tf32", {}))
    for dtype, title, options in ways:
        H = card.random(rows, d, dtype)
        exact = H.double().square().sum(0)
        torch.backends.cuda.matmul.allow_tf32 = title.endswith("tf32")
        try:
            found = torch.mm(H.T, H, **options).diagonal().double()
        except (RuntimeError, TypeError) as failure:
            yield {"what": "bias of torch.mm", "dtype": title, "problem": str(failure)[:200]}
            continue
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
        error = found / exact - 1.0
        numbers = {"mean": float(error.mean()), "largest": float(error.abs().max())}
        yield {"what": "bias of torch.mm", "dtype": title, "rows": rows, "d": d} | numbers


def rows(card: Card) -> Iterator[dict[str, Any]]:
    """All of it, the fastest first."""
    yield facts(card)
    yield {"what": "copy", "bytes per second": copy_bandwidth(card)}
    for dtype in DTYPES:
        yield {"what": "torch.mm", "dtype": dtype, "flops per second": product_rate(card, dtype)}
    yield from biases(card)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also append the rows to this file, as JSON in lines")
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    options = parser.parse_args()
    for row in rows(Card(is_emulated=options.device == "emulated")):
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if options.out is not None:
            append(row, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
