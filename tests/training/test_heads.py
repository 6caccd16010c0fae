"""Which layer is the head, and the weights that it was called with: those that hooks write, and those of adapters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc2
from nrc_fast.training.heads import UsedHead, choose_head, is_head

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
nn = torch.nn

# torch's own words on weight_norm of the old kind.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def samples() -> tuple[Any, Any]:
    X = draw(80, 6)
    return X, X[:, :2] + 0.5


def network(head: Any) -> Any:
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh())
    with torch.no_grad():
        model[0].weight.copy_(draw(16, 6, seed=3))
    model.add_module("head", head)
    return model


def explicit(model: Any, X: Any, Y: Any) -> tuple[float, float]:
    """MSE and NRC2 of what the model itself computes, with the weights that make its outputs of its features."""
    model.eval()
    with torch.no_grad():
        H, outputs = model[:2](X).double(), model(X).double()
    model.train()
    ones = torch.cat([H, torch.ones(len(H), 1, dtype=torch.float64)], dim=1)
    W = torch.linalg.lstsq(ones, outputs).solution[:-1].T
    return float(((outputs - Y) ** 2).sum(dim=1).mean()), reference_nrc2(H.numpy(), W.numpy())


# ---- weights that are written by hooks ----


def scaled(layer: Any) -> Any:
    """A hook of the user's own that writes the weight before every call, and takes it away afterwards."""
    original = nn.Parameter(layer.weight.detach().clone())
    layer.register_parameter("original", original)
    del layer.weight
    layer.weight = torch.zeros(2, 16)
    layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", 2.0 * module.original))
    layer.register_forward_hook(lambda module, *_: setattr(module, "weight", torch.zeros(2, 16)))
    return layer


def pruned(layer: Any) -> Any:
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


WRITTEN = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "prune": pruned,
    "own hook": scaled,
    "parametrization": nn.utils.parametrizations.weight_norm,
}


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
@pytest.mark.parametrize("kind", WRITTEN)
def test_weights_are_those_of_the_pass(kind: str, features: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network(WRITTEN[kind](nn.Linear(16, 2)))
    X, Y = samples()
    monitor = nrc.Monitor(model, [(X[:50], Y[:50]), (X[50:], Y[50:])], features=features)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(3):
        record = monitor.step()
        mse, nrc2 = explicit(model, X, Y)
        assert record.mse == pytest.approx(mse, rel=1e-4)
        assert record.nrc2 == pytest.approx(nrc2, rel=1e-4)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["weight_norm", "prune", "spectral_norm"])
def test_sweeps_over_checkpoints_use_the_weights_of_each(kind: str, tmp_path: Any) -> None:
    from nrc_fast.training.sweep import CheckpointSweep

    X, Y = samples()
    np.savez(tmp_path / "data.npz", inputs=X.numpy(), targets=Y.numpy())
    expected = []
    for step in range(3):
        torch.manual_seed(step)
        model = network(WRITTEN[kind](nn.Linear(16, 2)))
        with torch.no_grad():
            model(X)
        torch.save(model.state_dict(), tmp_path / f"step_{step}.pt")
        expected.append(explicit(model, X, Y)[0])
    sweep = CheckpointSweep(head="head", data=tmp_path / "data.npz", model=network(WRITTEN[kind](nn.Linear(16, 2))))
    found = [sweep.add(step, tmp_path / f"step_{step}.pt").mse for step in range(3)]
    assert found == pytest.approx(expected, rel=1e-4)


# ---- what is no W h + b of the layer's weights ----


class Cosine(nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(nn.functional.normalize(x, dim=-1))


class Doubled(nn.Linear):
    def forward(self, x: Any) -> Any:
        return nn.functional.linear(x, 2.0 * self.weight, self.bias)


class Adding(nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(x) + 0.01 * x[:, :2]


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
@pytest.mark.parametrize("kind", [Cosine, Doubled, Adding])
def test_a_layer_that_computes_something_else_is_an_error(kind: Any, features: str) -> None:
    model, (X, Y) = network(kind(16, 2)), samples()
    with pytest.raises(ValueError, match=r"layer head returned something else than W h \+ b of its weights"):
        nrc.Monitor(model, [(X, Y)], features=features).evaluate()
    assert model.training
    assert not model.head._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("d", [16, 3000])
def test_rounding_is_no_difference(dtype: Any, d: int) -> None:
    layer, H = nn.Linear(d, 2).to(dtype), (30.0 + draw(64, d)).to(dtype)
    with torch.no_grad(), UsedHead("head", layer) as used:
        layer(H)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(H)
    assert torch.equal(used.weights, layer.weight)
    with torch.no_grad(), UsedHead("head", nn.Linear(d, 2).to(dtype)) as used:
        used._layer.bias.fill_(torch.nan)
        used._layer(H)
    assert used.finite()[1] is None


# ---- which layer is the head ----


class Heads(nn.Module):
    """Several heads of the same width, and what becomes of their outputs."""

    def __init__(self, combine: Any, names: tuple[str, ...] = ("mean", "scale")) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        for name in names:
            self.add_module(name, nn.Linear(8, 2))
        self.combine = combine

    def forward(self, x: Any) -> Any:
        return self.combine(self, self.body(x))


COMBINED = {
    "pair": (lambda m, h: (m.mean(h), m.scale(h)), "mean", "come from several layers (mean, scale)"),
    "pair the other way": (lambda m, h: (m.scale(h), m.mean(h)), "scale", "come from several layers (scale, mean)"),
    "mapping": (lambda m, h: {"aux": None, "mean": m.mean(h), "std": m.scale(h).exp()}, "mean", ""),
    "namespace of one": (lambda m, h: [m.scale(m.mean(h).repeat(1, 4))], "scale", ""),
    "defined first": (lambda m, h: m.mean(h + m.scale(h).repeat(1, 4)), "mean", ""),
    "flat": (lambda m, h: (m.mean(h).reshape(-1), m.scale(h))[0], "mean", ""),
    "in place": (lambda m, h: (m.scale(h).relu_(), m.mean(h))[1], "mean", ""),
    "changed": (lambda m, h: 2.0 * m.mean(h) + m.scale(h), "scale", "that of none of its layers with 2 outputs"),
}


@pytest.mark.parametrize("kind", COMBINED)
def test_the_head_is_the_layer_whose_output_is_the_models(kind: str) -> None:
    combine, name, note = COMBINED[kind]
    model, (X, Y) = Heads(combine), samples()
    monitor = nrc.Monitor(model, [(X, Y)])
    record = monitor.evaluate()
    assert monitor.layer == name
    assert record.scalars() == nrc.Monitor(model, [(X, Y)], layer=name).evaluate().scalars()
    found = [text for text in monitor.report.notes if "layer=" in text]
    assert [note in text for text in found] == ([True] if note else [])
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_position_of_the_layers_output_may_be_the_models() -> None:
    def last(m: Any, h: Any) -> Any:
        return SimpleNamespace(logits=m.mean(h)[:, -1] + 0.0 * m.scale(h)[:, -1]).logits

    model = Heads(last)
    assert choose_head(model, draw(4, 2), lambda: model(draw(4, 5, 6))) == ("mean", ())


def test_hidden_layers_of_another_width_are_no_candidates() -> None:
    model = Heads(lambda m, h: m.mean(h), names=("mean",))
    model.add_module("auxiliary", nn.Linear(8, 5))
    X, Y = samples()
    monitor = nrc.Monitor(model, [(X, Y)])
    assert monitor.evaluate() == nrc.Monitor(model, [(X, Y)], layer="mean").evaluate()
    assert monitor.layer == "mean"
    assert not [note for note in monitor.report.notes if "layer=" in note]


def test_states_do_not_see_the_search_for_the_head() -> None:
    class Counting(Heads):
        passes = 0

        def forward(self, x: Any) -> Any:
            self.passes += 1
            return super().forward(x * self.passes)

    model = Counting(lambda m, h: (m.mean(h), m.scale(h)))
    monitor = nrc.Monitor(model, [samples()])
    assert monitor.evaluate() == monitor.evaluate()
    assert model.passes == 0


# ---- adapters ----


class LowRank(nn.Module):
    """An adapter as peft has them: a linear layer, and a product beside it."""

    def __init__(self, base_layer: Any) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A, self.lora_B = nn.Linear(16, 2, bias=False), nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        return self.base_layer(x) + 0.5 * self.lora_B(self.lora_A(x))


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
@pytest.mark.parametrize("nested", [False, True])
def test_heads_with_adapters_are_merged(features: str, nested: bool) -> None:
    inner = LowRank(nn.Linear(16, 2))
    model, (X, Y) = network(LowRank(inner) if nested else inner), samples()
    monitor = nrc.Monitor(model, [(X, Y)], features=features)
    assert monitor.layer == "head"
    record, (mse, nrc2) = monitor.evaluate(), explicit(model, X, Y)
    assert record.mse == pytest.approx(mse, rel=1e-4)
    assert record.nrc2 == pytest.approx(nrc2, rel=1e-4)
    assert nrc.Monitor(model, [(X, Y)], layer="head", features=features).evaluate() == record


def test_peft_heads() -> None:
    peft = pytest.importorskip("peft")
    base = network(nn.Linear(16, 2))
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0", "head"], init_lora_weights=False))
    X, Y = samples()
    monitor = nrc.Monitor(model, [(X, Y)])
    record = monitor.evaluate()
    mse, nrc2 = explicit(base, X, Y)
    assert record.mse == pytest.approx(mse, rel=1e-4)
    assert record.nrc2 == pytest.approx(nrc2, rel=1e-4)
    assert monitor.layer == "base_model.model.head"


def test_what_may_be_a_head() -> None:
    assert is_head(nn.Linear(2, 3))
    assert is_head(LowRank(LowRank(nn.Linear(16, 2))))
    assert not is_head(nn.Tanh())
    around_another = LowRank(nn.Linear(16, 2))
    around_another.base_layer = nn.Conv1d(2, 3, 1)
    assert not is_head(around_another)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_traced_models_say_what_to_do() -> None:
    model, (X, Y) = network(nn.Linear(16, 2)), samples()
    for compiled in (torch.jit.script(model), torch.jit.trace(model, X)):
        with pytest.raises(ValueError, match="runs its layers unseen: give the model that it was made from"):
            nrc.Monitor(compiled, [(X, Y)])
