"""Gram passes of a card with what they must give: alone, with all that a read finds, as statistics add them up."""

from __future__ import annotations

from typing import Any

from card import Card
from card_work import OUTPUTS, Counts, Work, chunks, column_norms, dtype_of, positive, row_counts
from limits import Pass

__all__ = ["gram_of_planes", "gram_passes", "gram_with_sums", "plain_gram", "statistics", "whole_gram"]

PRECISIONS = {"high": 0, "highest": 1, "fast": 2}
PLANE_BYTES = 256 << 20


def gram_passes(H: Any, precision: str) -> list[Pass]:
    """One read, and the products that the precision takes: three bfloat16 parts of float32 rows are six."""
    (rows, d), dtype = H.shape, dtype_of(H)
    flops, size = float(rows) * d * (d + 1), float(rows) * d * H.element_size()
    if dtype == "float64" or precision == "highest":
        return [Pass(flops, size, "float64")]
    if dtype != "float32":
        return [Pass(flops, size, dtype)]
    return [Pass(flops if precision == "fast" else 6.0 * flops, size, "bfloat16")]


def plain_gram(card: Card, H: Any, *, precision: str, rows_at_once: int = 0) -> Work:
    """``sum h h^T`` alone; of the result the lower triangle counts."""
    d = H.shape[1]
    result, counts = card.zeros(d, d), row_counts(card, H)
    request = card.core.GramRequest(
        card.matrix(H),
        gram=result.data_ptr(),
        precision=PRECISIONS[precision],
        rows_at_once=rows_at_once,
        counts=counts.numbers.data_ptr(),
    )
    exact = {"gram": triangle(card, sum(part.T @ part for part in chunks(H)))}
    call = card.launcher("gram", request)
    return Work(call, {"gram": result}, exact, counts, gram_passes(H, precision), kept=[H])


def gram_of_planes(card: Card, H: Any) -> Work:
    """The same of rows that become planes in memory, as many as they do by themselves where they must."""
    return plain_gram(card, H, precision="high", rows_at_once=PLANE_BYTES // (6 * H.shape[1]))


def gram_with_sums(card: Card, H: Any) -> Work:
    """``sum h h^T`` and ``sum h`` of rows as they are stored, in one read."""
    rows, d = H.shape
    results, counts = {"gram": card.zeros(d, d), "column_sums": card.zeros(d)}, row_counts(card, H)
    addresses = {name: result.data_ptr() for name, result in results.items()}
    request = card.core.GramRequest(card.matrix(H), **addresses, counts=counts.numbers.data_ptr())
    gram = sum(part.T @ part for part in chunks(H))
    sums = sum(part.sum(0) for part in chunks(H))
    exact = {"gram": triangle(card, gram), "column_sums": (sums, column_norms(gram) * rows**0.5)}
    return Work(card.launcher("gram", request), results, exact, counts, gram_passes(H, "high"), kept=[H])


def whole_gram(card: Card, H: Any) -> Work:
    """All that one read adds up: shifted Gram, Gram of unit rows, sums, cross moments, targets."""
    counts = row_counts(card, H)
    return _all_sums(card, H, None, counts, counts=counts.numbers.data_ptr())


def statistics(card: Card, H: Any, *, skips_nonfinite: bool = False) -> Work:
    """The same as running statistics ask for it, with totals of batches; or so that a row with a NaN is left out."""
    left_out = len(H) // 3 if skips_nonfinite else None
    if left_out is not None:
        H = H.clone()
        H[left_out, H.shape[1] // 2] = float("nan")
    begun, added = [0] * card.core.total_values, _without(card, H, left_out)
    # As DeviceTotals has them: rows, zeros, skipped, batches, added, blocks, two exponents; nothing was refused.
    rows, zero = len(added), int((added == 0).all(1).sum())
    blocks = -(-rows // card.core.total_block_rows)
    of_call = [rows, zero, len(H) - rows, 1, 1, blocks, None, None]
    counts = Counts(card.place_values(begun), begun, of_call + [0] * (len(begun) - len(of_call)))
    totals = {"totals": counts.numbers.data_ptr(), "skips_nonfinite": skips_nonfinite}
    return _all_sums(card, H, left_out, counts, **totals)


def triangle(card: Card, gram: Any) -> tuple[Any, Any]:
    """The lower triangle of an exact Gram, and the products of norms that its error is relative to."""
    norms = column_norms(gram)
    return card.torch.tril(gram), card.torch.outer(norms, norms)


def _without(card: Card, rows: Any, left_out: int | None) -> Any:
    """All rows but the one that is left out."""
    return rows if left_out is None else card.torch.cat([rows[:left_out], rows[left_out + 1 :]])


def _all_sums(card: Card, H: Any, left_out: int | None, counted: Counts, **options: Any) -> Work:
    """All sums of the rows but the one that is left out."""
    rows, d = H.shape
    Y = card.random(rows, OUTPUTS, dtype_of(H), seed=1)
    shift, target_shift = card.zeros(d) + 0.25, card.zeros(OUTPUTS) + 0.125
    shapes = {
        "gram": (d, d),
        "unit_gram": (d, d),
        "column_sums": (d,),
        "cross": (OUTPUTS, d),
        "target_gram": (OUTPUTS, OUTPUTS),
        "target_sums": (OUTPUTS,),
    }
    results = {name: card.zeros(*shape) for name, shape in shapes.items()}
    request = card.core.GramRequest(
        card.matrix(H),
        **{name: result.data_ptr() for name, result in results.items()},
        shift=shift.data_ptr(),
        targets=card.matrix(Y),
        target_shift=target_shift.data_ptr(),
        **options,
    )
    added, targets = (_without(card, part, left_out) for part in (H, Y))
    exact = _exact_sums(card, added, targets, shift, target_shift)
    (plain,) = gram_passes(H, "high")
    passes = [Pass(2.0 * plain.flops, plain.bytes_read, plain.arithmetic)]
    return Work(card.launcher("gram", request), results, exact, counted, passes, kept=[H, Y, shift, target_shift])


def _exact_sums(card: Card, H: Any, Y: Any, shift: Any, target_shift: Any) -> dict[str, tuple[Any, Any]]:
    """Each sum in float64, and what its error is relative to."""
    torch, sums = card.torch, dict.fromkeys(("gram", "unit_gram", "sums", "cross", "target_gram", "target_sums"), 0.0)
    for part, targets in zip(chunks(H), chunks(Y), strict=True):
        X, T = part - shift, targets - target_shift
        U = part / positive(part.norm(dim=1, keepdim=True))
        sums["gram"] += X.T @ X
        sums["unit_gram"] += U.T @ U
        sums["sums"] += X.sum(0)
        sums["cross"] += T.T @ X
        sums["target_gram"] += T.T @ T
        sums["target_sums"] += T.sum(0)
    norms, targets = column_norms(sums["gram"]), column_norms(sums["target_gram"])
    return {
        "gram": triangle(card, sums["gram"]),
        "unit_gram": triangle(card, sums["unit_gram"]),
        "column_sums": (sums["sums"], norms * len(H) ** 0.5),
        "cross": (sums["cross"], torch.outer(targets, norms)),
        "target_gram": triangle(card, sums["target_gram"]),
        "target_sums": (sums["target_sums"], targets * len(H) ** 0.5),
    }
