"""What users ask of the kernels, by the kernels that read its rows, and what is aimed at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["PASSES", "Pass"]

SHARE = 0.85  # of the bandwidth
MORE_THAN_TWO_READS = 0.6  # of it, where two reads of the rows leave half of it at best


@dataclass(frozen=True)
class Pass:
    """One thing that users ask for, by the kernels that read its rows from device memory."""

    title: str
    readers: tuple[str, ...]  # those of the products last
    is_half: bool  # one tile, whose both sides are the same rows
    share_of_peak: float | None = None  # that is aimed at, of mma.sync
    share_of_bandwidth: float | None = None  # that is aimed at, the rows read once
    # The same by bytes in flight alone, where the products of the rows take longer than their read.
    share_in_flight: float | None = None


def _gram(title: str, *readers: str) -> Pass:
    return Pass(f"{title}, with column sums and counts", readers, is_half=True, share_of_bandwidth=SHARE)


def _split_gram(title: str, *readers: str) -> Pass:
    return Pass(title, readers, is_half=False, share_in_flight=SHARE)


def _residuals() -> Iterator[Pass]:
    kinds = (
        ("bfloat16 residual", "FloatProducts<BFloat16, false, false, {}>"),
        ("float32 residual", "FloatProducts<float, true, false, {}>"),
        ("bfloat16 residual about a shift", "FloatProducts<BFloat16, true, true, {}>"),
        ("float32 residual about a shift", "FloatProducts<float, true, true, {}>"),
        ("float64 residual", "DoubleProducts<double, {}>"),
    )
    for title, products in kinds:
        for eights in (1, 2, 3, 4):
            kernel = f"residual_tensor_kernel<{products.format(eights)}>"
            first = "n" if eights == 1 else f"{8 * eights - 8} < n"
            yield Pass(f"{title}, {first} <= {8 * eights}", (kernel,), is_half=False, share_of_bandwidth=SHARE)


def _products() -> Iterator[Pass]:
    """Leading components and refinements; of 16-bit rows the products take longer than the read."""
    for title, row in (("float64", "double"), ("float32", "float"), ("float16", "Float16"), ("bfloat16", "BFloat16")):
        share = {"share_in_flight": SHARE} if "16" in title else {"share_of_bandwidth": MORE_THAN_TWO_READS}
        readers = (f"resident_product_kernel<{row}>",)
        yield Pass(f"{title} product with a Gram, 8 vectors, d = 1,024", readers, is_half=False, **share)


# The targets for H100. Who fuses kernels strikes out what no longer reads the rows.
PASSES = (
    Pass(
        "bfloat16 Gram as stored, d >= 1,024",
        ("gram_tensor_kernel<BFloat16, TensorGram<1, 128, 4, 2>, 2>",),
        is_half=False,
        share_of_peak=0.60,
    ),
    _gram("bfloat16 Gram as stored, 64 < d <= 128", "gram_tensor_kernel<BFloat16, TensorGram<1, 128, 4, 1>, 2>"),
    _gram("bfloat16 Gram as stored, d <= 64", "gram_tensor_kernel<BFloat16, TensorGram<1, 64, 4, 1>, 2>"),
    # Running statistics are about a shift, for which rows are split.
    _split_gram(
        "bfloat16 Gram about a shift, 64 < d <= 128, with sums", "gram_rows_kernel<RowGram<BFloat16, 128, 1, false>>"
    ),
    _split_gram("bfloat16 Gram about a shift, d <= 64, with sums", "gram_rows_kernel<RowGram<BFloat16, 64, 1, false>>"),
    _split_gram("float32 Gram, 64 < d <= 128, with sums", "gram_rows_kernel<RowGram<float, 128, 1, false>>"),
    _split_gram("float32 Gram, d <= 64, with sums", "gram_rows_kernel<RowGram<float, 64, 1, false>>"),
    _split_gram(
        "float32 Gram, 64 < d <= 128, with sums and products with up to 7 targets",
        "gram_rows_kernel<RowGram<float, 128, 1, true>>",
    ),
    _split_gram(
        "float32 Gram, d <= 64, with sums and products with up to 7 targets",
        "gram_rows_kernel<RowGram<float, 64, 1, true>>",
    ),
    *(
        Pass(
            f"{title}, 128 < d <= 1,024, with sums and norms",
            (f"gram_row_tiles_kernel<RowGram<{row}, 128, 2, false>>",),
            is_half=False,
            share_of_peak=0.60,
        )
        for title, row in (("float32 Gram", "float"), ("bfloat16 Gram about a shift", "BFloat16"))
    ),
    # Planes of wider rows; these are read by the products, and the rows by what writes the planes.
    _split_gram("float32 Gram, d > 1,024, with sums", "planes_kernel<float, 0, 1, false>"),
    _split_gram("float32 Gram, 128 < d <= 4,096, with sums, without bad rows", "planes_kernel<float, 0, 2, false>"),
    _split_gram("float32 Gram, d > 1,024, with sums and products with targets", "planes_kernel<float, 0, 1, true>"),
    _split_gram("float32 Gram of rows of norm 1, 1,024 < d <= 4,096", "planes_kernel<float, 0, 3, false>"),
    _split_gram("bfloat16 Gram about a shift, d > 1,024, with sums", "planes_kernel<BFloat16, 0, 1, false>"),
    _split_gram("float64 Gram, d <= 64, with sums and products with up to 7 targets", "gram_moments_kernel<double>"),
    _split_gram("float64 Gram, 64 < d <= 128, with sums", "gram_wide_moments_kernel<double, false, false>"),
    _split_gram(
        "float64 Gram, 64 < d <= 128, with sums and products with up to 7 targets",
        "gram_wide_moments_kernel<double, true, false>",
    ),
    _split_gram("float64 Gram, d > 128, with sums", "gram_panel_moments_kernel<double, false, false>"),
    _split_gram(
        "float64 Gram, d > 128, with sums and products with up to 7 targets",
        "gram_panel_moments_kernel<double, true, false>",
    ),
    *_residuals(),
    *_products(),
)
