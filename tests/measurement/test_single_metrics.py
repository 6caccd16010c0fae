"""NRC1, NRC2, NRC3 and the report against float64 references written from the definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.double_double import Pairs
from support.features import spread_features, stored_as

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_rows, ufm_optimum

pytestmark = pytest.mark.usefixtures("on_every_device")

EPSILON = 2.0**-52
CONVENTIONS = list(nrc.CONVENTIONS)
DTYPES = ["float64", "float32", "float16", "bfloat16"]


def plain_residual(H: Any, basis: np.ndarray | None, n: int, convention: str) -> float:
    """What a user would write in the dtype of the rows (float32 for 16 bits): the yardstick of our errors."""
    rows = reference_rows(H)
    rows = rows if getattr(H, "dtype", None) == np.float64 else rows.astype(np.float32)
    chosen = nrc.CONVENTIONS[convention]
    centered = rows - rows.mean(axis=0)
    if basis is None:
        for_basis = centered if chosen.centered_basis else rows
        basis = np.linalg.eigh(for_basis.T @ for_basis)[1][:, ::-1][:, :n]
    projected = centered if chosen.centered_rows else rows
    if chosen.unit_rows:
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        projected = projected / np.where(norms > 0, norms, 1)
    basis = basis.astype(rows.dtype)
    residual = projected - (projected @ basis) @ basis.T
    total = np.sum(projected**2) if chosen.relative else len(rows)
    return float(np.sum(residual**2) / total)


def tolerance(H: Any, reference: float, plain: float) -> float:
    """Twice the error of the plain computation, and a few roundings of the stored dtype's arithmetic."""
    unit = EPSILON if getattr(H, "dtype", None) == np.float64 else 2.0**-23
    return 2.0 * abs(plain - reference) + 8.0 * unit * reference + 64.0 * EPSILON


# ---- known numbers ----


def test_numbers_of_other_packages(peer: Any) -> None:
    H, W, Y = peer.features, peer.weights, peer.targets
    measured = {
        "nrc1": nrc.nrc1(H, 3),
        "nrc1_uncentered": nrc.nrc1(H, 3, convention="uncentered"),
        "nrc1_raw": nrc.nrc1(H, 3, convention="raw"),
        "nrc1_variance": nrc.nrc1(H, 3, convention="variance"),
        "nrc2": nrc.nrc2(H, W),
        "nrc2_raw": nrc.nrc2(H, W, convention="raw"),
        "nrc3": nrc.nrc3(W, Y),
        "nrc3_at_0.01": nrc.nrc3(W, Y, gamma=0.01),
        "nrc3_at_0.1": nrc.nrc3(W, Y, gamma=0.1),
    }
    assert measured == pytest.approx({name: peer.numbers[name] for name in measured}, rel=1e-12)
    report = nrc.measure(H, Y, W)
    assert report.nrc1 == pytest.approx(peer.numbers["nrc1"], rel=1e-12)
    assert report.nrc2 == pytest.approx(peer.numbers["nrc2"], rel=1e-12)
    assert report.nrc3 == pytest.approx(peer.numbers["nrc3"], rel=1e-12)
    assert report.explained_variance_ratio[:3] == pytest.approx(peer.explained_variance_ratio, rel=1e-12)
    assert report.stable_rank == pytest.approx(peer.numbers["stable_rank"], rel=1e-12)
    assert report.cka == pytest.approx(peer.numbers["cka"], rel=1e-12)
    assert report.alternatives["variance"]["nrc1"] == pytest.approx(peer.numbers["nrc1_variance"], rel=1e-12)


@pytest.mark.parametrize("penalties", [(0.02, 0.005), (0.5, 0.002), (0.001, 0.3)], ids=str)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_exact_optimum_of_the_ufm_is_collapsed(n: int, penalties: tuple[float, float]) -> None:
    targets = np.random.default_rng(n).standard_normal((400, n))
    H, W, b, Y = ufm_optimum(targets, 24, *penalties, seed=n)
    report = nrc.measure(H, Y, W, b)
    # Rounding of H itself: a few units per entry, squared and relative to the energy.
    floor = (8 * EPSILON) ** 2 * H.shape[1]
    assert report.nrc1 < floor
    assert report.nrc2 < floor
    c = penalties[0] * penalties[1]
    assert report.mse == pytest.approx(n * c, rel=1e-9)
    if n == 1:
        assert math.isnan(report.nrc3)
        assert math.isnan(report.gamma)
    else:
        assert report.gamma == pytest.approx(c, rel=1e-9)
        assert report.nrc3 < (64 * EPSILON) ** 2 * n
        assert report.ufm is not None
        assert report.ufm.mse == pytest.approx(report.mse, rel=1e-9)


# ---- dtypes, sizes, conventions ----


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97])
def test_nrc1_and_nrc2_of_every_dtype(d: int, dtype: str, convention: str) -> None:
    rng = np.random.default_rng(d)
    H = stored_as(spread_features(rng, 3 * d + 10, d), dtype)
    for n in sorted({1, min(3, d), d}):
        reference = reference_nrc1(H, n, convention)
        plain = plain_residual(H, None, n, convention)
        value = nrc.nrc1(H, n, convention=convention)
        assert abs(value - reference) <= tolerance(H, reference, plain)
    W = rng.standard_normal((min(2, d), d))
    reference = reference_nrc2(H, W, convention)
    plain = plain_residual(H, np.linalg.qr(W.T)[0], 0, convention)
    assert abs(nrc.nrc2(H, W, convention=convention) - reference) <= tolerance(H, reference, plain)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_k_at_once(dtype: str, convention: str) -> None:
    H = stored_as(spread_features(np.random.default_rng(0), 700, 20), dtype)
    reference = reference_nrc1(H, None, convention)
    values = nrc.nrc1(H, None, convention=convention)
    assert values.shape == (20,)
    plain = np.array([plain_residual(H, None, k, convention) for k in range(1, 21)])
    # One yardstick for all k: which of two close components turns more is a matter of luck.
    yardstick = np.max(np.abs(plain - reference))
    for k in range(1, 21):
        allowed = tolerance(H, reference[k - 1], reference[k - 1] + yardstick)
        # The default rtol of nrc1 is 1e-3: where the first read is not known to be that good it is read again.
        allowed += 1e-3 * reference[k - 1] * (dtype != "float64")
        assert abs(values[k - 1] - reference[k - 1]) <= allowed
    assert values[-1] == 0.0
    some = nrc.nrc1(H, [1, 4, 20], convention=convention)
    assert some == pytest.approx([nrc.nrc1(H, k, convention=convention) for k in (1, 4, 20)], rel=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 255, 256, 257, 1000])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.filterwarnings("ignore::nrc_fast.PrecisionWarning")
def test_any_number_of_rows(rows: int, convention: str) -> None:
    H = spread_features(np.random.default_rng(rows), rows, 6)
    reference = reference_nrc1(H, 2, convention)
    assert nrc.nrc1(H, 2, convention=convention) == pytest.approx(reference, rel=1e-9, abs=1e-28, nan_ok=True)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2], lambda a: a[::-1][::-1]])
def test_strides_do_not_matter(make: Any) -> None:
    H = spread_features(np.random.default_rng(0), 500, 12).astype(np.float32)
    same = make(H)
    assert np.array_equal(same, H)
    assert nrc.nrc1(same, 3) == nrc.nrc1(H, 3)
    assert nrc.nrc1(torch.from_numpy(H), 3) == nrc.nrc1(H, 3)


def test_wide_array_is_not_copied_as_a_whole() -> None:
    wide = np.asfortranarray(spread_features(np.random.default_rng(0), 4000, 8)).T.copy()
    assert nrc.nrc1(wide.T, 2) == pytest.approx(reference_nrc1(wide.T, 2), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_mean_costs_no_digits(dtype: str) -> None:
    H = (spread_features(np.random.default_rng(3), 3000, 8) + 1000.0).astype(dtype)
    reference = reference_nrc1(H, 2, "variance")
    # The rounding of the stored rows is 6e-5 in float32; what is asked here is the number of those rows.
    assert nrc.nrc1(H, 2, convention="variance") == pytest.approx(reference, rel=1e-9)
    assert nrc.nrc1(H, 2, convention="id25") == pytest.approx(reference_nrc1(H, 2, "id25"), rel=1e-9)


# ---- close to collapse ----


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-7])
def test_collapsed_float32_rows_are_measured_in_float64(noise: float, convention: str) -> None:
    rng = np.random.default_rng(1)
    H = rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 40)) + noise * rng.standard_normal((2000, 40))
    H = H.astype(np.float32)
    reference = reference_nrc1(H, 3, convention)
    # design: one refinement and a float64 residual reach 1e-11, and float64 itself the rounding over the noise.
    assert nrc.nrc1(H, 3, convention=convention) == pytest.approx(reference, rel=1e-9)
    W = rng.standard_normal((3, 40)).astype(np.float32)
    assert nrc.nrc2(H, W, convention=convention) == pytest.approx(reference_nrc2(H, W, convention), rel=1e-9)


@pytest.mark.parametrize("noise", [1e-6, 1e-9, 1e-12, 1e-14])
def test_collapse_down_to_the_last_digits_of_float64(noise: float) -> None:
    rng = np.random.default_rng(1)
    H = rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 40)) + noise * rng.standard_normal((2000, 40))
    reference = reference_nrc1(H, 3)
    # The rows are rounded to about 1e-16, which both sides see; projecting adds a rounding of that size.
    assert nrc.nrc1(H, 3) == pytest.approx(reference, rel=1e-9 + 4 * EPSILON / noise)


def test_the_affine_trap_is_named() -> None:
    rng = np.random.default_rng(2)
    A = rng.standard_normal((2, 10))
    offset = 3.0 * np.linalg.svd(A)[2][5]
    H = rng.standard_normal((500, 2)) @ A + offset
    report = nrc.measure(H, n=2)
    assert report.nrc1 == pytest.approx(reference_nrc1(H, 2), rel=1e-10)
    assert report.nrc1 > 0.2
    assert report.alternatives["id25"]["nrc1"] < 1e-26
    assert report.alternatives["variance"]["nrc1"] < 1e-26
    assert any("affine" in note for note in report.notes)
    assert not nrc.measure(H - offset, n=2).notes


# ---- by definition ----


def test_zero_rows_count_with_residual_zero() -> None:
    H = spread_features(np.random.default_rng(0), 50, 6)
    H[5] = 0.0
    report = nrc.measure(H, n=2)
    assert report.zero_rows == 1
    assert report.nrc1 == pytest.approx(reference_nrc1(H, 2), rel=1e-12)


def test_numbers_that_a_definition_leaves_open_are_nan() -> None:
    zeros, W = np.zeros((10, 4)), np.eye(4)[:2]
    for convention in CONVENTIONS:
        assert math.isnan(nrc.nrc1(zeros, 2, convention=convention))
        assert math.isnan(nrc.nrc2(zeros, W, convention=convention))
        assert np.isnan(nrc.nrc1(zeros, None, convention=convention)).all()
    H = spread_features(np.random.default_rng(0), 50, 4)
    assert math.isnan(nrc.nrc2(H, 0 * W))
    assert math.isnan(nrc.nrc3(0 * W, H[:, :2]))
    assert math.isnan(nrc.nrc3(W[:1], H[:, :1]))
    assert math.isnan(nrc.nrc3_gamma(W[:1], H[:, 0]))
    report = nrc.measure(zeros, H[:10, :2], W)
    assert math.isnan(report.nrc1)
    assert math.isnan(report.cka)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_rows_have_no_variance(dtype: str) -> None:
    H = np.tile(np.array([0.1, 0.7, -1e3], dtype=dtype), (37, 1))
    assert math.isnan(nrc.nrc1(H, 1, convention="variance"))
    assert math.isnan(nrc.nrc1(H, 1, convention="id25"))
    assert nrc.nrc1(H, 1, convention="uncentered") == pytest.approx(0.0, abs=1e-13)


def test_as_many_components_as_features_leave_nothing() -> None:
    H = spread_features(np.random.default_rng(0), 50, 4)
    assert nrc.nrc1(H, 4) == 0.0
    assert nrc.nrc2(H, np.random.default_rng(1).standard_normal((6, 4))) == 0.0


def test_inputs_are_not_changed() -> None:
    rng = np.random.default_rng(0)
    arrays = [
        spread_features(rng, 200, 8).astype(np.float32),
        rng.standard_normal((200, 2)),
        rng.standard_normal((2, 8)),
    ]
    before = [array.tobytes() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    H, Y, W = arrays
    nrc.measure(H, Y, W, np.zeros(2))
    nrc.nrc1(H, None)
    nrc.nrc2(H, W)
    nrc.nrc3_curve(W, Y, [0.0, 0.1])
    assert [array.tobytes() for array in arrays] == before


def test_parameters_are_read_without_a_graph() -> None:
    layer = torch.nn.Linear(8, 2)
    H = torch.randn(300, 8, requires_grad=True)
    Y = torch.randn(300, 2)
    report = nrc.measure(H, Y, layer.weight, layer.bias)
    error = (layer(H) - Y).detach().double().square().sum(dim=1).mean().item()
    assert report.mse == pytest.approx(error, rel=1e-6)
    assert report.nrc2 == pytest.approx(reference_nrc2(H.detach(), layer.weight.detach()), rel=1e-6)


# ---- the rest of the report ----


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_errors_of_prediction_and_readout(dtype: str) -> None:
    rng = np.random.default_rng(5)
    H = stored_as(spread_features(rng, 900, 7), dtype)
    Y = H.astype(np.float64) @ rng.standard_normal((7, 3)) + 0.1 * rng.standard_normal((900, 3)) + 2.0
    W, b = rng.standard_normal((3, 7)), rng.standard_normal(3)
    report = nrc.measure(H, Y, W, b)
    rows = H.astype(np.float64)
    mse = np.mean(np.sum((rows @ W.T + b - Y) ** 2, axis=1))
    variance = np.sum(np.var(Y, axis=0))
    design = np.column_stack([rows, np.ones(len(rows))])
    best = Y - design @ np.linalg.lstsq(design, Y, rcond=None)[0]
    assert abs(report.mse - mse) <= report.bounds["mse"] + 1e-14 * mse
    assert abs(report.r2 - (1 - mse / variance)) <= report.bounds["r2"] + 1e-14
    assert abs(report.linear_mse - np.sum(best**2) / len(rows)) <= report.bounds["linear_mse"]
    assert report.bounds["mse"] < 1e-3 * mse
    centered, targets = rows - rows.mean(0), Y - Y.mean(0)
    cka = np.linalg.norm(centered.T @ targets) ** 2
    cka /= np.linalg.norm(centered.T @ centered) * np.linalg.norm(targets.T @ targets)
    assert abs(report.cka - cka) <= report.bounds["cka"]
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    shares = eigenvalues / eigenvalues.sum()
    assert report.effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-5)


def test_a_perfect_fit_is_read_again() -> None:
    rng = np.random.default_rng(6)
    H = rng.standard_normal((500, 6)).astype(np.float32)
    W, b = rng.standard_normal((2, 6)), rng.standard_normal(2)
    Y = H.astype(np.float64) @ W.T + b + 1e-7 * rng.standard_normal((500, 2))
    report = nrc.measure(H, Y, W, b)
    reference = np.mean(np.sum((H.astype(np.float64) @ W.T + b - Y) ** 2, axis=1))
    assert report.mse == pytest.approx(reference, rel=1e-6)


def own_angles(H: np.ndarray, convention: str) -> np.ndarray:
    """How far the components of a float64 reference may be turned by the rounding of their matrix."""
    rows = H.astype(np.float64)
    about = rows - (rows.mean(axis=0) if nrc.CONVENTIONS[convention].centered_basis else 0.0)
    values = np.linalg.eigvalsh(about.T @ about)[::-1]
    gaps = values[:-1] - values[1:]
    return np.append(np.minimum(8 * EPSILON * values[0] / np.maximum(gaps, 1e-300), 1.0), 0.0)


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(20, 600),
    d=st.integers(4, 40),
    noise=st.floats(-7, 0),
    mean=st.floats(0, 100),
    single=st.booleans(),
)
@pytest.mark.host
def test_bounds_hold(seed: int, rows: int, d: int, noise: float, mean: float, *, single: bool) -> None:
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((rows, 2)) @ rng.standard_normal((2, d))
    H = H + 10.0**noise * rng.standard_normal((rows, d)) + mean * rng.standard_normal(d)
    H = H.astype(np.float32) if single else H
    W, Y = rng.standard_normal((2, d)), rng.standard_normal((rows, 2))
    for convention in CONVENTIONS:
        report = nrc.measure(H, Y, W, convention=convention)
        reference = reference_nrc1(H, None, convention)
        energy = max(1.0, np.mean(np.sum(H.astype(np.float64) ** 2, axis=1)))
        own_rounding = (8 * EPSILON) ** 2 * d * energy
        slack = 1e-12 * reference + own_rounding
        slack[:-1] += 2.0 * own_angles(H, convention)[:-1] * np.sqrt(reference[:-1] * energy)
        assert abs(report.nrc1 - reference[1]) <= report.bounds["nrc1"] + slack[1]
        for extent in (report, nrc.measure(H, Y, W, convention=convention, by_k="all")):
            by_k, count = np.asarray(extent.bounds["nrc1_by_k"]), len(extent.nrc1_by_k)
            assert count == (min(16, d) if extent is report else d)
            assert (np.abs(extent.nrc1_by_k - reference[:count]) <= by_k + slack[:count]).all()
        expected = reference_nrc2(H, W, convention)
        assert abs(report.nrc2 - expected) <= report.bounds["nrc2"] + 1e-12 * expected + own_rounding


@pytest.mark.filterwarnings("ignore::nrc_fast.PrecisionWarning")
def test_more_components_than_directions() -> None:
    # Two directions, five asked for: those two are all there are, and the bound does not grow beyond their value's.
    rng = np.random.default_rng(4)
    H = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 12))
    for rows in (H, H.astype(np.float32)):
        report = nrc.measure(rows, n=5)
        assert report.nrc1 == pytest.approx(reference_nrc1(rows, 5), rel=1e-6, abs=1e-28)
        assert report.bounds["nrc1"] < 1e-12
    offset = H + 3.0 * np.linalg.svd(H)[2][7]
    assert nrc.nrc1(offset, 5) == pytest.approx(nrc.nrc1(offset, 2), rel=1e-9)
    assert nrc.nrc1(offset, None)[1:-1] == pytest.approx(np.full(10, nrc.nrc1(offset, 2)), rel=1e-9)


@pytest.mark.filterwarnings("ignore::nrc_fast.PrecisionWarning")
def test_one_dominant_component_does_not_hide_the_floor() -> None:
    rng = np.random.default_rng(5)
    scales = np.array([1.0, 1e-2, 3e-8, 1e-8, 3e-9, 1e-9])
    H = rng.standard_normal((2000, 6)) * scales @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for convention in CONVENTIONS:
        each = [nrc.nrc1(H, k, convention=convention) for k in range(1, 6)]
        assert nrc.nrc1(H, None, convention=convention)[:-1] == pytest.approx(each, rel=1e-3)


def test_the_bound_of_the_error_sees_the_bias() -> None:
    rng = np.random.default_rng(7)
    H, W, b = rng.standard_normal((300, 5)), rng.standard_normal((2, 5)), np.full(2, 1e8)
    Y = H @ W.T + b
    report = nrc.measure(H, Y, W, b)
    exact = float(((Pairs(H) @ W.T + b - Y) ** 2).sum(axis=1).mean())
    assert abs(report.mse - exact) <= report.bounds["mse"]


# ---- laws ----


@given(seed=st.integers(0, 2**32 - 1), convention=st.sampled_from(CONVENTIONS), exponent=st.integers(-60, 60))
@pytest.mark.host
def test_laws_of_nrc1(seed: int, convention: str, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    H = spread_features(rng, 120, 9)
    value = nrc.nrc1(H, 3, convention=convention)
    rotation = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    assert nrc.nrc1(H[rng.permutation(120)], 3, convention=convention) == pytest.approx(value, rel=1e-10)
    assert nrc.nrc1(H @ rotation, 3, convention=convention) == pytest.approx(value, rel=1e-10)
    scaled = nrc.nrc1(np.ldexp(H, exponent), 3, convention=convention)
    expected = math.ldexp(value, 2 * exponent) if convention == "raw" else value
    assert scaled == pytest.approx(expected, rel=1e-10)
    by_k = nrc.nrc1(H, None, convention=convention)
    if convention not in ("nrc24", "id25", "uncentered", "raw"):
        assert (np.diff(by_k) <= 0).all()


@pytest.mark.parametrize("factor", [1e-25, 1e-12, 1e12, 1e18])
def test_float32_rows_of_any_size(factor: float) -> None:
    H = (spread_features(np.random.default_rng(0), 300, 9) * factor).astype(np.float32)
    for convention in ("nrc24", "id25", "variance"):
        reference = reference_nrc1(H, 2, convention)
        assert nrc.nrc1(H, 2, convention=convention) == pytest.approx(reference, rel=1e-6)


# ---- rows that are not finite ----


@pytest.mark.parametrize("bad_features", [[3, 77, 50], []], ids=["features and targets", "targets alone"])
def test_skipping_equals_measuring_the_other_rows(bad_features: list[int]) -> None:
    rng = np.random.default_rng(0)
    H, Y, W = (
        spread_features(rng, 400, 6).astype(np.float32),
        rng.standard_normal((400, 2)),
        rng.standard_normal((2, 6)),
    )
    H[bad_features[:2]] = np.nan
    H[bad_features[2:], 2] = np.inf
    Y[200, 1] = np.nan
    keep = np.isfinite(H).all(axis=1) & np.isfinite(Y).all(axis=1)
    skipped = nrc.measure(H, Y, W, np.zeros(2), nonfinite="skip")
    kept = nrc.measure(H[keep], Y[keep], W, np.zeros(2))
    assert skipped.skipped_rows == 400 - keep.sum()
    assert skipped.samples == kept.samples == keep.sum()
    for name in ("nrc1", "nrc2", "nrc3", "mse", "cka", "linear_mse"):
        assert getattr(skipped, name) == pytest.approx(getattr(kept, name), rel=1e-12)
    assert nrc.nrc1(torch.from_numpy(H), 2, nonfinite="skip") == pytest.approx(
        nrc.nrc1(H[np.isfinite(H).all(axis=1)], 2), rel=1e-12
    )
