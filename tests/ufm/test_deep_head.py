"""Deep linear heads: the loss itself with explicit layers, thresholds, and the frames of class targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nrc_fast.ufm import deep, minimum

EPS = float(np.finfo(np.float64).eps)


def explicit_loss(H: Any, layers: Any, b: Any, Y: Any, penalties: Any, lambda_H: float) -> tuple[float, list[Any]]:
    """Loss and gradients by H, by every layer and by b, written out."""
    rows = len(Y)
    outputs = [H]
    for W in layers:
        outputs.append(outputs[-1] @ W.T)
    errors = outputs[-1] + b - Y
    loss = np.sum(errors**2) / (2 * rows) + lambda_H * np.sum(H**2) / (2 * rows)
    loss += sum(p * np.sum(W**2) / 2 for p, W in zip(penalties, layers, strict=True))
    back, gradients = errors / rows, [errors.sum(axis=0) / rows]
    for W, p, output in zip(layers[::-1], penalties[::-1], outputs[-2::-1], strict=True):
        gradients.append(back.T @ output + p * W)
        back = back @ W
    return float(loss), [back + lambda_H * H / rows, *gradients[:0:-1], gradients[0]]


def brute_force(value: float, product: float, m: int) -> tuple[float, float]:
    """Minimise the separated loss of one direction on a grid that is refined around its best point."""
    kappa = product ** (1 / (m + 1))
    low, high = 0.0, math.sqrt(value)
    for _ in range(40):
        grid = np.linspace(low, high, 2001)
        losses = 0.5 * (grid - math.sqrt(value)) ** 2 + 0.5 * (m + 1) * kappa * grid ** (2 / (m + 1))
        best = int(np.argmin(losses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 2000)]
    return float(grid[best]), float(losses[best])


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("share", [1e-6, 0.1, 0.9, 0.999, 1.001, 1.1, 3.0])
def test_one_direction_against_a_search(m: int, share: float) -> None:
    value = 0.7
    threshold = value**m * (m - 1) ** (m - 1) / m ** (2 * m) if m > 1 else value
    penalty = (share * threshold) ** (1 / (m + 1))
    found = deep(covariance=[[value]], lambda_W=[penalty] * m, lambda_H=penalty)
    z, loss = brute_force(value, share * threshold, m)
    assert found.thresholds[0] == pytest.approx(threshold, rel=8 * EPS)
    assert found.rank == (share < 1.0)
    assert found.loss == pytest.approx(loss, rel=1e-13)
    # The search sees the loss only: z to the root of eps, and near z = 0 better.
    assert found.prediction_singular_values[0] == pytest.approx(z, rel=0, abs=1e-7)
    assert found.jumps[0] == pytest.approx((m - 1) / m * math.sqrt(value), rel=4 * EPS)
    if share > 0.9 and found.rank and m > 1:  # just kept: never below the jump
        assert found.prediction_singular_values[0] >= found.jumps[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_gradients_and_loss(reference: Any, n: int, m: int, bias: bool) -> None:
    covariance = reference.covariance_with(np.geomspace(2.0, 0.1, n), seed=n)
    targets = reference.targets_with(covariance, 3 * n + 5, np.linspace(-1.0, 0.5, n), seed=n)
    penalties, lambda_H = [0.05, 0.2, 0.1][:m], 0.03
    found = deep(targets, lambda_W=penalties, lambda_H=lambda_H, bias=bias)
    assert 1 <= found.rank <= n
    H, layers = found.features(targets, n + 2), found.weights(n + 2)
    loss, gradients = explicit_loss(H, layers, found.bias, targets, penalties, lambda_H)
    assert found.loss == pytest.approx(loss, rel=64 * n * EPS)
    for gradient in gradients if bias else gradients[:-1]:
        assert np.abs(gradient).max() < 256 * n * EPS
    errors = H @ np.linalg.multi_dot([*layers[::-1], np.eye(n + 2)]).T + found.bias - targets
    assert found.mse == pytest.approx(np.sum(errors**2) / len(targets), rel=64 * n * EPS)
    for i, W in enumerate(layers):
        singular_values = np.linalg.svd(W, compute_uv=False)[:n]
        np.testing.assert_allclose(singular_values, found.layer_singular_values[i], rtol=0, atol=32 * n * EPS)
    product = np.linalg.multi_dot([*layers[::-1], np.eye(n + 2)])
    np.testing.assert_allclose(product @ product.T, found.gram, rtol=0, atol=64 * n * EPS)
    features = np.linalg.svd(H, compute_uv=False)[:n] / math.sqrt(len(targets))
    np.testing.assert_allclose(features, found.feature_singular_values, rtol=0, atol=64 * n * EPS)


@pytest.mark.parametrize("m", [2, 3])
def test_descent_from_random_starts_finds_nothing_lower(reference: Any, m: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    n, d = 2, 3
    covariance = reference.covariance_with([1.5, 0.3], seed=0)
    targets = reference.targets_with(covariance, 12, [0.0, 0.0], seed=1)
    penalties, lambda_H = [0.3, 0.25, 0.25][:m], 0.1
    closed = deep(targets, lambda_W=penalties, lambda_H=lambda_H)
    shapes = [(12, d), *[(d, d)] * (m - 1), (n, d), (n,)]
    cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def objective(x: Any) -> Any:
        H, *layers, b = (part.reshape(shape) for part, shape in zip(np.split(x, cuts), shapes, strict=True))
        loss, gradients = explicit_loss(H, layers, b, targets, penalties, lambda_H)
        return loss, np.concatenate([part.ravel() for part in gradients])

    rng = np.random.default_rng(2)
    size = sum(math.prod(shape) for shape in shapes)
    losses = [
        optimize.minimize(objective, rng.standard_normal(size), jac=True, options={"maxiter": 5000, "gtol": 1e-9}).fun
        for _ in range(12)
    ]
    assert closed.rank == 1  # so that both kinds of direction are there
    assert min(losses) == pytest.approx(closed.loss, rel=1e-10)


def test_one_layer_is_the_plain_model(reference: Any) -> None:
    covariance = reference.covariance_with([2.0, 0.7, 0.1], seed=3)
    keywords = {"covariance": covariance, "mean": [1.0, 2.0, 3.0], "lambda_H": 0.5}
    for bias in (True, False):
        one = deep(lambda_W=[0.4], bias=bias, **keywords)
        plain = minimum(lambda_W=0.4, bias=bias, **keywords)
        np.testing.assert_allclose(one.gram, plain.gram, rtol=0, atol=32 * EPS)
        assert one.rank == plain.rank
        assert one.loss == pytest.approx(plain.loss, rel=16 * EPS)
        assert one.mse == pytest.approx(plain.mse, rel=16 * EPS)
        np.testing.assert_array_equal(one.bias, plain.bias)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_frames_of_classes(m: int) -> None:
    classes = 4
    balanced = np.eye(classes)[np.arange(20) % classes]
    simplex = deep(balanced, lambda_W=[0.01] * m, lambda_H=0.02)
    shape = (np.eye(classes) - 1 / classes) / math.sqrt(classes - 1)
    np.testing.assert_allclose(simplex.gram / np.linalg.norm(simplex.gram), shape, rtol=0, atol=16 * EPS)
    frame = deep(balanced, lambda_W=[0.01] * m, lambda_H=0.02, bias=False)
    np.testing.assert_allclose(frame.gram / np.linalg.norm(frame.gram), np.eye(classes) / 2, rtol=0, atol=16 * EPS)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_imbalanced_classes_are_a_general_orthogonal_frame(m: int) -> None:
    counts = np.array([40, 20, 4])
    rows, decay = counts.sum(), 0.02
    targets = np.repeat(np.eye(3), counts, axis=0)
    lambda_H = 0.03
    found = deep(targets, lambda_W=[decay] * m, lambda_H=lambda_H, bias=False)
    # Dang et al. 2023: b/n_k = m x^(m-1)/(x^m + 1)^2, largest root, and (W_m ... W_1)(...)^T = diag(s^(2m)).
    expected = []
    for count in counts:
        level = m * rows * (lambda_H * decay**m) ** (1 / m) / count
        if level > (m - 1) ** ((m - 1) / m) / m if m > 1 else level > 1:
            expected.append(0.0)
            continue
        low, high = ((m - 1) / (m + 1)) ** (1 / m), 1e6
        for _ in range(200):
            x = 0.5 * (low + high)
            low, high = (x, high) if m * x ** (m - 1) / (x**m + 1) ** 2 > level else (low, x)
        expected.append(lambda_H * x**m)
    np.testing.assert_allclose(np.diag(found.gram), expected, rtol=1e-12)
    assert np.abs(found.gram - np.diag(np.diag(found.gram))).max() < 1e-15


def test_minority_collapse() -> None:
    counts = np.array([50, 30, 5])
    targets = np.repeat(np.eye(3), counts, axis=0)
    shares = counts / counts.sum()
    for m in (1, 2):
        thresholds = deep(targets, lambda_W=[0.1] * m, lambda_H=0.1, bias=False).thresholds
        np.testing.assert_allclose(thresholds, shares if m == 1 else shares**2 / 16, rtol=16 * EPS)
        between = math.sqrt(thresholds[1] * thresholds[2]) ** (1 / (m + 1))
        found = deep(targets, lambda_W=[between] * m, lambda_H=between, bias=False)
        assert found.rank == 2
        assert np.all(np.abs(found.gram[2]) < 1e-15)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_batch_is_its_problems_one_by_one(reference: Any, n: int) -> None:
    covariances = np.stack([reference.covariance_with(np.geomspace(1.0, 0.1, n), seed) for seed in range(3)])
    first, second = np.array([[0.1], [0.3]]), np.array([0.01, 0.1, 0.2])
    together = deep(covariance=covariances, lambda_W=[first, second], lambda_H=0.1)
    assert together.gram.shape == (2, 3, n, n)
    for i in range(2):
        for j in range(3):
            alone = deep(covariance=covariances[j], lambda_W=[first[i, 0], second[j]], lambda_H=0.1)
            for name in ("rank", "loss", "mse", "gram", "layer_singular_values", "feature_singular_values", "bias"):
                np.testing.assert_array_equal(getattr(together, name)[i, j], getattr(alone, name))
            np.testing.assert_array_equal(together.weights()[1][i, j], alone.weights()[1])


def test_singular_and_extreme() -> None:
    found = deep(covariance=np.diag([1.0, 0.0]), lambda_W=[1e-3, 1e-3], lambda_H=1e-3)
    assert found.rank == 1
    assert not found.features([[0.0, 5.0]]).any()
    for size in (1e-100, 1e100):
        one = deep(covariance=[[1.0]], lambda_W=[0.1, 0.2], lambda_H=0.1)
        # W_i and H each grow with the cube root of the targets: penalties of the loss/size^2 with size^(2 - 2/3).
        scaled = size ** (4 / 3)
        other = deep(covariance=[[size**2]], lambda_W=[0.1 * scaled, 0.2 * scaled], lambda_H=0.1 * scaled)
        assert other.mse / size**2 == pytest.approx(one.mse, rel=1e-12)
    nothing = deep(covariance=np.zeros((2, 2)), lambda_W=[0.1], lambda_H=0.1)
    assert (nothing.rank, nothing.loss) == (0, 0.0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lambda_W": 0.1}, "sequence with one penalty for each"),
        ({"lambda_W": []}, "sequence with one penalty for each"),
        ({"lambda_W": [0.1] * 10_001}, "the length of lambda_W is 10001; a number of layers from 1 to 10,000"),
        ({"lambda_W": [0.1, 0.0]}, r"lambda_W\[1\] must be positive"),
        ({"lambda_H": 0.0}, "lambda_H must be positive"),
        ({"lambda_H": math.nan}, "not finite"),
        ({"lambda_W": [[0.1, 0.2], 0.1], "lambda_H": [0.1, 0.2, 0.3]}, "do not broadcast"),
    ],
)
def test_bad_input(keywords: Any, message: str) -> None:
    options = {"covariance": np.eye(2), "lambda_W": [0.1, 0.1], "lambda_H": 0.1} | keywords
    with pytest.raises(ValueError, match=message):
        deep(**options)


def test_bad_shapes() -> None:
    found = deep(covariance=np.eye(2), lambda_W=[0.1, 0.1], lambda_H=0.1)
    with pytest.raises(ValueError, match="at least n = 2"):
        found.weights(1)
    with pytest.raises(ValueError, match="2 are expected"):
        found.features(np.ones((3, 1)))


def test_text_names_the_numbers() -> None:
    found = deep(covariance=np.diag([4.0, 1.0]), lambda_W=[0.1, 0.1], lambda_H=0.1)
    title, numbers = repr(found).splitlines()
    assert title == "minimum of the UFM with 2 linear layers, n = 2, product of penalties 0.001"
    assert numbers == f"  rank {found.rank}, loss {found.loss:.6g}, MSE {found.mse:.6g} (summed over outputs)"
    many = deep(covariance=np.diag([4.0, 1.0]), lambda_W=[0.1], lambda_H=[0.1, 0.2, 0.3])
    assert repr(many) == "3 minima of the UFM with 1 linear layer, n = 2, a batch of shape (3,)"
