from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.products import prediction_error

import nrc_fast as nrc
from nrc_fast.kernels.calls import gram, gram_product, residual
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.inputs import as_matrix, as_rows, plain_kind
from nrc_fast.kernels.results import Basis

VALUES = np.random.default_rng(0).standard_normal((20, 6))
DTYPES = ["float64", "float32", "float16", "torch.bfloat16", "ml_dtypes.bfloat16"]

Run = Callable[..., Any]

both = pytest.mark.parametrize("read", [as_rows, as_matrix])


def all_kernels(features: Any, targets: Any) -> list[Any]:
    """What every kernel says about an input."""
    rows, y = as_rows(features, "H"), as_rows(targets, "Y")
    d, n = rows.columns, y.columns
    sums = gram(rows, unit="raw", targets=y)
    rest = residual(rows, [Basis(np.eye(min(2, d), d), per_row=True)], double_precision=False)[0]
    product = gram_product(rows, np.eye(min(2, d), d), np.zeros(d))
    errors = prediction_error(rows, np.ones((n, d)), np.zeros(n), y)
    residuals = [rest.raw, rest.unit, rest.row_residuals, rest.row_energies]
    products = [product.image, product.column_sums, np.array(product.energy)]
    return [sums.gram, sums.column_sums, sums.unit_gram, sums.cross, *residuals, *products, errors]


def same_bits(found: list[Any], wanted: list[Any]) -> bool:
    return [array.tobytes() for array in found] == [array.tobytes() for array in wanted]


# ---- what is refused ----

LONG = np.dtype(np.longdouble)  # noqa: TID251 - no reference
WIDER = [(VALUES.astype(LONG), LONG.name)] if np.finfo(LONG).nmant > 52 else []  # elsewhere it is float64


@both
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (VALUES.astype(np.int64), "int64"),
        (VALUES.astype(np.uint8), "uint8"),
        (VALUES > 0, "bool"),
        (VALUES.astype(np.complex64), "complex64"),
        (VALUES.astype(np.complex128), "complex128"),
        *WIDER,
        (VALUES.astype(object), "object"),
        (VALUES.astype(str), "str"),
        (VALUES.astype("S"), "bytes"),
        (VALUES.astype("datetime64[s]"), "datetime64"),
        (np.zeros((3, 2), dtype=[("a", "f4")]), "void"),
        ([[1, 2], [3, 4]], "int64"),
        ([["a", "b"]], "str"),
        ([[None, 1.0]], "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_dtypes_are_refused_by_name(read: Any, values: Any, dtype: str) -> None:
    with pytest.raises(TypeError, match=rf"^features has dtype {dtype}.*; float64, float32, float16, bfloat16 are"):
        read(values, "features")


@both
def test_other_dtypes_of_tensors_are_refused_by_name(read: Any) -> None:
    torch = pytest.importorskip("torch")
    for dtype in ("int64", "uint8", "bool", "complex64", "complex128", "float8_e4m3fn"):
        tensor = torch.ones(3, 2).to(getattr(torch, dtype))
        with pytest.raises(TypeError, match=rf"^W has dtype {dtype}; float64, float32, float16, bfloat16 are"):
            read(tensor, "W")


@both
@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 4), (0,), (1, 1, 1)], ids=str)
def test_other_shapes_than_matrices_are_refused(read: Any, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    words = rf"^H has shape {str(shape).replace('(', '[(]').replace(')', '[)]')}; a matrix with one row per sample"
    for values in (np.zeros(shape), np.zeros(shape, np.float16), torch.zeros(shape)):
        with pytest.raises(ValueError, match=words):
            read(values, "H")


@both
def test_rows_without_values_are_refused(read: Any) -> None:
    torch = pytest.importorskip("torch")
    for count in (0, 5):
        for values in (np.zeros((count, 0)), torch.zeros(count, 0)):
            with pytest.raises(ValueError, match=rf"^H has shape \({count}, 0\): rows without values"):
                read(values, "H")


@both
def test_masked_arrays_are_refused(read: Any) -> None:
    for mask in (VALUES > 0, np.ma.nomask):
        with pytest.raises(TypeError, match=r"^H is a masked array"):
            read(np.ma.masked_array(VALUES, mask), "H")


@both
def test_what_is_no_array_is_refused(read: Any) -> None:
    with pytest.raises(TypeError, match=r"^H is a list that numpy cannot read as an array"):
        read([[1.0], [1.0, 2.0]], "H")

    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise ValueError(dtype, copy)

    with pytest.raises(TypeError, match=r"^H is a Broken that numpy cannot read as an array"):
        read(Broken(), "H")


@both
def test_tensors_that_are_not_dense_in_memory_are_refused(read: Any) -> None:
    torch = pytest.importorskip("torch")
    dense = torch.from_numpy(VALUES)
    for tensor in (dense.to_sparse(), dense.float().to_mkldnn()):
        with pytest.raises(TypeError, match=r"^H is a tensor of layout torch\.\w+; give a dense one"):
            read(tensor, "H")
    with pytest.raises(RuntimeError, match=r"^H lies on meta, and nrc_fast has no kernels for it there; move"):
        read(torch.zeros(3, 2, device="meta"), "H")


# ---- what is accepted, and read right ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_read_where_they_lie(arrays: Any, dtype: str) -> None:
    base = arrays.store(VALUES, dtype)
    for part in (base, base[3:], base[::2, 1:4], base.T):
        rows = as_rows(part, "H")
        assert (rows.name, rows.count, rows.columns) == ("H", *part.shape)
        assert rows.dtype == dtype.rpartition(".")[2]
        assert rows.is_double == (dtype == "float64")
        address = part.data_ptr() if hasattr(part, "data_ptr") else part.ctypes.data
        assert rows.array.ctypes.data == address
        exact = arrays.reference_rows(part)
        np.testing.assert_array_equal(rows.to_float64(), exact)
        np.testing.assert_array_equal(rows.part(1, 3).to_float64(), exact[1:3])
        mask = np.arange(2) == 1
        np.testing.assert_array_equal(rows.part(1, 3).take(mask).to_float64(), exact[2:3])
        assert rows.part(1, 3).take(mask).name == "H"
        arrays.gram_reference(part).check(gram(rows))


def test_a_copy_of_rows_is_a_copy(arrays: Any) -> None:
    for dtype in ("float64", "torch.float64", "float32"):
        array = arrays.store(VALUES, dtype)
        wide, taken = as_rows(array, "H").to_float64(), as_rows(array, "H").take(np.ones(20, dtype=bool))
        wanted = wide.copy()
        array[:] = 0.0
        np.testing.assert_array_equal(wide, wanted)
        np.testing.assert_array_equal(taken.to_float64(), wanted)


def test_what_numpy_turns_into_a_float_matrix_is_accepted() -> None:
    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray(VALUES, dtype=dtype, copy=copy)

    wanted = all_kernels(VALUES, VALUES[:, :2])
    for values in (VALUES.tolist(), tuple(map(tuple, VALUES)), list(VALUES), Wrapped(), memoryview(VALUES)):
        assert same_bits(all_kernels(values, VALUES[:, :2]), wanted)


def test_maps_of_files_are_accepted(tmp_path: Any) -> None:
    for dtype in (np.float64, ">f4", np.float16):
        values = VALUES.astype(dtype)
        np.save(tmp_path / "rows.npy", values)
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        targets = VALUES[:, :2]
        assert same_bits(
            all_kernels(mapped, targets), all_kernels(values.astype(values.dtype.newbyteorder("=")), targets)
        )


def test_a_vector_is_a_column_where_that_is_asked_for(arrays: Any) -> None:
    for dtype in DTYPES:
        vector = arrays.store(VALUES[:, 0], dtype)
        for part in (vector, vector[::3], vector[:0]):
            rows = as_rows(part, "Y", vector_is_column=True)
            assert (rows.count, rows.columns) == (len(part), 1)
            column = part.reshape(-1, 1)
            np.testing.assert_array_equal(rows.to_float64(), arrays.reference_rows(column))
            np.testing.assert_array_equal(gram(rows).gram, gram(as_rows(column, "Y")).gram)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_that_belong_to_a_graph(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(VALUES).to(getattr(torch, dtype))
    targets = VALUES[:, :2]
    wanted = all_kernels(tensor, targets)
    leaf = tensor.clone().requires_grad_()
    for values in (leaf, leaf * 1.0, torch.nn.Parameter(tensor.clone()), torch.nn.Buffer(tensor.clone())):
        assert same_bits(all_kernels(values, targets), wanted)
        np.testing.assert_array_equal(as_rows(values, "H").to_float64(), tensor.double().numpy())
        np.testing.assert_array_equal(as_matrix(values, "W")[0], tensor.double().numpy())
    assert leaf.requires_grad
    assert leaf.grad is None
    with torch.inference_mode():
        assert same_bits(all_kernels(tensor.clone(), targets), wanted)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_tensors_with_the_negative_bit(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    numbers = torch.complex(torch.from_numpy(VALUES), torch.from_numpy(VALUES[::-1].copy())).to(getattr(torch, dtype))
    negative = torch.imag(numbers.conj())
    assert negative.is_neg()
    values = -np.ascontiguousarray(numbers.numpy().imag)
    assert same_bits(all_kernels(negative, negative[:, :2]), all_kernels(values, values[:, :2]))
    np.testing.assert_array_equal(as_rows(negative, "H").to_float64(), values)
    np.testing.assert_array_equal(as_matrix(negative, "W")[0], values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_are_only_read(arrays: Any, dtype: str) -> None:
    values = arrays.store(np.asfortranarray(VALUES), dtype)
    parts = [values, values[::2, ::2]]
    if isinstance(values, np.ndarray):
        values.flags.writeable = False
        parts += [values[::-1], np.broadcast_to(values[:1], (9, 6))]
        as_bytes: Callable[[Any], bytes] = lambda array: array.tobytes()  # noqa: E731
    else:
        as_bytes = lambda tensor: bytes(tensor.untyped_storage().tolist())  # noqa: E731
    before = as_bytes(values)
    for part in parts:
        all_kernels(part, part)
        as_matrix(part, "W")[0][:] = 0.0
        exact = arrays.reference_rows(part)
        np.testing.assert_array_equal(as_rows(part, "H").to_float64(), exact)
        for double_precision in (False, True):
            arrays.residual_reference(part, np.eye(2, part.shape[1]), double_precision=double_precision).check(
                residual(as_rows(part, "H"), [Basis(np.eye(2, part.shape[1]))], double_precision=double_precision)[0]
            )
    assert as_bytes(values) == before


def test_other_arguments_are_only_read() -> None:
    rng = np.random.default_rng(1)
    vectors, shift, weights, bias = (rng.standard_normal(size) for size in ((6, 2), 6, (2, 6), 2))
    for array in (vectors, shift, weights, bias):
        array.flags.writeable = False
    rows, targets = as_rows(VALUES, "H"), as_rows(VALUES[:, :2], "Y")
    gram(rows, shift=shift, unit="shifted", targets=targets, target_shift=bias)
    basis = vectors.T  # not contiguous
    sums = residual(rows, [Basis(basis, shift)], double_precision=True)[0]
    copied = residual(rows, [Basis(basis.copy(), shift)], double_precision=True)[0]
    assert sums.raw.tolist() == copied.raw.tolist()
    image = gram_product(rows, basis, shift).image
    np.testing.assert_array_equal(image, gram_product(rows, basis.copy(), shift).image)
    transposed = np.asfortranarray(weights)
    errors = prediction_error(rows, transposed, np.repeat(bias, 2)[::2], targets)
    np.testing.assert_array_equal(errors, prediction_error(rows, weights, bias, targets))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_is_copied_with_the_epsilon_of_its_dtype(arrays: Any, dtype: str) -> None:
    stored = arrays.store(VALUES, dtype)
    matrix, epsilon = as_matrix(stored.T, "W")
    np.testing.assert_array_equal(matrix, arrays.reference_rows(stored.T))
    one, half_more, more = (float(arrays.store([[1.0 + step]], dtype)[0, 0]) for step in (0.0, epsilon / 2, epsilon))
    assert one == half_more == 1.0
    assert more == 1.0 + epsilon
    matrix[:] = 0.0
    assert arrays.reference_rows(stored).any()


def test_a_matrix_must_be_finite(arrays: Any) -> None:
    for dtype in DTYPES:
        values = VALUES.copy()
        values[[0, 3, 19], [5, 2, 0]] = [np.nan, np.inf, -np.inf]
        with pytest.raises(ValueError, match=r"^W has 3 values that are not finite"):
            as_matrix(arrays.store(values, dtype), "W")


# ---- what lies around the rows ----

GUARDED = """
import ctypes, mmap, sys
import numpy as np
from nrc_fast import kernels
from nrc_fast.kernels.results import Basis
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.calls import gram, gram_product, residual

libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE
inside = 32 * page
memory = mmap.mmap(-1, inside + 2 * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for guard in (address, address + page + inside):
    assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0

def answers(array):
    rows = as_rows(array, "H")
    d = rows.columns
    sums = gram(rows, unit="raw", targets=rows)
    parts = [sums.gram, sums.column_sums, sums.unit_gram, sums.cross]
    for double_precision in (False, True):
        rest = residual(rows, [Basis(np.eye(min(3, d), d))], double_precision=double_precision)[0]
        parts += [rest.raw, rest.unit]
    product = gram_product(rows, np.eye(1, d), np.zeros(d))
    parts += [product.image, product.column_sums, np.array(product.energy)]
    return b"".join(part.tobytes() for part in parts)

def place(values, end):
    size = values.nbytes
    offset = page + (inside - size if end else 0)
    array = np.frombuffer(memory, values.dtype, values.size, offset).reshape(values.shape)
    array[:] = values
    return array

rng = np.random.default_rng(0)
checked = 0
for isa in kernels.available_isas():
    kernels.set_isa(isa)
    for dtype in (np.float64, np.float32, np.float16):
        for width in (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 63, 65, 97):
            for count in (1, 5, 70):
                values = rng.standard_normal((count, width)).astype(dtype)
                wanted, turned = answers(values), answers(values[::-1].copy())
                for end in (False, True):
                    array = place(values, end)
                    assert array.flags.aligned
                    assert answers(array) == wanted
                    assert answers(array[::-1]) == turned
                    checked += 1
print(checked == len(kernels.available_isas()) * 3 * 18 * 3 * 2)
"""


def test_nothing_around_the_rows_is_read(run_alone: Run) -> None:
    # The pages before and behind cannot be read: one value too many ends the process.
    mmap = pytest.importorskip("mmap")
    if not hasattr(mmap, "PROT_READ"):
        pytest.skip("this system has no mprotect")
    answer = run_alone(GUARDED, NRC_FAST_NUM_THREADS="1")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["True"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("offset", [0, 1])
def test_tensors_that_are_not_aligned_are_copied(dtype: str, offset: int) -> None:
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    tensor = torch.frombuffer(bytearray(2401), dtype=kind, offset=offset, count=300).reshape(50, 6)
    tensor.copy_(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))
    rows = as_rows(tensor, "H")
    assert isinstance(rows, HostRows)
    assert rows.array.ctypes.data % tensor.element_size() == 0
    assert (rows.array.ctypes.data == tensor.data_ptr()) == (offset == 0)
    np.testing.assert_array_equal(rows.to_float64(), tensor.double().numpy())
    assert (plain_kind(tensor) is None) == (offset == 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_order_of_the_memory_changes_no_bit(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for count, columns in ((61, 5), (700, 33)):
        H = (rng.standard_normal((count, columns)) + 3).astype(dtype)
        Y, W = rng.standard_normal((count, 2)), rng.standard_normal((2, columns))
        steps = np.zeros((count, 2 * columns), dtype)
        steps[:, ::2] = H
        swapped = np.asfortranarray(H).astype(H.dtype.newbyteorder(), order="F")
        np.save(tmp_path / "f.npy", swapped)
        forms = [H, np.asfortranarray(H), steps[:, ::2], H[::-1].copy()[::-1], swapped, str(tmp_path / "f.npy")]
        reports = [nrc.measure(form, Y, W, np.zeros(2)).to_json() for form in forms]
        reports.append(nrc.measure(H, np.asfortranarray(Y), np.asfortranarray(W), np.zeros(2)).to_json())
        assert len(set(reports)) == 1
