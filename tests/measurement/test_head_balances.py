"""The balance of a head: exact where torch has trained to rest, off elsewhere, and the same however rows come."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cuda_core
from support.exact_balance import exact_matrix, exact_numbers
from support.on_device import device_package

import nrc_fast as nrc
from nrc_fast.kernels import calls
from nrc_fast.measurement import balance_metrics, model_errors
from nrc_fast.measurement.balance_metrics import balance_of_moments
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.metrics.head_balances import BalanceMatrix, balance_numbers
from nrc_fast.passes.balance_sums import LinearModel

FIELDS = {"distance": "balance_distance", "lambda_W": "balance_decay", "asymmetry": "balance_asymmetry"}
EXACT = {"distance": "distance", "lambda_W": "decay", "asymmetry": "asymmetry"}
DECAY = 0.03


def trained(loss: str, *, d: int = 4, n: int = 3, bias: bool = True, steps: int = 400) -> dict[str, Any]:
    """A network of one hidden layer, trained with torch's own loss and weight decay: features, head and targets."""
    import torch

    functional = torch.nn.functional
    rng = np.random.default_rng(5)
    X = torch.tensor(rng.standard_normal((40, 3)))
    Y = torch.tanh(X @ torch.tensor(rng.standard_normal((3, n)))) + 0.3 * torch.tensor(rng.standard_normal((40, n)))
    Y = {"cross_entropy": Y.argmax(dim=1), "logistic": (Y > 0.0).double()}.get(loss, Y)
    losses: dict[str, Any] = {
        "squared": functional.mse_loss,
        "huber": lambda f, y: functional.huber_loss(f, y, delta=0.4),
        "cross_entropy": functional.cross_entropy,
        "logistic": functional.binary_cross_entropy_with_logits,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = torch.nn.Sequential(torch.nn.Linear(3, d), torch.nn.Tanh())
        head = torch.nn.Linear(d, n, bias=bias)
    net = torch.nn.Sequential(trunk, head).double()
    optimizer = torch.optim.LBFGS(
        net.parameters(),
        max_iter=steps,
        max_eval=2 * steps,
        tolerance_grad=1e-9,
        tolerance_change=0.0,
        history_size=30,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Any:
        optimizer.zero_grad()
        squares = sum(part.square().sum() for part in net.parameters() if part.ndim > 1)
        value = losses[loss](net(X), Y) + 0.5 * DECAY * squares
        value.backward()
        return value

    optimizer.step(closure)
    return {"H": trunk(X).detach(), "W": head.weight, "b": head.bias, "Y": Y}


@pytest.mark.parametrize("loss", ["squared", "huber", "cross_entropy", "logistic"])
def test_a_head_that_was_trained_to_rest_is_in_balance_and_tells_its_weight_decay(loss: Any) -> None:
    balance = nrc.head_balance(**trained(loss), loss=loss, delta=0.4)
    assert balance.distance < 1e-8
    assert balance.asymmetry < 1e-4
    assert balance.weight_decay() == pytest.approx(DECAY, rel=1e-5)
    assert balance.verdict.startswith("In balance: ")
    assert (balance.samples, balance.d, balance.n, balance.loss) == (40, 4, 3, loss)
    early = nrc.head_balance(**trained(loss, steps=3), loss=loss, delta=0.4)
    assert early.distance > 1e-3
    assert early.asymmetry > 1e-2


@pytest.mark.parametrize("d", [2, 4])
def test_fewer_features_than_outputs_and_no_bias_are_in_balance_too(d: int) -> None:
    given = trained("squared", d=d, bias=False)
    balance = nrc.head_balance(**given)
    assert given["b"] is None
    assert balance.distance < 1e-8
    assert balance.weight_decay() == pytest.approx(DECAY, rel=1e-5)
    assert balance.lambda_W == pytest.approx(1.5 * DECAY, rel=1e-5)


def ridge(decay: float, *, rows: int = 200, noise: float = 0.1, absolute: bool = False) -> tuple[Any, ...]:
    """Features, the best W for a penalty, and targets; exact, for given features, without a bias."""
    rng = np.random.default_rng(7)
    H = rng.standard_normal((rows, 5)) + (4.0 if absolute else 0.0)
    Y = H @ rng.standard_normal((5, 2)) + noise * rng.standard_normal((rows, 2))
    W = np.linalg.solve(H.T @ H / rows + decay * np.eye(5), H.T @ Y / rows).T
    return H, W, None, Y


@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-6])
def test_ridge_regression_is_a_stationary_point_for_any_features(decay: float) -> None:
    balance = nrc.head_balance(*ridge(decay, absolute=True))
    assert balance.lambda_W == pytest.approx(decay, rel=1e-6)
    assert balance.distance < 1e-10
    assert balance.asymmetry < 1e-5


@pytest.mark.parametrize("c", [0.01, 0.4])
def test_the_minimum_of_the_ufm_is_in_balance(c: float) -> None:
    Y = np.random.default_rng(2).standard_normal((60, 3)) * np.array([2.0, 1.0, 0.5]) + 1.0
    minimum = nrc.ufm.minimum(Y, lambda_W=0.2, lambda_H=c / 0.2)
    H, W = minimum.features(Y), minimum.weights()
    for balance in (nrc.head_balance(H, W, minimum.bias, Y), _of_report(nrc.measure(H, Y, W, minimum.bias))):
        assert balance.distance < 1e-24
        assert balance.lambda_W == pytest.approx(0.2, rel=1e-12)
        assert balance.asymmetry < 1e-12


def _of_report(report: Any) -> Any:
    """The numbers of a report under the names of a balance."""
    values = {name: getattr(report, field) for name, field in FIELDS.items()}
    bounds = {name: report.bounds[field] for name, field in FIELDS.items()}
    return nrc.HeadBalance(report.samples, report.d, report.n, "squared", **values, matrix=np.eye(1), bounds=bounds)


def drawn(dtype: str = "float64", noise: float = 1e-3, scale: float = 1.0, d: int = 6) -> tuple[Any, ...]:
    rng = np.random.default_rng(11)
    H = ((rng.standard_normal((70, d)) + 2.0) * scale).astype(dtype)
    W, b = rng.standard_normal((3, d)) / scale, rng.standard_normal(3)
    return H, W, b, H.astype(np.float64) @ W.T + b + noise * rng.standard_normal((70, 3))


@pytest.mark.usefixtures("no_kept_rows")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("noise", [1.0, 1e-5, 1e-10])
@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e8])
@pytest.mark.parametrize("d", [6, 2])
def test_all_ways_are_within_their_bounds_of_sixty_digits(dtype: str, noise: float, scale: float, d: int) -> None:
    if dtype == "float32" and scale < 1e-30:
        scale = 1e-12
    H, W, b, Y = drawn(dtype, noise, scale, d)
    expected = exact_numbers(exact_matrix(H, W, b, Y), W)
    statistics = nrc.FeatureStatistics(d, n_targets=3).update(H, Y)
    merged = nrc.FeatureStatistics(d, n_targets=3).update(H[:30], Y[:30])
    merged += nrc.FeatureStatistics(d, n_targets=3).update(H[30:], Y[30:])
    ways = {
        "rows": nrc.head_balance(H, W, b, Y),
        "measured": _of_report(nrc.measure(H, Y, W, b)),
        "once": _of_report(nrc.measure(iter([(H, Y)]), None, W, b)),
        "statistics": _of_report(statistics.report(W, b)),
        "merged": _of_report(merged.report(W, b)),
    }
    for way, found in ways.items():
        for name, exact in EXACT.items():
            assert abs(getattr(found, name) - expected[exact]) <= found.bounds[name], (way, name)
    # Where moments leave too little, the rows are read for it.
    for way in ("rows", "measured"):
        assert ways[way].bounds["lambda_W"] <= max(4e-3, 1e-12 / noise) * abs(ways[way].lambda_W)
    if noise == 1e-10:
        assert ways["once"].bounds["lambda_W"] > 2.0 * ways["rows"].bounds["lambda_W"]


@pytest.mark.parametrize("power", [-900, -600, 300])
def test_weights_of_any_scale_are_within_their_bounds(power: int) -> None:
    H, W, b, Y = drawn(noise=0.1)
    W = np.ldexp(W, power)
    expected = exact_numbers(exact_matrix(H, W, b, Y), W)
    statistics = nrc.FeatureStatistics(6, n_targets=3).update(H, Y)
    for found in (nrc.head_balance(H, W, b, Y), _of_report(statistics.report(W, b))):
        for name, exact in EXACT.items():
            assert abs(getattr(found, name) - expected[exact]) <= found.bounds[name], name
        assert found.bounds["distance"] < 1e-10


@pytest.mark.parametrize("case", ["near collapse", "large mean", "few values", "ill conditioned", "outlier"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bounds_hold_on_features_that_are_hard(case: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    W, b = rng.standard_normal((3, 6)), rng.standard_normal(3)
    H = {
        "near collapse": rng.standard_normal((80, 3)) @ W + 1e-7 * rng.standard_normal((80, 6)),
        "large mean": rng.standard_normal((80, 6)) + 1e5,
        "few values": rng.integers(0, 2, (80, 6)) * 0.1,
        "ill conditioned": rng.standard_normal((80, 6)) * np.geomspace(1e6, 1e-6, 6),
        "outlier": rng.standard_normal((80, 6)) * np.where(np.arange(80) == 40, 1e6, 1.0)[:, None],
    }[case].astype(dtype)
    Y = H.astype(np.float64) @ W.T + b + 1e-3 * rng.standard_normal((80, 3))
    expected = exact_numbers(exact_matrix(H, W, b, Y), W)
    statistics = nrc.FeatureStatistics(6, n_targets=3).update(H, Y)
    for found in (
        nrc.head_balance(H, W, b, Y),
        _of_report(nrc.measure(H, Y, W, b)),
        _of_report(statistics.report(W, b)),
    ):
        for name, exact in EXACT.items():
            assert abs(getattr(found, name) - expected[exact]) <= found.bounds[name], name


def test_moments_bound_the_norm_of_the_error() -> None:
    """Not only the numbers that follow from it."""
    import mpmath

    for seed in range(5):
        rng = np.random.default_rng(seed)
        H, W, b, Y = drawn(("float64", "float32")[seed % 2], 10.0 ** -(2 * seed))
        H = (H + 10.0**seed * rng.standard_normal(6)).astype(H.dtype)
        moments = nrc.FeatureStatistics(6, n_targets=3).update(H, Y).moments
        matrix = balance_of_moments(moments, LinearModel(W, b))
        with mpmath.workdps(60):
            exact = exact_matrix(H, W, b, Y) / mpmath.mpf(2) ** matrix.exponent
            off = mpmath.mnorm(mpmath.matrix(matrix.values.tolist()) - exact, "f")
        assert off <= matrix.error
        assert matrix.error < 1e-3 * (1.0 + 100.0**seed)


def test_rows_are_read_for_the_balance_only_where_moments_leave_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    made, before = [], calls.residual_and_errors

    def counted(features: Any, bases: Any, prediction: Any) -> Any:
        if prediction.wants_products:
            made.append(True)
        return before(features, bases, prediction)

    monkeypatch.setattr(calls, "residual_and_errors", counted)
    for noise, is_read in ((1.0, False), (1e-13, True)):
        H, W, b, Y = drawn(noise=noise)
        nrc.measure(H, Y, W, b)
        assert bool(made) == is_read
        made.clear()
    H, W, b, Y = drawn(noise=1e-13)
    nrc.measure(H, Y, W)  # without a bias nothing is predicted
    monkeypatch.setattr(model_errors, "MOST_OUTPUTS", 2)
    nrc.measure(H, Y, W, b)
    assert not made


def test_an_extra_read_gives_the_balance_beside_residuals_in_float32() -> None:
    """For more than 16 components residuals of float32 rows are float32, and the MSE has a read of its own."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((300, 24)).astype(np.float32)
    W, b = rng.standard_normal((9, 24)), np.zeros(9)
    Y = H.astype(float) @ W.T + 1e-6 * rng.standard_normal((300, 9))
    exact = nrc.head_balance(H, W, b, Y)
    found = _of_report(nrc.measure(H, Y, W, b))
    for name in FIELDS:
        assert abs(getattr(found, name) - getattr(exact, name)) <= found.bounds[name] + exact.bounds[name]
    assert found.bounds["lambda_W"] < 1e-3 * abs(found.lambda_W)


# ---- where rows come from ----


def test_rows_may_lie_anywhere(tmp_path: Path) -> None:
    import torch

    H, W, b, Y = drawn()
    expected = nrc.head_balance(H, W, b, Y)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    np.savez(tmp_path / "both.npz", h=H, y=Y)
    ways: dict[str, Any] = {
        "files": nrc.head_balance(tmp_path / "H.npy", W, b, tmp_path / "Y.npy"),
        "batches": nrc.head_balance([(H[:33], Y[:33]), (H[33:], Y[33:])], W, b),
        "generator": nrc.head_balance(((H[k::2], Y[k::2]) for k in range(2)), W, b),
        "tensors": nrc.head_balance(*map(torch.tensor, (H, W, b, Y))),
        "strides": nrc.head_balance(np.asfortranarray(H), W, b, Y[::-1][::-1]),
        "source": nrc.head_balance(nrc.open(tmp_path / "both.npz", key="h", target_key="y"), W, b),
    }
    for way, found in ways.items():
        assert found.samples == 70
        for name in EXACT:
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9), way
        np.testing.assert_allclose(found.matrix, expected.matrix, rtol=1e-9)
    np.testing.assert_allclose(expected.matrix, (Y - H @ W.T - b).T @ (H @ W.T) / 70, rtol=1e-9)


def test_rows_that_are_not_finite_are_refused_or_skipped() -> None:
    H, W, b, Y = drawn()
    expected = nrc.head_balance(np.delete(H, [3, 50], axis=0), W, b, np.delete(Y, [3, 50], axis=0))
    H[3, 1], Y[50, 2] = np.nan, np.inf
    with pytest.raises(ValueError, match="H: 1 of 70 rows hold NaN or infinite values, the first is row 3"):
        nrc.head_balance(H, W, b, Y)
    found = nrc.head_balance(H, W, b, Y, nonfinite="skip")
    assert found.samples == 68
    np.testing.assert_allclose(found.matrix, expected.matrix, rtol=1e-12)
    with pytest.raises(ValueError, match="nothing is left to measure"):
        nrc.head_balance(H * np.nan, W, b, Y, nonfinite="skip")


def test_a_device_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    package = device_package("emulated", cuda_core, monkeypatch)
    H, W, b, Y = drawn("float32", noise=1e-9)
    expected = nrc.head_balance(H, W, b, Y)
    found = nrc.head_balance(package.placed(H), W, b, package.placed(Y))
    # Some roundings of what cancels in the residuals.
    np.testing.assert_allclose(found.matrix, expected.matrix, rtol=0, atol=64 * 2.0**-52)
    measured = _of_report(package.measure(H, Y, W, b))
    for name in EXACT:
        limit = expected.bounds[name] + found.bounds[name]
        assert abs(getattr(found, name) - getattr(expected, name)) <= limit
        assert abs(getattr(measured, name) - getattr(expected, name)) <= expected.bounds[name] + measured.bounds[name]


# ---- laws ----


@given(seed=st.integers(0, 1000), power=st.integers(-20, 20), other=st.integers(-20, 20))
def test_scales_of_features_and_targets(seed: int, power: int, other: int) -> None:
    """Features times s and W over s leave f; targets, b and W times t make B t^2 as large: decays are s^2 as large."""
    rng = np.random.default_rng(seed)
    H, W, b, Y = (rng.standard_normal(shape) for shape in ((12, 3), (2, 3), (2,), (12, 2)))
    s, t = 2.0**power, 2.0**other
    plain, scaled = nrc.head_balance(H, W, b, Y), nrc.head_balance(s * H, t / s * W, t * b, t * Y)
    assert scaled.lambda_W == pytest.approx(s**2 * plain.lambda_W, rel=1e-12)
    assert scaled.distance == pytest.approx(plain.distance, rel=1e-12)
    assert scaled.asymmetry == pytest.approx(plain.asymmetry, rel=1e-12)


@given(seed=st.integers(0, 1000))
def test_rotations_and_orders_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    H, W, b, Y = (rng.standard_normal(shape) for shape in ((12, 4), (3, 4), (3,), (12, 3)))
    outputs, features = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (3, 4))
    rows, order = rng.permutation(12), rng.permutation(3)
    plain = nrc.head_balance(H, W, b, Y)
    turned = nrc.head_balance(H @ features, outputs @ W @ features, outputs @ b, Y @ outputs.T)
    mixed = nrc.head_balance(H[rows], W[order], b[order], Y[rows][:, order], loss="huber")
    for name in EXACT:
        assert getattr(turned, name) == pytest.approx(getattr(plain, name), rel=1e-9, abs=1e-12), name
        same = getattr(nrc.head_balance(H, W, b, Y, loss="huber"), name)
        assert getattr(mixed, name) == pytest.approx(same, rel=1e-9, abs=1e-12), name


# ---- edges ----


def test_one_output_tells_its_decay_alone() -> None:
    H, _, _, Y = ridge(0.5)
    given = H, np.linalg.solve(H.T @ H / 200 + 0.5 * np.eye(5), H.T @ Y[:, 0] / 200)[None], None, Y[:, 0]
    balance = nrc.head_balance(*given)
    assert (balance.distance, balance.asymmetry) == (0.0, 0.0)
    assert balance.lambda_W == pytest.approx(0.5, rel=1e-10)
    assert (
        balance.verdict
        == "One output: the weight decay lambda_W that would hold W is 0.5; see whether the training has it."
    )
    assert balance.notes[0].startswith("One output: the balance and W W^T are numbers, whose distance and asymmetry")
    report = nrc.measure(H, Y[:, 0], given[1], np.zeros(1))
    assert report.balance_decay == pytest.approx(0.5, rel=1e-10)
    assert "weight decay lambda_W that the balance implies" in str(report)
    assert "distance of W W^T from the shape of the balance" not in str(report)
    away = nrc.head_balance(H, 2.0 * given[1], None, Y[:, 0])
    assert away.lambda_W < 0.0
    assert "or trained without any: the weight decay that would hold W is negative (-" in away.verdict
    assert any("negative weight decay" in note for note in away.notes)
    assert "negative weight decay" not in str(away)  # as the verdict says it


def test_heads_without_a_balance_say_why() -> None:
    H, W, b, Y = drawn()
    for without in (nrc.head_balance(H, 0.0 * W, b, Y), _of_report(nrc.measure(H, Y, 0.0 * W, b))):
        assert all(math.isnan(getattr(without, name)) for name in EXACT)
    note = "W is zero: the balance of the head is NaN, as any decay holds it."
    assert note in nrc.head_balance(H, 0.0 * W, b, Y).notes
    assert note in nrc.measure(H, Y, 0.0 * W, b).notes
    whole = np.round(H)
    fitted = nrc.head_balance(whole, np.round(W), None, whole @ np.round(W).T)
    assert (fitted.lambda_W, math.isnan(fitted.distance), math.isnan(fitted.asymmetry)) == (0.0, True, True)
    assert (
        "Residuals and predictions are uncorrelated to the last digit: their balance is 0 and has no shape."
        in fitted.notes
    )
    assert fitted.verdict == "The balance of the head is not defined: W, or the balance itself, is 0."
    beyond = balance_metrics.balance_metrics(BalanceMatrix(np.full((3, 3), np.inf), 1.0), W)
    assert all(math.isnan(value) for value in beyond[0].values())
    assert beyond[2] == ["The balance of the head leaves the range of float64 and is NaN: scale Y, W and b down first."]
    once = nrc.measure(iter([(H, H @ W.T + b)]), None, W, b)
    assert any("cannot be told from the rounding" in text for text in once.notes)


def test_the_absolute_loss_leaves_signs_of_roundings_open() -> None:
    H, W, b, Y = drawn(noise=0.3)
    found = nrc.head_balance(H, W, b, Y, loss="absolute")
    expected = np.sign(Y - H @ W.T - b).T @ (H @ W.T) / 70
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-12)
    assert found.bounds["lambda_W"] < 1e-13
    same = nrc.head_balance(H, W, b, Y, loss=lambda f, y: np.sign(y - f))
    np.testing.assert_array_equal(same.matrix, found.matrix)
    fitted = nrc.head_balance(H, W, b, H @ W.T + b, loss="absolute")
    assert fitted.bounds["lambda_W"] > 0.1


def test_targets_of_classes_come_as_labels_or_probabilities() -> None:
    import torch

    rng = np.random.default_rng(0)
    H, W, b, labels = rng.standard_normal((50, 4)), rng.standard_normal((3, 4)), np.zeros(3), rng.integers(0, 3, 50)
    expected = nrc.head_balance(H, W, b, np.eye(3)[labels], loss="cross_entropy")
    for given_labels in (labels, labels.astype(np.uint8), torch.tensor(labels), labels.astype(float)):
        found = nrc.head_balance(H, W, b, given_labels, loss="cross_entropy")
        np.testing.assert_array_equal(found.matrix, expected.matrix)
    pairs = [(H[:20], labels[:20]), (H[20:], labels[20:])]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(H), torch.tensor(labels)), batch_size=20
    )
    for batches in (pairs, loader, iter(pairs)):
        found = nrc.head_balance(batches, W, b, loss="cross_entropy")
        np.testing.assert_allclose(found.matrix, expected.matrix, rtol=1e-12, atol=1e-15)
    bits = rng.integers(0, 2, (50, 3)).astype(bool)
    found = nrc.head_balance(H, W, b, bits, loss="logistic")
    np.testing.assert_allclose(found.matrix, (bits - 1 / (1 + np.exp(-H @ W.T))).T @ (H @ W.T) / 50, rtol=1e-12)


def test_a_function_with_the_name_of_a_loss_is_no_such_loss() -> None:
    H, W, b, Y = drawn()

    def huber(f: Any, y: Any) -> Any:
        return y - f

    def cross_entropy(f: Any, y: Any) -> Any:
        return y - f

    squared = nrc.head_balance(H, W, b, Y)
    for function in (huber, cross_entropy):
        found = nrc.head_balance(H, W, b, Y, loss=function)
        np.testing.assert_allclose(found.matrix, squared.matrix, rtol=1e-9)
        assert f"n = 3, loss function {function.__name__}\n" in str(found)
        with pytest.raises(ValueError, match="how it is averaged is not known"):
            found.weight_decay()


def test_nothing_is_printed_beyond_the_range_of_a_number() -> None:
    bounds = {"distance": 3.0, "lambda_W": 1e-15, "asymmetry": 1.9}
    found = nrc.HeadBalance(300, 4, 2, "squared", 2.9, 1e-16, 1.8, np.eye(2), bounds)
    assert "from the shape of the balance     <= 4\n" in str(found)
    assert str(found).endswith("0 where training stands   <= 2")
    assert "(distance no larger than 4.0e+00, asymmetry no larger than 2.0e+00)" in found.verdict
    H, W, b, Y = drawn()
    stored = {f"balance_{name}": value for name, value in (("distance", 2.9), ("asymmetry", 1.8))}
    known = {f"balance_{name}": bounds[name] for name in ("distance", "asymmetry")}
    report = replace(nrc.measure(H, Y, W, b), **stored, bounds=known)
    assert "from the shape of the balance     <= 4\n" in str(report)
    for seed in range(5):  # nothing is known of a B that is below its error
        values = np.random.default_rng(seed).standard_normal((3, 3))
        numbers = balance_numbers(BalanceMatrix(values, 1e3), W)
        assert numbers.bounds["distance"] == max(numbers.distance, 4.0 - numbers.distance)
        assert numbers.bounds["asymmetry"] == max(numbers.asymmetry, 2.0 - numbers.asymmetry)


@pytest.mark.parametrize("seed", range(3))
def test_least_squares_without_decay_are_not_called_unfinished(seed: int) -> None:
    """Rounded to float32 they have a decay of 1e-8 of either sign: trained without any, as the sentence leaves open."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((500, 6)).astype(np.float32)
    Y = (H @ rng.standard_normal((6, 2)) + rng.standard_normal((500, 2))).astype(np.float32)
    W = np.linalg.lstsq(H.astype(float), Y.astype(float), rcond=None)[0].T.astype(np.float32)
    found = nrc.head_balance(H, W, None, Y)
    assert abs(found.lambda_W) < 1e-7
    assert found.verdict.startswith(
        "Not at a stationary point of this loss with weight decay on these samples, or trained without any: "
    )
    assert all("not at a stationary point" not in note for note in found.notes)


def test_calls_that_do_not_fit_are_refused() -> None:
    H, W, b, Y = drawn()
    wrong: Any = "mse"
    with pytest.raises(ValueError, match="loss is 'mse'; 'squared'"):
        nrc.head_balance(H, W, b, Y, loss=wrong)
    with pytest.raises(ValueError, match="the balance of a head needs the targets: give Y"):
        nrc.head_balance(H, W, b)
    with pytest.raises(ValueError, match="the target dimension differs"):
        nrc.head_balance(H, W, b, Y[:, :2])
    with pytest.raises(ValueError, match="W has shape"):
        nrc.head_balance(H, W[:, :3], b, Y)
    with pytest.raises(ValueError, match="b has 2 values"):
        nrc.head_balance(H, W, b[:2], Y)
    with pytest.raises(ValueError, match="W has 1 row; the cross-entropy of one logit is 0"):
        nrc.head_balance(H, W[:1], b[:1], np.zeros(70), loss="cross_entropy")
    with pytest.raises(ValueError, match="classes 0 to 2 are expected"):
        nrc.head_balance(H, W, b, np.full(70, 3), loss="cross_entropy")
    with pytest.raises(ValueError, match=r"Y holds -1; loss 'logistic' takes answers of 0 and 1.* \(y \+ 1\)/2"):
        nrc.head_balance(H, W, b, np.sign(Y), loss="logistic")
    deltas: list[Any] = ["a", np.ones(2), None, True + 0j]
    for delta in deltas:
        with pytest.raises(TypeError, match=r"(?s)delta is .*; a positive number is expected"):
            nrc.head_balance(H, W, b, Y, loss="huber", delta=delta)
    with pytest.raises(ValueError, match="delta is -1; a positive number is expected"):
        nrc.head_balance(H, W, b, Y, loss="huber", delta=-1)


# ---- the result ----


def test_decays_of_training_losses() -> None:
    made = nrc.HeadBalance(500, 8, 4, "squared", 0.0, 0.02, 0.0, np.eye(4))
    assert made.weight_decay() == made.weight_decay("torch_mse") == 0.01
    assert made.weight_decay("paper") == 0.02
    assert made.weight_decay("half_mse") == 0.005
    assert made.weight_decay("half_sum") == 10.0
    assert made.weight_decay("half_sum", samples=32) == 0.64
    of = {
        loss: nrc.HeadBalance(500, 8, 4, loss, 0.0, 0.02, 0.0, np.eye(4)) for loss in ("huber", "cross_entropy", "own")
    }
    assert (of["huber"].weight_decay(), of["cross_entropy"].weight_decay()) == (0.005, 0.02)
    with pytest.raises(ValueError, match="the balance is that of loss 'huber'; ufm's losses are of the squared error"):
        of["huber"].weight_decay("torch_mse")
    with pytest.raises(ValueError, match="'own'; how it is averaged is not known"):
        of["own"].weight_decay()


def test_a_balance_is_shown_and_stored(tmp_path: Path) -> None:
    import json

    balance = nrc.head_balance(*ridge(0.05))
    text = str(balance)
    assert text.startswith(
        "200 samples, d = 5, n = 2, loss squared (1/2 |f - y|^2)\n\nIn balance: a weight decay lambda_W"
    )
    assert "  weight decay lambda_W that the balance implies      0.05  +- " in text
    assert text.endswith(
        "note: Of decoupled decay (AdamW) the balance says nothing: its trainings come to rest elsewhere."
    )
    assert repr(balance).startswith("<HeadBalance of 200 samples, n = 2, loss squared: distance ")
    assert balance.verdict in balance._repr_html_().replace("&#x27;", "'")
    balance.to_json(tmp_path / "balance.json")
    again = nrc.HeadBalance.from_dict(json.loads((tmp_path / "balance.json").read_text()))
    assert again.to_dict() == balance.to_dict()
    undefined = nrc.head_balance(*drawn()[:1], np.zeros((3, 6)), None, drawn()[3])
    back = nrc.HeadBalance.from_dict(json.loads(undefined.to_json()))
    assert math.isnan(back.distance)
    with pytest.raises(ValueError, match="the mapping holds no balance of a head"):
        nrc.HeadBalance.from_dict({"samples": 3})


def test_evidence_of_moments_alone_is_never_read_again() -> None:
    H, W, b, Y = drawn(noise=1e-12)
    moments = nrc.FeatureStatistics(6, n_targets=3).update(H, Y).moments
    assert not Evidence(moments).can_read_again
    matrix = balance_of_moments(moments, LinearModel(W, b))
    fields, bounds, notes = balance_metrics.balance_metrics(matrix, W)
    numbers = balance_numbers(matrix, W)
    assert fields["balance_distance"] == numbers.distance
    assert bounds["balance_decay"] == numbers.bounds["decay"]
    assert notes == balance_metrics.notes_of_balance(
        {name: getattr(numbers, name) for name in numbers.bounds}, matrix, n=3
    )
