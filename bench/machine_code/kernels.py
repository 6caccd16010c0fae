"""The kernels of the package as readers know them, and what their machine code does not say.

Who changes how a kernel is launched or when it folds its sums changes its line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["PASSES", "Family", "Pass", "arguments_of", "family_of", "title_of"]

_DTYPES = {"double": "float64", "float": "float32", "Float16": "float16", "BFloat16": "bfloat16"}
_BYTES = {"double": 8, "float": 4, "Float16": 2, "BFloat16": 2}


@dataclass(frozen=True)
class Family:
    """Kernels of one template."""

    title: str  # {0}, {1} ... are its arguments in words
    words: tuple[dict[str, str], ...] = ()  # for each argument, as `arguments_of` gives them; {} for any
    shared: Callable[[Sequence[str]], int] | None = None  # bytes at launch; rings of copies show theirs
    folds: int = 0  # turns of the main loop between two folds of its sums
    rows: int | None = None  # which argument is the dtype of the rows
    row_copies: Callable[[Sequence[str]], int] | None = None  # of a turn, where others copy what is no row
    inside: int = 1  # turns of loops with products inside the main one, where these are known at run time only

    def row_bytes(self, arguments: Sequence[str]) -> int:
        """Of one element of the rows; 0 where that is not known."""
        return 0 if self.rows is None or self.rows >= len(arguments) else _BYTES.get(arguments[self.rows], 0)


_SIZES = {"64": "64 x 64", "128": "128 x 128"}
_FAMILIES = {
    "gram_tensor_kernel": Family(
        "Gram, tensor cores, {0}, {1}, {2}",
        ({"true": "bfloat16", "false": "float16"}, {"1": "one plane", "3": "three planes"}, _SIZES),
        folds=16,
    ),
    "gram_direct_kernel": Family(
        "Gram, {0} rows in {1}, {2}, 64 x 64",
        rows=0,
        words=(_DTYPES, _DTYPES, {"TensorSums": "tensor cores", "SimtSums": "lanes"}),
        shared=lambda arguments: 4 * 16 * 68 * _BYTES[arguments[1]],
        folds=16,
    ),
    "gram_finalize_kernel": Family(
        "slabs of a Gram added up, {0}, {1}", (_SIZES, {"0": "by rows", "1": "as tensor cores hold them"})
    ),
    "planes_kernel": Family(
        "planes of {0} rows, {1}",
        rows=0,
        words=(_DTYPES, {"0": "split in three", "1": "rounded to bfloat16", "2": "copied"}),
    ),
    "row_norms_kernel": Family("row norms, {0} rows, {1} targets", (_DTYPES, _DTYPES), rows=0),
    "column_sums_kernel": Family("column sums, {0} rows, {1} targets", (_DTYPES, _DTYPES), rows=0),
    "column_sums_finalize_kernel": Family("column sums added up"),
    "begin_findings_kernel": Family("findings of a batch, begun"),
    "settle_findings_kernel": Family("findings of a batch, settled"),
    "residual_kernel": Family(
        "residual, {0} rows in {1}",
        (_DTYPES, _DTYPES),
        rows=0,
        shared=lambda arguments: (
            (4 + 2) * 64 * 8 + 2 * 4 * 32 * 8 + (32 * 65 + 32 * 33 + 32 * 65) * _BYTES[arguments[1]]
        ),
        folds=8,
    ),
    "residual_sums_kernel": Family("residual sums added up"),
    "leading_sums_kernel": Family("residual sums of leading vectors"),
    "coefficients_kernel": Family("products with vectors, {0} rows", (_DTYPES,), rows=0),
    "squared_errors_kernel": Family("errors of predictions, {0} targets", (_DTYPES,)),
    "output_products_kernel": Family("products of outputs, {0} targets", (_DTYPES,)),
    "add_partial_kernel": Family("sums of parts added up"),
    "descent_kernel": Family(
        "descent in {0}, {1}", (_DTYPES, {"true": "state in shared memory", "false": "state in device memory"})
    ),
}


def arguments_of(name: str) -> list[str]:
    """Template arguments of a demangled kernel, those of templates among them after their names.

    Parameters
    ----------
    name : str
        As "gram_direct_kernel<float, double, SimtSums<double>>".

    Returns
    -------
    list of str
        As ["float", "double", "SimtSums", "double"].
    """
    return re.findall(r"\w+", name)[1:]


def family_of(name: str) -> Family | None:
    """What is known of a kernel besides its machine code, by itself or with the first template of its arguments."""
    kernel, *templates = name.split("<")
    return _FAMILIES.get(f"{kernel}<{templates[0]}" if templates else kernel, _FAMILIES.get(kernel))


def title_of(name: str) -> str:
    """A kernel in the words of its users, or as in the source where there are none for one of its arguments."""
    family, arguments = family_of(name), arguments_of(name)
    if family is None or len(arguments) < len(family.words):
        return f"`{name}`"
    words = [known.get(each, "" if known else each) for known, each in zip(family.words, arguments, strict=False)]
    return family.title.format(*words) if all(words) else f"`{name}`"


@dataclass(frozen=True)
class Pass:
    """One thing that users ask for, by the kernels that read its rows from device memory."""

    title: str
    readers: tuple[str, ...]
    is_half: bool  # one tile, whose both sides are the same rows
    share_of_peak: float | None = None  # that is aimed at, of mma.sync
    share_of_bandwidth: float | None = None  # that is aimed at, the rows read once


# The targets for H100. Who fuses kernels strikes out what no longer reads the rows.
PASSES = (
    Pass("bfloat16 Gram, d >= 1,024", ("gram_tensor_kernel<true, 1, 128>",), is_half=False, share_of_peak=0.60),
    Pass(
        "bfloat16 Gram with norms and counts, 64 < d <= 128",
        ("row_norms_kernel<BFloat16, double>", "gram_tensor_kernel<true, 1, 128>"),
        is_half=True,
        share_of_bandwidth=0.85,
    ),
    Pass(
        "bfloat16 Gram with norms and counts, d <= 64",
        ("row_norms_kernel<BFloat16, double>", "gram_tensor_kernel<true, 1, 64>"),
        is_half=True,
        share_of_bandwidth=0.85,
    ),
    Pass(
        "bfloat16 residual, n <= 32",
        ("residual_kernel<BFloat16, float>",),
        is_half=False,
        share_of_bandwidth=0.85,
    ),
    Pass("float32 residual, n <= 32", ("residual_kernel<float, float>",), is_half=False, share_of_bandwidth=0.85),
)
