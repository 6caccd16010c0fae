"""Balance of networks: trained ones are balanced, and which layers follow one another is found without a pass."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nrc_fast as nrc
from nrc_fast.training.layer_balance import balance_below
from nrc_fast.training.linear_chains import Neighbours, linear_neighbours

DECAY = 0.05


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    X = torch.linalg.qr(torch.randn(40, 4, dtype=torch.float64))[0] * 40**0.5
    return X, X @ torch.diag(torch.tensor([2.0, 1.0, 0.7, 0.5], dtype=torch.float64))[:, :2] + 1.0


def objective(net: nn.Module, parameters: list[Any]) -> torch.Tensor:
    """Squared error with weight decay on these parameters."""
    X, Y = data()
    decay: torch.Tensor = sum(p.square().sum() for p in parameters)  # type: ignore[assignment]
    return 0.5 * (net(X) - Y).square().sum() / len(X) + 0.5 * DECAY * decay


def minimise(net: nn.Sequential, parameters: list[Any]) -> None:
    """By L-BFGS, and then by plain descent, along which what is not balanced goes as (1 - lr decay)^2 a step."""
    near = torch.optim.LBFGS(
        net.parameters(), max_iter=150, max_eval=220, tolerance_grad=1e-14, tolerance_change=0.0,
        history_size=60, line_search_fn="strong_wolfe",
    )  # fmt: skip
    plain = torch.optim.SGD(net.parameters(), lr=0.2)

    def closure() -> torch.Tensor:
        plain.zero_grad()
        loss = objective(net, parameters)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    near.step(closure)  # type: ignore[no-untyped-call]
    for _ in range(500):
        plain.step(closure)  # type: ignore[call-overload]


def deep_linear(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 4, bias=bias), nn.Linear(4, 3, bias=bias), nn.Linear(3, 2)).double()


@pytest.mark.parametrize("biases", ["decayed", "free"])
def test_trained_linear_layers_are_balanced(biases: Any) -> None:
    net: Any = deep_linear()
    minimise(net, list(net.parameters()) if biases == "decayed" else [layer.weight for layer in net])
    G = net[0](data()[0]).detach()
    found = nrc.balance(net, G=G, biases=biases)
    assert found.chain == ("0", "1", "2")
    for layer in found.layers[1:]:
        assert layer.imbalance < 1e-8
        assert layer.operator_imbalance <= layer.imbalance
        assert layer.relative_imbalance < 1e-8
        assert layer.unit_imbalance < 1e-8
    if biases == "decayed":
        assert found.nrc2_bound < 1e-7
        # The biases, which decay, are part of what is balanced, and they are not 0.
        assert nrc.balance(net, biases="free").layers[1].relative_imbalance > 1e-3
    else:
        # Without biases in the balance all layers have one set of singular values.
        for layer in found.layers:
            assert layer.condition == pytest.approx(found.balanced_condition, rel=1e-6)
        assert found.balanced_condition == pytest.approx(found.product_condition ** (1 / 3), rel=1e-14)
    features = net[:2](data()[0]).detach()
    assert nrc.nrc2(features, net[2].weight.detach(), convention="raw") <= nrc.balance(net, G=G).nrc2_bound
    start = nrc.balance(deep_linear(), biases=biases)
    assert min(layer.relative_imbalance for layer in start.layers[1:]) > 0.1


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.Identity()])
def test_gradients_are_what_is_missing_of_the_balance(activation: nn.Module) -> None:
    """Anywhere: the gradient along W -> W M^-1, V -> M V is that of the decay alone, for M diagonal with a ReLU."""
    torch.manual_seed(2)
    net: Any = nn.Sequential(nn.Linear(4, 5), activation, nn.Linear(5, 2)).double()
    objective(net, list(net.parameters())).backward()  # type: ignore[no-untyped-call]
    below, above = net[0], net[2]
    along = (
        above.weight.T @ above.weight.grad
        - below.weight.grad @ below.weight.T
        - torch.outer(below.bias.grad, below.bias)
    )
    difference = (along / DECAY).detach().numpy()
    (layer,) = (layer for layer in nrc.balance(net).layers if layer.below)
    above_sizes, below_sizes = above.weight.square().sum(dim=0), below.weight.square().sum(dim=1) + below.bias.square()
    total = float((above_sizes.norm() + below_sizes.norm()).detach())
    assert layer.unit_imbalance == pytest.approx(np.linalg.norm(np.diag(difference)) / total, rel=1e-11)
    if isinstance(activation, nn.Identity):
        assert layer.imbalance == pytest.approx(np.linalg.norm(difference), rel=1e-11)
        assert layer.operator_imbalance == pytest.approx(np.linalg.norm(difference, 2), rel=1e-11)
    else:
        assert layer.between == type(activation).__name__
        assert math.isnan(layer.relative_imbalance)
        assert math.isnan(nrc.balance(net, G=1.0).nrc2_bound)
        assert nrc.balance(net).chain == ("2",)
        assert "no two with nothing between, by units" in str(nrc.balance(net))


def test_weights_that_are_not_finite_end_no_measurement() -> None:
    net: Any = deep_linear()
    with torch.no_grad():
        net[1].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="the weights of 1 has 1 value"):
        nrc.balance(net)
    assert math.isnan(balance_below(net, "2").value)
    assert math.isnan(balance_below(net, "0").value)
    assert balance_below(deep_linear(), "2").value > 0.1


def tied(net: nn.Sequential, one: str, other: str) -> nn.Sequential:
    net.get_submodule(other).weight = net.get_submodule(one).weight
    return net


def test_dropout_leaves_the_balance_of_units_alone() -> None:
    """Of its expected loss: units may be scaled, not mixed, so W^T W and V V^T have one diagonal and are others."""
    torch.manual_seed(1)
    net: Any = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Dropout(0.5), nn.Linear(4, 2, bias=False)).double()
    X = torch.randn(40, 4, dtype=torch.float64)
    Y = X @ torch.randn(4, 2, dtype=torch.float64) + 0.1 * torch.randn(40, 2, dtype=torch.float64)
    parameters = list(net.parameters())
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=400, tolerance_grad=1e-13, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        features = net[0](X)
        spread = (features.square().mean(dim=0) * net[2].weight.square().sum(dim=0)).sum()
        decay = sum(part.square().sum() for part in parameters)
        loss: torch.Tensor = (
            0.5 * (net[2](features) - Y).square().sum(dim=1).mean() + 0.5 * spread + 0.5 * DECAY * decay
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = nrc.balance(net).layers[1]
    assert found.between == "Dropout"
    assert found.unit_imbalance < 1e-6
    assert math.isnan(found.relative_imbalance)
    assert nrc.balance([net[0].weight.detach(), net[2].weight.detach()]).layers[1].relative_imbalance > 1e-3


def test_of_several_sequences_none_is_the_last() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 2))  # registered first, run last
            self.trunk = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.ReLU())

    model = Heads().double()
    found = nrc.balance(model)
    assert [layer.name for layer in found.layers] == ["head.0", "head.1", "trunk.0", "trunk.1"]
    assert (found.chain, found.components, dict(found.bounds)) == ((), 0, {})
    assert math.isnan(found.product_condition)
    assert all(math.isnan(layer.condition) for layer in found.layers)
    assert not math.isnan(found.layers[3].relative_imbalance)
    assert "condition of the product" not in str(found)
    assert nrc.Balance.from_dict(json.loads(found.to_json())).chain == ()
    with pytest.raises(ValueError, match=r"in several sequences, and G belongs to one of them; name its layers in lay"):
        nrc.balance(model, G=1.0)
    named = nrc.balance(model, layers=["head.0", model.head[1]], G=1.0)
    assert named.chain == ("head.0", "head.1")
    assert "condition of the product of head.0, head.1: " in str(named)
    assert math.isfinite(named.nrc2_bound)
    deep = nrc.balance(nn.Sequential(*(nn.Linear(3, 3) for _ in range(5))))
    assert "condition of the product of 0 to 4: " in str(deep)
    two = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 2))
    assert nrc.balance(two).chain == ("3", "4")  # of one sequence the last run is known


def test_conditions_without_a_digit_and_layers_of_nothing() -> None:
    found = nrc.balance([np.diag([1.0, 1e-17]), np.eye(2)])
    lines = str(found).splitlines()
    assert lines[3].endswith("unresolved")
    assert lines[-2:] == [
        "condition of the product of W1, W2: unresolved",
        "that of each if they were balanced: unresolved",
    ]
    assert str(nrc.Balance.from_dict(json.loads(found.to_json()))) == str(found)
    assert str(nrc.balance([np.zeros((2, 2))] * 2)).startswith("balance of 2 linear layers: W2 and W1 are both 0\n")


def test_numbers_beyond_the_range_of_float64_are_infinite() -> None:
    found = nrc.balance([1e200 * np.eye(2), 2e200 * np.eye(2)])
    assert found.layers[1].relative_imbalance == pytest.approx(0.6)
    assert math.isinf(found.layers[1].imbalance)
    large = nrc.balance([np.eye(2), 2.0 * np.eye(2)], G=1e200 * np.ones((3, 2)))
    assert math.isinf(large.nrc2_bound)


def test_which_layers_follow_one_another() -> None:
    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
            self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 3), nn.Identity(), nn.Linear(3, 2))

    shared = nn.Linear(4, 4)
    for model, wanted in (
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), [("0", "1", "")]),
        (nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)), [("0.0", "1", "ReLU")]),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), []),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 2)), [("0", "3", "ReLU, ReLU")]),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.Linear(4, 2)), [("0", "2", "Dropout")]),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)), [("0", "3", "ReLU, Dropout")]),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0), nn.Flatten(), nn.Linear(4, 2)), [("0", "3", "")]),
        (nn.Sequential(nn.Linear(4, 4), nn.AlphaDropout(0.1), nn.Linear(4, 2)), []),
        (nn.Sequential(nn.Linear(4, 4), nn.Flatten(), nn.Linear(8, 2)), []),
        # What is used twice is pulled at from two sides.
        (nn.Sequential(shared, nn.Linear(4, 4), shared), []),
        (tied(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "0", "1"), []),
        (
            tied(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(2, 2)), "0", "1"),
            [("2", "3", "")],
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(8, 2)), []),
        (nn.Sequential(shared, shared), []),
        (Own(nn.Linear(4, 4), nn.Linear(4, 2)), []),
        (Calls(), [("head.1", "head.3", "")]),
    ):
        assert linear_neighbours(model) == [Neighbours(*pair) for pair in wanted]


def test_layers_that_are_named_and_matrices_that_are_given() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    torch.manual_seed(0)
    net = Net()
    alone = nrc.balance(net)
    assert ([layer.name for layer in alone.layers], alone.chain) == (["fc3"], ("fc3",))
    named = nrc.balance(net, layers=["fc2", net.fc3], biases="free")
    given = nrc.balance([net.fc2.weight, net.fc3.weight.detach().numpy()])
    assert named.chain == ("fc2", "fc3")
    assert given.chain == ("W1", "W2")
    for one, other in zip(named.layers, given.layers, strict=True):
        assert (one.condition, other.bounds) == (other.condition, one.bounds)
        np.testing.assert_array_equal(one.relative_imbalance, other.relative_imbalance)
    V, W = (layer.weight.detach().double().numpy() for layer in (net.fc2, net.fc3))
    difference = W.T @ W - V @ V.T
    assert given.layers[1].imbalance == pytest.approx(np.linalg.norm(difference), rel=1e-12)
    assert given.layers[1].operator_imbalance == pytest.approx(np.linalg.norm(difference, 2), rel=1e-12)
    singular = np.linalg.svd(V, compute_uv=False)
    assert given.components == 2
    assert given.layers[0].condition == pytest.approx(singular[0] / singular[1], rel=1e-6)
    assert given.product_condition == pytest.approx(np.linalg.cond(W @ V), rel=1e-6)


def test_as_text_json_and_html() -> None:
    found = nrc.balance(deep_linear(), G=2.0)
    again = nrc.Balance.from_dict(json.loads(found.to_json()))
    assert str(again) == str(found) == repr(found)
    assert again.to_dict() == found.to_dict()
    lines = str(found).splitlines()
    worst = max(found.layers[1:], key=lambda layer: layer.relative_imbalance)
    assert lines[0] == (
        f"balance of 3 linear layers: imbalance {worst.relative_imbalance:.3g} at most, of "
        f"{worst.name} and {worst.below}"
    )
    assert lines[2].split() == ["layer", "shape", "above", "imbalance", "by", "units", "condition"]
    assert lines[3].startswith("0      (4, 4)")
    assert lines[-1] == f"NRC2 (raw) is at most: {found.nrc2_bound:.4g}"
    assert not any(line.endswith(" ") for line in lines)
    html = found._repr_html_()
    assert f"{worst.relative_imbalance:.3g}" in html
    assert repr(found.layers[0]) == "<LayerBalance of 0, (4, 4)>"
    assert repr(found.layers[1]).startswith("<LayerBalance of 1, (3, 4), above 0: imbalance 0.")
    singular = nrc.balance([np.diag([1.0, 0.0]), np.eye(2)])
    assert singular.bounds["product_condition"] == math.inf
    assert nrc.Balance.from_dict(json.loads(singular.to_json())).bounds["product_condition"] == math.inf


def test_reports_of_layers_tell_it() -> None:
    net = deep_linear()
    X = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    report = nrc.measure_layers(net, [(X, X[:, :2])])
    balances = {layer.name: layer.relative_imbalance for layer in nrc.balance(net).layers}
    assert [layer.balance for layer in report.layers[1:]] == [balances["1"], balances["2"]]
    assert math.isnan(report.layers[0].balance)
    assert report.layers[1].bounds["balance"] < 1e-13
    (names,) = (line for line in str(report).splitlines() if line.startswith("layer"))
    assert names.split()[-1] == "balance"
    assert f"{balances['2']:.4g}" in str(report).splitlines()[-1]
    assert nrc.DeepReport.from_dict(report.to_dict()).to_dict() == report.to_dict()
    older = report.to_dict()
    for layer in older["layers"]:  # type: ignore[union-attr]
        del layer["balance"]  # type: ignore[union-attr, arg-type, call-overload, index]
    assert all(math.isnan(layer.balance) for layer in nrc.DeepReport.from_dict(older).layers)
    parted = nrc.measure_layers(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double(), [(X, X[:, :2])])
    assert "balance" not in str(parted)


def test_what_cannot_be_used() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    W = np.ones((2, 3))
    for arguments, options, kind, message in (
        ((net,), {"biases": "none"}, ValueError, "'decayed', 'free' are known"),
        ((nn.ReLU(),), {}, ValueError, r"has no torch\.nn\.Linear"),
        ((net, ["1"]), {}, ValueError, r"layer 1 is no torch\.nn\.Linear"),
        ((net, ["7"]), {}, ValueError, "no layer '7'"),
        ((net, ["2", "0"]), {}, ValueError, "0 takes 4 inputs and 2 has 2 outputs; give the first layer first"),
        (([],), {}, ValueError, "the list of weights is empty"),
        ((3,), {}, TypeError, "and a int was given"),
        (([W], ["a"]), {}, ValueError, "weights were given; leave it out"),
        (([W, W],), {}, ValueError, "W2 takes 3 inputs and W1 has 2 outputs"),
        (([np.full((2, 2), np.nan)],), {}, ValueError, "W1 has 4 values that are not finite"),
        (([W.T, W],), {"G": -1.0}, ValueError, "the mean of"),
        (([W.T, W],), {"G": np.ones((5, 3))}, ValueError, "rows of 2 numbers are expected"),
        (([["a"]],), {}, TypeError, "W1"),
        (
            ([np.zeros((0, 3))],),
            {},
            ValueError,
            r"W1 has shape \(0, 3\); a layer with at least one output and one input",
        ),
        ((net, []), {}, ValueError, "layers is empty; at least one layer is expected"),
        ((net, "0"), {}, TypeError, r"layers is '0'; a sequence of names or layers is expected"),
        ((net, net[0]), {}, TypeError, "layers is a Linear; a sequence of names or layers is expected"),
        ((net, ["0", net[0]]), {}, ValueError, "layer 0 is given twice; the law is one of layers whose weights"),
        (
            (tied(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "0", "1"), ["0", "1"]),
            {},
            ValueError,
            "layer 1 has the weights of 0",
        ),
        (([W.T, W],), {"G": "abc"}, TypeError, "G is 'abc'; rows of numbers, or the mean of"),
        (([W],), {"G": "abc"}, TypeError, "G is 'abc'"),
        (([W],), {"G": np.zeros((0, 3))}, ValueError, "rows of p numbers are expected"),
        (
            (nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), ["0"]),
            {},
            ValueError,
            "layer 0 is a LazyLinear without weigh",
        ),
    ):
        with pytest.raises(kind, match=message):
            nrc.balance(*arguments, **options)
