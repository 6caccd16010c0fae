"""The layers of a model by name."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from nrc_fast.training.evaluation import WRAPPERS, unwrapped

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["find_layer", "named_layers"]


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
