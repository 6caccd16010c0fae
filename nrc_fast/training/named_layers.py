"""The layers of a model by name, and its head."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.libraries import require_library
from nrc_fast.training.evaluation import WRAPPERS, unwrapped

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["find_layer", "head_of", "last_linear", "named_layers"]


def _plain_name(name: str) -> str:
    """A module's name without what wraps parts of the model."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def named_layers(model: Module) -> list[tuple[str, Module]]:
    """The modules of a model by name, as ``named_modules()``, without the prefixes of wrappers."""
    return [(_plain_name(name), module) for name, module in unwrapped(model).named_modules()]


def find_layer(torch: ModuleType, model: Module, layer: str | Module) -> tuple[str, Module]:
    """The name of a layer and its module, from either.

    Raises
    ------
    ValueError
        The layer is not in the model.
    """
    names = dict(named_layers(model))
    if isinstance(layer, torch.nn.Module):
        for name, module in names.items():
            if module is unwrapped(layer):
                return name, module
        msg = f"the layer {type(layer).__name__} is not in the model; give one of its modules, or its name"
        raise ValueError(msg)
    # A layer that is used in several places has several names, of which `named_layers` lists the first.
    others = {_plain_name(name): module for name, module in unwrapped(model).named_modules(remove_duplicate=False)}
    if layer not in others:
        msg = f"the model has no layer {layer!r}; it has {', '.join(name for name in names if name)}"
        raise ValueError(msg)
    return layer, others[layer]


def head_of(layer: Module) -> tuple[Tensor | None, Array | None]:
    """Weights and bias of a linear layer, zeros where it has no bias; None and None of any other layer."""
    torch = require_library("torch", "torch")
    if not isinstance(layer, torch.nn.Linear):
        return None, None
    weight, bias = (part.full_tensor() if hasattr(part, "full_tensor") else part for part in (layer.weight, layer.bias))
    return weight.detach(), np.zeros(weight.shape[0]) if bias is None else bias.detach()


def last_linear(model: Module) -> str:
    """The name of the last ``torch.nn.Linear`` of a model, in the order of ``named_modules()``.

    Raises
    ------
    ValueError
        There is none.
    """
    torch = require_library("torch", "torch")
    names = [name for name, module in named_layers(model) if isinstance(module, torch.nn.Linear)]
    if not names:
        msg = f"{type(model).__name__} has no torch.nn.Linear; name the layer whose features are wanted (layer=)"
        raise ValueError(msg)
    return names[-1]
