"""Minima under convex losses: closed forms, explicit minimisation over W, H and b, thresholds, laws and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nrc_fast.ufm import ConvexMinimum, convex, minimum
from nrc_fast.ufm.convex_path import _require_memory

NAMES = ["squared", "huber", "absolute", "cross_entropy", "logistic"]


def samples(name: str, seed: int, rows: int = 24, n: int = 3) -> Any:
    """Targets, answers or labels, with some that are equal."""
    rng = np.random.default_rng(seed)
    if name == "cross_entropy":
        return np.concatenate([np.arange(n + 1), rng.integers(0, 2, rows - n - 1)])
    Y = rng.standard_t(3, (rows, n)) @ rng.standard_normal((n, n))
    Y[-3:] = Y[:3]
    return np.float64(np.median(Y, axis=0) < Y) if name == "logistic" else Y


def costs(name: str, f: Any, Y: Any, delta: float = 1.0) -> Any:
    """l of every row, and its gradients."""
    if name == "cross_entropy":
        top = f.max(axis=1, keepdims=True)
        powers = np.exp(f - top)
        total = powers.sum(axis=1, keepdims=True)
        every = np.arange(len(Y))
        gradients = powers / total
        gradients[every, Y] -= 1.0
        return np.log(total[:, 0]) + top[:, 0] - f[every, Y], gradients
    if name == "logistic":
        return np.sum(np.logaddexp(0.0, f) - Y * f, axis=1), 1.0 / (1.0 + np.exp(-f)) - Y
    e = f - Y
    if name == "absolute":
        return np.sum(np.abs(e), axis=1), np.sign(e)
    if name == "squared":
        return 0.5 * np.sum(e**2, axis=1), e
    linear = delta * np.abs(e) - 0.5 * delta**2
    return np.sum(np.where(np.abs(e) <= delta, 0.5 * e**2, linear), axis=1), np.clip(e, -delta, delta)


def loss_of(name: str, parts: Any, Y: Any, penalties: tuple[float, float], weights: Any = None) -> float:
    """The loss as it is written, of W, H and b."""
    W, H, b = parts
    w = np.ones(len(H)) if weights is None else np.asarray(weights, float)
    data = float(w @ costs(name, H @ W.T + b, Y)[0] / w.sum())
    paid = penalties[0] * np.sum(W**2) + penalties[1] * (w @ np.sum(H**2, axis=1)) / w.sum()
    return data + 0.5 * float(paid)


# ---- closed forms ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("c", [1e-6, 0.02, 0.5, 4.0])
def test_squared_loss_is_the_closed_form(c: float, bias: bool) -> None:
    Y = samples("squared", 1)
    wanted = minimum(Y, lambda_W=0.3, lambda_H=c / 0.3, bias=bias)
    found = convex(Y, lambda_W=0.3, lambda_H=c / 0.3, bias=bias, tolerance=1e-13)
    size = 1.0 + float(np.abs(Y).max())
    assert found.rank == wanted.rank
    for name, power in (("loss", 2), ("mse", 2), ("weight_norm_squared", 2), ("feature_norm_squared", 2)):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-11, abs=1e-12 * size**power), name
    np.testing.assert_allclose(found.gram, wanted.gram, rtol=0, atol=1e-11 * np.abs(wanted.gram).max())
    np.testing.assert_allclose(found.bias, wanted.bias, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(found.cosines, wanted.cosines, rtol=0, atol=1e-10)
    exact = wanted.features(Y) @ wanted.weights().T + wanted.bias
    errors = found.predictions(Y) - exact
    assert math.sqrt(np.mean(np.sum(errors**2, axis=1))) <= found.bounds["predictions"]


@pytest.mark.parametrize("classes", [2, 5, 12])
@pytest.mark.parametrize("bias", [True, False])
def test_balanced_classes_have_a_closed_form(classes: int, bias: bool) -> None:
    for c in (1e-5, 0.3 / classes, 0.99 / classes, 1.01 / classes):
        options: Any = {"loss": "cross_entropy", "lambda_W": 1.0, "lambda_H": c, "bias": bias, "tolerance": 1e-13}
        found = convex(np.arange(2 * classes) % classes, **options)
        height = math.log(max(math.sqrt(classes / c) - (classes - 1), 1.0))
        wanted = height * (np.eye(classes) - 1.0 / classes)
        # Probabilities are known to the root of the gap, and logits to that over the smallest of them.
        atol = 2e-7 * math.exp(height) + 1e-7
        np.testing.assert_allclose(found.predictions(range(classes)), wanted, rtol=0, atol=atol)
        assert found.rank == (classes - 1 if c < 1.0 / classes else 0)
        value = math.log(1.0 + (classes - 1) * math.exp(-height)) + math.sqrt(c / classes) * (classes - 1) * height
        assert found.loss == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("c", [0.01, 0.2, 0.3])
def test_two_answers_have_a_closed_form(c: float) -> None:
    found = convex([0, 1, 1, 0], loss="logistic", lambda_W=2.0, lambda_H=0.5 * c)
    height = max(math.log(1.0 / math.sqrt(c) - 1.0), 0.0)
    np.testing.assert_allclose(found.predictions([0, 1])[:, 0], [-height, height], rtol=0, atol=1e-5)
    assert found.gram[0, 0] == pytest.approx(math.sqrt(0.5 * c / 2.0) * height, rel=1e-5, abs=1e-9)


def test_absolute_errors_of_two_values_are_fitted_or_not_at_all() -> None:
    for c, fitted in ((0.9, True), (1.1, False)):
        found = convex([-3.0, 5.0], loss="absolute", lambda_W=1.0, lambda_H=c)
        assert found.rank == int(fitted)
        assert found.loss == pytest.approx(4.0 * (math.sqrt(c) if fitted else 1.0), rel=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [30, 31])
def test_nothing_is_learnt_of_absolute_errors_beyond_the_second_moment_of_signs(rows: int, bias: bool) -> None:
    rng = np.random.default_rng(rows)
    Y = rng.standard_normal((rows, 3)) @ rng.standard_normal((3, 3)) + 0.3
    signs = np.sign(Y - (np.median(Y, axis=0) if bias else 0.0))
    threshold = float(np.linalg.eigvalsh(signs.T @ signs / rows)[-1])
    for scale in (1.0, 1e4):
        for factor, learns in ((0.98, True), (1.02, False)):
            c = factor * threshold
            found = convex(scale * Y, loss="absolute", lambda_W=1.0, lambda_H=c, bias=bias)
            assert (found.rank > 0) == learns
    if bias:
        np.testing.assert_allclose(
            np.sum(np.abs(scale * Y - found.bias)), np.sum(np.abs(scale * (Y - np.median(Y, axis=0)))), rtol=1e-6
        )


def test_more_outputs_than_samples_are_fitted_by_the_least_nuclear_norm() -> None:
    """At a small penalty the minimum interpolates, with the bias of the least sum of singular values."""
    optimise = pytest.importorskip("scipy.optimize")
    for seed in range(12):
        Y = np.random.default_rng(seed).standard_normal((3, 4))
        found = convex(Y, loss="absolute", lambda_W=1e-4, lambda_H=1.0, tolerance=1e-12)
        assert found.data_loss <= 1e-14
        assert found.rank == 2
        nuclear = lambda b, Y=Y: np.linalg.svd(Y - b, compute_uv=False).sum() / math.sqrt(3)  # noqa: E731
        least = optimise.minimize(
            nuclear, Y.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
        )
        assert found.loss <= 0.01 * least.fun * (1.0 + 1e-12)
        assert found.loss == pytest.approx(0.01 * least.fun, rel=1e-5)


def test_just_beyond_the_threshold_nothing_is_learnt() -> None:
    for seed in range(6):
        Y = np.random.default_rng(seed).standard_normal((7, 2))
        signs = np.sign(Y - np.median(Y, axis=0))
        c = 1.0005 * float(np.linalg.eigvalsh(signs.T @ signs / 7)[-1])
        found = convex(Y, loss="absolute", lambda_W=1.0, lambda_H=c)
        assert (found.rank, found.kept.tolist()) == (0, [0.0, 0.0])
        assert found.relative_gap < 1e-14
        assert convex(Y, loss="absolute", lambda_W=1.0, lambda_H=0.999 * c / 1.0005).rank == 1


def test_targets_that_tie_at_the_median_need_less() -> None:
    """Of 0, 0, 0, 1 the mean subgradient is least with -1/3 for each 0, whose second moment is 1/3, not 1/4."""
    for c, rank in ((0.34, 0), (0.33, 1)):
        found = convex([0.0, 0.0, 0.0, 1.0], loss="absolute", lambda_W=1.0, lambda_H=c)
        assert found.rank == rank


def test_absolute_errors_reach_the_last_digits() -> None:
    for seed, shape, c in ((0, (20, 3), 0.05), (1, (40, 3), 0.3), (2, (5, 8), 1e-4), (3, (30, 2), 1e-6)):
        Y = np.random.default_rng(seed).standard_t(3, shape)
        assert convex(Y, loss="absolute", lambda_W=1.0, lambda_H=c, tolerance=1e-12).relative_gap <= 1e-12


# ---- against explicit minimisation ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["squared", "huber", "cross_entropy", "logistic"])
def test_descent_over_weights_features_and_bias_finds_the_same(name: Any, bias: bool) -> None:
    optimise = pytest.importorskip("scipy.optimize")
    Y, penalties = samples(name, 4), (0.2, 0.1)
    found = convex(Y, loss=name, lambda_W=penalties[0], lambda_H=penalties[1], bias=bias)
    n, rows, d = found.n, len(Y), found.n + 1

    def split(x: Any) -> Any:
        return x[: n * d].reshape(n, d), x[n * d : -n].reshape(rows, d), x[-n:]

    def objective(x: Any) -> Any:
        W, H, b = split(x)
        u = costs(name, H @ W.T + b, Y)[1] / rows
        by_W, by_H = u.T @ H + penalties[0] * W, u @ W + penalties[1] * H / rows
        value = loss_of(name, (W, H, b), Y, penalties)
        return value, np.concatenate([by_W.ravel(), by_H.ravel(), u.sum(axis=0) * bias])

    start = np.random.default_rng(0).standard_normal(n * d + rows * d + n)
    start[-n:] = 0.0
    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 30}
    other = optimise.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    assert -1e-10 * found.loss <= other.fun - found.loss <= 1e-8 * found.loss
    W, H, b = split(other.x)
    np.testing.assert_allclose(W @ W.T, found.gram, rtol=0, atol=2e-3 * np.abs(found.gram).max())
    gradients = costs(name, H @ W.T + b, Y)[1] - costs(name, found.predictions(Y), Y)[1]
    gap = abs(other.fun - found.loss) + found.gap
    assert math.sqrt(np.mean(np.sum(gradients**2, axis=1))) <= 2.0 * math.sqrt(2.0 * gap) + 1e-7


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_weights_features_and_bias_have_the_loss_that_is_certified(name: Any, bias: bool) -> None:
    Y, rng = samples(name, 7), np.random.default_rng(0)
    w = rng.uniform(0.5, 2.0, len(Y))
    penalties = (0.3, 0.04)
    found = convex(Y, loss=name, lambda_W=penalties[0], lambda_H=penalties[1], weights=w, bias=bias)
    assert found.rank > 0
    rotation = np.linalg.qr(rng.standard_normal((9, found.n)))[0].T
    for options in ({}, {"d": found.rank}, {"d": 11}, {"rotation": rotation}):
        W, H = found.weights(**options), found.features(Y, **options)
        assert W.shape[1] == H.shape[1] == options.get("d", 9 if options else found.n)
        assert loss_of(name, (W, H, found.bias), Y, penalties, w) == pytest.approx(found.loss, rel=1e-12)
        np.testing.assert_allclose(W @ W.T, found.gram, rtol=0, atol=1e-13 * np.abs(found.gram).max())
        np.testing.assert_allclose(
            H @ W.T + found.bias, found.predictions(Y), rtol=0, atol=1e-12 * np.abs(Y).max() + 1e-12
        )
    assert found.bias.any() == bias
    assert penalties[0] * found.weight_norm_squared == pytest.approx(
        penalties[1] * found.feature_norm_squared, rel=1e-12
    )
    assert found.feature_norm_squared == pytest.approx(float(w @ np.sum(H**2, axis=1)) / w.sum(), rel=1e-12)
    np.testing.assert_allclose(
        found.weight_singular_values[: found.rank], np.linalg.svd(W)[1][: found.rank], rtol=1e-12
    )
    # No small step of W, H or b lowers the loss by more than the gap.
    for seed in range(20):
        moves = [1e-4 * np.random.default_rng(seed).standard_normal(part.shape) for part in (W, H, found.bias)]
        moved = W + moves[0], H + moves[1], found.bias + moves[2] * bias
        assert loss_of(name, moved, Y, penalties, w) >= found.loss - found.gap
    # The balance of the head: lambda_W W W^T = -(1/M) sum w (dl/df) (f - b)^T at every stationary point.
    if name != "absolute":
        u = costs(name, found.predictions(Y), Y)[1]
        balance = -(w[:, np.newaxis] * u).T @ (H @ W.T) / w.sum()
        np.testing.assert_allclose(balance, penalties[0] * found.gram, rtol=0, atol=1e-5 * np.abs(balance).max())


# ---- paths and batches ----


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_problems_one_by_one(name: Any) -> None:
    Y = samples(name, 9)
    lambda_W, lambda_H = np.array([[0.05], [0.4]]), np.array([0.3, 0.01, 2.0])
    batch = convex(Y, loss=name, lambda_W=lambda_W, lambda_H=lambda_H)
    assert batch.gram.shape == (2, 3, batch.n, batch.n)
    assert batch.features(Y[:2]).shape == (2, 3, 2, batch.n)
    for i in range(2):
        for k in range(3):
            alone = convex(Y, loss=name, lambda_W=lambda_W[i, 0], lambda_H=lambda_H[k])
            one = batch[i, k]
            assert isinstance(one, ConvexMinimum)
            assert one.loss == batch.loss[i, k]
            assert abs(one.loss - alone.loss) <= one.gap + alone.gap
            assert one.rank == alone.rank
            np.testing.assert_allclose(one.gram, alone.gram, rtol=0, atol=1e-5 * (np.abs(alone.gram).max() + 1e-3))
            np.testing.assert_allclose(batch.weights()[i, k], one.weights(), rtol=0, atol=0)
    with pytest.raises(IndexError, match="one index for each of its axes"):
        batch[0]
    empty = convex(Y, loss=name, lambda_W=0.1, lambda_H=np.zeros(0) + 1.0)
    assert str(empty).startswith("no minima of the UFM")


def test_a_long_tail_of_classes_is_certified() -> None:
    counts = np.round(500 * 0.02 ** (np.arange(40) / 39))
    found = convex(range(40), weights=counts, loss="cross_entropy", lambda_W=1.0, lambda_H=[1e-4, 4e-3, 0.03])
    assert found.relative_gap.max() <= 1e-10
    assert (np.diff(found.rank) < 0).all()
    assert (np.diff(found.loss) > 0).all()


# ---- laws ----


def same(one: ConvexMinimum, other: ConvexMinimum, scale: float = 1.0) -> None:
    """Losses that differ by no more than the gaps."""
    assert abs(scale * one.loss - other.loss) <= scale * one.gap + other.gap + 1e-13 * abs(other.loss)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(NAMES), st.floats(-6.0, 0.5))
def test_permutations_repetitions_and_the_ratio_of_penalties(seed: int, name: Any, log_c: float) -> None:
    Y, lambda_H = samples(name, seed), 10.0**log_c
    rng = np.random.default_rng(seed)
    found = convex(Y, loss=name, lambda_W=1.0, lambda_H=lambda_H)
    order = rng.permutation(found.n)
    permuted = order[Y] if name == "cross_entropy" else Y[:, np.argsort(order)]
    same(found, convex(permuted, loss=name, lambda_W=1.0, lambda_H=lambda_H))
    times = rng.integers(0, 3, len(Y))
    times[: found.n + 6] += 1
    if name != "logistic":
        repeated = convex(np.repeat(Y, times, axis=0), loss=name, lambda_W=1.0, lambda_H=lambda_H)
        same(repeated, convex(Y, loss=name, lambda_W=1.0, lambda_H=lambda_H, weights=times))
    other = convex(Y, loss=name, lambda_W=100.0, lambda_H=0.01 * lambda_H)
    same(found, other)
    # W W^T over sqrt(lambda_H/lambda_W) depends on c alone. It is known to the root of the gap.
    size = np.abs(found.gram).max() / found.scale
    np.testing.assert_allclose(other.gram / other.scale, found.gram / found.scale, rtol=0, atol=1e-4 * size + 1e-7)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["squared", "huber", "absolute"]), st.sampled_from([1e-5, 3.0, 1e7]))
def test_scales_and_offsets_of_targets(seed: int, name: Any, scale: float) -> None:
    Y, c = samples(name, seed), 0.05
    options = {"delta": 0.8} if name == "huber" else {}
    found = convex(Y, loss=name, lambda_W=1.0, lambda_H=c, **options)
    if name == "huber":
        options = {"delta": 0.8 * scale}
    power = 1 if name == "absolute" else 2
    same(
        found,
        convex(scale * Y, loss=name, lambda_W=1.0, lambda_H=c * scale ** (2 * power - 2), **options),
        scale**power,
    )
    options = {"delta": 0.8} if name == "huber" else {}
    moved = convex(Y + 64.0, loss=name, lambda_W=1.0, lambda_H=c, **options)
    assert moved.loss == pytest.approx(found.loss, rel=1e-9 if name != "absolute" else 2e-6)
    if name == "squared":
        basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
        turned = convex(Y @ basis, lambda_W=1.0, lambda_H=c)
        same(found, turned)
        np.testing.assert_allclose(
            turned.gram, basis.T @ found.gram @ basis, rtol=0, atol=1e-6 * np.abs(found.gram).max()
        )


@pytest.mark.parametrize("name", NAMES)
def test_penalties_down_to_the_least(name: Any) -> None:
    """Where all is fitted the loss is ``sqrt(c) |Z|_*/sqrt(M)``."""
    is_of_errors, Y = name in ("squared", "huber", "absolute"), samples(name, 3)
    found = convex(Y, loss=name, lambda_W=1.0, lambda_H=4e-15 if is_of_errors else 1e-24)
    assert found.relative_gap <= 1e-6
    assert found.rank == 3
    if is_of_errors:
        errors = found.predictions(Y) - Y
        assert np.abs(errors).max() < 1e-6
        centred = found.predictions(Y) - found.bias
        nuclear = float(np.linalg.svd(centred, compute_uv=False).sum()) / math.sqrt(len(Y))
        assert found.loss == pytest.approx(math.sqrt(found.c) * nuclear, rel=1e-6)


def test_huber_between_squared_and_absolute() -> None:
    Y = samples("huber", 3)
    wide = convex(Y, loss="huber", delta=1e4, lambda_W=0.1, lambda_H=0.1)
    same(wide, convex(Y, lambda_W=0.1, lambda_H=0.1))
    delta = 1e-3
    narrow = convex(Y, loss="huber", delta=delta, lambda_W=0.1 * delta, lambda_H=0.1 * delta)
    sharp = convex(Y, loss="absolute", lambda_W=0.1, lambda_H=0.1)
    # Each of three outputs is between the absolute loss and that less delta/2.
    assert sharp.loss - sharp.gap - 1.5 * delta <= narrow.loss / delta <= sharp.loss + narrow.gap / delta


def test_targets_of_any_kind() -> None:
    torch = pytest.importorskip("torch")
    answers = samples("logistic", 5)
    found = convex(answers, loss="logistic", lambda_W=0.1, lambda_H=0.1)
    for kind in (bool, np.int8, np.float32):
        assert convex(answers.astype(kind), loss="logistic", lambda_W=0.1, lambda_H=0.1).loss == found.loss
    assert convex(torch.tensor(answers) > 0.5, loss="logistic", lambda_W=0.1, lambda_H=0.1).loss == found.loss
    labels = samples("cross_entropy", 5)
    one = convex(labels, loss="cross_entropy", lambda_W=0.1, lambda_H=0.1)
    other = convex(torch.tensor(labels), loss="cross_entropy", lambda_W=0.1, lambda_H=0.1)
    assert one.loss == other.loss
    np.testing.assert_array_equal(one.features(labels), other.features(torch.tensor(labels)))
    constant = convex(np.full((5, 2), 3.25), loss="huber", lambda_W=0.1, lambda_H=0.1)
    assert (constant.loss, constant.gap, constant.rank) == (0.0, 0.0, 0)
    assert constant.bias.tolist() == [3.25, 3.25]


# ---- far from 1 ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e308, 1e-300])
def test_weights_of_any_size(name: Any, size: float) -> None:
    Y, w = samples(name, 11), np.random.default_rng(3).uniform(0.1, 1.0, 24)
    one, other = (convex(Y, loss=name, lambda_W=1.0, lambda_H=0.01, weights=factor * w) for factor in (1.0, size))
    assert (one.rank, other.rank) == (3, 3)
    same(one, other)


def test_absolute_targets_of_any_size() -> None:
    Y = np.random.default_rng(0).standard_normal((9, 2))
    one = convex(Y, loss="absolute", lambda_W=1.0, lambda_H=0.05)
    for size in (1e-300, 1e-170, 1e170, 1e300):
        other = convex(size * Y, loss="absolute", lambda_W=1.0, lambda_H=0.05)
        assert other.rank == one.rank
        assert other.loss / size == pytest.approx(one.loss, rel=1e-6)


def test_answers_of_a_small_share() -> None:
    """The model with all answers turned around is its mirror."""
    one, other = (
        convex(Y, loss="logistic", lambda_W=0.1, lambda_H=0.1, weights=[1e-18, 1.0]) for Y in ([0, 1], [1, 0])
    )
    assert one.loss == pytest.approx(other.loss, rel=1e-10)
    assert one.loss == pytest.approx(1e-18 * (1.0 + math.log(1e18)), rel=1e-2)


def test_memory_is_asked_for_beforehand() -> None:
    with pytest.raises(MemoryError, match=r"with 200,000 classes needs .* PiB, and this machine has"):
        _require_memory(_Many())  # type: ignore[arg-type]


class _Many:
    name = "cross_entropy"

    class problem:  # noqa: N801
        offset = np.broadcast_to(0.0, (200_000, 200_000))


@pytest.mark.parametrize("offset", [0.0, 1e10])
def test_mse_keeps_its_digits(offset: float) -> None:
    """Integers and a power of two less of them, so that the targets with the offset are exact."""
    mp = pytest.importorskip("mpmath")
    Y = np.round(np.random.default_rng(5).standard_normal((12, 3)) * 64.0) / 64.0
    found = convex(Y + offset, lambda_W=1.0, lambda_H=1e-8)
    wanted = minimum(Y, lambda_W=1.0, lambda_H=1e-8)
    with mp.workdps(50):
        mean = [mp.fsum(map(mp.mpf, column.tolist())) / 12 for column in Y.T]
        rows = mp.matrix([[mp.mpf(float(y)) - mu for y, mu in zip(row, mean, strict=True)] for row in Y])
        covariance = rows.T * rows / 12
        values = mp.eigsy(covariance, eigvals_only=True)
        exact = mp.fsum(min(value, mp.mpf(1e-8)) for value in values)
    assert wanted.mse == pytest.approx(float(exact), rel=1e-9)
    assert abs(found.mse - float(exact)) <= found.bounds["mse"]
    assert found.mse == pytest.approx(float(exact), rel=1e-4)
    assert math.isinf(convex(Y, loss="huber", lambda_W=0.1, lambda_H=0.1).bounds["mse"])
    assert math.isnan(convex([0, 1], loss="logistic", lambda_W=0.1, lambda_H=0.1).bounds["mse"])


def test_an_empty_batch_has_the_sizes_of_others() -> None:
    Y = samples("squared", 1)
    full, empty = (convex(Y, lambda_W=0.1, lambda_H=h) for h in (np.ones(1), np.ones(0)))
    assert empty.n == 3
    for name in ("bias", "kept", "vectors", "coordinates", "gradients", "errors", "gram", "cosines"):
        assert getattr(empty, name).shape == (0, *getattr(full, name).shape[1:]), name
    assert empty.weights().shape == (0, 3, 3)
    assert empty.features(Y[:2]).shape == (0, 2, 3)


# ---- what is said ----


def test_what_is_printed() -> None:
    found = convex(range(3), weights=[60, 20, 20], loss="cross_entropy", lambda_W=0.5, lambda_H=0.5)
    lines = str(found).splitlines()
    assert lines[0] == "minimum of the UFM, cross_entropy loss, n = 3, c = 0.25"
    assert lines[1].startswith("  rank 1, loss 0.936426, no more than ")
    assert lines[3] == "  classes that have merged: {1, 2}; accuracy 0.6"
    batch = convex(np.eye(3), lambda_W=0.1, lambda_H=[0.1, 100.0])
    assert str(batch).startswith(
        "2 minima of the UFM, squared loss, n = 3: c from 0.01 to 10, rank 0 to 2, relative gaps up"
    )


@pytest.mark.parametrize(
    ("Y", "options", "error", "text"),
    [
        (
            np.eye(3),
            {"loss": "hinge"},
            ValueError,
            "'squared', 'huber', 'absolute', 'cross_entropy', 'logistic' are known",
        ),
        (np.eye(3), {"delta": 2.0}, ValueError, "delta goes with loss='huber', not with 'squared'"),
        (np.eye(3), {"loss": "huber", "delta": 0.0}, ValueError, "delta must be positive"),
        (np.eye(3), {"n_classes": 3}, ValueError, "n_classes goes with loss='cross_entropy'"),
        (np.eye(3), {"lambda_W": 0.0}, ValueError, "lambda_W must be positive, got 0.0"),
        (
            np.eye(3),
            {"weights": [1.0, 2.0]},
            ValueError,
            r"weights have shape \(2,\), and values from 1 to 2; \(3,\) is expected",
        ),
        (np.eye(3), {"weights": [0.0, 0.0, 0.0]}, ValueError, "not all 0"),
        (np.eye(3), {"weights": [1.0, -1.0, 1.0]}, ValueError, r"\(3,\), and values from -1 to 1; \(3,\) is expected"),
        (np.zeros((0, 3)), {}, ValueError, "at least one sample"),
        (np.full((3, 2), np.nan), {}, ValueError, "not finite"),
        (np.full((3, 2), 1e200) * [[1], [2], [3]], {}, ValueError, "rescale them"),
        (np.eye(3), {"loss": "cross_entropy"}, TypeError, "takes the number of the class of every sample"),
        ([0.0, 1.0], {"loss": "cross_entropy"}, TypeError, "is not of whole numbers"),
        ([0, -1], {"loss": "cross_entropy"}, ValueError, "labels are at least 0, got -1"),
        ([0, 2], {"loss": "cross_entropy"}, ValueError, "class 1 has no samples: its logit falls without end"),
        ([0, 1], {"loss": "cross_entropy", "n_classes": 1}, ValueError, "n_classes is 1; at least 2 is expected"),
        ([0, 10**12], {"loss": "cross_entropy"}, ValueError, "class 1 has no samples"),
        ([0, 1], {"loss": "cross_entropy", "n_classes": 10**12}, ValueError, "class 2 has no samples"),
        (np.array([0, 2**64 - 1], np.uint64), {"loss": "cross_entropy"}, ValueError, f"the label {2**64 - 1}; "),
        (np.eye(3) * 1e-170, {"loss": "huber"}, ValueError, "squares of the targets leave the range of float64"),
        ([0, 0], {"loss": "cross_entropy"}, ValueError, "n_classes is 1; at least 2 is expected"),
        (
            np.eye(3),
            {"lambda_W": 1e-9, "lambda_H": 1e-9},
            ValueError,
            "in units of the targets; at least 1e-08 is expected",
        ),
        ([0, 1], {"loss": "logistic", "lambda_H": 1e-200}, ValueError, "at least 1e-13 is expected"),
        ([0.5, 1.0], {"loss": "logistic"}, ValueError, "values other than 0 and 1"),
        ([[0, 1], [1, 1]], {"loss": "logistic"}, ValueError, "output 1 has the answer 1 for every sample"),
        (
            np.random.default_rng(0).random((9, 2)),
            {"loss": "huber", "tolerance": 1e-18},
            RuntimeError,
            r"above the tolerance of 1e-18; tolerance=\de-1\d takes what was found",
        ),
    ],
)
def test_refusals(Y: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        convex(Y, **{"lambda_W": 0.1, "lambda_H": 0.1, **options})


def test_refusals_of_a_minimum() -> None:
    Y = samples("huber", 2)
    found = convex(Y, loss="huber", lambda_W=0.01, lambda_H=0.01)
    assert found.rank == 3
    with pytest.raises(ValueError, match="at least the rank of the minimum, 3, is expected: with fewer features"):
        found.weights(d=2)
    with pytest.raises(ValueError, match="row 1 of Y is not among the samples"):
        found.features(np.vstack([Y[:1], Y[:1] + 1.0]))
    with pytest.raises(ValueError, match="Y has 2 columns; 3 are expected"):
        found.predictions(Y[:, :2])
    classes = convex(range(3), loss="cross_entropy", lambda_W=0.1, lambda_H=0.1)
    with pytest.raises(ValueError, match=r"label 3; 0\.\.2 is expected"):
        classes.features([3])
    with pytest.raises(IndexError, match=r"the batch has shape \(\)"):
        classes[0]
