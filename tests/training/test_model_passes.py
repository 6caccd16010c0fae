"""Passes of the watched model are counted, not calls of a layer that it shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.training.model_passes import ModelPasses, is_read

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Towers(nn.Module):
    """One encoder for several inputs, and a branch that only some passes take."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.extra = nn.Linear(4, 2), nn.Linear(2, 2)

    def forward(self, *inputs: Any, extra: bool = False) -> Any:
        outputs = sum(self.encoder(x) for x in inputs)
        return self.extra(outputs) if extra else outputs


@pytest.mark.parametrize("period", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 6, 10])
def test_every_place_of_a_period_is_read_alike(every: int, period: int) -> None:
    numbers = [number for number in range(1000 * every) if is_read(number, every)]
    counts = np.bincount(np.array(numbers) % period, minlength=period)
    assert abs(counts / 1000.0 - 1.0 / period).max() < 0.01
    assert numbers[0] == 0
    assert np.all(np.array(numbers) // every == np.arange(len(numbers)))  # one of every so many


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("towers", [2, 3])
def test_all_calls_of_a_pass_are_read(every: int, towers: int) -> None:
    model = Towers()
    inputs = [[draw(8, 4, seed=10 * step + k) for k in range(towers)] for step in range(12)]
    with torch.no_grad(), nrc.watch(model, layers=["encoder"], every=every) as watched:
        for step in inputs:
            model(*step)
    read = torch.cat([x for number, step in enumerate(inputs) if is_read(number, every) for x in step])
    assert watched["encoder"].count == len(read)
    np.testing.assert_allclose(watched["encoder"].statistics.mean, read.double().mean(dim=0), atol=1e-6)
    assert watched["encoder"].passes == 12 * towers
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("kind", ["layer", "model", "part of the model"])
@pytest.mark.parametrize(("every", "calls"), [(2, 2), (3, 3), (4, 2), (2, 4)])
def test_passes_that_alternate_are_read_alike(kind: str, every: int, calls: int) -> None:
    """A discriminator's two batches, both passes of sharpness-aware minimisation, a siamese network's towers."""
    model = Towers()
    called = model if kind == "model" else model.encoder
    watch = nrc.watch(model.encoder, every=every) if kind == "layer" else None
    watched = nrc.watch(model, layers=["encoder"], every=every)
    with torch.no_grad():
        for _ in range(100):
            for place in range(calls):
                called(torch.full((8, 4), float(place)))
    for layer in [watched["encoder"], *([] if watch is None else [watch])]:
        np.testing.assert_allclose(layer.statistics.mean, (calls - 1) / 2.0, atol=0.15)
        layer.close()


def test_a_layer_that_few_passes_call_counts_those() -> None:
    model = Towers()
    with torch.no_grad(), nrc.watch(model, layers=["extra"], every=2) as watched:
        for step in range(20):
            model(draw(8, 4), extra=step % 2 == 1)
    assert watched["extra"].count == 5 * 8


def test_modes_have_passes_of_their_own() -> None:
    model = Towers()
    with torch.no_grad(), nrc.watch(model, layers=["encoder"], every=2, mode="train") as watched:
        for step in range(20):
            model.train(step % 2 == 0)(draw(8, 4), draw(8, 4))
    assert watched["encoder"].count == 5 * 16


def test_numbers_of_passes() -> None:
    model, seen = Towers(), []
    passes = ModelPasses(model)
    model.encoder.register_forward_pre_hook(lambda *_: seen.append(passes.current))
    model(draw(2, 4), draw(2, 4))
    with pytest.raises(RuntimeError):
        model(draw(2, 5))
    assert passes.current is None  # also after a pass that has failed
    model.encoder(draw(2, 4))
    model(draw(2, 4))
    assert seen == [1, 1, 2, None, 3]
    passes.close()
    model(draw(2, 4))
    assert seen[-1] is None


def test_checkpointed_passes_and_evaluations_are_not_counted() -> None:
    from torch.utils.checkpoint import checkpoint

    model = Towers()
    monitor = nrc.Monitor(nn.Sequential(model.encoder), [(draw(8, 4), draw(8, 2))])
    with nrc.watch(model, layers=["encoder"], every=2) as watched:
        for _ in range(8):
            checkpoint(model, draw(8, 4).requires_grad_(), draw(8, 4), use_reentrant=False).sum().backward()
            monitor.evaluate()
    assert (watched["encoder"].passes, watched["encoder"].count) == (16, 4 * 16)
