"""Products of residuals and predictions: over chunks, from a state, within their bound of 60 digits."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from support.exact_balance import exact_matrix

from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis
from nrc_fast.metrics.training_losses import training_loss
from nrc_fast.passes import balance_sums
from nrc_fast.passes.balance_sums import BalanceSums, LinearModel, wanted_balance
from nrc_fast.passes.explicit_sums import PredictionErrors
from nrc_fast.passes.residual_sums import Residuals
from nrc_fast.passes.sums import OtherStateError
from nrc_fast.sources import Chunk


def draw(rows: int = 90, d: int = 5, n: int = 2, noise: float = 1.0, dtype: str = "float64") -> tuple[Any, ...]:
    """Features with a large mean, targets that W and b fit up to some noise, W and b."""
    rng = np.random.default_rng(rows + d)
    H = (rng.standard_normal((rows, d)) + 3.0).astype(dtype)
    W, b = rng.standard_normal((n, d)), rng.standard_normal(n)
    return H, H.astype(np.float64) @ W.T + b + noise * rng.standard_normal((rows, n)), W, b


def chunk(H: Any, Y: Any) -> Chunk:
    return Chunk(as_rows(H, "H"), as_rows(Y, "Y"))


def sums_of(H: Any, Y: Any, W: Any, b: Any, loss: Any = "squared") -> BalanceSums:
    sums = BalanceSums(LinearModel(W, b), training_loss(loss))
    sums.add_chunk(chunk(H, Y))
    return sums


def off(sums: BalanceSums, exact: Any) -> float:
    """Norm of the error of the mean of the products."""
    with mpmath.workdps(60):
        found = mpmath.matrix(sums.products.tolist()) * mpmath.mpf(2) ** sums.exponent / sums.count
        return float(mpmath.mnorm(found - exact, "f"))


def bound_of(sums: BalanceSums) -> float:
    return sums.error * 2.0**sums.exponent / sums.count


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("noise", [1.0, 1e-5, 1e-13, 0.0])
@pytest.mark.parametrize(("rows", "d", "n"), [(3, 1, 1), (90, 5, 2), (60, 33, 4), (40, 2, 5)])
def test_sums_are_within_their_bound(dtype: str, noise: float, rows: int, d: int, n: int) -> None:
    given = draw(rows, d, n, noise, dtype)
    H, Y, W, b = given
    sums = sums_of(*given)
    error = off(sums, exact_matrix(H, W, b, Y))
    assert error <= bound_of(sums)
    # The bound is some roundings of what cancels.
    size = np.linalg.norm(W) * np.sqrt(np.mean(np.sum(H.astype(float) ** 2, axis=1)))
    assert bound_of(sums) <= 2.0**-52 * 60.0 * (1.0 + d**0.5) * size * (size + np.linalg.norm(b) + noise)


EXACT = {
    "huber": lambda f, y: [max(min(t - o, mpmath.mpf(1)), mpmath.mpf(-1)) for o, t in zip(f, y, strict=True)],
    "absolute": lambda f, y: [mpmath.sign(t - o) for o, t in zip(f, y, strict=True)],
    "logistic": lambda f, y: [t - 1 / (1 + mpmath.exp(-o)) for o, t in zip(f, y, strict=True)],
    "cross_entropy": lambda f, y: [
        t - mpmath.exp(o) / sum(mpmath.exp(value) for value in f) for o, t in zip(f, y, strict=True)
    ],
}


@pytest.mark.parametrize("name", list(EXACT))
@pytest.mark.parametrize("noise", [2.0, 1e-15])
def test_other_losses_are_within_their_bound(name: Any, noise: float) -> None:
    H, Y, W, b = draw(noise=noise)
    if name == "logistic":
        Y = (Y > 3.0).astype(float)
    if name == "cross_entropy":
        Y = np.eye(2)[(Y[:, 0] > Y[:, 1]).astype(int)]
    sums = sums_of(H, Y, W, b, name)
    error = off(sums, exact_matrix(H, W, b, Y, EXACT[name]))
    assert error <= bound_of(sums)
    if name == "absolute" and noise < 1e-9:
        assert bound_of(sums) > 0.1  # signs of roundings
    else:
        assert bound_of(sums) < 1e-10


def test_a_function_is_bounded_by_what_it_gives_nearby() -> None:
    H, Y, W, b = draw(noise=1e-7)

    def steep(f: Any, y: Any) -> Any:
        return 1e6 * (y - f)

    sums, plain = sums_of(H, Y, W, b, steep), sums_of(H, Y, W, b)
    exact = exact_matrix(H, W, b, Y, lambda f, y: [1_000_000 * (t - o) for o, t in zip(f, y, strict=True)])
    assert off(sums, exact) <= bound_of(sums)
    assert 0.1 * 1e6 * plain.error <= sums.error <= 10.0 * 1e6 * plain.error


@pytest.mark.parametrize("most_outputs", [1, 2])
def test_the_kernels_and_numpy_add_up_the_same(monkeypatch: pytest.MonkeyPatch, most_outputs: int) -> None:
    given = draw(rows=700, noise=1e-3)
    exact = exact_matrix(given[0], given[2], given[3], given[1])
    monkeypatch.setattr(balance_sums, "MOST_OUTPUTS", most_outputs)
    called = []
    residual_and_errors = balance_sums.calls.residual_and_errors
    monkeypatch.setattr(
        balance_sums.calls, "residual_and_errors", lambda *rows: called.append(1) or residual_and_errors(*rows)
    )
    sums = sums_of(*given)
    assert len(called) == most_outputs - 1
    assert off(sums, exact) <= bound_of(sums)
    size = np.linalg.norm(given[2]) * np.sqrt(np.mean(np.sum(given[0] ** 2, axis=1)))
    assert bound_of(sums) <= 2.0**-52 * 200.0 * size**2


@pytest.mark.parametrize("power", [-1050, -400, 400, 1021])
def test_weights_of_any_scale_are_within_the_bound(power: int) -> None:
    """Predictions and targets are of their scale, or as large as numbers are."""
    H, Y, W, b = draw()
    W, b, Y = np.ldexp(W / 8.0, power), np.ldexp(b, min(power, 400)), np.ldexp(Y, min(power, 400))
    H = np.ldexp(H, min(0, 400 - power))
    sums = sums_of(H, Y, W, b)
    with mpmath.workdps(60):
        error = off(sums, exact_matrix(H, W, b, Y)) * mpmath.mpf(2) ** -sums.exponent
        assert error <= sums.error / sums.count
    if abs(power) == 400:  # squares of ordinary rows and weights: the bound is some roundings of what cancels
        outputs = np.linalg.norm(np.ldexp(W, -sums.exponent)) * np.linalg.norm(H)
        assert sums.error <= 2.0**-52 * 100.0 * outputs * (np.ldexp(outputs, sums.exponent) + np.linalg.norm(Y))


def test_a_function_of_the_name_is_another_loss() -> None:
    H, Y, W, b = draw()

    def squared(f: Any, y: Any) -> Any:
        return 3.0 * (y - f)

    np.testing.assert_allclose(sums_of(H, Y, W, b, squared).products, 3.0 * sums_of(H, Y, W, b).products, rtol=1e-12)


@pytest.mark.parametrize("most_outputs", [1, 64])
def test_chunks_slices_and_states_add_up(monkeypatch: pytest.MonkeyPatch, most_outputs: int) -> None:
    H, Y, W, b = draw()
    monkeypatch.setattr(balance_sums, "MOST_OUTPUTS", most_outputs)
    whole = sums_of(H, Y, W, b)
    monkeypatch.setattr(balance_sums, "BLOCK_ROWS", 17)
    monkeypatch.setattr(balance_sums, "SLICE_OUTPUTS", 34)
    parts = BalanceSums(LinearModel(W, b), training_loss("squared"))
    parts.add_chunk(chunk(H[:40], Y[:40]))
    rest = BalanceSums(LinearModel(W, b), training_loss("squared"))
    rest.restore(parts.arrays())
    rest.add_chunk(chunk(H[40:], Y[40:]))
    np.testing.assert_allclose(rest.products, whole.products, rtol=1e-12)
    assert rest.count == whole.count == 90
    assert 0.1 * whole.error <= rest.error <= 3.0 * whole.error
    with pytest.raises(OtherStateError):
        rest.restore({})
    with pytest.raises(ValueError, match="the saved balance is"):
        rest.restore(parts.arrays() | {"balance": np.zeros((3, 3))})


@pytest.mark.parametrize("most_outputs", [1, 64])
@pytest.mark.parametrize("of_targets", [False, True])
def test_rows_that_are_not_finite_are_found_wherever_they_are(
    monkeypatch: pytest.MonkeyPatch, most_outputs: int, *, of_targets: bool
) -> None:
    monkeypatch.setattr(balance_sums, "MOST_OUTPUTS", most_outputs)
    monkeypatch.setattr(balance_sums, "BLOCK_ROWS", 17)
    monkeypatch.setattr(balance_sums, "SLICE_OUTPUTS", 34)
    H, Y, W, b = draw()
    (Y if of_targets else H)[41, 1] = np.nan
    sums = BalanceSums(LinearModel(W, b), training_loss("squared"))
    with pytest.raises(NonFiniteRowsError, match=f"^{'Y' if of_targets else 'H'}: 1 of 90 rows .* the first is row 41"):
        sums.add_chunk(chunk(H, Y))
    assert sums.count == 0
    assert not sums.products.any()


@pytest.mark.parametrize("most_outputs", [1, 64])
def test_products_beyond_float64_are_refused(monkeypatch: pytest.MonkeyPatch, most_outputs: int) -> None:
    monkeypatch.setattr(balance_sums, "MOST_OUTPUTS", most_outputs)
    H, Y, W, b = draw()
    with pytest.raises(ValueError, match="the products of residuals and predictions leave the range of float64"):
        sums_of(1e120 * H, 1e200 * Y, W, b)
    with pytest.raises(ValueError, match="divide it by a constant first"):
        sums_of(1e200 * H, Y, W, b)


def test_other_passes_bring_the_balance_where_it_is_wanted() -> None:
    H, Y, W, b = draw()
    expected = sums_of(H, Y, W, b)
    model = LinearModel(W, b, wants_balance=True)
    assert wanted_balance(LinearModel(W, b)) is None
    basis = Basis(np.ascontiguousarray(np.linalg.qr(W.T)[0].T))
    made: list[Any] = [PredictionErrors(model), Residuals([basis], double_precision=True, model=model)]
    plain: list[Any] = [
        PredictionErrors(LinearModel(W, b)),
        Residuals([basis], double_precision=True, model=LinearModel(W, b)),
    ]
    again: list[Any] = [PredictionErrors(model), Residuals([basis], double_precision=True, model=model)]
    for sums, without, other in zip(made, plain, again, strict=True):
        sums.add_chunk(chunk(H, Y))
        without.add_chunk(chunk(H, Y))
        np.testing.assert_array_equal(sums.balance.products, expected.products)
        np.testing.assert_array_equal(sums.errors, without.errors)
        assert without.balance is None
        with pytest.raises(OtherStateError):
            other.restore(without.arrays())
        other.restore(sums.arrays())
        assert other.balance.error == sums.balance.error
        without.restore({name: array for name, array in sums.arrays().items() if "balance" not in name})
