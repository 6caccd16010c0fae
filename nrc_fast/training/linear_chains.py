"""Which linear layers of a model follow one another in a ``torch.nn.Sequential``, and what stands between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nrc_fast.base.libraries import require_library
from nrc_fast.training.evaluation import unwrapped
from nrc_fast.training.named_layers import named_layers

if TYPE_CHECKING:
    from torch.nn import Linear, Module

__all__ = ["Neighbours", "linear_layers", "linear_neighbours"]


class Neighbours(NamedTuple):
    """Two linear layers, the upper of which is given the outputs of the lower.

    Attributes
    ----------
    lower, upper : str
        Their names in the model.
    between : str
        The activation between them, of those that units may be scaled through; empty for nothing.
    """

    lower: str
    upper: str
    between: str


def linear_layers(model: Module) -> dict[str, Linear]:
    """The layers of a model that compute W h + b of their own weights, by name."""
    torch = require_library("torch", "torch")
    return {name: cast("Linear", module) for name, module in named_layers(model) if _is_linear(torch, module)}


def linear_neighbours(model: Module) -> list[Neighbours]:
    """Linear layers that follow one another in the sequences of a model, nested ones as they are run.

    Dropout, Identity and reshapes of what is a vector already are nothing: in evaluation they hand on what they are
    given. Sequences with a ``forward`` of their own are not looked into, and neither are models that call their layers
    themselves: only a sequence says in which order its parts are run.
    """
    torch = require_library("torch", "torch")
    names = {id(module): name for name, module in named_layers(model)}
    found: list[Neighbours] = []
    inner: set[int] = set()
    for module in unwrapped(model).modules():
        if not _is_sequence(torch, module) or id(module) in inner:
            continue
        inner |= {id(part) for part in module.modules() if _is_sequence(torch, part)}
        found += _in_sequence(torch, list(_flat(torch, module)), names)
    return found


def _in_sequence(torch: Any, parts: list[Any], names: dict[int, str]) -> Iterator[Neighbours]:
    nothing = (torch.nn.Identity, torch.nn.modules.dropout._DropoutNd)
    homogeneous = (torch.nn.ReLU, torch.nn.LeakyReLU)
    lower, between = None, ""
    for part in parts:
        if _is_linear(torch, part):
            if lower is not None and lower is not part and lower.out_features == part.in_features:
                yield Neighbours(names[id(lower)], names[id(part)], between)
            lower, between = part, ""
        elif isinstance(part, homogeneous) and not between:
            between = type(part).__name__
        elif not isinstance(part, nothing):
            lower, between = None, ""


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
