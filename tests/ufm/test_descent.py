"""Descent without the samples against descent on every entry of H, W and b."""

from __future__ import annotations

import math
import platform
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.descent import RunningDescent
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.ufm import descend, minimum
from nrc_fast.ufm.descent.stability import _blocks, stable_factor
from nrc_fast.ufm.descent.trajectory import METRICS

EPS = float(np.finfo(np.float64).eps)


def explicit(
    reference: Any,
    Y: Any,
    start: tuple[Any, Any, Any],
    penalties: tuple[float, float, float],
    rates: tuple[float, float, float],
    steps: int,
    momentum: float = 0.0,
    *,
    has_bias: bool = True,
) -> tuple[Any, Any, Any]:
    """Plain descent as torch's SGD does it: v <- momentum v + gradient, x <- x - lr v."""
    parts = [np.array(part, dtype=np.float64) for part in start]
    velocities = [np.zeros_like(part) for part in parts]
    lr_W, lr_H, lr_b = rates
    for _ in range(steps):
        H, W, b = parts
        _, gradients = reference.loss_and_gradients(H, W, b, Y, *penalties)
        for k, (gradient, lr) in enumerate(zip(gradients, (lr_H, lr_W, lr_b * has_bias), strict=True)):
            velocities[k] = momentum * velocities[k] + gradient
            parts[k] = parts[k] - lr * velocities[k]
    return parts[0], parts[1], parts[2]


def start_of(samples: int, n: int, d: int, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((samples, n)) @ rng.standard_normal((n, n)) + rng.standard_normal(n)
    return (
        Y,
        0.5 * rng.standard_normal((samples, d)),
        rng.standard_normal((n, d)) / math.sqrt(d),
        rng.standard_normal(n),
    )


# ---- the steps ----


@pytest.mark.parametrize(("samples", "n", "d"), [(50, 2, 5), (50, 3, 17), (5000, 3, 16), (50, 1, 1), (50, 7, 9)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_thousand_steps(reference: Any, samples: int, n: int, d: int, momentum: float) -> None:
    Y, H, W, b = start_of(samples, n, d)
    penalties = (0.02, 0.03, 0.0)
    rates = tuple((1.0 - momentum) * rate for rate in (0.05, 0.1 * samples, 0.2))
    keywords = {"lambda_W": 0.02, "lambda_H": 0.03, "lr_W": rates[0], "lr_H": rates[1], "lr_b": rates[2]}
    found = descend(Y, steps=1000, momentum=momentum, weights=W, features=H, bias=b, **keywords)
    H, W, b = explicit(reference, Y, (H, W, b), penalties, rates, 1000, momentum)
    np.testing.assert_allclose(found.weights, W, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.bias, b, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.features(), H, rtol=0, atol=1e-10)
    loss, _ = reference.loss_and_gradients(H, W, b, Y, *penalties)
    assert found.history["loss"][-1] == pytest.approx(loss, rel=1e-10)
    assert found.steps == 1000


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"lambda_b": 0.4}, {"lambda_W": 0.0, "lambda_H": 0.0}])
def test_every_kind_of_bias_and_penalty(reference: Any, isa: str, options: Any) -> None:
    del isa
    Y, H, W, b = start_of(40, 3, 6)
    keywords = {"lambda_W": 0.02, "lambda_H": 0.03, "lambda_b": 0.0, "bias": b} | options
    has_bias = keywords["bias"] is not False
    penalties = (keywords["lambda_W"], keywords["lambda_H"], keywords["lambda_b"])
    found = descend(Y, steps=300, lr=0.1, lr_H=4.0, weights=W, features=H, **keywords)
    start = (H, W, b if has_bias else 0 * b)
    H, W, b = explicit(reference, Y, start, penalties, (0.1, 4.0, 0.1), 300, has_bias=has_bias)
    np.testing.assert_allclose(found.weights, W, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.bias, b, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.features(), H, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 15, 16, 31, 64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 11])
def test_sizes(reference: Any, n: int, d: int) -> None:
    Y, H, W, b = start_of(30, n, d, seed=n)
    found = descend(Y, steps=20, lambda_W=0.02, lambda_H=0.03, lr=0.02, lr_H=0.5, weights=W, features=H, bias=b)
    H, W, b = explicit(reference, Y, (H, W, b), (0.02, 0.03, 0.0), (0.02, 0.5, 0.02), 20)
    # 20 steps of sums of some d + n products of numbers of size 10.
    np.testing.assert_allclose(found.weights, W, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.features(), H, rtol=0, atol=1e-11)


def test_float32(isa: str) -> None:
    del isa
    Y, H, W, b = start_of(40, 3, 18)
    keywords = {"lambda_W": 0.02, "lambda_H": 0.03, "lr": 0.1, "lr_H": 4.0, "weights": W, "features": H, "bias": b}
    found = descend(Y, steps=200, dtype="float32", **keywords)
    exact = descend(Y, steps=200, **keywords)
    error = np.abs(found.weights - exact.weights).max()
    assert 0.0 < error < 200 * 2.0**-23  # a rounding in every step, of numbers of size 1 that are not amplified
    np.testing.assert_allclose(found.features(), exact.features(), rtol=0, atol=400 * 2.0**-23)


def test_tensors_and_lists_start_it_too() -> None:
    torch = pytest.importorskip("torch")
    Y, H, W, b = start_of(20, 2, 4)
    keywords = {"steps": 5, "lambda_W": 0.02, "lambda_H": 0.03, "lr": 0.1}
    expected = descend(Y, weights=W, features=H, bias=b, **keywords)
    found = descend(
        *(torch.from_numpy(Y),), weights=torch.nn.Parameter(torch.from_numpy(W)), features=torch.from_numpy(H),
        bias=b.tolist(), **keywords,
    )  # fmt: skip
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_rotated_features_rotate_the_weights() -> None:
    Y, H, W, b = start_of(40, 3, 6)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    keywords = {"steps": 200, "lambda_W": 0.02, "lambda_H": 0.03, "lr": 0.1, "lr_H": 4.0, "bias": b}
    one = descend(Y, weights=W, features=H, **keywords)
    other = descend(Y, weights=W @ turn, features=H @ turn, **keywords)
    np.testing.assert_allclose(other.weights, one.weights @ turn, rtol=0, atol=1e-12)
    shuffled = np.random.default_rng(2).permutation(40)
    mixed = descend(Y[shuffled], weights=W, features=H[shuffled], **keywords)
    np.testing.assert_allclose(mixed.weights, one.weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mixed.features(), one.features()[shuffled], rtol=0, atol=1e-12)


def test_far_from_the_origin(reference: Any) -> None:
    """Features with a mean of 1000: collapse is measured about it, without the digits that its square would cost."""
    Y, H, W, b = start_of(60, 2, 5)
    H, Y = H * 1e-3 + 1000.0, Y + 300.0
    found = descend(Y, steps=0, lambda_W=0.1, lambda_H=0.1, lr=0.1, weights=W, features=H, bias=b, record=METRICS)
    report = nrc.measure(H, Y, W, b, convention="variance")
    assert found.history["nrc1"][0] == pytest.approx(report.nrc1, rel=1e-8)
    assert found.history["nrc2"][0] == pytest.approx(report.nrc2, rel=1e-8)
    loss, _ = reference.loss_and_gradients(H, W, b, Y, 0.1, 0.1)
    assert found.history["loss"][0] == pytest.approx(loss, rel=1e-12)


def test_what_decays_never_becomes_subnormal(isa: str) -> None:
    del isa
    Y = start_of(40, 2, 4)[0]
    found = descend(Y, d=8, steps=8000, lambda_W=0.1, lambda_H=0.1, lr=0.2, lr_H=8.0, dtype="float32", record=())
    decayed = np.abs(found._problems.descent.state.transforms[:, :, :8])
    assert decayed.max() < 1e-35
    if platform.machine() in ("x86_64", "AMD64"):
        assert np.all((decayed == 0.0) | (decayed >= np.finfo(np.float32).tiny))
    assert np.float32(1e-40) * np.float32(0.5) > 0.0  # and the process keeps its subnormal numbers
    assert 5e-324 * 1.0 > 0.0


# ---- batches ----


@pytest.mark.parametrize(
    ("n", "d", "dtype"), [(3, 6, "float64"), (3, 6, "float32"), (1, 1, "float64"), (2, 40, "float64")]
)
def test_a_batch_is_its_problems_one_by_one(set_threads: Any, n: int, d: int, dtype: str) -> None:
    Y = start_of(50, n, d)[0]
    lambda_W = np.array([[0.1], [0.0], [0.3]])
    lambda_H, momentum, seeds = np.array([0.1, 0.0]), np.array([[0.0], [0.5], [0.9]]), np.array([4, 9])
    keywords = {"steps": 137, "lr": 0.05, "lr_H": 2.0, "d": d, "record": METRICS, "at": 50, "dtype": dtype}
    results = []
    for threads in (1, 2, 5):
        set_threads(threads)
        results.append(descend(Y, lambda_W=lambda_W, lambda_H=lambda_H, momentum=momentum, seed=seeds, **keywords))
    together = results[0]
    assert together.weights.shape == (3, 2, n, d)
    assert together.recorded_steps.tolist() == [0, 50, 100, 137]
    for other in results[1:]:
        np.testing.assert_array_equal(other.weights, together.weights)
    for i in range(3):
        for j in range(2):
            alone = descend(
                Y, lambda_W=lambda_W[i, 0], lambda_H=lambda_H[j], momentum=momentum[i, 0], seed=seeds[j], **keywords
            )
            np.testing.assert_array_equal(together.weights[i, j], alone.weights)
            np.testing.assert_array_equal(together.bias[i, j], alone.bias)
            np.testing.assert_array_equal(together.features((i, j)), alone.features())
            for name in METRICS:
                np.testing.assert_array_equal(together.history[name][i, j], alone.history[name], err_msg=name)


def test_a_batch_of_covariances_and_starts(reference: Any) -> None:
    covariances = np.stack([reference.covariance_with([1.0, 0.3], seed) for seed in range(3)])
    weights = np.random.default_rng(0).standard_normal((4, 1, 2, 5))
    keywords = {"steps": 60, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.1, "lr_H": 50.0, "samples": 500}
    together = descend(covariance=covariances, mean=[1.0, 2.0], weights=weights, **keywords)
    for i in range(4):
        for j in range(3):
            alone = descend(covariance=covariances[j], mean=[1.0, 2.0], weights=weights[i, 0], **keywords)
            np.testing.assert_array_equal(together.weights[i, j], alone.weights)


def test_pieces_of_a_call_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    Y = start_of(50, 3, 6)[0]
    keywords = {"steps": 100, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.05, "d": 7, "momentum": 0.5}
    whole = descend(Y, **keywords)
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr("nrc_fast.ufm.descent.dynamics.CALL_OPERATIONS", 1.0)
    pieces = descend(Y, **keywords, progress=lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(pieces.weights, whole.weights)
    np.testing.assert_array_equal(pieces.features(), whole.features())
    assert calls[-1] == (100, 100)
    assert len(calls) > 10


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    Y = start_of(50, 3, 6)[0]
    keywords = {"steps": 2500, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.05, "d": 7}
    descend(Y, **keywords)  # no bar where stderr is no terminal
    assert capsys.readouterr().err == ""
    descend(Y, progress=True, **keywords)
    assert "descent:   0%" in capsys.readouterr().err
    told: list[int] = []
    descend(Y, progress=lambda done, total: told.append(done), **keywords)  # noqa: ARG005
    assert told == [1000, 2000, 2500]


def test_nothing_recorded() -> None:
    Y = start_of(50, 3, 6)[0]
    found = descend(Y, steps=3, lambda_W=0.1, lambda_H=0.1, lr=0.05, d=7, at=[], record=())
    assert found.history == {}
    assert found.recorded_steps.size == 0
    untouched = descend(Y, steps=0, lambda_W=0.1, lambda_H=0.1, lr=0.05, d=7)
    assert untouched.steps == 0
    assert untouched.history["loss"].shape == (1,)
    assert str(untouched).startswith("descent on 1 UFM, 0 steps: 0 diverged, relative gradient ")


def test_text_says_how_far_it_came_and_how_slowly_features_move() -> None:
    Y = start_of(50, 3, 6)[0]
    keywords = {"lambda_W": 0.1, "lambda_H": 0.1, "d": 7}
    one_rate = descend(Y, steps=10, lr=0.1, **keywords)
    title, note = str(one_rate).splitlines()
    assert title == f"descent on 1 UFM, 10 steps: 0 diverged, relative gradient {one_rate.gradients:.1e}"
    assert note.startswith(
        "note: the gradient by H carries 1/M, so that one lr for all moves H 50 times as slowly as W"
    )
    assert "lr_H = 50 lr gives both the rate" in note
    scaled = descend(Y, steps=20_000, lr=0.1, lr_H=5.0, tolerance=1e-9, **keywords)
    assert scaled.notes == ()
    assert scaled.gradients <= 1e-9
    wanted = (
        f"descent on 1 UFM, {scaled.steps:,} steps: 1 converged, 0 diverged, relative gradient {scaled.gradients:.1e}"
    )
    assert str(scaled) == wanted
    many = descend(Y, steps=10, lr=[0.1, 0.2, 1e200], **keywords)
    assert np.isnan(many.gradients[2])
    low, high = sorted(many.gradients[:2])
    assert f"3 UFMs, 10 steps: 1 diverged, relative gradients {low:.1e} to {high:.1e}" in str(many)


def test_gradients_are_those_of_the_rows() -> None:
    """At the end, by their definition: the largest of each, over the terms that cancel in it."""
    Y, H, W, b = start_of(60, 3, 7)
    found = descend(Y, steps=30, lr=0.1, lr_H=6.0, weights=W, features=H, bias=b, lambda_W=0.02, lambda_H=0.03)
    H, W, b = found.features(), found.weights, found.bias
    root = np.sqrt(len(Y))
    E = (H @ W.T + b - Y) / root
    H = H / root
    pulls = E.T @ H, E @ W, E.sum(axis=0) / root
    terms = 0.02 * W, 0.03 * H, 0.0 * b
    scales = [np.linalg.norm(E) * np.linalg.norm(part) for part in (H, W, np.ones(1))]
    parts = zip(pulls, terms, scales, strict=True)
    relative = [np.linalg.norm(pull + term) / (scale + np.linalg.norm(term)) for pull, term, scale in parts]
    assert found.gradients == pytest.approx(max(relative), rel=1e-9)


# ---- where it ends ----


@pytest.mark.parametrize("bias", [None, False])
def test_it_ends_at_the_predicted_minimum(bias: Any) -> None:
    Y = start_of(200, 3, 8)[0]
    keywords = {"lambda_W": 0.1, "lambda_H": 0.2}
    found = descend(
        *(Y,), steps=20_000, lr=0.1, lr_H=20.0, d=8, bias=bias, record=METRICS, at=1000, tolerance=1e-13, **keywords
    )
    closed = minimum(Y, bias=bias is None, **keywords)
    assert closed.rank == 3
    assert found.converged
    assert found.steps < 20_000
    assert found.history["distance"][-1] < 1e-11
    assert found.history["distance"][0] > 0.1
    assert found.history["loss"][-1] == pytest.approx(closed.loss, rel=1e-12)
    assert found.history["nrc1"][-1] < 1e-24
    assert found.history["nrc2"][-1] < 1e-24
    assert found.history["balance"][-1] < 1e-11
    assert np.all(np.diff(found.history["loss"]) <= 1e-12)
    if bias is None:
        assert found.history["nrc3"][-1] < 1e-20
        report = nrc.measure(found.features(), Y, found.weights, found.bias, penalties=closed)
        assert report.nrc1 < 1e-20
        assert report.gamma == pytest.approx(closed.c, rel=1e-8)


def test_features_collapse_with_penalties_and_not_without() -> None:
    Y = start_of(300, 2, 10)[0]
    penalties = [1e-1, 1e-2, 0.0]
    found = descend(
        *(Y,), d=10, steps=6000, lambda_W=penalties, lambda_H=penalties, lr=0.2, lr_H=60.0, record=METRICS, at=1000
    )
    nrc1, nrc2, mse = (found.history[name] for name in ("nrc1", "nrc2", "mse"))
    assert nrc1[0, -1] < 1e-24 > nrc2[0, -1]
    assert nrc1[1, -1] < 1e-8 > nrc2[1, -1]
    assert nrc1[2, -1] > 0.1 < nrc2[2, -1]
    assert mse[2, -1] < 1e-20  # and still it fits
    assert found.predicted is not None
    # The slowest way to the minimum is that of lambda: (1 - 0.2 * 0.01)^6000 = 6e-6 of it is left.
    np.testing.assert_allclose(mse[:2, -1], np.asarray(found.predicted.mse)[:2], rtol=2e-5)


def test_recorded_metrics_are_those_of_the_rows(reference: Any) -> None:
    Y, H, W, b = start_of(60, 3, 7)
    keywords = {"lambda_W": 0.02, "lambda_H": 0.03}
    found = descend(
        *(Y,), steps=40, lr=0.1, lr_H=6.0, weights=W, features=H, bias=b, record=METRICS, at=[0, 40], **keywords
    )
    closed = minimum(Y, **keywords)
    for k, (rows, weights, bias) in enumerate(((H, W, b), (found.features(), found.weights, found.bias))):
        values = {name: history[k] for name, history in found.history.items()}
        loss, _ = reference.loss_and_gradients(rows, weights, bias, Y, 0.02, 0.03)
        report = nrc.measure(rows, Y, weights, bias, convention="variance")
        expected = {
            "loss": loss,
            "mse": report.mse,
            "nrc1": report.nrc1,
            "nrc2": report.nrc2,
            "nrc3": nrc.nrc3(weights, Y, gamma=0.02 * 0.03),
            "weight_norm_squared": np.sum(weights**2),
            "feature_norm_squared": np.sum(rows**2) / len(Y),
            "balance": np.linalg.norm(0.03 * rows.T @ rows / len(Y) - 0.02 * weights.T @ weights),
            "distance": nrc.ufm.aligned_distance(weights, closed.weights()),
        }
        assert set(expected) == set(METRICS)
        for name, value in expected.items():
            assert values[name] == pytest.approx(value, rel=1e-12), name


def test_stopping_keeps_the_last_values() -> None:
    Y = start_of(100, 2, 4)[0]
    found = descend(Y, d=4, steps=5000, lambda_W=[1.0, 0.01], lambda_H=1.0, lr=0.1, lr_H=10.0, at=100, tolerance=1e-6)
    assert found.converged.tolist() == [True, True]
    assert found.steps[0] < found.steps[1] < 5000
    assert found.steps[0] % 100 == 0
    after = found.history["loss"][0, found.steps[0] // 100 :]
    assert np.all(after == after[0])


# ---- starts that are drawn ----


@pytest.mark.parametrize(("samples", "d"), [(200, 6), (9, 6), (4, 6), (2, 5), (1, 3)])
def test_drawn_features_have_the_moments_that_were_used(reference: Any, samples: int, d: int) -> None:
    Y = start_of(samples, 2, d)[0]
    keywords = {"lambda_W": 0.02, "lambda_H": 0.03, "lr": 0.05, "lr_H": 0.1 * samples}
    first = descend(Y, d=d, steps=0, seed=3, **keywords)
    H = first.features()
    again = descend(Y, d=d, steps=50, seed=3, **keywords)
    rates = (0.05, 0.1 * samples, 0.05)
    rows, W, _ = explicit(reference, Y, (H, first.weights, first.bias), (0.02, 0.03, 0.0), rates, 50)
    np.testing.assert_allclose(again.weights, W, rtol=0, atol=1e-11)
    np.testing.assert_allclose(again.features(), rows, rtol=0, atol=1e-11)
    given = descend(Y, steps=50, features=H, weights=first.weights, **keywords)
    np.testing.assert_allclose(again.weights, given.weights, rtol=0, atol=1e-12)


def test_moments_of_features_start_it_too() -> None:
    Y, H, W, b = start_of(60, 2, 5)
    statistics = nrc.FeatureStatistics(5, n_targets=2).update(H + 3.0, Y)
    keywords = {"steps": 100, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.05, "lr_H": 3.0, "weights": W, "bias": b}
    expected = descend(Y, features=H + 3.0, record=METRICS, **keywords)
    for found in (
        descend(Y, features=statistics, record=METRICS, **keywords),
        descend(statistics, features=statistics, record=METRICS, **keywords),
    ):
        # Moments about the mean and about 0 of numbers of size 10 differ by some roundings of 100.
        np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=1e-12)
        for name in METRICS:
            np.testing.assert_allclose(found.history[name], expected.history[name], rtol=1e-10)
    with pytest.raises(ValueError, match="started from moments"):
        descend(Y, features=statistics, **keywords).features()
    for changes, message in (
        ({"cross_covariance": np.full((5, 2), 9.0)}, "no features and targets have these moments"),
        ({"covariance": np.eye(4)}, r"\(d,\), \(d, d\) and \(d, 2\) are expected"),
        ({"mean": [math.nan] * 5}, "not finite"),
    ):
        given = {"mean": np.zeros(5), "covariance": np.eye(5), "cross_covariance": np.zeros((5, 2))} | changes
        with pytest.raises(ValueError, match=message):
            descend(Y, features=SimpleNamespace(**given), **keywords)


def test_drawn_moments_are_those_of_gaussian_features() -> None:
    """Means over seeds of entries of the Gram of 12 x 3 Gaussian features: within 5 standard errors."""
    Y = start_of(12, 2, 3)[0]
    seeds = np.arange(4000)
    found = descend(Y, d=3, steps=0, seed=seeds, feature_scale=2.0, lambda_W=0.1, lambda_H=0.1, lr=0.1)
    grams = np.stack([start.moments for start in found._problems.starts])
    direct = np.empty_like(grams)
    for k in range(len(seeds)):
        H = 2.0 * np.random.default_rng(10_000 + k).standard_normal((12, 3))
        Z = np.column_stack([H, Y, np.ones(12)])
        direct[k] = Z.T @ Z / 12
    for power in (1, 2):
        ours, theirs = grams**power, direct**power
        error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / len(seeds))
        assert np.all(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) <= 5 * error + 1e-12)
    # Different seeds differ, in weights too.
    assert np.unique(found.weights[:, 0, 0]).size == 4000
    assert found.weights.std() == pytest.approx(3**-0.5, rel=0.02)


def test_the_number_of_samples_costs_nothing() -> None:
    keywords = {"covariance": np.diag([1.0, 0.5]), "d": 8, "steps": 10, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.1}
    found = descend(samples=10**12, lr_H=1e11, **keywords)
    assert np.isfinite(found.weights).all()
    with pytest.raises(ValueError, match="call descend with Y"):
        found.features()


# ---- what goes wrong ----


def test_divergence_is_that_of_one_problem() -> None:
    Y = start_of(50, 2, 4)[0]
    keywords = {"d": 4, "steps": 3000, "lambda_W": 0.1, "lambda_H": 0.1, "lr_H": 5.0, "record": METRICS}
    found = descend(Y, lr=[0.1, 50.0], **keywords)
    assert found.diverged.tolist() == [False, True]
    assert np.isnan(found.weights[1]).all()
    assert np.isnan(found.history["loss"][1, -1])
    np.testing.assert_array_equal(found.weights[0], descend(Y, lr=0.1, **keywords).weights)
    assert found.errors[0] == ""
    assert "largest learning rates that are stable at the minimum" in found.errors[1]
    assert "1 diverged" in str(found)
    with pytest.raises(RuntimeError, match="steps at lr_W = 50"):
        descend(Y, lr=50.0, **keywords)


def test_where_there_is_no_predicted_minimum() -> None:
    Y = start_of(50, 2, 4)[0]
    keywords = {"d": 4, "steps": 50, "lr_H": 5.0, "record": ["loss", "distance"]}
    penalised = descend(Y, lambda_W=0.1, lambda_H=0.1, lambda_b=0.3, lr=0.1, **keywords)
    assert penalised.predicted is None
    assert np.isnan(penalised.history["distance"]).all()
    assert penalised.history["loss"][1] < penalised.history["loss"][0]
    one_sided = descend(Y, lambda_W=[0.1, 0.1], lambda_H=[0.1, 0.0], lr=0.1, **keywords)
    assert np.isfinite(one_sided.history["distance"]).all(axis=-1).tolist() == [True, False]
    with pytest.raises(RuntimeError, match="lower the learning rates"):
        descend(Y, lambda_W=0.1, lambda_H=0.0, lr=80.0, **(keywords | {"steps": 3000}))


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 3), (2, 2), (3, 5), (2, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("c", [0.01, 0.3])
def test_blocks_are_the_whole_hessian(reference: Any, n: int, d: int, c: float) -> None:
    """Every eigenvalue of the blocks is one of the Hessian of the loss, and the other way round."""
    samples, lambda_W = 9, 0.4
    covariance = reference.covariance_with([1.3, 0.5, 0.1][:n], seed=2)
    Y = reference.targets_with(covariance, samples, [0.3, -1.0, 2.0][:n], seed=3)
    closed = minimum(Y, lambda_W=lambda_W, lambda_H=c / lambda_W, d=d)
    start = [closed.features(Y, d=d), closed.weights(d=d), closed.bias]
    cuts = np.cumsum([part.size for part in start])[:-1]
    rates = np.concatenate(
        [np.full(part.size, rate) for part, rate in zip(start, (0.7 * samples, 0.2, 1.9), strict=True)]
    )

    def gradient(x: Any) -> Any:
        parts = (piece.reshape(part.shape) for piece, part in zip(np.split(x, cuts), start, strict=True))
        _, gradients = reference.loss_and_gradients(*parts, Y, lambda_W, c / lambda_W)
        return np.concatenate([part.ravel() for part in gradients])

    center = np.concatenate([part.ravel() for part in start])
    step = 1e-3  # gradients are polynomials of degree 3: five points differentiate them exactly
    columns = [
        (8 * (gradient(center + e) - gradient(center - e)) - gradient(center + 2 * e) + gradient(center - 2 * e)) / 12
        for e in step * np.eye(len(center))
    ]
    scaled = np.sqrt(np.outer(rates, rates)) * np.array(columns) / step
    wanted = np.linalg.eigvalsh(0.5 * (scaled + scaled.T))
    shrinkage = closed.shrinkage
    singular = (np.sqrt(shrinkage.kept * closed.scale), np.sqrt(shrinkage.kept / closed.scale))
    found = []
    errors = np.sqrt(shrinkage.residual_values)
    for block, kinds in _blocks(*singular, errors, lambda_W=lambda_W, lambda_H=c / lambda_W, width=d, has_bias=True):
        steps = np.sqrt([(0.2, 0.7, 1.9)[kind] for kind in kinds])
        found.extend(np.linalg.eigvalsh(block * np.outer(steps, steps)))
    # Differences of gradients of size 1 over 1e-3, from a minimum that is exact to the same digits.
    distances = np.abs(np.array(found)[:, np.newaxis] - wanted)
    assert distances.min(axis=1).max() < 1e-10
    assert distances.min(axis=0).max() < 1e-10
    factor = stable_factor(closed, (), (0.2, 0.7, 1.9), 0.5, d)
    assert factor == pytest.approx(3.0 / wanted[-1], rel=1e-9)


@pytest.mark.parametrize(("momentum", "pace"), [(0.0, 1.0), (0.9, 0.02)])
def test_nrc1_falls_by_the_penalty_of_the_features(reference: Any, momentum: float, pace: float) -> None:
    """Late in a descent, to 1e-6 of the slope, where all directions are kept and where one is dropped."""
    Y = reference.targets_with(reference.covariance_with([1.3, 0.5, 0.1], seed=2), 40, [0.3, -1.0, 2.0], seed=3)
    lambda_H = np.array([0.05, 0.1, 0.15])
    found = descend(
        Y, d=7, steps=int(2000 * (1.0 - momentum) / pace), lambda_W=[0.1, 0.1, 1.0], lambda_H=lambda_H, lr=0.2 * pace,
        lr_H=10.0 * pace, momentum=momentum, record="nrc1", at=35,
    )  # fmt: skip
    shrinkage = 0.25 * pace * lambda_H
    total = 1.0 - momentum + shrinkage
    exact = 2.0 * np.log1p(-0.5 * (total - np.sqrt(total**2 - 4.0 * shrinkage)))
    np.testing.assert_allclose(found.predicted_slope, exact, rtol=1e-12)
    assert found.predicted.rank.tolist() == [3, 3, 2]
    np.testing.assert_allclose(found.measured_slope, found.predicted_slope, rtol=1e-6)
    one = descend(Y, d=7, steps=40, lambda_W=0.1, lambda_H=0.0, lr=0.2, record="loss")
    assert one.predicted_slope == 0.0
    assert math.isnan(one.measured_slope)


@pytest.mark.parametrize("d", [1, 2])
def test_fewer_features_than_outputs_reach_their_minimum(reference: Any, d: int) -> None:
    """The minimum of that width, whose directions are the leading ones; NRC1 and NRC2 are 0 all along."""
    Y = reference.targets_with(reference.covariance_with([1.3, 0.5, 0.1], seed=2), 40, [0.3, -1.0, 2.0], seed=3)
    found = descend(
        Y, d=d, steps=4000, lambda_W=0.1, lambda_H=[0.1, 1.0], lr=0.3, lr_H=12.0, at=1000,
        record=["loss", "nrc1", "nrc2", "distance"],
    )  # fmt: skip
    closed = minimum(Y, lambda_W=0.1, lambda_H=[0.1, 1.0], d=d)
    np.testing.assert_allclose(found.history["loss"][:, -1], closed.loss, rtol=1e-13)
    np.testing.assert_allclose(found.history["distance"][:, -1], 0.0, atol=1e-9)
    assert (found.history["nrc1"][0] == 0.0).all()
    assert np.nanmax(found.history["nrc2"][0]) < 1e-28
    gram = found.weights[0] @ found.weights[0].T
    np.testing.assert_allclose(gram, closed.gram[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("c", [0.01, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("rates", [(1.0, 1.0, 1.0), (0.1, 3.0, 0.5), (2.0, 0.2, 5.0)])
def test_the_largest_stable_learning_rate(reference: Any, rates: Any, momentum: float, c: float) -> None:
    covariance = reference.covariance_with([1.3, 0.5, 0.1], seed=2)
    Y = reference.targets_with(covariance, 40, [0.3, -1.0, 2.0], seed=3)
    closed = minimum(Y, lambda_W=0.4, lambda_H=c / 0.4)
    assert closed.rank == (3 if c == 0.01 else 2)
    factor = stable_factor(closed, (), rates, momentum, 5)
    rng = np.random.default_rng(0)
    W = closed.weights(d=5) + 1e-7 * rng.standard_normal((3, 5))
    H = closed.features(Y, d=5) + 1e-7 * rng.standard_normal((40, 5))
    ends = []
    for share in (0.98, 1.02):
        lr = [share * factor * rate for rate in rates]
        found = descend(
            *(Y,), steps=3000, lr_W=lr[0], lr_H=40 * lr[1], lr_b=lr[2], momentum=momentum, weights=W, features=H,
            bias=closed.bias, lambda_W=[0.4], lambda_H=c / 0.4, record="distance",
        )  # fmt: skip
        ends.append(found.history["distance"][0])
    # On one side of the limit what is off the minimum dies out, on the other it grows.
    assert ends[0][-1] < ends[0][0]
    assert not ends[1][-1] < 100 * ends[1][0]


def test_interruption_is_heard() -> None:
    Y = start_of(50, 3, 6)[0]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where pytest runs in the background
    timer = threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        descend(Y, d=64, steps=10**8, lambda_W=0.1, lambda_H=0.1, lr=1e-3, seed=np.arange(16))
    assert time.monotonic() - started < 30
    timer.join()
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"steps": -1}, "steps must be at least 0"),
        ({"lr": None}, "lr_W is not known"),
        ({"lr": -0.1}, "lr_W must be at least 0"),
        ({"lr": math.nan}, "not finite"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"lambda_W": -0.1}, "lambda_W must be at least 0"),
        ({"d": None}, "d is not known"),
        ({"d": 0}, "from 1 on"),
        ({"weights": np.ones((2, 5))}, "width of the features differs"),
        ({"weights": np.ones((3, 4))}, r"weights has shape \(3, 4\)"),
        ({"weights": np.full((2, 4), math.nan)}, "not finite"),
        ({"features": np.ones((9, 4))}, "9 rows and Y has 10"),
        ({"features": np.full((10, 4), math.inf)}, "NaN or infinite"),
        ({"bias": [1.0]}, r"bias has shape \(1,\)"),
        ({"bias": False, "lambda_b": 0.1}, "give one of them"),
        ({"lr": []}, "nothing to do"),
        ({"weights": 1.0}, r"weights has shape \(\)"),
        ({"seed": -1}, "seed must not be negative"),
        ({"samples": 11}, "leave it out"),
        ({"record": "nrc4"}, "'nrc1'"),
        ({"at": 0}, "from 1 on"),
        ({"at": [0, 11]}, "steps from 0 to 10"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"dtype": "float16"}, "'float64' or 'float32'"),
        ({"dtype": "float32", "feature_scale": 1e30}, "leave the range of float32"),
        ({"lr": [0.1, 0.2], "seed": [1, 2, 3]}, "do not broadcast"),
        ({"Y": None, "covariance": np.eye(2)}, "samples= is needed"),
        ({"Y": None, "covariance": np.eye(2), "samples": 10, "features": np.ones((10, 4))}, "without the targets"),
    ],
)
def test_bad_input(keywords: Any, message: str) -> None:
    Y = start_of(10, 2, 4)[0]
    options = {"Y": Y, "d": 4, "steps": 10, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.1} | keywords
    with pytest.raises(ValueError, match=message):
        descend(**options)


def test_other_errors() -> None:
    keywords = {"d": 4, "steps": 10, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.1}
    Y = start_of(10, 2, 4)[0]
    with pytest.raises(RuntimeError, match="cannot be used"):
        descend(Y, device="cuda", **keywords)
    with pytest.raises(TypeError, match="a whole number is expected"):
        descend(Y, **(keywords | {"steps": 10.5}))
    with pytest.raises(TypeError, match="integers are expected"):
        descend(Y, seed=0.5, **keywords)
    found = descend(Y, seed=[1, 2], **keywords)
    for index in ((), (2,), (0, 0), (-1,)):
        with pytest.raises(ValueError, match="one problem of a batch"):
            found.features(index)


def test_inputs_are_left_alone() -> None:
    Y, H, W, b = start_of(20, 2, 4)
    copies = [part.copy() for part in (Y, H, W, b)]
    found = descend(Y, steps=5, lambda_W=0.1, lambda_H=0.1, lr=0.1, weights=W, features=H, bias=b)
    found.features()
    for part, copy in zip((Y, H, W, b), copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_the_door_to_the_kernel_checks_its_arrays() -> None:
    state = DescentState(
        *(np.zeros((2, 3, 8)), np.zeros((2, 3, 1)), np.zeros((2, 1)), np.zeros((1, 5, 8))),
        *(np.zeros(2, dtype=np.int64), np.zeros((2, 7))),
    )
    RunningDescent(state, CPU).take_steps(np.array([1, 1]))
    for name, wrong in (
        ("weights", np.zeros((2, 3, 2))),
        ("biases", np.zeros((2, 1), dtype=np.float32)),
        ("moments", np.zeros((1, 5, 16))[..., ::2]),
        ("moment_index", np.array([0, 1])),
        ("rates", np.zeros((2, 6))),
    ):
        right = getattr(state, name)
        setattr(state, name, wrong)
        with pytest.raises(ValueError, match="do not fit together"):
            RunningDescent(state, CPU)
        setattr(state, name, right)
    for steps in (np.array([1]), np.array([1.0, 1.0])):
        with pytest.raises(ValueError, match=r"\(2,\) of int64 is expected"):
            RunningDescent(state, CPU).take_steps(steps)
    state.rates[:, 6] = 0.5
    with pytest.raises(ValueError, match="needs velocities"):
        RunningDescent(state, CPU).take_steps(np.array([1, 1]))
