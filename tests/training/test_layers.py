"""Deep NRC against its definitions in plain float64, N x N kernels included, and the numbers of the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.reports.layers import LayerCollapse

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kernel_cka(X: np.ndarray, Z: np.ndarray) -> float:
    """Linear CKA from centred N x N kernels."""
    center = np.eye(len(X)) - 1.0 / len(X)
    K, L = (center @ rows @ rows.T @ center for rows in (X, Z))
    return float(np.sum(K * L) / (np.linalg.norm(K) * np.linalg.norm(L)))


def by_definition(H: Any, Y: Any, W: Any, n: int | None = None) -> dict[str, float]:
    H, Y, W = (np.asarray(part, dtype=np.float64) for part in (H, Y, W))
    t = Y.shape[1] if n is None else n
    H, Y = H - H.mean(axis=0), Y - Y.mean(axis=0)
    _, scales, rows = np.linalg.svd(H, full_matrices=False)
    U = rows[:t].T
    _, singular, inputs = np.linalg.svd(W, full_matrices=False)
    readout = H @ np.linalg.lstsq(H, Y, rcond=None)[0]
    return {
        "noise_fraction": np.sum(scales[t:] ** 2) / np.sum(scales**2),
        "signal_alignment": kernel_cka(H @ U @ U.T, Y),
        "weight_alignment": np.sum(np.linalg.svd(U.T @ inputs[:t].T, compute_uv=False)) / t,
        "linear_mse": np.mean(np.sum((readout - Y) ** 2, axis=1)),
        "feature_stable_rank": np.sum(scales**4) / scales[0] ** 4,
        "weight_stable_rank": np.sum(singular**2) / singular[0] ** 2,
    }


def agrees(layer: LayerCollapse, expected: dict[str, float], rel: float) -> None:
    for name, value in expected.items():
        assert getattr(layer, name) == pytest.approx(value, rel=rel), name


@pytest.mark.parametrize("n", [None, 1, 5])
def test_conditions_are_those_of_the_definitions(peer: Any, n: int | None) -> None:
    statistics = nrc.FeatureStatistics(16, n_targets=3).update(peer.features, peer.targets)
    layer = layer_collapse(statistics, peer.weights, n=n)
    expected = by_definition(peer.features, peer.targets, peer.weights, n)
    agrees(layer, expected, 1e-10)
    assert layer.feature_stable_rank == pytest.approx(peer.numbers["stable_rank"], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "noise", "alignment"),
    [("peer_a", 0.7321566553498962, 0.387435886180117), ("peer_b", 0.1344903241043406, 0.972446488890428)],
)
def test_authors_numbers(name: str, noise: float, alignment: float, request: pytest.FixtureRequest) -> None:
    peer = request.getfixturevalue(name)
    statistics = nrc.FeatureStatistics(16, n_targets=3).update(peer.features, peer.targets)
    layer = layer_collapse(statistics, peer.weights)
    assert layer.noise_fraction == pytest.approx(noise, rel=1e-12)
    assert layer.weight_alignment == pytest.approx(alignment, rel=1e-12)


def test_collapsed_features_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    Y, W = rng.standard_normal((400, 2)), rng.standard_normal((2, 8))
    H = Y @ W + 1e-5 * rng.standard_normal((400, 8)) + 30.0
    layer = layer_collapse(nrc.FeatureStatistics(8, n_targets=2).update(H, Y), W)
    assert layer.noise_fraction == pytest.approx(by_definition(H, Y, W)["noise_fraction"], rel=1e-4)


@pytest.mark.parametrize("precision", ["fast", "high", "highest"])
@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-5])
@pytest.mark.parametrize("mean", [0.0, 30.0])
@pytest.mark.parametrize("n", [2, 5])
def test_bounds_hold_and_say_something(precision: str, noise: float, mean: float, n: int) -> None:
    rng = np.random.default_rng(3)
    Y, W = rng.standard_normal((600, 3)) * [1.0, 0.7, 0.4], rng.standard_normal((3, 12))
    H = (Y @ W + noise * rng.standard_normal((600, 12)) + mean).astype(np.float32)
    W[0] += 0.3 * rng.standard_normal(12)
    statistics = nrc.FeatureStatistics(12, n_targets=3, precision=precision)
    for first in range(0, 600, 250):
        statistics.update(H[first : first + 250], Y[first : first + 250])
    layer, expected = layer_collapse(statistics, W, n=n), by_definition(H, Y, W, n)
    assert set(layer.bounds) == set(expected)
    for name, value in expected.items():
        # The definition itself is rounded, as is the basis that it takes from a singular value decomposition.
        assert abs(getattr(layer, name) - value) <= layer.bounds[name] + 1e-13 * (1.0 + value), name
    if precision == "highest" and n == 2:
        assert all(layer.bounds[name] < 1e-8 * max(expected[name], 1e-4) for name in expected if name != "linear_mse")
        assert layer.bounds["linear_mse"] < (1e-6 if noise > 1e-5 else 1e-3)
    assert layer.bounds["noise_fraction"] < (1e-4 if precision != "highest" else 1e-12)


def test_what_cannot_be_told_has_a_bound_that_says_so() -> None:
    rng = np.random.default_rng(4)
    H = np.linalg.qr(rng.standard_normal((400, 6)))[0]
    H = np.linalg.qr(H - H.mean(axis=0))[0]  # all components alike
    Y = rng.standard_normal((400, 2))
    layer = layer_collapse(nrc.FeatureStatistics(6, n_targets=2).update(H, Y), np.eye(2, 6))
    assert layer.bounds["weight_alignment"] == 1.0
    assert layer.bounds["signal_alignment"] >= layer.signal_alignment
    assert layer.bounds["noise_fraction"] < 1e-12
    tied = layer_collapse(nrc.FeatureStatistics(6, n_targets=2).update(H * [3, 2, 1, 1, 1, 1], Y), np.eye(6), n=2)
    assert tied.bounds["weight_alignment"] == 1.0  # W has no leading directions
    assert tied.bounds["signal_alignment"] < 1e-10


def test_weights_of_convolutions_are_those_of_the_channels() -> None:
    H, Y, W = draw(60, 5).numpy(), draw(60, 2, seed=2).numpy(), draw(4, 5, 3, 3, seed=3)
    statistics = nrc.FeatureStatistics(5, n_targets=2).update(H, Y)
    flat = W.permute(0, 2, 3, 1).reshape(-1, 5).numpy()  # right singular vectors: those of the channels
    agrees(layer_collapse(statistics, W), by_definition(H, Y, flat), 1e-5)


class Network(nn.Module):
    """A convolution, a grouped one, and two linear layers that are registered in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(7, 2)
        self.first = nn.Conv2d(3, 6, 3)
        self.grouped = nn.Conv2d(6, 4, 2, groups=2)
        self.hidden = nn.Linear(4, 7)

    def trace(self, x: Any) -> dict[str, Any]:
        found = {"first": x}
        found["grouped"] = torch.relu(self.first(x))
        found["hidden"] = torch.relu(self.grouped(found["grouped"])).mean(dim=(2, 3))
        found["head"] = torch.tanh(self.hidden(found["hidden"]))
        return found

    def forward(self, x: Any) -> Any:
        return self.head(self.trace(x)["head"])


def test_all_layers_in_one_pass() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Network()
    X, Y = draw(90, 3, 6, 6), draw(90, 2, seed=2)
    passes: list[int] = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    report = nrc.measure_layers(model, [(X[:40], Y[:40]), (X[40:], Y[40:])])
    handle.remove()
    assert len(passes) == 2
    assert [layer.name for layer in report.layers] == ["first", "grouped", "hidden", "head"]
    with torch.no_grad():
        inputs, outputs = model.trace(X), model(X)
    for layer in report.layers:
        rows = inputs[layer.name] if inputs[layer.name].ndim == 2 else inputs[layer.name].double().mean(dim=(2, 3))
        weights = getattr(model, layer.name).weight.detach()
        if layer.name == "grouped":
            assert np.isnan(layer.weight_alignment)
            weights = torch.ones(2, 6)
        flat = weights.reshape(*weights.shape[:2], -1).permute(0, 2, 1).reshape(-1, weights.shape[1])
        expected = by_definition(rows.numpy(), Y.numpy(), flat.numpy())
        if layer.name == "grouped":
            expected = {name: value for name, value in expected.items() if not name.startswith("weight")}
        agrees(layer, expected, 1e-6)
    assert report.mse == pytest.approx(float((outputs - Y).double().square().sum()) / 90, rel=1e-6)
    sigma = np.cov(Y.double().numpy(), rowvar=False, bias=True)
    assert report.target_variance == pytest.approx(np.trace(sigma), rel=1e-9)
    assert report.target_stable_rank == pytest.approx(np.sum(sigma**2) / np.linalg.norm(sigma, 2) ** 2, rel=1e-9)
    assert report.samples == 90
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


class Auxiliary(nn.Module):
    """A head for the training only, and attention, whose projection is no call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.auxiliary, self.head = nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Any) -> Any:
        h = self.inner(x).tanh()
        h = self.attention(h, h, h, need_weights=False)[0].mean(dim=1)
        return (self.head(h), self.auxiliary(h)) if self.training else self.head(h)


def test_layers_that_are_not_called_are_left_out_with_a_note() -> None:
    model, batch = Auxiliary(), (draw(60, 5, 4), draw(60, 2, seed=2))
    report = nrc.measure_layers(model, [batch], positions="mean")
    assert [layer.name for layer in report.layers] == ["inner", "head"]
    (note,) = report.notes
    assert "are left out (attention.out_proj, auxiliary)" in note
    assert f"note: {note}" in str(report)
    assert nrc.reports.DeepReport.from_dict(report.to_dict()).notes == report.notes
    alone = nrc.measure_layers(model, [batch], ["inner", "head"], positions="mean")
    assert alone.layers[1].noise_fraction == report.layers[1].noise_fraction
    assert alone.notes == ()
    with pytest.raises(RuntimeError, match="layer auxiliary was given nothing"):
        nrc.measure_layers(model, [batch], ["inner", "auxiliary"], positions="mean")


def test_what_does_not_fit_is_said() -> None:
    statistics = nrc.FeatureStatistics(4, n_targets=2).update(draw(9, 4), draw(9, 2))
    with pytest.raises(ValueError, match="0 targets; both are needed"):
        layer_collapse(nrc.FeatureStatistics(4).update(draw(9, 4)))
    with pytest.raises(ValueError, match="between 1 and d = 4"):
        layer_collapse(statistics, n=5)
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*\(outputs, 4\)"):
        layer_collapse(statistics, draw(2, 3))
    with pytest.raises(ValueError, match="no samples"):
        nrc.measure_layers(nn.Sequential(nn.Linear(4, 2)), [])
    model = Network()
    model.forward = lambda x: x
    with pytest.raises(RuntimeError, match="given nothing"):
        nrc.measure_layers(model, [(draw(9, 4), draw(9, 2))])


@pytest.mark.parametrize("exponent", [-400, 240])
def test_the_alignment_of_features_of_any_scale(exponent: int) -> None:
    """The same number and bound, also where squares of the variances are too small for float64."""
    rng = np.random.default_rng(3)
    H, Y = rng.standard_normal((40, 6)), rng.standard_normal((40, 2))
    one, far = (
        layer_collapse(nrc.FeatureStatistics(6, n_targets=2).update(np.ldexp(H, power), Y)) for power in (0, exponent)
    )
    assert far.signal_alignment == one.signal_alignment
    assert far.bounds["signal_alignment"] == pytest.approx(one.bounds["signal_alignment"], rel=1e-6, abs=0)
