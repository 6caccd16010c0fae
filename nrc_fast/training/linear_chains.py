"""Which linear layers of a model follow one another in a ``torch.nn.Sequential``, and what stands between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nrc_fast.base.libraries import require_library
from nrc_fast.training.evaluation import unwrapped
from nrc_fast.training.named_layers import named_layers

if TYPE_CHECKING:
    from torch.nn import Linear, Module

__all__ = ["Neighbours", "drops_units", "linear_layers", "linear_neighbours", "linear_sequences"]


class Neighbours(NamedTuple):
    """Two linear layers, the upper of which is given the outputs of the lower.

    Attributes
    ----------
    lower, upper : str
        Their names in the model.
    between : str
        The activations and dropout between them, of those that units may be scaled through; empty for nothing.
    """

    lower: str
    upper: str
    between: str


def linear_layers(model: Module) -> dict[str, Linear]:
    """The layers of a model that compute W h + b of their own weights, by name."""
    torch = require_library("torch", "torch")
    return {name: cast("Linear", module) for name, module in named_layers(model) if _is_linear(torch, module)}


def linear_neighbours(model: Module) -> list[Neighbours]:
    """The pairs of all sequences, see `linear_sequences`."""
    return [pair for pairs in linear_sequences(model) for pair in pairs]


def linear_sequences(model: Module) -> list[list[Neighbours]]:
    """Linear layers that follow one another, for each of a model's sequences that has some; nested ones belong to it.

    Identity, Flatten and dropout of nothing hand on what they are given, and count as nothing. Dropout counts like
    ReLU: in training it takes units out, which may be scaled but not mixed. Layers whose weights the model uses twice
    have no neighbours, as what pulls at these is more than what stands beside them. Sequences with a ``forward`` of
    their own are not looked into, and neither are models that call their layers themselves: only a sequence says in
    which order its parts are run.
    """
    torch = require_library("torch", "torch")
    names = {id(module): name for name, module in named_layers(model)}
    uses = Counter(
        id(part)
        for _, module in unwrapped(model).named_modules(remove_duplicate=False)
        for part in module._parameters.values()
        if part is not None
    )
    found: list[list[Neighbours]] = []
    inner: set[int] = set()
    for module in unwrapped(model).modules():
        if not _is_sequence(torch, module) or id(module) in inner:
            continue
        inner |= {id(part) for part in module.modules() if _is_sequence(torch, part)}
        pairs = _in_sequence(torch, list(_flat(torch, module)))
        alone = [pair for pair in pairs if all(uses[id(part)] < 2 for part in _balanced(*pair[:2]))]
        if alone:
            found.append([Neighbours(names[id(lower)], names[id(upper)], between) for lower, upper, between in alone])
    return found


def _balanced(lower: Linear, upper: Linear) -> list[object]:
    """What the balance of two layers is about."""
    return [part for part in (lower.weight, lower.bias, upper.weight) if part is not None]


def _in_sequence(torch: Any, parts: list[Any]) -> Iterator[tuple[Linear, Linear, str]]:
    lower: Any = None
    between: list[str] = []
    for part in parts:
        if _is_linear(torch, part):
            if lower is not None and lower.out_features == part.in_features:
                yield lower, part, ", ".join(between)
            lower, between = part, []
        elif _is_scaled_through(torch, part):
            between.append(type(part).__name__)
        elif not _is_nothing(torch, part):
            lower = None


def _is_scaled_through(torch: Any, part: Any) -> bool:
    """Whether each unit that is multiplied by a positive number before it is so after it."""
    if isinstance(part, (torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout)):
        return False
    return drops_units(torch, part) or isinstance(part, (torch.nn.ReLU, torch.nn.LeakyReLU))


def _is_nothing(torch: Any, part: Any) -> bool:
    """Whether it hands on vectors as they are."""
    is_idle = isinstance(part, torch.nn.modules.dropout._DropoutNd) and not drops_units(torch, part)
    return is_idle or isinstance(part, (torch.nn.Identity, torch.nn.Flatten))


def drops_units(torch: Any, module: Any) -> bool:
    """Whether it is a dropout that takes something out in training."""
    return isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0.0


def _flat(torch: Any, sequence: Any) -> Iterator[Module]:
    for part in sequence:
        if _is_sequence(torch, part):
            yield from _flat(torch, part)
        else:
            yield part


def _is_sequence(torch: Any, module: Module) -> bool:
    return isinstance(module, torch.nn.Sequential) and type(module).forward is torch.nn.Sequential.forward


def _is_linear(torch: Any, module: Any) -> bool:
    is_plain = isinstance(module, torch.nn.Linear) and type(module).forward is torch.nn.Linear.forward
    return is_plain and isinstance(module.weight, torch.Tensor) and module.weight.is_floating_point()
