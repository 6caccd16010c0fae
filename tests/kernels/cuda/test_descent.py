"""Gradient descent on the UFM by the CUDA kernel, on a card and on the emulated device, against float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs

from nrc_fast.kernels import devices
from nrc_fast.kernels.cuda import device as cuda_device
from nrc_fast.kernels.cuda.backend import CudaBackend
from nrc_fast.kernels.descent import RunningDescent, padded_columns
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.ufm import descend
from nrc_fast.ufm.descent.trajectory import METRICS

torch = pytest.importorskip("torch")


@pytest.fixture(params=["emulation", "card"])
def device(request: pytest.FixtureRequest, cuda_core: Any) -> Any:
    backend = cuda_core.BACKENDS[request.param]()
    return backend.device() if request.param == "emulation" else devices.backend_of("cuda:0").device


@pytest.fixture
def emulated(cuda_core: Any) -> Any:
    return cuda_core.Emulation().device()


@pytest.fixture
def descend_on(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`descend` on the device under test."""
    monkeypatch.setattr("nrc_fast.ufm.descent.runs.backend_of", lambda *_: CudaBackend(device))
    return functools.partial(descend, device="cuda")


def random_state(problems: int, d: int, n: int, dtype: str, momentum: float = 0.0) -> DescentState:
    """States with two different K, whose steps stay of one size."""
    rng = np.random.default_rng(1000 * d + n)
    used = d + n + 1
    stride = padded_columns(used, np.dtype(dtype))
    transforms = np.zeros((problems, d, stride))
    transforms[..., :used] = rng.standard_normal((problems, d, used)) / np.sqrt(used)
    moments = np.zeros((2, used, stride))
    for k in range(2):
        Z = rng.standard_normal((3 * used, used))
        moments[k, :, :used] = Z.T @ Z / len(Z)
    weights, biases = rng.standard_normal((problems, d, n)) / np.sqrt(d), rng.standard_normal((problems, n))
    rates = np.tile([0.05, 0.06, 0.07, 0.02, 0.03, 0.04, 0.0], (problems, 1))
    rates[:, :3] *= rng.uniform(0.5, 1.0, (problems, 3))
    rates[::2, 6] = momentum  # every other problem has none
    parts = [part.astype(dtype) for part in (transforms, weights, biases)]
    velocities = None if momentum == 0.0 else tuple(np.zeros_like(part) for part in parts)
    index = np.arange(problems, dtype=np.int64) % 2
    return DescentState(*parts, moments.astype(dtype), index, rates, velocities)  # type: ignore[arg-type]


def plain_steps(state: DescentState, steps: Any, numbers: Callable[[Any], Any]) -> Any:
    """T, W and b after these steps, as the formulas say, in the numbers that arrays are made of."""
    results = []
    for p, count in enumerate(steps):
        T, W, b = (numbers(part[p]) for part in (state.transforms, state.weights, state.biases))
        (d, n), used = W.shape, sum(W.shape) + 1
        T, K = T[:, :used], numbers(state.moments[state.moment_index[p]])[:, :used]
        # What the kernels compute with are rates rounded to the dtype of the state.
        lr_W, lr_T, lr_b, lambda_W, lambda_T, lambda_b, momentum = state.rates[p].astype(state.weights.dtype)
        velocities = [0.0 * part for part in (T, W, b)]
        for _ in range(count):
            Q = W.T @ T
            Q[range(n), range(d, d + n)] -= 1.0
            Q[:, -1] += b
            P = Q @ K
            gradients = W @ Q + lambda_T * T, T @ P.T + lambda_W * W, P[:, -1] + lambda_b * b
            velocities = [momentum * v + gradient for v, gradient in zip(velocities, gradients, strict=True)]
            T, W, b = T - lr_T * velocities[0], W - lr_W * velocities[1], b - lr_b * velocities[2]
        results.append((T, W, b))
    return results


def taken(device: Any, state: DescentState, *counts: Any) -> Any:
    """T, W and b of every problem after calls with these steps, on the host."""
    placed = RunningDescent(state, CudaBackend(device))
    for steps in counts:
        placed.take_steps(np.array(steps, dtype=np.int64))
    placed.wait()
    weights, biases = placed.heads()
    used = sum(weights.shape[1:]) + 1
    return [(placed.transform(p)[:, :used], weights[p].T, biases[p]) for p in range(len(biases))]


def bits(results: Any) -> bytes:
    return b"".join(part.tobytes() for result in results for part in result)


def largest(numbers: Pairs) -> float:
    """The largest magnitude."""
    return float(np.abs(numbers.astype(np.float64)).max())


def check(device: Any, state: DescentState, steps: Any) -> None:
    """At most twice the error of the plain computation in the same dtype, and a rounding for each step."""
    dtype = state.weights.dtype
    found, plain, exact = (
        taken(device, state, steps),
        plain_steps(state, steps, np.array),
        plain_steps(state, steps, Pairs),
    )
    for p, count in enumerate(steps):
        for ours, same, best in zip(found[p], plain[p], exact[p], strict=True):
            limit = 2 * largest(same - best) + (1 + count) * np.finfo(dtype).eps * largest(best)
            assert largest(ours - best) <= limit


SHAPES = [
    *((1, 1), (2, 1), (3, 3), (5, 2), (7, 4), (15, 5), (16, 3), (17, 8), (31, 1)),
    *((33, 11), (63, 2), (65, 3), (97, 1), (130, 1)),
]


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("d", "n"), SHAPES)
def test_steps(device: Any, d: int, n: int, dtype: str, momentum: float) -> None:
    steps = [10, 0, 3] if d < 60 else [3, 0, 1]
    check(device, random_state(3, d, n, dtype, momentum), steps)


@pytest.mark.parametrize(("d", "n"), [(20, 40), (200, 10)])
def test_states_that_fit_nowhere(device: Any, d: int, n: int) -> None:
    check(device, random_state(1, d, n, "float64", 0.5), [2])


def test_no_problems(device: Any) -> None:
    assert taken(device, random_state(0, 3, 2, "float64"), []) == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("d", "n"), [(3, 1), (20, 3), (17, 6)])
def test_a_batch_is_its_problems_one_by_one(device: Any, d: int, n: int, dtype: str) -> None:
    state = random_state(4, d, n, dtype, 0.7)
    steps = [5, 1, 0, 7]
    together = taken(device, state, steps)
    for p in range(4):
        alone = DescentState(
            *(part[p : p + 1] for part in (state.transforms, state.weights, state.biases)),
            state.moments,
            state.moment_index[p : p + 1],
            state.rates[p : p + 1],
            tuple(part[p : p + 1] for part in state.velocities),  # type: ignore[arg-type, union-attr]
        )
        assert bits(taken(device, alone, steps[p : p + 1])) == bits(together[p : p + 1])


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize(("d", "n"), [(9, 2), (20, 6)])
def test_pieces_of_a_call_do_not_show(device: Any, d: int, n: int, momentum: float) -> None:
    state = random_state(2, d, n, "float64", momentum)
    assert bits(taken(device, state, [6, 6], [1, 2])) == bits(taken(device, state, [3, 1], [4, 7]))


# ---- descend ----


def targets(samples: int = 60, n: int = 3) -> Any:
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, n)) @ rng.standard_normal((n, n)) + rng.standard_normal(n)


@pytest.mark.parametrize("has_bias", [True, False])
def test_descend_without_the_samples(descend_on: Any, reference: Any, has_bias: bool) -> None:
    """Against descent on every entry of H, W and b, in float64."""
    rng = np.random.default_rng(1)
    Y, H, W = targets(), rng.standard_normal((60, 6)), rng.standard_normal((3, 6))
    keywords = {"lambda_W": 0.02, "lambda_H": 0.03, "lr": 0.1, "lr_H": 6.0, "bias": None if has_bias else False}
    found = descend_on(Y, steps=60, weights=W, features=H, **keywords)
    start, b = H, np.zeros(3)
    for _ in range(60):
        _, (by_H, by_W, by_b) = reference.loss_and_gradients(H, W, b, Y, 0.02, 0.03)
        H, W, b = H - 6.0 * by_H, W - 0.1 * by_W, b - 0.1 * has_bias * by_b
    np.testing.assert_allclose(found.weights, W, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.bias, b, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.features(), H, rtol=0, atol=1e-12)
    loss, _ = reference.loss_and_gradients(H, W, b, Y, 0.02, 0.03)
    assert found.history["loss"][-1] == pytest.approx(loss, rel=1e-12)
    assert not np.array_equal(start, H)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_descend_as_on_the_cpu(descend_on: Any, dtype: str) -> None:
    """Every metric, in a batch with momentum; the steps differ by roundings, which descent here does not amplify."""
    keywords = {"d": 7, "steps": 40, "lambda_W": [[0.1], [0.0]], "lambda_H": [[0.1], [0.0]], "momentum": [0.0, 0.5]}
    keywords |= {"lr": 0.05, "lr_H": 3.0, "seed": [4, 9], "record": METRICS, "at": 15, "dtype": dtype}
    found, expected = descend_on(targets(), **keywords), descend(targets(), **keywords)
    roundings = 40 * (2.0**-52 if dtype == "float64" else 2.0**-23)
    scale = np.abs(expected.weights).max()
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=4 * roundings * scale)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=0, atol=4 * roundings * scale)
    assert found.recorded_steps.tolist() == [0, 15, 30, 40]
    for name in METRICS:
        size = np.nanmax(np.abs(expected.history[name]))
        np.testing.assert_allclose(
            found.history[name], expected.history[name], atol=20 * roundings * size, err_msg=name
        )
    np.testing.assert_allclose(found.features((1, 0)), expected.features((1, 0)), rtol=0, atol=40 * roundings)


def test_stops_and_divergence(descend_on: Any) -> None:
    Y = targets(n=2)
    keywords = {"d": 4, "steps": 1500, "lambda_W": [1.0, 0.1, 0.1], "lambda_H": [1.0, 0.1, 0.1], "lr_H": 6.0}
    keywords |= {"lr": [0.1, 0.1, 50.0], "tolerance": 1e-3, "at": 100}
    found, expected = descend_on(Y, **keywords), descend(Y, **keywords)
    assert found.converged.tolist() == expected.converged.tolist() == [True, True, False]
    assert found.diverged.tolist() == [False, False, True]
    assert found.steps.tolist() == expected.steps.tolist()
    assert np.isnan(found.weights[2]).all()
    assert np.isfinite(found.history["loss"][:2]).all()
    assert "stable at the minimum" in found.errors[2]
    with pytest.raises(RuntimeError, match="steps at lr_W = 50"):
        descend_on(Y, d=4, steps=200, lambda_W=0.1, lambda_H=0.1, lr=50.0)


# ---- the emulated device only ----


@pytest.mark.parametrize("capability", [75, 80])
@pytest.mark.parametrize(("d", "n"), [(20, 2), (65, 3), (30, 40)])
def test_where_the_state_lies_does_not_show(emulated: Any, d: int, n: int, capability: int) -> None:
    """In shared memory, which of cards before Hopper is smaller, in that of the device, or in the workspace."""
    state = random_state(3, d, n, "float64", 0.7)
    most = taken(emulated, state, [2, 1, 2])
    emulated.core.configure(capability=capability, multiprocessors=1)
    assert bits(taken(emulated, state, [2, 1, 2])) == bits(most)


@pytest.mark.parametrize(("d", "n"), [(9, 3), (33, 6)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_bits_in_every_order(emulated: Any, d: int, n: int, dtype: str) -> None:
    state = random_state(2, d, n, dtype, 0.7)
    results = []
    for order in ("forward", "backward", "shuffled"):
        emulated.core.configure(order=order, seed=11)
        results.append(bits(taken(emulated, state, [3, 2])))
    assert len(set(results)) == 1


def test_a_missing_barrier_is_seen(emulated: Any) -> None:
    state = random_state(2, 33, 3, "float64")
    emulated.core.configure(fault="no_barrier", order="shuffled", seed=3)
    with pytest.raises(AssertionError):
        check(emulated, state, [3, 2])


def test_workspace_that_is_too_small(emulated: Any) -> None:
    emulated.core.configure(capability=75)
    core = emulated.core
    request = core.DescentRequest(
        problems=1, d=30, n=40, stride=72, transforms=0, weights=0, biases=0, transform_velocities=0,
        weight_velocities=0, bias_velocities=0, moments=0, moment_index=0, rates=0, steps=0, double_precision=True,
    )  # fmt: skip
    size = core.descent_workspace(request, 0)
    assert size >= 8 * (2 * 40 * 71 + 3 * 30 * 40)
    with pytest.raises(ValueError, match="descent_workspace says"):
        core.descent(request, workspace=256, workspace_bytes=size - 1, device=0, stream=0)


# ---- which device ----


def test_arrays_that_do_not_fit(emulated: Any) -> None:
    state = random_state(2, 3, 1, "float64")
    placed = RunningDescent(state, CudaBackend(emulated))
    with pytest.raises(ValueError, match="steps has shape"):
        placed.take_steps(np.ones(3, dtype=np.int64))
    state.rates[0, 6] = 0.5
    with pytest.raises(ValueError, match="needs velocities"):
        RunningDescent(state, CudaBackend(emulated)).take_steps(np.ones(2, dtype=np.int64))
    state.weights = state.weights[:, :, :0]
    with pytest.raises(ValueError, match="do not fit together"):
        RunningDescent(state, CudaBackend(emulated))


class OnCard(torch.Tensor):  # type: ignore[misc]
    """A tensor that says that it lies on a card."""

    is_cuda = True
    device = torch.device("cuda", 1)

    def detach(self) -> Any:
        return self.as_subclass(torch.Tensor)


def test_tensors_on_a_card_choose_it(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def chosen(index: int | None) -> Any:
        asked.append(index)
        return emulated

    monkeypatch.setattr(cuda_device, "cuda_device", chosen)
    Y = targets()
    keywords = {"d": 4, "steps": 3, "lambda_W": 0.1, "lambda_H": 0.1, "lr": 0.05}
    found = descend(torch.from_numpy(Y).as_subclass(OnCard), **keywords)
    assert set(asked) == {1}  # to compute there, and to fetch the targets
    asked.clear()
    np.testing.assert_array_equal(found.weights, descend(Y, device="cuda", **keywords).weights)
    np.testing.assert_array_equal(found.features(), descend(Y, device="cuda:3", **keywords).features())
    assert asked == [None, 3]
    descend(Y, device="cpu", **keywords)
    assert asked == [None, 3]


@pytest.mark.parametrize("name", ["mps", "cuda:x", "meta", "cuda:-1"])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(RuntimeError, match="cannot be used"):
        descend(targets(), device=name, d=4, steps=3, lambda_W=0.1, lambda_H=0.1, lr=0.05)
