"""The closed-form minimum against the loss itself: its gradient, its value, and L-BFGS from random starts."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast.metrics.targets import linear_cka
from nrc_fast.ufm import interpolating_features, minimum

EPS = float(np.finfo(np.float64).eps)
SPECTRA = {1: [0.8], 2: [1.3, 0.4], 3: [2.0, 0.7, 0.1], 5: [3.0, 1.0, 0.6, 0.2, 0.05]}
FIELDS = [
    *("c", "rank", "loss", "mse", "r2", "weight_norm_squared", "feature_norm_squared", "weight_singular_values"),
    *("bias", "gram", "head_gram_shape", "residual_covariance", "cosines", "explained_variance_ratio", "cka"),
]


def problem(reference: Any, n: int, bias: str) -> tuple[Any, dict[str, Any]]:
    """Targets and options; a mean along an eigenvector where the bias is penalised."""
    covariance = reference.covariance_with(SPECTRA[n], seed=n)
    mean = np.random.default_rng(n).standard_normal(n)
    if bias == "penalised":
        mean = 0.9 * np.linalg.eigh(covariance)[1][:, n // 2]
    options = {"free": {}, "absent": {"bias": False}, "penalised": {"lambda_b": 0.4}}[bias]
    return reference.targets_with(covariance, 4 * n + 6, mean, seed=n), options


# ---- against the loss ----


@pytest.mark.parametrize("bias", ["free", "absent", "penalised"])
@pytest.mark.parametrize("c", [0.01, 0.15, 0.65, 1.1, 9.0])
@pytest.mark.parametrize("n", list(SPECTRA))
def test_gradient_and_loss_at_the_minimum(reference: Any, n: int, c: float, bias: str) -> None:
    targets, options = problem(reference, n, bias)
    lambda_W = 0.3
    found = minimum(targets, lambda_W=lambda_W, lambda_H=c / lambda_W, **options)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((n + 3, n)))[0].T
    H, W = found.features(targets, rotation), found.weights(rotation)
    penalty = options.get("lambda_b", 0.0)
    loss, (by_H, by_W, by_b) = reference.loss_and_gradients(H, W, found.bias, targets, lambda_W, c / lambda_W, penalty)
    size = 1.0 + np.abs(targets).max() ** 2
    # Roots of eigenvalues that are off by some n eps, of variances down to 0.05, and products of three factors.
    tolerance = 64 * n * EPS * size / math.sqrt(min(SPECTRA[n]))
    assert found.loss == pytest.approx(loss, rel=0, abs=tolerance)
    assert np.abs(by_H).max() * math.sqrt(len(targets)) < tolerance
    assert np.abs(by_W).max() < tolerance
    if bias == "absent":
        assert not found.bias.any()
    else:
        assert np.abs(by_b).max() < tolerance

    errors = H @ W.T + found.bias - targets
    rows = len(targets)
    np.testing.assert_allclose(found.residual_covariance, errors.T @ errors / rows, rtol=0, atol=tolerance)
    assert found.mse == pytest.approx(np.sum(errors**2) / rows, rel=0, abs=n * tolerance)
    np.testing.assert_allclose(found.gram, W @ W.T, rtol=0, atol=tolerance)
    assert found.weight_norm_squared == pytest.approx(np.sum(W**2), rel=0, abs=n * tolerance)
    assert found.feature_norm_squared == pytest.approx(np.sum(H**2) / rows, rel=0, abs=n * tolerance)
    singular_values = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(np.sort(found.weight_singular_values)[::-1], singular_values, atol=math.sqrt(tolerance))
    assert found.rank == np.sum(singular_values > 1e-6)

    # What the features say of themselves, from their centred rows.
    centered, deviations = H - H.mean(axis=0), targets - targets.mean(axis=0)
    assert found.r2 == pytest.approx(1 - found.mse / np.sum(deviations**2) * rows, rel=0, abs=n * tolerance)
    if found.rank == 0:
        assert not H.any()
        assert math.isnan(found.cka)
        assert np.isnan(found.explained_variance_ratio).all()
        return
    spectrum = np.linalg.eigvalsh(centered.T @ centered)[::-1][:n]
    shares = found.explained_variance_ratio
    np.testing.assert_allclose(shares, spectrum / spectrum.sum(), rtol=0, atol=64 * tolerance)
    cka = linear_cka(centered.T @ centered, deviations.T @ deviations, centered.T @ deviations)
    assert found.cka == pytest.approx(cka, rel=0, abs=64 * tolerance)


@pytest.mark.parametrize("bias", ["free", "absent", "penalised"])
@pytest.mark.parametrize("c", [0.02, 0.3, 1.2, 5.0])  # below, between, between and above the eigenvalues
@pytest.mark.parametrize("n", [1, 2, 3])
def test_descent_from_random_starts_finds_nothing_lower(reference: Any, n: int, c: float, bias: str) -> None:
    pytest.importorskip("scipy")
    targets, options = problem(reference, n, bias)
    lambda_W, lambda_H = 0.5, c / 0.5
    closed = minimum(targets, lambda_W=lambda_W, lambda_H=lambda_H, **options)
    for seed in range(2):
        loss, W, b = reference.optimise(targets, n + 1, lambda_W, lambda_H, seed=seed, **options)
        # It stops where the loss changes by some 1e-16 of itself, up to 1e4 such steps before the end.
        gap = 1e-11 * closed.loss
        assert -64 * EPS * closed.loss < loss - closed.loss < gap
        # The profiled loss is strictly convex in W W^T with at least this curvature along the kept directions.
        curvature = lambda_H * min(SPECTRA[n]) / (np.linalg.norm(closed.gram, 2) + lambda_H) ** 3
        radius = math.sqrt(2 * gap / curvature) + 1e-12
        assert np.linalg.norm(W @ W.T - closed.gram) < radius
        assert np.linalg.norm(b - closed.bias) < radius * (1 + np.linalg.norm(targets.mean(axis=0)) / lambda_H)


def test_two_outputs_have_a_closed_square_root() -> None:
    a, b, k, c = 1.3, 0.5, -0.4, 0.01
    found = minimum(covariance=[[a, k], [k, b]], lambda_W=0.1, lambda_H=c / 0.1)
    delta = math.sqrt(a * b - k * k)
    s = math.sqrt(a + b + 2 * delta)
    root = np.array([[a + delta, k], [k, b + delta]]) / s
    np.testing.assert_allclose(found.gram, root - math.sqrt(c) * np.eye(2), rtol=0, atol=16 * EPS)
    assert found.cosines[0, 1] == pytest.approx(-0.29332840654672687, rel=32 * EPS)
    assert found.cosines[0, 0] == pytest.approx(1.0, rel=4 * EPS)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 10), st.floats(1e-3, 10))
def test_one_output(variance: float, lambda_W: float, lambda_H: float) -> None:
    found = minimum(covariance=[[variance]], lambda_W=lambda_W, lambda_H=lambda_H)
    c = lambda_W * lambda_H
    expected = max(lambda_H * (math.sqrt(variance) / math.sqrt(c) - 1.0), 0.0)
    assert found.weight_norm_squared == pytest.approx(expected, rel=1e-12, abs=8 * EPS * lambda_H)
    assert found.mse == min(variance, c)


def test_nrc_is_zero_at_the_minimum(reference: Any) -> None:
    targets, _ = problem(reference, 3, "free")
    found = minimum(targets, lambda_W=0.5, lambda_H=0.02)
    report = nrc.measure(found.features(targets, d=6), targets, found.weights(d=6), found.bias)
    assert report.nrc1 < 1e-28
    assert report.nrc2 < 1e-28
    assert report.nrc3 < 1e-28
    assert report.gamma == pytest.approx(0.01, rel=1e-12)
    assert report.mse == pytest.approx(found.mse, rel=1e-12)


# ---- batches ----


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"lambda_b": [[0.1], [0.3]]}])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 17])
def test_a_batch_is_its_problems_one_by_one(reference: Any, n: int, options: Any) -> None:
    rng = np.random.default_rng(n)
    covariances = np.stack([reference.covariance_with(rng.uniform(0.1, 2.0, n), seed) for seed in range(3)])
    means = rng.standard_normal((3, n))
    if "lambda_b" in options:
        means = np.stack([np.linalg.eigh(matrix)[1][:, 0] for matrix in covariances])
    lambda_W, lambda_H = np.array([[0.3], [2.0]]), np.array([0.1, 0.4, 0.9])
    together = minimum(covariance=covariances, mean=means, lambda_W=lambda_W, lambda_H=lambda_H, **options)
    targets = rng.standard_normal((11, n))
    batched = {name: np.asarray(getattr(together, name)) for name in FIELDS}
    batched["weights"], batched["features"] = together.weights(d=n + 2), together.features(targets, d=n + 2)
    assert together.gram.shape == (2, 3, n, n)
    assert together.bias.flags.c_contiguous  # older numpy multiplies other layouts in another order
    for i in range(2):
        for j in range(3):
            own = {name: np.ravel(value)[i] if np.ndim(value) else value for name, value in options.items()}
            alone = minimum(
                covariance=covariances[j], mean=means[j], lambda_W=lambda_W[i, 0], lambda_H=lambda_H[j], **own
            )
            single = {name: np.asarray(getattr(alone, name)) for name in FIELDS}
            single["weights"], single["features"] = alone.weights(d=n + 2), alone.features(targets, d=n + 2)
            for name, value in batched.items():
                np.testing.assert_array_equal(np.broadcast_to(value, (2, 3, *single[name].shape))[i, j], single[name])


def test_scalars_are_python_numbers() -> None:
    found = minimum(covariance=np.eye(2), lambda_W=0.5, lambda_H=0.5)
    assert [type(getattr(found, name)) for name in ("c", "rank", "loss", "mse", "r2", "cka")] == [
        *(float, int, float, float, float, float)
    ]


def test_whatever_describes_the_targets(reference: Any) -> None:
    torch = pytest.importorskip("torch")
    targets, _ = problem(reference, 3, "free")
    options = {"lambda_W": 0.5, "lambda_H": 0.1}
    expected = minimum(targets, **options)
    covariance, mean = np.cov(targets.T, bias=True), targets.mean(axis=0)
    statistics = SimpleNamespace(target_covariance=covariance, target_mean=mean)
    for found in (
        minimum(torch.from_numpy(targets), **options),
        minimum(statistics, **options),
        minimum(covariance=covariance, mean=mean, **options),
        minimum(covariance=torch.from_numpy(covariance), mean=torch.from_numpy(mean), **options),
    ):
        np.testing.assert_allclose(found.gram, expected.gram, rtol=0, atol=64 * EPS)
        np.testing.assert_allclose(found.bias, expected.bias, rtol=0, atol=8 * EPS)
    column = minimum(targets[:, 0], **options)
    assert column.gram.shape == (1, 1)
    # float32 covariances are symmetric and singular to float32.
    flat = np.outer([1.0, 0.3], [1.0, 0.3]).astype(np.float32)
    assert minimum(covariance=flat, lambda_W=1e-12, lambda_H=1e-12).rank == 1


# ---- edges ----


def test_singular_covariance(reference: Any) -> None:
    covariance = reference.covariance_with([1.0, 0.5, 0.0, 0.0], seed=1)
    targets = reference.targets_with(covariance, 20, np.ones(4), seed=2)
    found = minimum(targets, lambda_W=1e-3, lambda_H=1e-3)
    assert found.rank == 2
    assert found.mse == pytest.approx(2e-6, rel=1e-6)
    H, W = found.features(targets), found.weights()
    _, (by_H, by_W, _) = reference.loss_and_gradients(H, W, found.bias, targets, 1e-3, 1e-3)
    # a^(1/2)/lambda^(1/2) turns an error of 8 eps of the targets into one of H of the same size.
    assert max(np.abs(by_H).max(), np.abs(by_W).max()) < 256 * EPS


def test_above_the_largest_eigenvalue_all_is_zero() -> None:
    found = minimum(covariance=np.diag([1.0, 0.5]), mean=[3.0, 4.0], lambda_W=1.0, lambda_H=[1.0, 2.0])
    assert found.rank.tolist() == [0, 0]
    assert not found.gram.any()
    assert not found.weights().any()
    assert not found.features(np.ones((3, 2))).any()
    assert found.loss.tolist() == [0.75, 0.75]
    assert found.bias.tolist() == [[3.0, 4.0], [3.0, 4.0]]
    assert np.isnan(found.cosines).all()


def test_one_hot_targets_give_frames() -> None:
    classes, c = 4, 0.01
    targets = np.eye(classes)[np.arange(40) % classes]
    scale = math.sqrt(0.2 / 0.05)
    simplex = minimum(targets, lambda_W=0.05, lambda_H=0.2)
    wanted = scale * (math.sqrt(1 / classes) - math.sqrt(c)) * (np.eye(classes) - 1 / classes)
    np.testing.assert_allclose(simplex.gram, wanted, rtol=0, atol=16 * EPS)
    assert simplex.rank == classes - 1
    np.testing.assert_allclose(simplex.cosines[0, 1:], -1 / (classes - 1), rtol=32 * EPS)
    orthogonal = minimum(targets, lambda_W=0.05, lambda_H=0.2, bias=False)
    wanted = scale * (math.sqrt(1 / classes) - math.sqrt(c)) * np.eye(classes)
    np.testing.assert_allclose(orthogonal.gram, wanted, rtol=0, atol=16 * EPS)
    # A penalised bias: the mean direction is on above kappa |mean| = sqrt(c), kappa = lambda_b/(1 + lambda_b).
    mean = math.sqrt(1 / classes)
    edge = math.sqrt(c) / mean / (1 - math.sqrt(c) / mean)
    below, above = minimum(targets, lambda_W=0.05, lambda_H=0.2, lambda_b=[0.99 * edge, 1.01 * edge]).rank
    assert (below, above) == (classes - 1, classes)
    stronger = minimum(targets, lambda_W=0.05, lambda_H=0.2, lambda_b=0.7)
    kappa = 0.7 / 1.7
    ones = np.full((classes, classes), 1 / classes)
    wanted = simplex.gram + scale * (mean - math.sqrt(c) / kappa) * ones
    np.testing.assert_allclose(stronger.gram, wanted, rtol=0, atol=32 * EPS)


def test_without_penalties() -> None:
    covariance = np.diag([4.0, 1.0])
    found = minimum(covariance=covariance, lambda_W=0.0, lambda_H=0.0)
    assert (found.loss, found.mse, found.r2, found.rank, found.is_unpenalised) == (0.0, 0.0, 1.0, 2, True)
    assert "need collapse" in str(found)
    np.testing.assert_array_equal(found.gram, np.diag([2.0, 1.0]))
    for ratio in (1.0, 9.0):
        limit = minimum(covariance=covariance, lambda_W=0.0, lambda_H=0.0, limit_ratio=ratio)
        near = minimum(covariance=covariance, lambda_W=1e-20, lambda_H=ratio * 1e-20)
        np.testing.assert_allclose(limit.gram, near.gram, rtol=1e-15, atol=8 * EPS)
        targets = np.array([[1.0, 2.0], [-1.0, -2.0]])
        weights, features = limit.weights(), limit.features(targets)
        np.testing.assert_allclose(features @ weights.T, targets, rtol=0, atol=8 * EPS)
        np.testing.assert_allclose(features, interpolating_features(targets, weights), rtol=0, atol=8 * EPS)
    mixed = minimum(covariance=covariance, lambda_W=[0.0, 0.5], lambda_H=[0.0, 0.5])
    assert mixed.is_unpenalised.tolist() == [True, False]
    assert not minimum(covariance=covariance, lambda_W=0.5, lambda_H=0.5).is_unpenalised


def test_without_penalties_nothing_need_collapse(reference: Any) -> None:
    targets, _ = problem(reference, 3, "free")
    rng = np.random.default_rng(5)
    weights, bias, rest = rng.standard_normal((3, 9)), rng.standard_normal(3), rng.standard_normal((len(targets), 9))
    features = interpolating_features(targets, weights, b=bias, rest=rest)
    loss, gradients = reference.loss_and_gradients(features, weights, bias, targets, 0.0, 0.0)
    assert loss < 1e-26
    assert max(np.abs(part).max() for part in gradients) < 1e-13
    assert nrc.nrc1(features, 3) > 0.1


def test_a_product_of_penalties_that_underflows() -> None:
    found = minimum(covariance=np.eye(2), lambda_W=1e-170, lambda_H=1e-170)
    assert found.loss == pytest.approx(2e-170, rel=4 * EPS)
    assert not minimum(covariance=np.eye(2), lambda_W=1e170, lambda_H=1e170).weights().any()


def test_constant_targets() -> None:
    found = minimum(np.full((5, 2), 0.1), lambda_W=1e-9, lambda_H=1e-9)
    assert (found.rank, found.mse, found.loss) == (0, 0.0, 0.0)
    assert found.bias.tolist() == [0.1, 0.1]
    assert math.isnan(found.r2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(-100, 100))
def test_scale_of_the_targets(reference: Any, seed: int, n: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    covariance = reference.covariance_with(rng.uniform(0.0, 2.0, n) ** 2, seed)
    size = 4.0**exponent
    one = minimum(covariance=covariance, lambda_W=0.25, lambda_H=0.75)
    other = minimum(covariance=covariance * size**2, lambda_W=0.25 * size, lambda_H=0.75 * size)
    # LAPACK may scale what is very large or small on its own, which rounds eigenvalues by some 8 n eps lambda_1; a root
    # above sqrt(c) is off by that over twice sqrt(c), and lambda_1 is at most 4.
    error = 8 * n * EPS * 4.0 / (2 * math.sqrt(0.1875))
    atol = 4 * n**0.5 * error * math.sqrt(3.0)  # eigenvectors turn, and k^2 = sqrt(3)
    np.testing.assert_allclose(other.gram / size, one.gram, rtol=0, atol=atol)
    assert other.mse / size**2 == pytest.approx(one.mse, rel=64 * n * EPS)
    if one.weight_norm_squared > 1e-3:
        assert other.cka == pytest.approx(one.cka, rel=0, abs=16 * n * atol / 1e-3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(1e-3, 1.5))
def test_rotation_of_the_targets(reference: Any, seed: int, n: int, c: float) -> None:
    rng = np.random.default_rng(seed)
    covariance = reference.covariance_with(rng.uniform(0.1, 2.0, n), seed)
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    turned = turn @ covariance @ turn.T
    one = minimum(covariance=covariance, lambda_W=1.0, lambda_H=c)
    other = minimum(covariance=turned, lambda_W=1.0, lambda_H=c)
    # A root of an eigenvalue >= 0.1 is off by its error of some 8 n eps times 2 over twice the root; k^2 <= 1.3.
    atol = 64 * n**1.5 * EPS
    np.testing.assert_allclose(other.gram, turn @ one.gram @ turn.T, rtol=0, atol=atol)
    assert other.loss == pytest.approx(one.loss, rel=0, abs=n * atol)


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lambda_W": -1.0}, "lambda_W must be at least 0, got -1.0"),
        ({"lambda_H": math.nan}, "lambda_H has 1 values that are not finite"),
        ({"lambda_W": math.inf}, "lambda_W has 1 values that are not finite"),
        ({"lambda_W": 0.0}, "has no minimum"),
        ({"lambda_W": [0.1, 0.2], "lambda_H": [0.1, 0.2, 0.3]}, "do not broadcast"),
        ({"covariance": np.diag([1.0, -0.1])}, "not positive semidefinite: it has an eigenvalue of -0.1"),
        ({"covariance": [[1.0, 0.5], [0.4, 1.0]]}, "not symmetric"),
        ({"covariance": np.ones((2, 3))}, r"covariance has shape \(2, 3\)"),
        ({"covariance": np.ones((0, 0))}, r"covariance has shape \(0, 0\)"),
        ({"covariance": [[math.nan]]}, "not finite"),
        ({"covariance": [[1e300]]}, "rescale"),
        ({"covariance": [[1e-300]]}, "rescale"),
        ({"mean": [1.0, 2.0, 3.0]}, r"mean has shape \(3,\)"),
        ({"Y": np.ones((3, 2))}, "either the targets Y or"),
        ({"covariance": None}, "either the targets Y or"),
        ({"covariance": None, "Y": np.ones((0, 2))}, "no rows"),
        ({"covariance": None, "Y": [[1.0, math.inf]]}, "NaN or infinite"),
        ({"covariance": None, "Y": [[1e-200], [0.0]]}, "too small"),
        ({"covariance": None, "Y": [[1e200], [0.0]]}, "leave the range"),
        ({"covariance": None, "Y": [[1.0]], "mean": [1.0]}, "goes with covariance"),
        ({"mean": [1.0, 2.0], "lambda_b": 0.1}, "nrc_fast.ufm.refine"),
        ({"lambda_b": 0.1, "bias": False}, "give one of them"),
        ({"limit_ratio": 0.0}, "limit_ratio must be positive"),
    ],
)
def test_bad_input(keywords: Any, message: str) -> None:
    options = {"covariance": np.diag([1.0, 0.5]), "lambda_W": 0.1, "lambda_H": 0.1} | keywords
    with pytest.raises(ValueError, match=message):
        minimum(**options)


def test_bad_types() -> None:
    with pytest.raises(TypeError, match="real numbers"):
        minimum(covariance=np.eye(2), lambda_W="a", lambda_H=1.0)
    with pytest.raises(TypeError, match="real numbers"):
        minimum(covariance=np.eye(2) * 1j, lambda_W=1.0, lambda_H=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy before 1.24 makes an array of lists of them, and warns
        with pytest.raises(TypeError, match=r"cannot read|real numbers"):
            minimum(covariance=[[1.0, 0.0], [1.0]], lambda_W=1.0, lambda_H=1.0)


def test_bad_rotations() -> None:
    found = minimum(covariance=np.diag([1.0, 0.5]), lambda_W=0.1, lambda_H=0.1)
    for rotation, d, message in (
        (None, 1, r"keeps 2 directions; make it with minimum\(\.\.\., d=1\)"),
        (np.ones((2, 4)), None, "off the identity by 4"),
        (np.eye(3), None, r"\(2, 3\) is expected"),
        (np.eye(2, 4), 5, r"\(2, 5\) is expected"),
        (np.eye(2)[:, :1], None, "d is 1 and this minimum keeps 2"),
    ):
        with pytest.raises(ValueError, match=message):
            found.weights(rotation, d)
    with pytest.raises(ValueError, match="3 columns; 2 are expected"):
        found.features(np.ones((4, 3)))
    with pytest.raises(ValueError, match="not finite"):
        found.features([[1.0, math.nan]])
    single = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 2)))[0].T.astype(np.float32)
    assert found.weights(single).shape == (2, 50)


def test_bad_interpolation() -> None:
    for W, Y, options, message in (
        (np.ones((2, 3)), np.ones((4, 2)), {}, "does not have rank 2"),
        (np.eye(3)[:, :2], np.ones((4, 3)), {}, "does not have rank 3"),
        (np.eye(2), np.ones((4, 3)), {}, r"Y has shape \(4, 3\)"),
        (np.eye(2), np.ones((4, 2)), {"b": [1.0]}, r"b has shape \(1,\)"),
        (np.eye(2), np.ones((4, 2)), {"rest": np.ones((4, 3))}, r"rest has shape \(4, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            interpolating_features(Y, W, **options)


def test_empty_batch() -> None:
    nothing = minimum(covariance=np.eye(2), lambda_W=np.zeros(0), lambda_H=0.1)
    assert nothing.gram.shape == (0, 2, 2)
    assert nothing.weights(d=3).shape == (0, 2, 3)
    assert "no minima" in str(nothing)


def test_text() -> None:
    text = str(minimum(covariance=np.diag([4.0, 1.0]), lambda_W=0.5, lambda_H=0.5))
    assert "rank 2, loss 1.25, MSE 0.5" in text
    assert "collapse" not in text
    assert "3 minima" in str(minimum(covariance=np.eye(2), lambda_W=0.5, lambda_H=[0.5, 0.6, 0.7]))
