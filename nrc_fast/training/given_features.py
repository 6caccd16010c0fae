"""Which of the things that a layer is called with are its features."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from nrc_fast.base.libraries import require_library

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.nn.utils.rnn import PackedSequence

__all__ = ["FeatureChoice", "GivenFeatures", "UnreadableError", "parameter_names", "readable"]

# A key of an argument or inside of one, an index, or a function of what the layer is called with.
FeatureChoice: TypeAlias = "str | int | Callable[..., object] | None"


class UnreadableError(ValueError):
    """What a layer is given in a pass cannot be read as features: the pass is left out."""


def parameter_names(module: Module) -> list[str]:
    """The names of what a module is called with, in their order; of scripted modules too."""
    scripted = getattr(module.forward, "schema", None)
    if scripted is not None:
        return [argument.name for argument in scripted.arguments if argument.name != "self"]
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # of what is no Python function
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def readable(values: Tensor | None, name: str) -> Tensor:
    """What a layer of that name is given, checked to be numbers that can be read where they lie.

    Raises
    ------
    UnreadableError
        It is something else.
    """
    import torch

    if values is None:
        msg = f"layer {name} was called without a tensor of features; say which of its arguments they are (features=)"
        raise UnreadableError(msg)
    if values.is_nested:
        reason = "nested tensors, whose samples have different lengths"
    elif not values.is_floating_point():
        reason = f"{values.dtype} numbers, which are no features"
    elif values.layout is not torch.strided:
        reason = f"tensors of layout {values.layout}"
    elif type(values).__name__ in ("FakeTensor", "FunctionalTensor"):
        reason = "tensors without values"
    else:
        return values
    msg = f"layer {name} is given {reason}"
    raise UnreadableError(msg)


class GivenFeatures:
    """Finds the features in what a layer is called with.

    By default the first tensor of floats, in the order of the layer's signature and inside of tuples, lists, mappings
    and packed sequences; what is called a mask is none.

    Parameters
    ----------
    layer : torch.nn.Module
    choice : str, int, callable, optional
        The name of an argument, a key or index inside of the arguments, or a function that is called as the layer is
        and returns the features.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> GivenFeatures(layer).find(({"mask": torch.ones(3, 4), "x": torch.ones(3, 2)},), {}).shape
    torch.Size([3, 2])
    >>> GivenFeatures(layer, "mask").find(({"mask": torch.ones(3, 4), "x": torch.ones(3, 2)},), {}).shape
    torch.Size([3, 4])
    """

    def __init__(self, layer: Module, choice: FeatureChoice = None) -> None:
        torch = require_library("torch", "torch")
        self._parameters = parameter_names(layer)
        self._choice = choice
        self._tensor: type[Tensor] = torch.Tensor
        self._packed: type[PackedSequence] = torch.nn.utils.rnn.PackedSequence

    def find(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Tensor | PackedSequence | None:
        """The features among arguments and keywords, or None."""
        if self._choice is None and len(args) == 1 and not kwargs:
            only = args[0]
            if isinstance(only, self._tensor):  # as nearly always, and in every pass
                return only
        if callable(self._choice):
            return self._first(self._choice(*args, **kwargs))
        named = self._in_order(args, kwargs)
        if self._choice is None:
            return self._first_of(named)
        chosen = [value for name, value in named if name == self._choice]
        chosen += [part for _, value in named for part in self._at_choice(value)]
        return self._first(chosen[0]) if chosen else None

    def _in_order(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[tuple[str, object]]:
        """Names and values in the order of the signature, whatever the order of the keywords."""
        names = self._parameters
        named = [(names[place] if place < len(names) else "", value) for place, value in enumerate(args)]
        named += [(name, kwargs[name]) for name in names if name in kwargs]
        return named + [(name, value) for name, value in kwargs.items() if name not in names]

    def _at_choice(self, value: object) -> list[object]:
        choice = self._choice
        if isinstance(value, Mapping):
            return [value[choice]] if choice in value else []
        if isinstance(choice, int):
            return [value[choice]] if isinstance(value, (tuple, list)) and -len(value) <= choice < len(value) else []
        is_record = hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__")
        return [getattr(value, choice)] if is_record and isinstance(choice, str) and hasattr(value, choice) else []

    def _first(self, value: object) -> Tensor | PackedSequence | None:
        return self._first_of([("", value)])

    def _first_of(self, named: Sequence[tuple[str, object]]) -> Tensor | PackedSequence | None:
        """The first tensor of floats; without any, the first tensor at all."""
        found = [tensor for name, value in named for tensor in self._tensors(name, value)]
        if len(found) > 1:
            return next((tensor for tensor in found if tensor.data.is_floating_point()), found[0])
        return found[0] if found else None

    def _tensors(self, name: str, value: object) -> Iterator[Tensor | PackedSequence]:
        if "mask" in name:
            return
        if isinstance(value, (self._tensor, self._packed)):
            yield value
        elif isinstance(value, Mapping):
            for key, part in value.items():
                yield from self._tensors(str(key), part)
        elif isinstance(value, (tuple, list)):
            for key, part in zip(getattr(value, "_fields", [""] * len(value)), value, strict=True):
                yield from self._tensors(key, part)
        elif hasattr(value, "__dataclass_fields__"):
            for key in value.__dataclass_fields__:
                yield from self._tensors(key, getattr(value, key))
