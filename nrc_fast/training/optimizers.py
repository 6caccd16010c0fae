"""What an optimizer's numbers say of a weight: how fast its decay alone shrinks it. They are read, never written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from nrc_fast.base.libraries import require_library
from nrc_fast.metrics.decay_slopes import UNKNOWN_SLOPE, Slope, decay_slope

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

__all__ = ["Optimizers", "known_optimizers", "optimizers_of", "slope_of_weight"]

Optimizers: TypeAlias = Union["Optimizer", Sequence["Optimizer"]]


def optimizers_of(optimizer: Optimizers | None) -> tuple[Optimizer, ...]:
    """What was given as one or several optimizers, without what wraps them; none of None.

    Raises
    ------
    TypeError
        Something else was given.
    """
    if optimizer is None:
        return ()
    torch = require_library("torch", "torch")
    given = [optimizer] if hasattr(optimizer, "param_groups") or not isinstance(optimizer, Iterable) else optimizer
    found = tuple(_unwrapped(one) for one in given)
    for one in found:
        if not isinstance(one, torch.optim.Optimizer):
            msg = f"optimizer is a {type(one).__name__}; a torch.optim.Optimizer, or a sequence of them, is expected"
            raise TypeError(msg)
    return found


def known_optimizers(given: object) -> tuple[Optimizer, ...]:
    """What other libraries call their optimizer or optimizers, as far as it is one of torch; of others none."""
    try:
        return optimizers_of(given)  # type: ignore[arg-type]
    except TypeError:
        return ()


def _unwrapped(optimizer: Any) -> Any:
    """Without the wrappers of accelerate and others, which keep the optimizer that steps as an attribute."""
    seen: list[object] = []
    while hasattr(optimizer, "optimizer") and not any(optimizer is one for one in seen):
        seen.append(optimizer)
        optimizer = optimizer.optimizer
    return optimizer


def slope_of_weight(optimizers: Sequence[Optimizer], weight: Tensor) -> Slope:
    """Slope per step of log NRC1 of what a linear layer adds beyond the row space of the head, by decay alone.

    Parameters
    ----------
    optimizers : sequence of torch.optim.Optimizer
    weight : torch.nn.Parameter
        Of the layer that makes the features.

    Returns
    -------
    Slope
        By the learning rate, the momentum and the decay of the group that has the weight, as they are now. Unknown
        where none or several groups have it, and for everything but ``torch.optim.SGD``: Adam divides the gradient
        entry by entry, which brings it out of the row space of the head, so that decay is not alone there. 0 for a
        weight without gradient, which is frozen: optimizers skip it, and its decay with it.
    """
    if not weight.requires_grad:
        return Slope(0.0, 0.0)
    torch = require_library("torch", "torch")
    holding = [
        (optimizer, group)
        for optimizer in optimizers
        for group in optimizer.param_groups
        if any(part is weight for part in group["params"])
    ]
    if len(holding) != 1:
        return UNKNOWN_SLOPE
    optimizer, group = holding[0]
    # A subclass with steps of its own may do anything.
    if not isinstance(optimizer, torch.optim.SGD) or type(optimizer).step is not torch.optim.SGD.step:
        return UNKNOWN_SLOPE
    rate, decay, momentum = (_number(group.get(name, math.nan)) for name in ("lr", "weight_decay", "momentum"))
    dampening = _number(group.get("dampening", 0.0)) if momentum else 0.0
    return decay_slope(rate * decay * (1.0 - dampening), momentum, is_nesterov=bool(group.get("nesterov", False)))


def _number(value: Any) -> float:
    """A number of a group, which may be a tensor."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan
