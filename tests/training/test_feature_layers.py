"""Which linear layer makes the features, and the clock of a training that a monitor keeps by its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nrc_fast as nrc
from nrc_fast.metrics.decay_slopes import decay_slope
from nrc_fast.training.feature_layers import FeatureLayer


class Branches(nn.Module):
    """A head whose input is what `make` makes of the input."""

    def __init__(self, make: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.below, self.head, self.norm = nn.Linear(4, 6), nn.Linear(6, 2), nn.LayerNorm(6)
        self.other, self.dropout, self.nothing = nn.Linear(6, 1), nn.Dropout(0.5), nn.Dropout(0.0)
        self._make = make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self._make(self, x))
        return output


def layer_of(model: Any, X: torch.Tensor, head: Any = None) -> Any:
    watched = FeatureLayer(model, model.head if head is None else head)
    with torch.no_grad(), watched.watching():
        model(X)
    assert watched.is_seen
    return watched.layer


LINEAR = {
    "nothing": lambda net, x: net.below(x),
    "a reshape": lambda net, x: net.below(x).reshape(1, -1, 6).flatten(0, 1),
    "dropout": lambda net, x: nn.functional.dropout(net.below(x), 0.5, training=False),
    "modules that hand it on": lambda net, x: net.nothing(nn.Sequential(nn.Identity())(net.below(x))),
    "the second call": lambda net, x: (net.below(x), net.below(x))[1],
}
OTHERS = {
    "an activation": lambda net, x: net.below(x).relu(),
    "one in place": lambda net, x: net.below(x).relu_(),
    "one in place on a view": lambda net, x: net.below(x).view(-1).relu_().view(-1, 6),
    "a norm": lambda net, x: net.norm(net.below(x)),
    "a sum": lambda net, x: net.below(x) + 1.0,
    "a part": lambda net, x: nn.functional.pad(net.below(x)[:, :3], (0, 3)),
    "the input": lambda _, x: nn.functional.pad(x, (0, 2)),
    "dropout in training": lambda net, x: net.dropout(net.below(x)),
    "what another head reads too": lambda net, x: (h := net.below(x), net.other(h))[0],
    "what a norm reads too": lambda net, x: (h := net.below(x), net.norm(h))[0],
}


@pytest.mark.parametrize("name", [*LINEAR, *OTHERS])
def test_the_layer_whose_output_is_the_features(name: str) -> None:
    model = Branches((LINEAR | OTHERS)[name]).eval()
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()]
    assert layer_of(model, torch.randn(5, 4)) is (model.below if name in LINEAR else None)
    assert [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()] == hooks


def test_sequences_and_the_nearest_layer() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Sequential(nn.Identity(), nn.Linear(6, 2)))
    assert layer_of(net, torch.randn(5, 4), net[2][1]) is net[1]
    with torch.inference_mode():  # nothing tells there whether memory was written to
        watched = FeatureLayer(net, net[2][1])
        with watched.watching():
            net(torch.randn(5, 4))
    assert watched.layer is None


class TwoHeads(nn.Module):
    """The head, in a block of its own and with parts, and another that reads the same features after it."""

    def __init__(self, *, with_other: bool) -> None:
        super().__init__()
        self.below, self.block, self.other = nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 2)), nn.Linear(6, 1)
        self.with_other = with_other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.below(x)
        output: torch.Tensor = self.block(h)
        return output + self.other(h) if self.with_other else output


@pytest.mark.parametrize("with_other", [False, True])
def test_a_second_reader_after_the_head_is_seen(with_other: bool) -> None:
    model = TwoHeads(with_other=with_other).eval()
    watched = FeatureLayer(model, model.block[0])
    with torch.no_grad(), watched.watching():
        model(torch.randn(5, 4))
        model.with_other = True  # the first pass is what counts
        model(torch.randn(5, 4))
    assert watched.layer is (None if with_other else model.below)


def test_a_hook_that_changes_what_the_head_is_given_is_seen() -> None:
    model = Branches(LINEAR["nothing"]).eval()
    handle = model.head.register_forward_pre_hook(lambda _, args: (args[0].relu(),))
    assert layer_of(model, torch.randn(5, 4)) is None
    handle.remove()
    assert layer_of(model, torch.randn(5, 4)) is model.below


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_scripted_parts_end_nothing() -> None:
    model = Branches(lambda net, x: net.norm(net.below(x))).eval()
    model.norm = torch.jit.script(nn.LayerNorm(6))  # type: ignore[assignment, no-untyped-call]
    assert layer_of(model, torch.randn(5, 4)) is None


# ---- a training ----

LR, DECAY, MOMENTUM = 0.05, 5e-3, 0.9


def training(net: nn.Sequential, steps: int, every: int, **options: Any) -> tuple[Any, Any, Callable[[int], None]]:
    torch.manual_seed(0)
    X = torch.randn(60, 6, dtype=torch.float64)
    Y = 0.5 * X @ torch.randn(6, 2, dtype=torch.float64) + 0.3 * torch.randn(60, 2, dtype=torch.float64)
    net = net.double()
    optimizer = torch.optim.SGD(net.parameters(), **({"lr": LR, "weight_decay": DECAY, "momentum": MOMENTUM} | options))
    monitor = nrc.Monitor(net, [(X, Y)], optimizer=optimizer, every=every)

    def run(until: int) -> None:
        for _ in range(until):
            monitor.step()
            optimizer.zero_grad()
            nn.functional.mse_loss(net(X), Y).backward()
            optimizer.step()

    run(steps)
    return monitor, optimizer, run


def linear_net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))


def test_nrc1_of_linear_features_falls_by_the_clock() -> None:
    monitor, _, _ = training(linear_net(), 1501, 100)
    found = monitor.history.clock
    assert (found.first_step, found.last_step) == (800, 1500)
    assert found.predicted == pytest.approx(decay_slope(LR * DECAY, MOMENTUM).value, rel=1e-14)
    assert found.predicted == pytest.approx(-2.0 * LR * DECAY / (1.0 - MOMENTUM), rel=0.03)
    assert found.measured == pytest.approx(found.predicted, rel=0.01)
    assert monitor.records()[-1].nrc1_variance < 1e-3 * monitor.records()[0].nrc1_variance
    assert "weight decay alone predicts -0.005125" in str(monitor)


def test_a_schedule_changes_the_records() -> None:
    monitor, optimizer, run = training(linear_net(), 3, 2)
    optimizer.param_groups[0]["lr"] = LR / 2
    run(2)
    slopes = [decay_slope(rate * DECAY, MOMENTUM).value for rate in (LR, LR, LR / 2)]
    assert [record.clock for record in monitor.records()] == slopes


def test_frozen_features_do_not_fall() -> None:
    net = linear_net()
    net[0].requires_grad_(requires_grad=False)
    monitor, _, _ = training(net, 61, 20)
    assert [record.clock for record in monitor.records()] == [0.0] * 4
    assert monitor.history.clock.predicted == 0.0
    assert abs(monitor.history.clock.measured) < 1e-12


def test_a_step_that_leaves_nothing_has_no_line() -> None:
    """SGD with lr wd = 1: the slope is minus infinity, and a history of it is printed without a warning."""
    net = linear_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=1.0)
    monitor = nrc.Monitor(net, [(torch.randn(40, 6), torch.randn(40, 2))], optimizer=optimizer)
    for step in range(5):
        monitor.evaluate(step)
    with np.errstate(invalid="raise"):
        assert monitor.records()[0].clock == -math.inf
        assert monitor.history.clock is None
        assert "clock of" not in str(monitor)


def test_it_goes_on_with_a_training() -> None:
    whole, _, _ = training(linear_net(), 7, 2)
    begun, _, _ = training(linear_net(), 5, 2)
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = nrc.Monitor(
        begun.model, begun.loader, optimizer=torch.optim.SGD(begun.model.parameters(), lr=0.1), every=2
    )
    resumed.load_state_dict(state)
    assert [record.clock for record in resumed.records()] == [record.clock for record in begun.records()]
    assert str(resumed.history.clock) == str(begun.history.clock)
    assert resumed.evaluate(6).clock == 0.0  # without decay nothing goes
    assert resumed.history.clock.last_step == whole.history.clock.last_step == 6


def test_it_changes_nothing_of_the_training() -> None:
    with_clock, _, _ = training(linear_net(), 12, 3)
    torch.manual_seed(0)
    X = torch.randn(60, 6, dtype=torch.float64)
    Y = 0.5 * X @ torch.randn(6, 2, dtype=torch.float64) + 0.3 * torch.randn(60, 2, dtype=torch.float64)
    alone = linear_net().double()
    optimizer = torch.optim.SGD(alone.parameters(), lr=LR, weight_decay=DECAY, momentum=MOMENTUM)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.mse_loss(alone(X), Y).backward()
        optimizer.step()
    for one, other in zip(alone.parameters(), with_clock.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_features_that_are_no_output_of_a_linear_layer_have_none() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    monitor, _, _ = training(net, 5, 1)
    assert all(math.isnan(record.clock) for record in monitor.records())
    assert monitor.history.clock is None
    assert "clock of" not in str(monitor)
    with pytest.raises(TypeError, match="optimizer is a str"):
        nrc.Monitor(net, [(torch.ones(4, 6), torch.ones(4, 2))], optimizer="sgd")  # type: ignore[arg-type]


def test_few_outputs_are_kept_at_a_time() -> None:
    """Of a deep model the last four; a layer that others follow before the head is called is not found."""
    torch.manual_seed(0)
    parts = [nn.Linear(6, 6) for _ in range(9)]
    model = nn.Sequential(*parts)
    watched = FeatureLayer(model, parts[-1])
    kept: list[int] = []
    for part in parts[:-1]:
        part.register_forward_hook(lambda *_: kept.append(len(watched._made)))
    with torch.no_grad(), watched.watching():
        for part in parts[:-1]:
            part.register_forward_hook(lambda *_: kept.append(len(watched._made)))
        model(torch.randn(3, 6))
    assert watched.layer is parts[-2]
    assert max(kept) == 4
    many = Branches(lambda net, x: (net.below(x), [net.below(x) for _ in range(4)])[0])
    assert layer_of(many, torch.randn(5, 4)) is None
