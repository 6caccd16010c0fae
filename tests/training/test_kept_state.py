"""A model that runs in the middle of a training: modules that act on a change of mode, and modules with a state."""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.training.evaluation import evaluating

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- modules that act on a change of mode ----


class Adapter(nn.Linear):
    """Merges a product into its weights for evaluation, as adapters of low rank do."""

    def __init__(self, d: int, n: int, merged: bool = False) -> None:
        super().__init__(d, n)
        self.A, self.B, self.merged = nn.Parameter(draw(2, d)), nn.Parameter(0.1 * draw(n, 2)), merged

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1.0 if mode else 1.0) * (self.B @ self.A)
            self.merged = not mode
        return self

    def forward(self, x: Any) -> Any:
        y = nn.functional.linear(x, self.weight, self.bias)
        return y if self.merged else y + x @ self.A.T @ self.B.T


class Averaged(nn.Sequential):
    """Swaps its weights for averages, by giving parameters other memory."""

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.others = [parameter.detach() * 0.5 for parameter in self.parameters()]

    def train(self, mode: bool = True) -> Any:
        if mode != self.training:
            for place, parameter in enumerate(self.parameters()):
                parameter.data, self.others[place] = self.others[place], parameter.data
        return super().train(mode)


class Freezing(nn.Sequential):
    """Keeps a part of itself in evaluation mode, and its parameters without gradients meanwhile."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self[0].eval()
        for parameter in self[-1].parameters():
            parameter.requires_grad_(mode)
        return self


def acting(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2)]
        if kind == "adapter":
            layers[0] = Adapter(5, 8)
        if kind == "swapped":
            return Averaged(*layers)
        return Freezing(*layers[1:]) if kind == "freezing" else nn.Sequential(*layers)


def trained(model: Any, *, monitored: bool, width: int = 5) -> list[Any]:
    """Losses, parameters, buffers and numbers drawn afterwards."""
    torch.manual_seed(3)
    X, Y = draw(60, width), draw(60, 2, seed=2)
    monitor = nrc.Monitor(model, [(X[:30], Y[:30]), (X[30:], Y[30:])], every=3) if monitored else None
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        if monitor is not None:
            monitor.step()
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X), Y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [*losses, *gradients, *model.parameters(), *model.buffers(), torch.rand(2)]


def same_bits(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", ["adapter", "swapped", "freezing"])
def test_modules_that_act_on_their_mode_train_as_without(kind: str) -> None:
    width = 8 if kind == "freezing" else 5
    plain, monitored = (trained(acting(kind), monitored=flag, width=width) for flag in (False, True))
    assert same_bits(plain, monitored)


def test_parts_in_another_mode_than_their_model_are_told_by_their_own_train() -> None:
    calls: list[tuple[str, bool]] = []

    class Told(nn.Sequential):
        def __init__(self, name: str, *parts: Any) -> None:
            super().__init__(*parts)
            self.name = name

        def train(self, mode: bool = True) -> Any:
            calls.append((self.name, mode))
            return super().train(mode)

    adapter = Adapter(3, 2)
    model = Told("model", Told("frozen", Told("leaf"), nn.BatchNorm1d(3)), Told("trained"), adapter)
    model[0].eval()
    model[0][0].train()
    adapter.eval()
    weight, modes = adapter.weight.detach().clone(), [module.training for module in model.modules()]
    calls.clear()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes
    assert adapter.merged
    assert torch.equal(adapter.weight, weight)
    down = [("model", False), ("frozen", False), ("leaf", False), ("trained", False)]
    up = [("model", True), ("frozen", True), ("leaf", True), ("trained", True)]
    # Then those that differ, each after the module that holds it.
    assert calls == [*down, *up, ("frozen", False), ("leaf", False), ("leaf", True)]


def test_what_a_graph_has_saved_may_still_be_used() -> None:
    model = nn.Sequential(Adapter(5, 8), nn.Tanh(), nn.Linear(8, 2))
    X, Y = draw(20, 5), draw(20, 2, seed=2)
    monitor = nrc.Monitor(model, [(X, Y)])
    gradients = []
    for between in (False, True):
        loss = nn.functional.mse_loss(model(X), Y)
        if between:
            monitor.evaluate()
        gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


# ---- modules with a state ----


class Stateful(nn.Module):
    """Takes what it keeps from pass to pass into account."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body, self.head = nn.Linear(5, 8), nn.Linear(8, 2)
        self.register_buffer("last", None)
        self.register_buffer("passes", torch.zeros(()))
        self.state: Any = None
        self.recent: deque[Any] = deque(maxlen=3)
        self.cache: dict[str, Any] = {}
        self.helper = SimpleNamespace(steps=0, means=[])
        self.generators = torch.Generator().manual_seed(1), np.random.default_rng(1), random.Random(1)
        self.drawn = np.zeros(1)

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.body(x))
        mean = h.detach().mean()
        return self.head(h * (1.0 + getattr(self, f"_{self.kind}")(mean)))

    def _buffer(self, mean: Any) -> Any:
        before, self.last = self.last, mean
        return 0.0 if before is None else before

    def _in_place(self, mean: Any) -> Any:
        self.passes += mean
        return self.passes.clone()

    def _tuple(self, mean: Any) -> Any:
        self.state = (mean, 1) if self.state is None else (mean, self.state[1] + 1)
        return self.state[1]

    def _items(self, mean: Any) -> Any:
        self.recent.append(mean)
        self.cache[f"{len(self.cache)}"] = mean
        return sum(self.recent) + len(self.cache)

    def _object(self, mean: Any) -> Any:
        self.helper.steps += 1
        self.helper.means.append(mean)
        return self.helper.steps + sum(self.helper.means)

    def _generator(self, mean: Any) -> Any:
        own, numpys, pythons = self.generators
        return torch.rand((), generator=own) + numpys.random() + pythons.random() + 0.0 * mean

    def _array(self, mean: Any) -> Any:
        self.drawn += float(mean) + 1.0
        return float(self.drawn[0])

    def _new_attribute(self, mean: Any) -> Any:
        first = getattr(self, "first", None)
        if first is None:
            self.first = mean
        return 0.0 if first is None else first

    def _weight(self, mean: Any) -> Any:
        self.body.weight.data = nn.functional.normalize(self.body.weight.data + 0.01)
        return 0.0 * mean


@pytest.mark.parametrize(
    "kind",
    ["buffer", "in_place", "tuple", "items", "object", "generator", "array", "new_attribute", "weight"],
)
def test_states_of_modules_are_those_of_the_training(kind: str) -> None:
    ends = []
    for monitored in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Stateful(kind)
        ends.append(trained(model, monitored=monitored))
    assert same_bits(*ends)


def test_embeddings_that_shrink_their_rows_are_put_back() -> None:
    layer = nn.Embedding(10, 4, max_norm=0.5)
    before = layer.weight.detach().clone()
    with evaluating(layer):
        layer(torch.arange(10))
        assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, before)


def test_nan_and_shared_memory_come_back_bit_for_bit() -> None:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
        layer.bias.data = layer.weight.data[1]  # a window on the weight
    before, place, version = layer.weight.detach().clone(), layer.weight.data_ptr(), layer.weight._version
    with evaluating(layer):
        layer.weight.data = torch.zeros(3, 3)
        layer.bias.data += 1.0
    assert torch.equal(layer.weight.view(torch.int32), before.view(torch.int32))
    assert torch.equal(layer.bias, before[1])
    assert (layer.weight.data_ptr(), layer.weight._version) == (place, version)


# ---- loaders ----


class Augmented(torch.utils.data.Dataset):
    """Draws from a generator of its own for every sample."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)
        self.X, self.Y = draw(40, 5), draw(40, 2, seed=2)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return self.X[index] + float(self.rng.normal()), self.Y[index]


class Shuffled(torch.utils.data.Sampler):
    """Shuffles with a generator of Python's."""

    def __init__(self) -> None:
        self.drawing = random.Random(3)

    def __iter__(self) -> Any:
        return iter(self.drawing.sample(range(20), 20))

    def __len__(self) -> int:
        return 20


def test_generators_of_data_and_samplers_are_put_back() -> None:
    data = torch.utils.data.Subset(Augmented(), range(20))
    sampler = torch.utils.data.BatchSampler(Shuffled(), batch_size=5, drop_last=False)
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler)
    rng, drawing = data.dataset.rng, sampler.sampler.drawing
    before = rng.bit_generator.state, drawing.getstate()
    nrc.Monitor(nn.Sequential(nn.Linear(5, 2)), loader).evaluate()
    assert (rng.bit_generator.state, drawing.getstate()) == before


def test_parameters_that_the_first_pass_makes_are_named() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"parameter 0\.weight of the model is made by its first pass; run the model"):
        nrc.Monitor(model, [(draw(9, 5), draw(9, 2))]).evaluate()
    model(draw(9, 5))
    assert nrc.Monitor(model, [(draw(9, 5), draw(9, 2))]).evaluate().step == 0
