"""What of a call are the features: keywords in any order, containers, packed sequences, and what cannot be read."""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.training.given_features import parameter_names

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Taking(nn.Module):
    """Runs a linear layer on what a function takes out of its arguments."""

    def __init__(self, take: Any) -> None:
        super().__init__()
        self.linear, self.take = nn.Linear(6, 2), take


class Block(Taking):
    def forward(self, hidden_states: Any, attention_mask: Any = None, ids: Any = None) -> Any:
        del attention_mask, ids
        return self.linear(self.take(hidden_states))


class MaskFirst(Taking):
    def forward(self, mask: Any, x: Any) -> Any:
        del mask
        return self.linear(self.take(x))


class IdsFirst(Taking):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None) -> Any:
        del input_ids
        return self.linear(self.take(inputs_embeds))


class Decorated(Taking):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.linear(self.take(args[0] if args else kwargs["hidden_states"]))


def same(value: Any) -> Any:
    return value


def rows_of(layer: Any, *args: Any, features: Any = None, **kwargs: Any) -> Any:
    """Mean of what the watch of a layer has read, and how many rows."""
    with torch.no_grad(), nrc.watch(layer, features=features) as watched:
        output = layer(*args, **kwargs)
    with torch.no_grad():
        assert torch.equal(output if isinstance(output, torch.Tensor) else output[0], first(layer(*args, **kwargs)))
    return watched.count, watched.statistics.mean


def first(output: Any) -> Any:
    return output if isinstance(output, torch.Tensor) else output[0]


def close(found: Any, X: Any) -> None:
    rows = X.reshape(-1, X.shape[-1]).double()
    assert found[0] == len(rows)
    np.testing.assert_allclose(found[1], rows.mean(dim=0), atol=1e-6)


X, MASK, IDS = draw(50, 6), torch.ones(50, 3), torch.ones(50, dtype=torch.int64)


@pytest.mark.parametrize(
    ("layer", "args", "kwargs"),
    [
        (Block, (X,), {"attention_mask": MASK}),
        (Block, (), {"attention_mask": MASK, "hidden_states": X}),
        (Block, (), {"ids": IDS, "attention_mask": MASK, "hidden_states": X}),
        (MaskFirst, (MASK, X), {}),
        (MaskFirst, (), {"x": X, "mask": MASK}),
        (IdsFirst, (IDS, X), {}),
        (IdsFirst, (), {"inputs_embeds": X, "input_ids": IDS}),
        (Decorated, (), {"attention_mask": MASK, "hidden_states": X}),
        (Decorated, (X, MASK), {}),
    ],
)
def test_arguments_in_any_order(layer: Any, args: Any, kwargs: Any) -> None:
    close(rows_of(layer(same), *args, **kwargs), X)


Named = namedtuple("Named", ["mask", "x"])  # noqa: PYI024 - as users write it


@dataclass
class Record:
    mask: Any
    x: Any


@pytest.mark.parametrize(
    ("given", "take"),
    [
        ((X, draw(50, 3)), lambda v: v[0]),
        ([IDS, X], lambda v: v[1]),
        ({"x": X}, lambda v: v["x"]),
        ({"attention_mask": MASK, "x": X}, lambda v: v["x"]),
        (OrderedDict(outer={"inner": (X,)}), lambda v: v["outer"]["inner"][0]),
        (Named(MASK, X), lambda v: v.x),
        (Record(MASK, X), lambda v: v.x),
        ({"ids": IDS, "n": 3, "none": None, "x": X}, lambda v: v["x"]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_containers(given: Any, take: Any) -> None:
    close(rows_of(Block(take), given), X)


OTHER = draw(50, 6, seed=2)


@pytest.mark.parametrize(
    ("features", "args", "kwargs"),
    [
        (1, ((OTHER, X),), {}),
        (-1, ((OTHER, X),), {}),
        ("x", ({"y": OTHER, "x": X},), {}),
        ("x", (Record(OTHER, X),), {}),
        ("attention_mask", (OTHER,), {"attention_mask": X}),
        ("hidden_states", (), {"attention_mask": OTHER, "hidden_states": {"x": X}}),
        (lambda given: given["x"][0], ({"x": [X]},), {}),
        (lambda given, attention_mask: given + attention_mask, (OTHER,), {"attention_mask": X - OTHER}),
    ],
)
def test_features_are_named_or_chosen_by_a_function(features: Any, args: Any, kwargs: Any) -> None:
    close(rows_of(Block(lambda _: OTHER), *args, features=features, **kwargs), X)


def test_options_are_checked() -> None:
    with pytest.raises(TypeError, match="features is a list; a name, a key, an index or a function"):
        nrc.watch(nn.Linear(2, 2), features=["x"])


# ---- packed sequences ----


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("positions", [None, "each", "mean", "last"])
def test_packed_sequences(positions: str | None, batch_first: bool) -> None:
    layer, lengths = nn.LSTM(6, 8, batch_first=batch_first), [2, 5, 3]
    values = draw(3, 5, 6)
    given = values if batch_first else values.transpose(0, 1)
    packed = nn.utils.rnn.pack_padded_sequence(given, lengths, batch_first=batch_first, enforce_sorted=False)
    samples = [row[:length].double() for row, length in zip(values, lengths, strict=True)]
    expected = {
        "mean": torch.stack([sample.mean(dim=0) for sample in samples]),
        "last": torch.stack([sample[-1] for sample in samples]),
    }.get(positions or "each", torch.cat(samples))
    Y = draw(3, 2, seed=4)
    with torch.no_grad(), nrc.watch(layer, positions=positions) as watched:
        if positions in ("mean", "last"):
            watched.set_targets(Y)
        layer(packed)
    close((watched.count, watched.statistics.mean), expected)
    if positions in ("mean", "last"):
        centred = expected - expected.mean(dim=0)
        np.testing.assert_allclose(
            watched.statistics.cross_covariance, centred.T @ (Y - Y.mean(dim=0)).double() / 3, atol=1e-6
        )


# ---- what cannot be read ----


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Any, pad: Any) -> Any:
        return self.head(self.enc(x, src_key_padding_mask=pad).mean(1))


@pytest.mark.parametrize("name", ["enc.layers.0", "enc.layers.1.linear1", "enc.layers.1.norm1", "enc.layers.0.norm1"])
@pytest.mark.filterwarnings("ignore:.*nested tensors.*:UserWarning")
def test_nested_tensors_are_left_out_counted_and_told_once(name: str) -> None:
    model, x, pad = Encoder().eval(), draw(8, 5, 16), torch.zeros(8, 5, dtype=torch.bool)
    pad[:4, 3:] = True
    plain = model.get_submodule(name).register_forward_pre_hook(lambda *_: None)
    with torch.no_grad():
        expected = model(x, pad)
        plain.remove()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with nrc.watch(model, layers=[name]) as watched:
                outputs = [model(x, pad) for _ in range(3)]
    assert all(torch.equal(output, expected) for output in outputs)
    ours = [str(warning.message) for warning in told if "left out" in str(warning.message)]
    reason = "nested tensors, whose samples have different lengths"
    assert ours == [f"layer {name} is given {reason}. Such passes are left out (told once)"]
    assert (watched[name].left_out, watched[name].count) == (3, 0)
    with pytest.raises(RuntimeError, match=r"all 3 calls were left out: layer .* is given nested tensors"):
        watched[name].report()


def transforms(layer: Any, x: Any) -> dict[str, Any]:
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(values: Any, rows: Any = x[0]) -> Any:
        return torch.func.functional_call(layer, values, (rows,)).square().sum()

    return {
        "vmap": lambda: torch.func.vmap(layer)(x),
        "grad": lambda: torch.func.grad(loss)(parameters)["weight"],
        "per sample": lambda: torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)["weight"],
        "jvp": lambda: torch.func.jvp(layer, (x[0],), (x[0],))[1],
        "jacrev": lambda: torch.func.jacrev(layer)(x[0, 0]),
        "jacfwd": lambda: torch.func.jacfwd(layer)(x[0, 0]),
        "hessian": lambda: torch.func.hessian(lambda row: layer(row).square().sum())(x[0, 0]),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its derivatives
@pytest.mark.parametrize("name", transforms(nn.Linear(4, 2), draw(5, 3, 4)))
def test_transforms_of_functions_are_left_out(name: str) -> None:
    layer, x = nn.Linear(4, 2), draw(5, 3, 4)
    call = transforms(layer, x)[name]
    expected = call()
    with nrc.watch(layer) as watched:
        layer(x[0])
        with pytest.warns(UserWarning, match=r"inside a transform of torch\.func.*left out \(told once\)"):
            found = call()
        layer(x[1])
    assert torch.equal(found, expected)
    assert watched.left_out > 0
    close((watched.count, watched.statistics.mean), x[:2].detach())


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (3.0, "without a tensor of features"),
        (IDS, "torch.int64 numbers, which are no features"),
        (draw(4, 4).to_sparse(), "tensors of layout torch.sparse_coo"),
        (draw(2, 3, 4, 5), "the second axis or the last may hold the features"),
    ],
    ids=["number", "integers", "sparse", "axes"],
)
def test_what_is_no_features_is_left_out(given: Any, reason: str) -> None:
    layer = nn.Identity()
    with nrc.watch(layer) as watched:
        layer(draw(9, 4))
        with pytest.warns(UserWarning, match=reason):
            assert layer(given) is given
        layer(given)
    assert (watched.passes, watched.left_out, watched.count) == (3, 2, 9)


def test_another_width_is_left_out() -> None:
    layer = nn.ReLU()
    with nrc.watch(layer) as watched:
        layer(draw(9, 4))
        with pytest.warns(UserWarning, match="is given 5 features and was given 4 before"):
            layer(draw(9, 5))
        layer(draw(3, 4))
    assert (watched.count, watched.left_out) == (12, 1)


def test_a_function_that_fails_is_told() -> None:
    layer = nn.Linear(6, 2)
    with nrc.watch(layer, features=lambda x: x.absent) as watched:
        with pytest.warns(UserWarning, match="the features of layer Linear were not found: AttributeError"):
            layer(X)
        layer(X)
    assert watched.left_out == 2


# ---- scripted and traced models ----


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiling", ["script", "trace"])
def test_layers_of_compiled_models_say_what_to_do(compiling: str) -> None:
    inner = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    compiled = torch.jit.script(inner) if compiling == "script" else torch.jit.trace(inner, X)
    model = nn.Sequential(compiled, nn.Linear(6, 2))
    names = ["1"] if compiling == "script" else ["0", "1"]
    with torch.no_grad(), nrc.watch(model, layers=names, every=2) as watched:
        model(X)
        H = inner(X)
    close((watched["1"].count, watched["1"].statistics.mean), H)
    if compiling == "trace":  # as a whole it is called by torch's modules
        close((watched["0"].count, watched["0"].statistics.mean), X)
    others = [
        (compiled, ["0"]),
        (model, ["0.0"]),
        *([(model, ["0"]), (compiled, None)] if compiling == "script" else []),
    ]
    for given, layers in others:
        with pytest.raises(ValueError, match="part of a scripted or traced model, which runs its layers unseen"):
            nrc.watch(given, layers=layers)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_names_of_what_is_called() -> None:
    class Named(nn.Module):
        def forward(self, mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return x * mask.sum()

    assert parameter_names(Named()) == ["mask", "x"]
    assert parameter_names(torch.jit.script(Named())) == ["mask", "x"]
    assert parameter_names(Decorated(same)) == []
