"""The kernels of the package as readers know them, and what their machine code does not say.

Who changes how a kernel is launched or when it folds its sums changes its line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Family", "arguments_of", "family_of", "title_of"]

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
    # Where only the launch knows them: turns of loops inside the main one, and the copies and loads of a turn of it.
    inside: Callable[[Sequence[str]], int] | None = None
    copies: Callable[[Sequence[str]], int | None] | None = None
    # Whether one half of the warps multiplies first, and one last.
    takes_turns: Callable[[Sequence[str]], bool] = lambda arguments: False  # noqa: ARG005

    def row_bytes(self, arguments: Sequence[str]) -> int:
        """Of one element of the rows; 0 where that is not known."""
        return 0 if self.rows is None or self.rows >= len(arguments) else _BYTES.get(arguments[self.rows], 0)


_SIZES = {"64": "64 x 64", "128": "128 x 128"}
_SIDES = {"1": "one side", "2": "two sides"}
_UNITS = {"true": "tensor cores", "false": "lanes"}
_WITH_TARGETS = {"true": "with targets", "false": "without targets"}
_ROW_USES = {"0": "nothing found", "1": "with sums and counts", "2": "the same, without bad rows", "3": "of norm 1"}
_ROWS_ADDED = {"true": "without bad rows", "false": "all rows"}
_ORDERS = {"0": "by rows", "1": "as tensor cores hold them"}


_WIDTHS = {"1": "8", "2": "16", "3": "24", "4": "32"}
_FLOAT_PRODUCTS = (
    {"FloatProducts": "-"},
    _DTYPES,
    {"true": "split", "false": "as stored"},
    {"true": "shifted", "false": "not shifted"},
    _WIDTHS,
)
_DOUBLE_PRODUCTS = ({"DoubleProducts": "-"}, _DTYPES, _WIDTHS)


def _tensor_shared(arguments: Sequence[str]) -> int:
    """Of TensorGram: its ring, and the second set of sums where registers have no place for it."""
    parts, size, warps, sides = map(int, arguments[2:6])
    stage = (32 if parts == 1 else 16) * size * 2 * sides * parts
    ring = 32 << 10 if size == 64 else 96 << 10 if parts > 1 else 48 << 10 if warps == 4 else 64 << 10
    return ring // stage * stage + (size * size * 4 if size == 128 and (parts > 1 or warps == 4) else 0)


def _warpgroup_shared(arguments: Sequence[str]) -> int:
    """Of WarpgroupGram: six stages of 64 rows with their barriers, and what brings them to where boxes begin."""
    size, sides = map(int, arguments[2:4])
    return 1024 + 6 * (sides * size * 128 + 16)


def _rows_shared(arguments: Sequence[str]) -> int:
    """Of RowGram: planes of two stages, sums, and the ring of rows as they are stored, with targets beside them."""
    size, sides, threads = int(arguments[2]), int(arguments[3]), 128 if arguments[2] == "64" else 256
    raw = 8 * _BYTES[arguments[1]] * threads * sides
    stages = (24 << 10 if size == 64 else 48 << 10) // raw
    targets = stages * 16 * 8 * 8 + threads // 32 * 64 * 8 if arguments[4] == "true" else 0
    of_sides = sides * (2 * 16 * size * 2 * 3 + size * 8)
    return of_sides + (size * size * 4 if size == 128 else 0) + stages * raw + targets


# Kernels of float64 products are counted at one width: more than 128 columns, and the moments of 64 without targets.
_RING_STAGES = 4
_RING_THREADS = 128


def _stage(size: int, columns: int, row_tail: int) -> tuple[int, int]:
    """Of `stage_layout`: rows of a stage, and its bytes."""
    pitch = -(-columns * size // 128) * 128 + 32
    depth = 64
    while depth > 8 and depth * (pitch + row_tail) > 12800:
        depth //= 2
    return depth, depth * (pitch + row_tail)


def _double_stage(arguments: Sequence[str]) -> tuple[int, int]:
    return _stage(_BYTES[arguments[0]], 128 + 64, 8)


def _double_inside(arguments: Sequence[str]) -> int:
    """Steps of four rows, all of them each warp's."""
    return _double_stage(arguments)[0] // 4


def _double_row_copies(arguments: Sequence[str]) -> int:
    """Of both sides, in pieces of 16 bytes."""
    return _double_stage(arguments)[0] * (128 + 64) * _BYTES[arguments[0]] // 16 // _RING_THREADS


def _double_shared(arguments: Sequence[str]) -> int:
    return max(_RING_STAGES * _double_stage(arguments)[1], 2 * 72 * 32 * 8) + (128 + 64) * 8


def _moment_stage(arguments: Sequence[str]) -> tuple[int, int]:
    return _stage(_BYTES[arguments[0]], 64, 0)


def _moment_inside(arguments: Sequence[str]) -> int:
    """Steps of four rows, at which two pairs of warps take turns."""
    return _moment_stage(arguments)[0] // (4 * 2)


def _moment_copies(arguments: Sequence[str]) -> int:
    return _moment_stage(arguments)[0] * 64 * _BYTES[arguments[0]] // 16 // _RING_THREADS


def _moment_shared(arguments: Sequence[str]) -> int:
    return max(_RING_STAGES * _moment_stage(arguments)[1], 46 * 64 * 8) + 64 * 8


def _wide_inside(arguments: Sequence[str]) -> int:
    """Steps of four rows; those that a thread looks at are eight at a time."""
    return 64 // _BYTES[arguments[0]] // 4


def _wide_shared(arguments: Sequence[str]) -> int:
    """Without targets, whose numbers are a few hundred bytes."""
    size = _BYTES[arguments[0]]
    return _RING_STAGES * 64 // size * (128 * size + 32) + (128 + 4 * 8 * 8) * 8


def _panel_shared(arguments: Sequence[str]) -> int:
    """Of both sides, and the sums of products with seven targets."""
    size = _BYTES[arguments[0]]
    products = 7 * 128 if arguments[1] == "true" else 0
    return _RING_STAGES * 64 // size * (192 * size + 32) + (192 + 4 * 8 * 8 + products) * 8


def _looked_copies(arguments: Sequence[str], of_rows: int) -> int:
    """With three of targets, and a load for every eight rows that tells which are left out."""
    targets, gaps = arguments[1] == "true", arguments[2] == "true"
    return of_rows + 3 * targets + 64 // _BYTES[arguments[0]] // 8 * gaps


def _resident_octets(arguments: Sequence[str]) -> int:
    """Eights of rows that a warp has of a stage, in turns of loops inside."""
    return 2 if _BYTES[arguments[0]] == 2 else 1


def _resident_shared(arguments: Sequence[str]) -> int:
    """Of ResidentProduct with 1,024 columns and 8 vectors: three stages, the shift, and what warps tell one another."""
    size, octets, warps = _BYTES[arguments[0]], _resident_octets(arguments), 16
    stage = octets * 8 * 1024 * size
    return 3 * stage + 2 * 1024 * 8 + (warps + 1) * octets * 512 + warps * (8 + 16) + octets * 32


def _residual_copies(arguments: Sequence[str]) -> int:
    """Of TensorProjection: copies of rows by one thread; the others are of the basis."""
    size = _BYTES[arguments[1]]
    columns = 8 if arguments[0] == "FloatProducts" or size == 2 else 4
    return 4 * columns * size // 16


def _residual_inside(arguments: Sequence[str]) -> int:
    """Turns of the loop over the columns of a lane, four at a time."""
    columns = 8 if arguments[0] == "FloatProducts" or _BYTES[arguments[1]] == 2 else 4
    return columns // 4


def _one_turn(_: Sequence[str]) -> int:
    return 1


def _plane_loads(arguments: Sequence[str]) -> int | None:
    """Of two rows, in pieces of 16 bytes, and scales of these; rows are copied where they do not lie so."""
    size, content, use = _BYTES[arguments[0]], *arguments[1:3]
    if content == "2":
        return None
    return 2 * (size // 2) + (2 if use in ("0", "1") else 0)


_FAMILIES = {
    "gram_tensor_kernel": Family(
        "Gram, tensor cores, {0}, {2}, {3}, {4} warps, {5}",
        (
            *(_DTYPES, {"TensorGram": "-"}, {"1": "one plane", "3": "three planes"}),
            *(_SIZES, {"4": "4", "8": "8"}, _SIDES),
        ),
        shared=_tensor_shared,
        folds=16,
        rows=0,
    ),
    "gram_rows_kernel": Family(
        "Gram of {1} rows split on the way, {2}, {4}",
        ({"RowGram": "-"}, _DTYPES, _SIZES, {"1": "-"}, _WITH_TARGETS),
        shared=_rows_shared,
        folds=16,
        rows=1,
        takes_turns=lambda arguments: arguments[2] == "128",
        row_copies=lambda arguments: _BYTES[arguments[1]] // 2,
        # With one of a target, and the load of its shift.
        copies=lambda arguments: _BYTES[arguments[1]] // 2 + 2 if arguments[4] == "true" else None,
    ),
    "gram_row_tiles_kernel": Family(
        "Gram of {1} rows split on the way, {2}, {3}",
        ({"RowGram": "-"}, _DTYPES, _SIZES, _SIDES, {"false": "-"}),
        shared=_rows_shared,
        folds=16,
        rows=1,
        takes_turns=lambda arguments: arguments[2] == "128",
    ),
    "gram_warpgroup_kernel": Family(
        "Gram, warpgroups, {0}, {2}, {3}, off until a card has run it",
        (_DTYPES, {"WarpgroupGram": "-"}, _SIZES, _SIDES),
        shared=_warpgroup_shared,
        folds=1,  # a turn is that of the folds, or has them beside it
    ),
    "probe_product_kernel": Family(
        "probe of a product of warpgroups, {0}, 64 x {1}",
        ({"true": "bfloat16", "false": "float16"}, {"64": "64", "128": "128"}),
    ),
    "probe_box_kernel": Family("probe of a copy of a box"),
    "probe_ring_kernel": Family("probe of a ring of boxes"),
    "gram_direct_kernel": Family(
        "Gram, {0} rows in {1}, lanes, 64 x 64",
        (_DTYPES, _DTYPES),
        shared=lambda arguments: 4 * 16 * 68 * _BYTES[arguments[1]],
        folds=16,
        rows=0,
    ),
    "gram_double_tensor_kernel": Family(
        "Gram, scaled {0} rows in float64, tensor cores, d > 128",
        (_DTYPES,),
        shared=_double_shared,
        rows=0,
        row_copies=_double_row_copies,
        inside=_double_inside,
        copies=lambda arguments: _double_row_copies(arguments) + 1,  # and of a scale
    ),
    "gram_moments_kernel": Family(
        "Gram and all sums, {0} rows in float64, tensor cores, d = 64",
        (_DTYPES,),
        shared=_moment_shared,
        rows=0,
        inside=_moment_inside,
        copies=_moment_copies,
    ),
    "gram_wide_moments_kernel": Family(
        "Gram and sums, {0} rows in float64, tensor cores, d = 128, {1}, {2}",
        (_DTYPES, _WITH_TARGETS, _ROWS_ADDED),
        shared=_wide_shared,
        rows=0,
        row_copies=lambda _: 4,
        inside=_wide_inside,
        copies=lambda arguments: _looked_copies(arguments, 4),
    ),
    "gram_panel_moments_kernel": Family(
        "Gram and sums, {0} rows in float64, tensor cores, d > 128, {1}, {2}",
        (_DTYPES, _WITH_TARGETS, _ROWS_ADDED),
        shared=_panel_shared,
        rows=0,
        # Of both sides; with targets, those of the items that look at their columns, which copy one.
        row_copies=lambda arguments: 4 if arguments[1] == "true" else 6,
        inside=_wide_inside,
        copies=lambda arguments: _looked_copies(arguments, 4 if arguments[1] == "true" else 6),
    ),
    "gram_panel_sums_kernel": Family("sums of panels added up", inside=_one_turn),
    "gram_finalize_kernel": Family(
        "slabs of a Gram added up, {0}, {1}", (_SIZES, _ORDERS | {"2": "of float64", "3": "of moments"})
    ),
    "count_rows_kernel": Family("rows that are zero or not finite, counted"),
    "row_scales_kernel": Family("1 / norm of rows, from their tiles"),
    "keep_rows_kernel": Family("rows that are not left out, found"),
    "slab_sums_kernel": Family("column sums of slabs, added up", inside=_one_turn),  # of eight rows, and what is left
    "clear_kernel": Family("slabs of few rows, cleared"),
    "planes_kernel": Family(
        "planes of {0} rows, {1}, {2}, {3}",
        rows=0,
        words=(_DTYPES, {"0": "split in three", "1": "rounded to bfloat16", "2": "copied"}, _ROW_USES, _WITH_TARGETS),
        inside=_one_turn,  # chunks of a row that a lane adds up
        copies=_plane_loads,
    ),
    "row_norms_kernel": Family(
        "row norms, {0} rows, {1} targets", (_DTYPES, _DTYPES), rows=0, inside=_one_turn
    ),  # rows of at most 256 numbers
    "column_sums_kernel": Family("column sums, {0} rows, {1} targets", (_DTYPES, _DTYPES), rows=0),
    "column_sums_finalize_kernel": Family("column sums added up"),
    "begin_findings_kernel": Family("findings of a batch, begun"),
    "settle_findings_kernel": Family("findings of a batch, settled"),
    "residual_kernel": Family("residual by lanes, {0} rows in {1}", (_DTYPES, _DTYPES), rows=0, folds=8),
    "residual_tensor_kernel<FloatProducts": Family(
        "residual, {1} rows {2} in float32, tensor cores, {3}, {4} vectors",
        _FLOAT_PRODUCTS,
        rows=1,
        row_copies=_residual_copies,
        inside=_residual_inside,
    ),
    "residual_tensor_kernel<DoubleProducts": Family(
        "residual, {1} rows in float64, tensor cores, {2} vectors",
        _DOUBLE_PRODUCTS,
        rows=1,
        row_copies=_residual_copies,
        inside=_residual_inside,
    ),
    "tensor_coefficients_kernel<FloatProducts": Family(
        "products with vectors, {1} rows {2} in float32, tensor cores, {3}, {4} vectors",
        _FLOAT_PRODUCTS,
        rows=1,
        row_copies=_residual_copies,
        inside=_residual_inside,
    ),
    "tensor_coefficients_kernel<DoubleProducts": Family(
        "products with vectors, {1} rows in float64, tensor cores, {2} vectors",
        _DOUBLE_PRODUCTS,
        rows=1,
        row_copies=_residual_copies,
        inside=_residual_inside,
    ),
    "simt_coefficients_kernel": Family("products with vectors by lanes, {0} rows", (_DTYPES,), rows=0),
    "basis_kernel": Family(
        "basis of a residual in {0}, prepared, form {1}", (_DTYPES, {}), inside=_one_turn
    ),  # one group of vectors
    "basis_scales_kernel": Family("scales of a basis"),
    "prepare_shift_kernel": Family("product with a Gram, its shift padded"),
    "prepare_vectors_kernel": Family("product with a Gram, its vectors in fragments"),
    "coefficients_of_rows_kernel": Family(
        "product with a Gram, coefficients of {0} rows, {1} tiles, {2}", (_DTYPES, {}, _UNITS), rows=0
    ),
    "resident_product_kernel": Family(
        "product with a Gram, {0} rows in one read, d = 1,024, 8 vectors",
        (_DTYPES,),
        shared=_resident_shared,
        rows=0,
        # Of the loops over eights of rows. Those that add up parts of the coefficients run as often here, and in all
        # warps: at d = 1,024 a fourth of the warps, or less, do it, four times.
        inside=_resident_octets,
        copies=lambda arguments: 8 if arguments[0] == "double" else 4,
    ),
    "settle_coefficients_kernel": Family("product with a Gram, parts of coefficients added up"),
    "image_of_rows_kernel": Family(
        "product with a Gram, image of {0} rows, {1} tiles, {2}", (_DTYPES, {}, _UNITS), rows=0
    ),
    "add_energies_kernel": Family("product with a Gram, energies added up"),
    "add_image_kernel": Family("product with a Gram, image added up"),
    "residual_sums_kernel": Family("residual sums added up"),
    "leading_sums_kernel": Family("residual sums of leading vectors"),
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
