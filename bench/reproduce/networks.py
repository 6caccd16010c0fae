"""The networks of the reproduction: a trunk that makes the features, and a linear head."""

from __future__ import annotations

import math

import torch
from reproduce.settings import Run
from torch import nn

__all__ = ["network"]

CHANNELS = (8, 16, 32)


def network(run: Run, inputs: tuple[int, ...], outputs: int) -> nn.Sequential:
    """A trunk and a head, with torch's usual initial values times a scale, from the generator of the run's seed.

    Parameters
    ----------
    inputs : tuple of int
        Shape of one input: (features,), or (channels, height, width).
    outputs : int
    """
    trunk = _convolutions(run, inputs) if run.network == "convolutions" else _dense(run, inputs[0])
    model = nn.Sequential(trunk, nn.Linear(run.width, outputs, bias=run.biases))
    generator = torch.Generator().manual_seed(run.seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                bound = run.initial_scale / math.sqrt(layer.weight[0].numel())
                for parameter in layer.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
    return model


def _dense(run: Run, inputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, width in enumerate([inputs] + [run.width] * (run.hidden - 1)):
        layers.append(nn.Linear(width, run.width, bias=run.biases))
        if run.activation == "relu" and (index < run.hidden - 1 or run.last_relu):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _convolutions(run: Run, inputs: tuple[int, ...]) -> nn.Sequential:
    """Three convolutions that halve the image, and a dense layer whose outputs are the features."""
    channels, height, width = inputs
    layers: list[nn.Module] = []
    for more in CHANNELS:
        layers += [nn.Conv2d(channels, more, 3, stride=2, padding=1), nn.ReLU()]
        channels, height, width = more, (height + 1) // 2, (width + 1) // 2
    layers += [nn.Flatten(), nn.Linear(channels * height * width, run.width)]
    return nn.Sequential(*layers, *([nn.ReLU()] if run.last_relu else []))
