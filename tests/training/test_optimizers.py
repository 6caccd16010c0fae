"""What the numbers of an optimizer say of one of its weights, and that they are only read."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nrc_fast.metrics.decay_slopes import decay_slope
from nrc_fast.training.optimizers import known_optimizers, optimizers_of, slope_of_weight


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3)]


def test_the_group_of_the_weight_counts() -> None:
    first, second, third = weights()
    optimizer = torch.optim.SGD(
        [{"params": [first]}, {"params": [second], "lr": 0.3, "weight_decay": 0.02, "momentum": 0.5, "nesterov": True}],
        lr=0.1, weight_decay=0.01, momentum=0.9, dampening=0.0,
    )  # fmt: skip
    before = copy.deepcopy(optimizer.state_dict())
    assert slope_of_weight([optimizer], first) == decay_slope(0.1 * 0.01, 0.9)
    assert slope_of_weight([optimizer], second) == decay_slope(0.3 * 0.02, 0.5, is_nesterov=True)
    assert math.isnan(slope_of_weight([optimizer], third).value)
    other = torch.optim.SGD([third], lr=0.2, momentum=0.5, dampening=0.25, weight_decay=0.1)
    assert slope_of_weight([optimizer, other], third) == decay_slope(0.2 * 0.1 * 0.75, 0.5)
    # Two optimizers that both step a weight: whose decay is it?
    assert math.isnan(slope_of_weight([other, torch.optim.SGD([third], lr=0.1)], third).value)
    assert str(optimizer.state_dict()) == str(before)


def test_a_frozen_weight_does_not_decay() -> None:
    (weight, *_) = weights()
    optimizer = torch.optim.SGD([weight], lr=0.1, weight_decay=0.01)
    weight.requires_grad_(requires_grad=False)
    before = weight.clone()
    optimizer.step()
    assert torch.equal(weight, before)
    assert slope_of_weight([optimizer], weight) == slope_of_weight([], weight) == (0.0, 0.0)


def test_schedules_and_tensors_are_followed() -> None:
    (weight, *_) = weights()
    optimizer = torch.optim.SGD([weight], lr=0.4, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for rate in (0.4, 0.2, 0.1):
        assert slope_of_weight([optimizer], weight).value == pytest.approx(2.0 * math.log1p(-rate * 0.01), rel=1e-14)
        optimizer.step()
        schedule.step()
    optimizer.param_groups[0]["lr"] = torch.tensor(0.25)
    assert slope_of_weight([optimizer], weight).value == pytest.approx(2.0 * math.log1p(-0.0025), rel=1e-14)
    assert slope_of_weight([torch.optim.SGD([weight], lr=0.4)], weight).value == 0.0


def test_other_optimizers_make_no_claim() -> None:
    (weight, *_) = weights()

    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            del closure

    class Renamed(torch.optim.SGD):
        pass

    for made in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, Own):
        assert math.isnan(slope_of_weight([made([weight], lr=0.1, weight_decay=0.1)], weight).value)
    assert slope_of_weight([Renamed([weight], lr=0.1, weight_decay=0.1)], weight) == decay_slope(0.1 * 0.1)
    broken = torch.optim.SGD([weight], lr=0.1, weight_decay=0.1)
    broken.param_groups[0]["lr"] = "fast"
    assert math.isnan(slope_of_weight([broken], weight).value)


def test_what_is_taken_as_optimizers() -> None:
    (weight, *_) = weights()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    wrapped = SimpleNamespace(optimizer=SimpleNamespace(optimizer=optimizer))
    assert optimizers_of(None) == ()
    for given in (optimizer, [optimizer], (wrapped,), wrapped):
        assert optimizers_of(given) == known_optimizers(given) == (optimizer,)  # type: ignore[arg-type]
    for wrong, name in ((3, "int"), (["sgd"], "str"), (SimpleNamespace(param_groups=[]), "SimpleNamespace")):
        with pytest.raises(TypeError, match=f"optimizer is a {name}; a torch.optim.Optimizer"):
            optimizers_of(wrong)  # type: ignore[arg-type]
        assert known_optimizers(wrong) == ()
