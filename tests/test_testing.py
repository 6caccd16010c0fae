from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nrc_fast.testing import (
    reference_gram,
    reference_nrc1,
    reference_nrc2,
    reference_nrc3,
    reference_nrc3_gamma,
    reference_residuals,
    reference_rows,
    ufm_optimum,
)

EPS = float(np.finfo(np.float64).eps)
CONVENTIONS = ["nrc24", "id25", "raw", "uncentered", "variance"]


def orthonormal(d: int, k: int, seed: int) -> Any:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, k)))[0]


def test_inputs_are_those_that_the_numbers_belong_to(peer: Any) -> None:
    for array, key in [(peer.features, "H"), (peer.weights, "W"), (peer.targets, "Y")]:
        # The order of a sum over 3200 entries is free: 3200 eps of their size at most.
        assert array.sum() == pytest.approx(peer.checks[key], rel=0, abs=EPS * np.abs(array).sum())


def test_numbers_of_other_packages(peer: Any) -> None:
    H, W, Y, numbers = peer.features, peer.weights, peer.targets, peer.numbers
    found = {
        "nrc1": reference_nrc1(H, 3),
        "nrc1_uncentered": reference_nrc1(H, 3, "uncentered"),
        "nrc1_raw": reference_nrc1(H, 3, "raw"),
        "nrc1_variance": reference_nrc1(H, 3, "variance"),
        "nrc2": reference_nrc2(H, W),
        "nrc2_raw": reference_nrc2(H, W, "raw"),
        "nrc3": reference_nrc3(W, Y),
        "nrc3_at_0.01": reference_nrc3(W, Y, gamma=0.01),
        "nrc3_at_0.1": reference_nrc3(W, Y, gamma=0.1),
        "nrc3_at_lambda_min": reference_nrc3(W, Y, gamma=peer.target_eigenvalues[0]),
    }
    for key, value in found.items():
        assert value == pytest.approx(numbers[key], rel=1e-12), key
    assert reference_nrc3_gamma(W, Y) <= (4 * 2.0**-52) ** 2  # a root of 0, up to rounding
    assert reference_nrc2(H, W, "uncentered") == reference_nrc2(H, W)


def test_dependent_rows_and_dead_samples(peer_b: Any) -> None:
    dependent = peer_b.weights.copy()
    dependent[2] = dependent[0] + dependent[1]
    assert reference_nrc2(peer_b.features, dependent) == pytest.approx(0.67730, abs=5e-6)  # five digits known
    dead = peer_b.features.copy()
    dead[5] = 0.0
    assert reference_nrc1(dead, 3) == pytest.approx(0.48971, abs=5e-6)


def test_residuals_are_distances_to_the_nearest_point_of_the_subspace() -> None:
    rng = np.random.default_rng(0)
    rows, basis, shift = rng.standard_normal((7, 5)), orthonormal(5, 2, seed=1), rng.standard_normal(5)
    rows[3] = shift
    for unit in (False, True):
        expected = []
        for row in rows - shift:
            length = np.linalg.norm(row) if unit and row.any() else 1.0
            nearest = basis @ np.linalg.lstsq(basis, row / length, rcond=None)[0]
            expected.append(sum((row / length - nearest) ** 2))
        found = reference_residuals(rows, basis, shift=shift, unit=unit)
        tolerance = 8 * EPS * np.max(np.sum((rows - shift) ** 2, axis=1))
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        assert found[3] == 0.0
    empty = reference_residuals(rows, np.zeros((5, 0)))
    np.testing.assert_allclose(empty, [sum(row**2) for row in rows], rtol=5 * EPS)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_number_of_components_against_explicit_projectors(convention: str) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, 6)) * np.geomspace(1, 1e-3, 6) + rng.standard_normal(6)
    rows[4] = 0.0
    mean = rows.mean(axis=0)
    centered = rows - mean
    basis_rows = rows if convention == "uncentered" else centered
    components = np.linalg.eigh(basis_rows.T @ basis_rows)[1][:, ::-1]
    shift = mean if convention in {"id25", "variance"} else None
    unit = convention in {"nrc24", "id25", "uncentered"}
    total = np.sum(centered**2) if convention == "variance" else 40
    by_k = reference_nrc1(rows, None, convention)
    assert by_k.shape == (6,)
    for k in range(1, 6):
        expected = np.sum(reference_residuals(rows, components[:, :k], shift=shift, unit=unit)) / total
        # Components of a Gram are off by eps lambda_1 / gap, 2e-16 * 1e6 for the last ones.
        assert by_k[k - 1] == pytest.approx(expected, rel=1e-9)
    assert by_k[5] == 0.0
    assert np.all(np.diff(by_k) < 0)
    assert reference_nrc1(rows, 4, convention) == by_k[3]
    assert reference_nrc1(rows, [6, 2], convention).tolist() == [0.0, by_k[1]]


def test_a_large_mean_loses_only_the_digits_that_the_rows_have_lost() -> None:
    rng = np.random.default_rng(8)
    small = np.round(rng.standard_normal((300, 5)) * 2**30) / 2**30  # so that adding 1024 is exact
    tiny = np.round(rng.standard_normal((300, 5)) * 16) / 2**22  # the last digits of 2^30
    for rows, offset in [(small, 1024.0), (tiny, 2.0**30)]:
        for convention in ("id25", "variance"):
            near = reference_nrc1(rows, 2, convention)
            assert reference_nrc1(rows + offset, 2, convention) == pytest.approx(near, rel=300 * EPS)


@pytest.mark.parametrize("seed", range(5))
def test_an_affine_plane_collapses_under_its_own_conventions_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = orthonormal(10, 3, seed)
    coordinates = np.column_stack([rng.standard_normal((500, 2)), np.full(500, 3.0)])
    features = coordinates @ frame.T
    lengths = np.linalg.norm(coordinates, axis=1)

    # Centred components span the plane, so the offset of length 3 is what is left of each row.
    nrc24 = reference_nrc1(features, 2)
    assert nrc24 == pytest.approx(np.mean((3.0 / lengths) ** 2), rel=100 * EPS)
    assert 0.8 < nrc24 < 0.9
    # Components that are not centred: the least of three directions of the second moment is lost.
    least = np.linalg.eigh(coordinates.T @ coordinates)[1][:, 0]
    uncentered = reference_nrc1(features, 2, "uncentered")
    assert uncentered == pytest.approx(np.mean((coordinates @ least / lengths) ** 2), rel=1e-12)
    assert 0.05 < uncentered < 0.1
    for convention in ("id25", "variance"):
        # Rows are off by some eps |h|, which may be 100 times |h - mean| here.
        assert 0.0 <= reference_nrc1(features, 2, convention) < (100 * 10 * EPS) ** 2


@pytest.mark.parametrize("offset", [1e-3, 1e-6, 1e-9])
def test_tiny_residuals_are_exact(offset: float) -> None:
    # All signs of (2, 1, offset): the components are the axes and the residual of two is the offset.
    signs = np.array([[a, b, c] for a in (1.0, -1.0) for b in (1.0, -1.0) for c in (1.0, -1.0)])
    rows = signs * [2.0, 1.0, offset] @ orthonormal(7, 3, seed=2).T
    energy = 5.0 + offset**2
    # A row is stored with an error of some eps |h| sqrt(d), which is relative to the offset.
    relative = 16 * EPS * math.sqrt(7 * energy) / offset
    assert reference_nrc1(rows, 2, "raw") == pytest.approx(offset**2, rel=relative)
    assert reference_nrc1(rows, 2) == pytest.approx(offset**2 / energy, rel=relative)
    assert reference_nrc1(rows, 2, "variance") == pytest.approx(offset**2 / energy, rel=relative)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_rows_without_energy_are_nan_and_full_dimension_is_zero(convention: str) -> None:
    weights = np.eye(4)[:2]
    for rows in (np.zeros((5, 4)), np.zeros((0, 4))):
        assert math.isnan(reference_nrc1(rows, 2, convention))
        assert math.isnan(reference_nrc1(rows, 4, convention))
        assert math.isnan(reference_nrc2(rows, weights, convention))
    rows = np.random.default_rng(0).standard_normal((9, 4))
    assert reference_nrc1(rows, 4, convention) == 0.0
    assert reference_nrc2(rows, rows[:4], convention) == 0.0
    assert reference_nrc2(rows, rows, convention) == 0.0  # more rows than columns
    assert math.isnan(reference_nrc2(rows, np.zeros((2, 4)), convention))
    # Rank counts singular values above max(n, d) eps: the second direction is there or is not.
    for factor, basis in [(3.5, np.eye(4)[:, :1]), (4.5, np.eye(4)[:, :2])]:
        weights = np.diag([1.0, factor * EPS])[:, [0, 1, 1, 1]] * [1.0, 1.0, 0.0, 0.0]
        expected = reference_nrc2(rows, basis.T, convention)
        assert reference_nrc2(rows, weights, convention) == pytest.approx(expected, rel=32 * EPS)


@pytest.mark.parametrize("convention", ["id25", "variance"])
def test_equal_rows_have_no_variance(convention: str) -> None:
    for count in range(1, 40):  # the plain mean of this row is rounded for some of these
        rows = np.tile([0.1, 0.7, 1e3 / 3], (count, 1))
        assert math.isnan(reference_nrc1(rows, 1, convention))
        assert math.isnan(reference_nrc2(rows, np.eye(3)[:1], convention))


def test_zero_rows_count_as_collapsed() -> None:
    rows = np.random.default_rng(1).standard_normal((10, 4))
    weights = np.random.default_rng(2).standard_normal((2, 4))
    padded = np.concatenate([rows, np.zeros((10, 4))])
    plain = reference_nrc2(rows, weights)
    assert reference_nrc2(padded, weights) == pytest.approx(plain / 2, rel=20 * EPS)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_unit_rows_have_no_scale(scale: float) -> None:
    rows = np.random.default_rng(5).standard_normal((20, 4)) + 1.0
    weights = np.random.default_rng(6).standard_normal((2, 4))
    for convention in ("nrc24", "id25", "uncentered"):
        expected = reference_nrc1(rows, 2, convention)
        assert reference_nrc1(scale * rows, 2, convention) == pytest.approx(expected, rel=200 * EPS)
        expected = reference_nrc2(rows, weights, convention)
        assert reference_nrc2(rows, scale * weights, convention) == pytest.approx(expected, rel=200 * EPS)


@pytest.mark.parametrize("n", [0, 5, -1, [2, 5]])
def test_a_number_of_components_outside_the_dimension_is_refused(n: Any) -> None:
    with pytest.raises(ValueError, match="between 1 and d = 4"):
        reference_nrc1(np.ones((3, 4)), n)


def test_an_unknown_convention_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match="nrc24, id25, raw, uncentered, variance"):
        reference_nrc1(np.ones((3, 4)), 1, "centered")


def test_weights_are_what_is_stored_whatever_their_dtype() -> None:
    torch = pytest.importorskip("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((30, 9))
    base = rng.standard_normal((2, 9))
    weights = np.concatenate([base, base[:1] / 3 + base[1:] / 7])
    # Two dimensions, to the rounding of float64.
    assert reference_nrc2(rows, weights) == pytest.approx(reference_nrc2(rows, base), abs=8 * EPS)
    for stored in [
        weights.astype(np.float32),
        weights.astype(np.float16),
        weights.astype(ml_dtypes.bfloat16),
        torch.tensor(weights).to(torch.float16),
        torch.tensor(weights).to(torch.bfloat16),
    ]:
        # The rounding of the third row is a dimension of its own: Gram-Schmidt needs no cut.
        exact = reference_rows(stored)
        directions = np.linalg.qr(exact.T)[0]
        outside = rows - rows @ directions @ directions.T
        expected = np.mean(np.sum(outside**2, axis=1) / np.sum(rows**2, axis=1))
        # It is small, by up to 1e-8, and the plane is known to eps over that.
        smallest = np.linalg.svd(exact, compute_uv=False)[-1] / np.linalg.norm(exact)
        assert reference_nrc2(rows, stored) == pytest.approx(expected, abs=16 * 9 * EPS / smallest)


def test_rows_are_copied_from_every_dtype() -> None:
    values = np.array([[0.5, -1.25], [3.0, 0.1]])
    for dtype, epsilon in [(np.float64, EPS), (np.float32, 2.0**-23), (np.float16, 2.0**-10)]:
        array = values.astype(dtype)
        rows = reference_rows(array)
        assert rows.dtype == np.float64
        np.testing.assert_allclose(rows, values, rtol=epsilon / 2)
        assert np.array_equal(rows, array)
        rows[:] = 0.0
        assert array[0, 0] == 0.5
    assert reference_rows([[1, 2]]).tolist() == [[1.0, 2.0]]
    strided = np.arange(12.0).reshape(3, 4)[::2, ::-2]
    assert reference_rows(strided).tolist() == [[3.0, 1.0], [11.0, 9.0]]


def test_rows_are_copied_from_tensors() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.nn.Parameter(torch.tensor([[0.5, -1.25], [3.0, 0.1]], dtype=dtype))
        rows = reference_rows(tensor)
        assert rows.dtype == np.float64
        assert rows.tolist() == tensor.detach().double().tolist()
        rows[:] = 0.0
        assert float(tensor.detach()[0, 0]) == 0.5
    assert reference_nrc1(tensor, 1) == reference_nrc1(reference_rows(tensor), 1)


def test_rows_are_copied_from_bfloat16_arrays() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([[0.5, 0.1]], dtype=ml_dtypes.bfloat16)
    assert reference_rows(array).tolist() == [[0.5, 0.10009765625]]  # 0.1 with 8 binary digits


def test_numpy_users_do_not_wait_for_torch(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from nrc_fast.testing import reference_nrc1, reference_nrc2
rows = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
print(reference_nrc1(rows, 2) + reference_nrc2(rows, rows[:2]) > 0, "torch" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout.split() == ["True", "False"]


def test_gram_is_the_sum_of_outer_products() -> None:
    rng = np.random.default_rng(0)
    rows, shift = rng.standard_normal((11, 3)), rng.standard_normal(3)
    expected = np.zeros((3, 3))
    for row in rows:
        expected += np.outer(row - shift, row - shift)
    tolerance = 11 * EPS * np.trace(expected)
    np.testing.assert_allclose(reference_gram(rows, shift), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(reference_gram(rows), rows.T @ rows, rtol=0, atol=11 * EPS * np.sum(rows**2))
    assert reference_gram(np.zeros((0, 2)), np.ones(2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_nrc3_is_nan_where_it_is_not_defined() -> None:
    targets, weights = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]), np.eye(2, 4)
    assert math.isnan(reference_nrc3(weights[:1], targets[:, :1]))
    assert math.isnan(reference_nrc3(weights[:1], targets[:, :1], gamma=0.1))
    assert math.isnan(reference_nrc3(np.zeros((2, 4)), targets))
    assert math.isnan(reference_nrc3(weights, np.ones((5, 2))))
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # covariance I
    assert reference_nrc3_gamma(weights, square) == 0.0
    assert reference_nrc3(weights, square, gamma=0.5) < 16 * EPS**2
    assert math.isnan(reference_nrc3(weights, square, gamma=1.0))
    for seed in range(10):  # nor is anything left of a multiple of the identity in a basis that is rounded
        targets = 0.7 * square @ orthonormal(2, 2, seed)
        assert math.isnan(reference_nrc3(weights, targets, gamma=0.49))
        assert reference_nrc3_gamma(weights, targets) == 0.0


def test_nrc3_of_one_hot_targets_collapses_to_rounding() -> None:
    # Sigma is singular; the root of a rounding error in its zero eigenvalue, 1e-8, would show as 1e-16.
    for seed in range(10):
        _, W, _, Y = ufm_optimum(np.eye(4) / 4 - 1 / 16, 6, 0.1, 0.3, seed=seed)
        assert reference_nrc3(W, Y) < 1e-28
        assert reference_nrc3_gamma(W, Y) <= (4 * 2.0**-52) ** 2  # a root of 0, up to rounding


def test_references_do_not_touch_their_inputs(peer: Any) -> None:
    for array in (peer.features, peer.weights, peer.targets):
        array.flags.writeable = False
    for convention in CONVENTIONS:
        reference_nrc1(peer.features, 2, convention)
        reference_nrc2(peer.features, peer.weights, convention)
    reference_nrc3(peer.weights, peer.targets)
    reference_gram(peer.features, peer.features[0])
    reference_residuals(peer.features, np.eye(16)[:, :2], shift=peer.features[0], unit=True)
    drawn = ufm_optimum(peer.targets, 5, 0.1, 0.1)[3]
    assert drawn.sum() == pytest.approx(peer.checks["Y"], rel=0, abs=EPS * np.abs(drawn).sum())


@pytest.mark.parametrize("c", [0.01, 0.2, 0.6, 1.5])  # below all eigenvalues, between them, above all
@pytest.mark.parametrize("ratio", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_ufm_optimum_is_the_global_minimum(n: int, ratio: float, c: float) -> None:
    eigenvalues = np.linspace(1.0, 0.1, n)
    axes = orthonormal(n, n, seed=n)
    covariance = (axes * eigenvalues) @ axes.T
    lambda_W, lambda_H = math.sqrt(c / ratio), math.sqrt(c * ratio)
    H, W, b, Y = ufm_optimum(covariance, n + 4, lambda_W, lambda_H, seed=n)
    rows = len(Y)
    deviations = Y - Y.mean(axis=0)
    # A sum over the rows; the white targets behind it are orthonormal to some eps sqrt(n).
    np.testing.assert_allclose(deviations.T @ deviations / rows, covariance, rtol=0, atol=rows * EPS)

    errors = H @ W.T + b - Y
    sizes = (np.abs(Y).max() + 1.0) * (1.0 + np.abs(H).max()) * (1.0 + np.abs(W).max())
    tolerance = 8 * rows * EPS * sizes  # sums over the rows of products of these sizes
    np.testing.assert_allclose(errors @ W + lambda_H * H, 0.0, rtol=0, atol=tolerance)
    np.testing.assert_allclose(errors.T @ H / rows + lambda_W * W, 0.0, rtol=0, atol=tolerance)
    np.testing.assert_allclose(errors.mean(axis=0), 0.0, rtol=0, atol=tolerance)
    loss = (np.sum(errors**2) + lambda_H * np.sum(H**2)) / (2 * rows) + lambda_W * np.sum(W**2) / 2
    least = sum(math.sqrt(c * x) - c / 2 if x > c else x / 2 for x in eigenvalues)
    assert loss == pytest.approx(least, rel=0, abs=tolerance)

    # Profiled over H and b the loss is convex in G = W W^T >= 0, so these conditions certify the minimum:
    # its gradient has no negative eigenvalue and vanishes on the range of G.
    gram = W @ W.T
    inverse = np.linalg.inv(gram + lambda_H * np.eye(n))
    gradient = lambda_W * np.eye(n) - lambda_H * inverse @ covariance @ inverse
    conditioned = tolerance * max(1.0, float(np.linalg.norm(inverse, 2))) ** 2
    assert np.linalg.eigvalsh(gradient)[0] > -conditioned
    np.testing.assert_allclose(gradient @ gram, 0.0, rtol=0, atol=conditioned * (1.0 + np.abs(gram).max()))


def test_every_convention_sees_the_collapse_of_the_ufm() -> None:
    H, W, _, Y = ufm_optimum(np.array([[1.3, -0.4], [-0.4, 0.5]]), 12, 0.5, 0.02, seed=3)
    size = float(np.max(np.sum(H**2, axis=1)))
    floor = (12 * EPS) ** 2 * max(size, 1.0) * 16  # an explicit residual of stored rows, off by eps |h| each
    for convention in CONVENTIONS:
        assert reference_nrc1(H, 2, convention) < floor
        assert reference_nrc2(H, W, convention) < floor
    assert reference_nrc3(W, Y, gamma=0.01) < 1e-28
    assert reference_nrc3(W, Y) < 1e-28
    assert reference_nrc3_gamma(W, Y) == pytest.approx(0.01, rel=1e-12)


def test_ufm_optimum_takes_targets_as_they_are() -> None:
    rng = np.random.default_rng(0)
    few = rng.standard_normal((2, 3))  # fewer samples than outputs
    H, W, b, Y = ufm_optimum(few, 4, 0.1, 0.1, seed=1)
    assert np.array_equal(Y, few)
    assert np.linalg.matrix_rank(W) == 1
    singular = np.linalg.svd(few - few.mean(axis=0), compute_uv=False)[0] / math.sqrt(2)
    predicted = np.linalg.svd(H @ W.T + b - few.mean(axis=0), compute_uv=False)[0] / math.sqrt(2)
    assert predicted == pytest.approx(singular - 0.1, rel=32 * EPS)
    with pytest.raises(ValueError, match="d must be at least n = 3"):
        ufm_optimum(few, 2, 0.1, 0.1)
