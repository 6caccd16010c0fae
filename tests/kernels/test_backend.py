"""The contract of `kernels.interface`, which every backend keeps: the CPU on each instruction set, devices.

References are float64 and wider, from the definitions (tests/support/arrays.py).
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import arrays, cuda_core
from support.double_double import Pairs, stacked
from support.products import prediction_error

from nrc_fast import kernels
from nrc_fast.kernels import calls
from nrc_fast.kernels.counts import ADDITIVE, COUNTS, SumsKind, zero_sums
from nrc_fast.kernels.cpu import images as cpu_images
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cuda import rows as cuda_rows
from nrc_fast.kernels.cuda.backend import CudaBackend
from nrc_fast.kernels.descent import RunningDescent, padded_columns
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.kernels.devices import backend_of
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import Backend, PredictionRequest, Rows, Shifts
from nrc_fast.kernels.results import Basis
from nrc_fast.sources import open_source

EPSILON = 2.0**-52
DTYPES = ["float64", "float32", "float16", "torch.bfloat16"]


def largest(numbers: Pairs) -> float:
    """The largest magnitude."""
    return float(np.abs(numbers.astype(np.float64)).max())


BACKENDS = [*(f"cpu {isa}" for isa in kernels.available_isas()), "emulated", "card"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    kind, _, isa = request.param.partition(" ")
    if kind == "emulated":
        yield CudaBackend(cuda_core.Emulation().device())
    elif kind == "card":
        cuda_core.Card()
        yield backend_of("cuda:0")
    else:
        before = kernels.current_isa()
        kernels.set_isa(isa)
        yield CPU
        kernels.set_isa(before)


def draw(seed: int, rows: int = 45, d: int = 5, n: int = 2, dtype: str = "float64") -> tuple[Any, Any]:
    """Features of a large mean in a dtype, and targets in float64."""
    H = arrays.normal((rows, d), dtype, seed, mean=3.0)
    return H, np.random.default_rng(seed + 1).standard_normal((rows, n)) - 2.0


def on(backend: Backend, values: Any, name: str = "H") -> Rows:
    return backend.copied(as_rows(values, name))


# ---- memory ----


def test_there_is_one_backend_for_each_memory(backend: Backend) -> None:
    if backend.is_host:
        assert copy.deepcopy(CPU) is pickle.loads(pickle.dumps(CPU)) is CPU
        assert backend.name == f"cpu ({kernels.current_isa()}, {kernels.thread_count()} threads)"
        assert backend.place_name == "the CPU"
    else:
        same = CudaBackend(backend.device)  # type: ignore[attr-defined]
        assert same == backend
        assert {same: 1}[backend] == 1
        assert backend.name.startswith(f"{backend.place_name} (")
        assert backend != CPU


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_and_go_without_a_change(backend: Backend, dtype: str) -> None:
    H, _ = draw(0, rows=33, dtype=dtype)
    host = as_rows(H, "H")
    expected = host.to_float64()
    copies = backend.copies()
    for rows in (backend.copied(host), copies.start(host)):
        assert rows.backend == backend
        assert (rows.name, rows.dtype, rows.count, rows.columns) == ("H", host.dtype, 33, 5)
        assert rows.is_double == (dtype == "float64")
        np.testing.assert_array_equal(rows.to_float64(), expected)
        np.testing.assert_array_equal(rows.loaded().part(3, 8).to_float64(), expected[3:8])
        np.testing.assert_array_equal(rows.take(expected[:, 0] > 3.0).to_float64(), expected[expected[:, 0] > 3.0])
        assert rows.is_finite
    copies.close()
    way = f"chunks are copied to {backend.place_name} from pinned memory, beside the computation"
    assert backend.copying(1000) == ("" if backend == CPU else way)


def test_rows_that_are_not_finite_are_told(backend: Backend) -> None:
    H = np.ones((9, 3))
    H[2, 1], H[7, 0] = np.nan, -np.inf
    rows = on(backend, H)
    assert not rows.is_finite
    assert np.flatnonzero(~rows.finite_rows()).tolist() == [2, 7]


def test_other_values_and_buffers_lie_beside_the_rows(backend: Backend) -> None:
    rows = on(backend, np.arange(12.0).reshape(4, 3).astype(np.float32))
    other = rows.holding(backend.place(np.full((2, 3), 0.1)), "float64")
    assert (other.name, other.backend, other.is_double) == ("H", backend, True)
    np.testing.assert_array_equal(other.to_float64(), np.full((2, 3), 0.1))
    held = rows.buffer("held", 6)
    rows.copy_to(held.array[1:5])
    assert (held.name, held.count, held.dtype) == ("held", 6, "float32")
    np.testing.assert_array_equal(held.part(1, 5).to_float64(), rows.to_float64())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_arrays_come_and_go_without_a_change(backend: Backend, dtype: type) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    placed = backend.place(values)
    np.testing.assert_array_equal(backend.fetch(placed), values)
    np.testing.assert_array_equal(backend.fetch(placed.swapaxes(-1, -2)), values.swapaxes(-1, -2))
    wide = backend.as_float64(placed)
    assert backend.fetch(wide).dtype == np.float64
    np.testing.assert_array_equal(backend.fetch(wide), values)
    np.testing.assert_array_equal(backend.fetch(backend.library.isfinite(wide)), np.ones((2, 3, 4), dtype=bool))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "d", "n"), [(0, 3, 2), (1, 1, 1), (45, 5, 2), (700, 17, 3)])
def test_images(backend: Backend, monkeypatch: pytest.MonkeyPatch, dtype: str, rows: int, d: int, n: int) -> None:
    """Blocks of rows, on threads or one after the other, are those of the whole."""
    monkeypatch.setattr(cpu_images, "BLOCK_VALUES", 64 * d)
    monkeypatch.setattr(cuda_rows, "IMAGE_VALUES", 64 * d)
    H, _ = draw(rows, rows, d, dtype=dtype)
    W = np.random.default_rng(9).standard_normal((n, d))
    found, squares = calls.images(on(backend, H), W)
    stored = as_rows(H, "H").to_float64()
    np.testing.assert_allclose(found, stored @ W.T, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(squares, np.sum(stored**2, axis=1), rtol=1e-14)
    strided = on(backend, np.asfortranarray(stored))
    np.testing.assert_allclose(calls.images(strided, W)[0], found, rtol=1e-13, atol=1e-13)


def test_images_of_rows_that_are_not_finite_or_too_large(backend: Backend) -> None:
    H, _ = draw(3)
    H[17, 2] = np.nan
    with pytest.raises(NonFiniteRowsError, match=r"1 of 45 rows .* the first is row 17"):
        calls.images(on(backend, H), np.ones((2, 5)))
    H[17, 2] = 1e200
    with pytest.raises(ValueError, match="divide it by a constant first"):
        calls.images(on(backend, H), np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"weights has shape \(2, 4\); \(2, 5\) is expected"):
        calls.images(on(backend, H), np.ones((2, 4)))


def test_images_of_a_file_that_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_images, "BLOCK_VALUES", 64 * 5)
    H, _ = draw(3, rows=300)
    np.save(tmp_path / "H.npy", H)
    source = open_source(tmp_path / "H.npy")
    (chunk,) = source.chunks(300)
    found, _ = calls.images(chunk.features, np.eye(2, 5))
    np.testing.assert_array_equal(found, H[:, :2])
    with (tmp_path / "H.npy").open("r+b") as file:
        file.truncate(128 + 201 * 5 * 8)
    with pytest.raises(OSError, match=r"row 201 of .* cannot be read: the file ends before it"):
        calls.images(chunk.features, np.eye(2, 5))


# ---- passes ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precision", ["high", "highest"])
@pytest.mark.parametrize("unit", [None, "raw", "shifted"])
@pytest.mark.parametrize(("rows", "d"), [(1, 1), (7, 2), (45, 5), (97, 17), (300, 3)])
def test_gram(backend: Backend, dtype: str, precision: str, unit: str | None, rows: int, d: int) -> None:
    H, Y = draw(rows, rows, d, dtype=dtype)
    shift, target_shift = np.linspace(2.5, 3.5, d), np.array([-1.0, 0.5])
    found = calls.gram(
        on(backend, H),
        shift=shift,
        unit=unit,
        targets=on(backend, Y, "Y"),
        target_shift=target_shift,
        target_moments=True,
        precision=precision,
    )
    options = {"shift": shift, "unit": unit, "double_precision": precision == "highest"}
    arrays.gram_reference(H, **options, targets=Y, target_shift=target_shift).check(found)
    targets = arrays.gram_reference(Y, shift=target_shift)
    targets.gram.check_triangle(found.target_gram, "Gram of the targets")
    targets.column_sums.check(found.target_sums, "sums of the targets")
    assert found.rows == rows
    assert found.energy == pytest.approx(np.trace(found.gram), rel=1e-12)
    assert found.double_precision == (dtype == "float64" or precision == "highest")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shifted", [True, False])
def test_images_of_rows_beside_residuals(backend: Backend, dtype: str, *, shifted: bool) -> None:
    """Those of the rows everywhere; those of unit rows are none on a device."""
    H, _ = draw(4, rows=97, d=7, dtype=dtype)
    vectors, shift = arrays.orthonormal(3, 7, 0), np.linspace(2.5, 3.5, 7) if shifted else None
    basis = Basis(vectors, shift, images=frozenset({"raw", "unit", "shift"}), imaged=2)
    plain, found = calls.residual(on(backend, H), [Basis(vectors, shift), basis], double_precision=True)
    assert plain.images is None
    assert found.images is not None
    np.testing.assert_array_equal(found.raw, plain.raw)
    x = arrays.reference_rows(H) - (0.0 if shift is None else shift)
    size = np.abs(x).T @ np.abs(x)
    assert np.abs(found.images.raw[0] - x.sum(axis=0)).max() <= 64 * EPSILON * np.abs(x).sum(axis=0).max()
    assert np.abs(found.images.raw[1:] - vectors[:2] @ x.T @ x).max() <= 64 * EPSILON * size.max()
    assert found.images.unit.shape == (2, 7)
    assert found.images.shift.shape == (17,)
    u = x / np.sum(x**2, axis=1, keepdims=True)
    if backend.is_host:
        assert np.abs(found.images.unit - vectors[:2] @ x.T @ u).max() <= 64 * EPSILON * 97
        assert np.abs(found.images.shift[:7] - u.sum(axis=0)).max() <= 64 * EPSILON * np.abs(u).sum()
    else:
        assert np.isnan(found.images.unit).all()
        assert np.isnan(found.images.shift).all()


def test_a_gram_is_put_onto_another(backend: Backend) -> None:
    H, _ = draw(1)
    start = np.tril(np.random.default_rng(0).standard_normal((5, 5)))
    before = start.copy()
    found = calls.gram(on(backend, H), unit="raw", onto=start, unit_onto=2.0 * start)
    alone = calls.gram(on(backend, H), unit="raw")
    assert np.abs(found.gram - (start + alone.gram)).max() <= 4 * EPSILON * np.abs(alone.gram).max()
    assert np.abs(found.unit_gram - (2.0 * start + alone.unit_gram)).max() <= 4 * EPSILON * 45
    assert found.energy == pytest.approx(alone.energy, rel=1e-15)
    np.testing.assert_array_equal(start, before)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_squares_out_of_range_lose_nothing(backend: Backend, scale: float) -> None:
    H = (np.random.default_rng(2).standard_normal((40, 4)) * scale).astype(np.float32)
    found, exact = calls.gram(on(backend, H)).gram, H.astype(np.float64).T @ H.astype(np.float64)
    assert np.abs(found - np.tril(exact)).max() <= 2.0**-20 * np.abs(exact).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_passes_refuse_rows_that_are_not_finite(backend: Backend, bad: float) -> None:
    H, Y = draw(3)
    broken = H.copy()
    broken[[11, 30], 2] = bad
    rows, targets = on(backend, broken), on(backend, Y, "Y")
    basis = arrays.orthonormal(2, 5, 0)
    for make in (
        lambda: calls.gram(rows, targets=targets),
        lambda: calls.gram(rows, plain=False, unit="raw"),
        lambda: calls.residual(rows, [Basis(basis)], double_precision=True),
        lambda: calls.gram_product(rows, basis, np.zeros(5)),
        lambda: prediction_error(rows, basis, np.zeros(2), targets),
    ):
        with pytest.raises(NonFiniteRowsError, match="H: 2 of 45 rows") as caught:
            make()
        assert caught.value.first == 11
    broken_targets = Y.copy()
    broken_targets[17, 1] = bad
    with pytest.raises(NonFiniteRowsError, match="Y: 1 of 45 rows") as caught:
        calls.gram(on(backend, H), targets=on(backend, broken_targets, "Y"), target_moments=True)
    assert caught.value.first == 17


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("double_precision", [False, True])
@pytest.mark.parametrize(("d", "k"), [(1, 0), (1, 1), (5, 2), (33, 16), (65, 17)])
def test_residuals(backend: Backend, dtype: str, double_precision: bool, d: int, k: int) -> None:
    H, _ = draw(4, 40, d, dtype=dtype)
    basis, shift = arrays.orthonormal(k, d, 5), np.linspace(2.0, 4.0, d)
    bases = [Basis(basis, per_row=True), Basis(basis, shift)]
    plain, shifted = calls.residual(on(backend, H), bases, double_precision=double_precision)
    arrays.residual_reference(H, basis, double_precision=double_precision).check(plain, "plain")
    arrays.residual_reference(H, basis, shift=shift, double_precision=double_precision).check(shifted, "shifted")
    assert shifted.row_residuals is None


def test_products_and_prediction_errors(backend: Backend) -> None:
    H, Y = draw(6, 70, 9, n=3)
    rng = np.random.default_rng(7)
    vectors, shift = rng.standard_normal((2, 9)), H.mean(axis=0)
    found = calls.gram_product(on(backend, H), vectors, shift)
    x = Pairs(H - shift)
    energy = float((x * x).sum())
    assert largest(found.image - vectors @ x.T @ x) <= 64 * EPSILON * np.abs(vectors).max() * energy
    assert largest(found.column_sums - x.sum(axis=0)) <= 64 * EPSILON * np.abs(H - shift).sum(axis=0).max()
    assert found.energy == pytest.approx(energy, rel=64 * EPSILON)
    without_vectors = calls.gram_product(on(backend, H), vectors[:0], shift)
    assert without_vectors.energy == pytest.approx(found.energy, rel=64 * EPSILON)
    weights, bias = rng.standard_normal((3, 9)), rng.standard_normal(3)
    squares = prediction_error(on(backend, H), weights, bias, on(backend, Y, "Y"))
    errors = Pairs(H) @ weights.T + bias - Y
    assert largest(squares / (errors**2).sum(axis=0) - 1.0) <= 64 * EPSILON
    basis = arrays.orthonormal(2, 9, 1)
    model = PredictionRequest(weights, bias, on(backend, Y, "Y"))
    (residuals,), together = calls.residual_and_errors(on(backend, H), [Basis(basis, shift, per_row=True)], model)
    arrays.residual_reference(H, basis, shift=shift).check(residuals, "residuals")
    assert largest(together.errors / (errors**2).sum(axis=0) - 1.0) <= 64 * EPSILON
    assert together.products is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "d", "n"), [(1, 1, 1), (70, 9, 2), (150, 33, 7)])
def test_products_of_errors_and_images(backend: Backend, dtype: str, rows: int, d: int, n: int) -> None:
    H, Y = draw(7, rows, d, n, dtype)
    rng = np.random.default_rng(8)
    weights, bias, scale = rng.standard_normal((n, d)), rng.standard_normal(n), 2.0**-3
    model = PredictionRequest(weights, bias, on(backend, Y, "Y"), scale=scale, wants_products=True)
    (residuals,), found = calls.residual_and_errors(on(backend, H), [Basis(weights[:0])], model)
    assert found.products is not None
    x = Pairs(arrays.reference_rows(H))
    images = x @ weights.T
    errors = Y - images * scale - bias
    lengths = np.abs(x.high) @ np.abs(weights).T
    terms = (scale * lengths + np.abs(bias) + np.abs(Y)).T @ lengths
    assert (np.abs((errors.T @ images - found.products).high) <= 64 * EPSILON * terms).all()
    expected = (errors**2).sum(axis=0).astype(np.float64)
    assert found.errors == pytest.approx(expected, rel=64 * EPSILON * float(terms.max()))
    assert abs(float((images**2).sum() - found.image_energy)) <= 64 * EPSILON * np.sum(lengths**2)
    assert found.energy == pytest.approx(float((x**2).sum()), rel=64 * EPSILON)
    assert residuals.raw == pytest.approx(found.energy, rel=64 * EPSILON)


@pytest.mark.parametrize("unit_rows", [False, True])
def test_results_where_the_rows_lie(backend: Backend, unit_rows: bool) -> None:
    H, _ = draw(8)
    rows, shift = on(backend, H), np.linspace(2.0, 4.0, 5)
    placed = backend.place(shift)
    found = backend.placed_gram(rows, placed, unit_rows=unit_rows, precision="high")
    gram, column_sums = map(backend.fetch, found)
    reference = arrays.gram_reference(H, shift=shift, unit="shifted")
    (reference.unit_gram if unit_rows else reference.gram).check_triangle(gram, "Gram")
    reference.column_sums.check(column_sums, "column sums")
    basis = arrays.orthonormal(2, 5, 9)
    residuals, energies = map(backend.fetch, backend.placed_residuals(rows, basis, placed))
    expected = arrays.residual_reference(H, basis, shift=shift)
    expected.row_residuals.check(residuals, "residuals")
    expected.row_energies.check(energies, "energies")


def test_passes_over_no_rows(backend: Backend) -> None:
    rows, targets = on(backend, np.empty((0, 4))), on(backend, np.empty((0, 2)), "Y")
    found = calls.gram(rows, unit="raw", targets=targets, target_moments=True)
    sums = (found.gram, found.unit_gram, found.column_sums, found.cross, found.target_gram, found.target_sums)
    assert all(part is not None and not part.any() for part in sums)
    assert (found.rows, found.zero_rows, found.energy) == (0, 0, 0.0)
    (residuals,) = calls.residual(rows, [Basis(arrays.orthonormal(2, 4, 0))], double_precision=True)
    assert not residuals.raw.any()
    product = calls.gram_product(rows, np.ones((1, 4)), np.zeros(4))
    assert not product.image.any()
    assert not product.column_sums.any()
    assert product.energy == 0.0
    model = PredictionRequest(np.ones((2, 4)), np.ones(2), targets, wants_products=True)
    errors = calls.residual_and_errors(rows, [], model)[1]
    assert errors.products is not None
    assert not errors.errors.any()
    assert not errors.products.any()
    assert (errors.image_energy, errors.energy) == (0.0, 0.0)


# ---- sums that grow ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit_rows", [False, True])
def test_running_sums(backend: Backend, dtype: str, unit_rows: bool) -> None:
    H, Y = draw(10, 90, dtype=dtype)
    H[4] = 0.0
    kind = SumsKind(d=5, n_targets=2, products=True, unit_rows=unit_rows, precision="high")
    shift, target_shift = np.full(5, 3.0), np.array([-2.0, -2.0])
    shifts = Shifts(CPU, shift, target_shift)
    start = zero_sums(kind) | {"column_sums": np.arange(5.0)}
    running, started = backend.running_sums(kind), backend.running_sums(kind, start)
    for sums in (running, started):
        for first, skipped in ((0, 0), (30, 4), (60, 0)):
            part = slice(first, first + 30)
            sums.add(on(backend, H[part]), on(backend, Y[part], "Y"), shifts, skipped=skipped, skips_nonfinite=False)
        sums.check()
    parts = [part.on_host() for part in running.fetch()]
    found = {name: sum(part[name] for part in parts) for name in ADDITIVE}
    reference = arrays.gram_reference(
        H, shift=shift, unit="raw" if unit_rows else None, targets=Y, target_shift=target_shift
    )
    reference.gram.check_triangle(found["gram"], "Gram")
    reference.column_sums.check(found["column_sums"], "column sums")
    assert reference.cross is not None
    reference.cross.check(found["cross"], "cross moments")
    if reference.unit_gram is not None:
        reference.unit_gram.check_triangle(found["unit_gram"], "unit Gram")
    arrays.gram_reference(Y, shift=target_shift).gram.check_triangle(found["target_gram"], "targets")
    counts = dict(zip(COUNTS, found["counts"].tolist(), strict=True))
    name = dtype.removeprefix("torch.")
    assert (counts["rows"], counts["zero"], counts["skipped"], counts["parts"], counts[name]) == (90, 1, 4, 3, 90)
    assert found["magnitudes"][:2].sum() + found["magnitudes"][3:].sum() == pytest.approx(np.trace(found["gram"]))
    others = sum(part.numbers["column_sums"] for part in started.fetch())
    assert np.abs(others - found["column_sums"] - np.arange(5.0)).max() <= 64 * EPSILON * 300


@pytest.mark.parametrize("wrong", [np.nan, 1e200])
def test_running_sums_without_what_they_refused(backend: Backend, wrong: float) -> None:
    H, _ = draw(11)
    kind = SumsKind(d=5, n_targets=0, products=True, unit_rows=False, precision="high")
    shifts = Shifts(CPU, np.full(5, 3.0), np.zeros(0))
    running, alone = backend.running_sums(kind), backend.running_sums(kind)
    for sums in (running, alone):
        sums.add(on(backend, H), None, shifts, skipped=0, skips_nonfinite=False)
    broken = H.copy()
    broken[3, 3] = wrong

    def add_and_look() -> None:
        running.add(on(backend, broken), None, shifts, skipped=0, skips_nonfinite=False)
        running.check()

    with pytest.raises(ValueError, match="NaN or infinite" if np.isnan(wrong) else "leave the range of float64"):
        add_and_look()
    running.check()  # it is told once
    for name in ADDITIVE:
        total, expected = (sum(part.on_host()[name] for part in sums.fetch()) for sums in (running, alone))
        np.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("single", [False, True])
def test_the_mean_of_the_first_rows(backend: Backend, dtype: str, single: bool) -> None:
    H, _ = draw(12, 1100, 3, dtype=dtype)
    H[0], H[5, 1] = np.nan, np.inf
    values = as_rows(H, "H").to_float64()[:1024]
    expected = Pairs(values[np.isfinite(values).all(axis=1)]).mean(axis=0)
    found = backend.fetch(backend.first_mean(on(backend, H), single=single))
    unit = 2.0**-24 if single else 16 * EPSILON
    assert largest(found - expected) <= unit * largest(expected)
    if single:
        np.testing.assert_array_equal(found, found.astype(np.float32))
    nothing = backend.first_mean(on(backend, np.full((3, 2), np.nan)), single=single)
    np.testing.assert_array_equal(backend.fetch(nothing), np.zeros(2))


def test_shifts_are_the_same_in_every_memory(backend: Backend) -> None:
    shift, target_shift = np.array([0.1, 0.2, 0.3]), np.array([1e300])
    shifts = Shifts(CPU, shift, target_shift)
    for found, expected in zip(shifts.on(backend), (shift, target_shift), strict=True):
        np.testing.assert_array_equal(backend.fetch(found), expected)
    back = Shifts(backend, *shifts.on(backend)).on(CPU)
    np.testing.assert_array_equal(back[0], shift)
    assert shifts.on(backend)[0] is shifts.on(backend)[0]


@pytest.mark.parametrize("precision", ["high", "highest", "fast"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_how_products_round(backend: Backend, dtype: str, precision: str) -> None:
    found = backend.rounding_kind(on(backend, np.ones((2, 2), dtype=dtype)), precision)
    if dtype == "float64" or precision == "highest":
        assert found == "double"
    elif backend.is_host:
        assert found == "single"
    else:
        assert found == {"high": "device", "fast": "fast"}[precision]


# ---- classes ----


def test_sums_of_classes(backend: Backend) -> None:
    H, _ = draw(13)
    numbers = np.random.default_rng(14).permutation(np.repeat(np.arange(3), (5, 10, 30)))
    counts = np.bincount(numbers)
    members = backend.class_rows(on(backend, H), numbers, counts)
    exact = stacked([Pairs(H[numbers == k]).sum(axis=0) for k in range(3)])
    assert largest(members.sums() - exact) <= 64 * EPSILON * largest(exact)
    shifts = (exact / counts[:, None]).astype(np.float64)
    members.subtract(shifts)
    rest = H - shifts[numbers]
    energies = np.array([float(np.sum(rest[numbers == k] ** 2)) for k in range(3)])
    np.testing.assert_allclose(members.energies(), energies, rtol=64 * EPSILON)
    gram = Pairs(rest).T @ rest
    for double, unit in ((True, 64 * EPSILON), (False, 2.0**-20)):
        found = calls.gram(members.rows(double=double)).gram
        assert largest(found - gram.tril()) <= unit * float(gram.diagonal().sum())


def test_the_largest_scores(backend: Backend) -> None:
    H, _ = draw(15)
    rng = np.random.default_rng(16)
    heads, offsets = [rng.standard_normal((k, 5)) for k in (3, 7)], [rng.standard_normal(k) for k in (3, 7)]
    mean = H.mean(axis=0)
    found = backend.largest_scores(on(backend, H), mean, heads, offsets)
    for numbers, head, offset in zip(found, heads, offsets, strict=True):
        np.testing.assert_array_equal(numbers, np.argmax((H - mean) @ head.T + offset, axis=1))


# ---- small matrices ----


def test_eigenvalues_and_singular_values(backend: Backend) -> None:
    rng = np.random.default_rng(17)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    eigenvalues = np.array([5.0, 3.0, 1.0, 1e-3, 0.0, -2.0])
    matrix = (turn * eigenvalues) @ turn.T
    matrix = (matrix + matrix.T) / 2.0
    pairs = backend.covariance(backend.place(np.tril(2.0 * matrix)), None, 2).decomposed()
    np.testing.assert_allclose(pairs.values, np.sort(eigenvalues)[::-1], atol=64 * EPSILON)
    assert np.abs(pairs.vectors(6) @ matrix - pairs.values[:, None] * pairs.vectors(6)).max() <= 64 * EPSILON
    other = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    stacked = np.stack([(turn[:, :4] * scale) @ other for scale in ([4.0, 3.0, 2.0, 1.0], [1.0, 0.5, 0.25, 0.0])])
    found = backend.singular_values(backend.place(stacked))
    np.testing.assert_allclose(found, [[4.0, 3.0, 2.0, 1.0], [1.0, 0.5, 0.25, 0.0]], atol=64 * EPSILON)


# ---- descent ----


def _state(d: int, n: int, dtype: str) -> DescentState:
    """Two problems of one K, whose steps stay of one size."""
    rng = np.random.default_rng(18)
    used = d + n + 1
    stride = padded_columns(used, np.dtype(dtype))
    transforms, moments = np.zeros((2, d, stride)), np.zeros((1, used, stride))
    transforms[..., :used] = 0.4 * rng.standard_normal((2, d, used))
    Z = rng.standard_normal((30, used))
    moments[0, :, :used] = Z.T @ Z / 30
    parts = transforms, rng.standard_normal((2, d, n)), rng.standard_normal((2, n)), moments
    rates = np.tile([0.05, 0.06, 0.07, 0.02, 0.03, 0.04, 0.0], (2, 1))
    return DescentState(*(part.astype(dtype) for part in parts), np.zeros(2, dtype=np.int64), rates)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_of_descent(backend: Backend, dtype: str) -> None:
    d, n, count = 4, 2, 3
    used = d + n + 1
    start = _state(d, n, dtype)
    T, W, b = (Pairs(part[0]) for part in (start.transforms, start.weights, start.biases))
    T, K = T[:, :used], Pairs(start.moments[0, :, :used])
    lr_W, lr_T, lr_b, lambda_W, lambda_T, lambda_b, _ = start.rates[0].astype(dtype).astype(np.float64)
    rests = start.transforms[1, :, :used].astype(np.float64)
    descent = RunningDescent(start, backend)
    descent.take_steps(np.array([count, 0]))
    descent.wait()
    for _ in range(count):
        Q = W.T @ T
        Q[range(n), range(d, d + n)] -= 1.0
        Q[:, -1] += b
        P = Q @ K
        by_T, by_W, by_b = W @ Q + lambda_T * T, T @ P.T + lambda_W * W, P[:, -1] + lambda_b * b
        T, W, b = T - lr_T * by_T, W - lr_W * by_W, b - lr_b * by_b
    unit = 64 * float(np.finfo(dtype).eps)
    weights, biases = descent.heads()
    for found, exact in ((descent.transform(0)[:, :used], T), (weights[0], W.T), (biases[0], b)):
        assert found.dtype == np.float64
        assert largest(found - exact) <= unit * largest(exact)
    transforms, some_weights, some_biases = (backend.fetch(part) for part in descent.part(np.array([1, 0])))
    np.testing.assert_array_equal(transforms[0], rests)
    np.testing.assert_array_equal(some_weights, weights[::-1])
    np.testing.assert_array_equal(some_biases, biases[::-1])
    assert descent.are_finite().tolist() == [True, True]
    assert backend.problems_at_once >= 1


def test_a_descent_that_is_not_finite_is_told(backend: Backend) -> None:
    state = _state(4, 2, "float64")
    state.biases[1, 1] = np.inf
    assert RunningDescent(state, backend).are_finite().tolist() == [True, False]
