"""The head of a model: which layer it is, and the weights that it was really called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.libraries import require_library
from nrc_fast.training.named_layers import named_layers

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from typing_extensions import Self

__all__ = ["UsedHead", "choose_head", "head_of", "is_head", "last_linear", "notes_on_network"]

# What one check of W h + b may cost in products, and the rows that it looks at in a batch.
MOST_PRODUCTS, MOST_ROWS = 10**8, 4096


def is_head(layer: Module) -> bool:
    """Whether a layer computes W h + b: a ``torch.nn.Linear``, or an adapter around one."""
    torch = require_library("torch", "torch")
    base = layer
    while not isinstance(base, torch.nn.Linear):
        inner = getattr(base, "base_layer", None)
        if not isinstance(inner, torch.nn.Module):
            return False
        base = inner
    return True


def head_of(layer: Module) -> tuple[Tensor | None, Array | None]:
    """Weights and bias of a linear layer, zeros where it has no bias; None and None of any other layer."""
    torch = require_library("torch", "torch")
    if not isinstance(layer, torch.nn.Linear):
        return None, None
    weight, bias = (part.full_tensor() if hasattr(part, "full_tensor") else part for part in (layer.weight, layer.bias))
    return weight.detach(), np.zeros(weight.shape[0]) if bias is None else bias.detach()


def _candidates(model: Module) -> list[tuple[str, Module]]:
    """The layers that may be the head, in the order of ``named_modules()``; adapters, not what lies inside of them."""
    found: list[tuple[str, Module]] = []
    for name, module in named_layers(model):
        is_inside = any(name.startswith(f"{outer}.") for outer, layer in found if hasattr(layer, "base_layer"))
        if is_head(module) and not is_inside:
            found.append((name, module))
    return found


def notes_on_network(model: Module, name: str) -> list[str]:
    """That the input of a whole network was watched, where the features of its last layer may be meant."""
    inside = [
        layer
        for layer in model.modules()
        if layer is not model and any(part.ndim > 1 for part in layer.parameters(recurse=False))
    ]
    if len(inside) < 2:
        return []
    note = (
        f"What was watched is the input of the whole {name}, with {len(inside)} layers of weights inside. For the "
        "features of its last layer, watch that layer."
    )
    return [note]


def last_linear(model: Module) -> str:
    """The name of the last ``torch.nn.Linear`` of a model, in the order of ``named_modules()``.

    Raises
    ------
    ValueError
        There is none.
    """
    names = [name for name, _ in _candidates(model)]
    if not names:
        torch = require_library("torch", "torch")
        is_compiled = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
        advice = (
            "a scripted or traced model runs its layers unseen: give the model that it was made from"
            if is_compiled
            else "name the layer whose features are wanted (layer=)"
        )
        msg = f"{type(model).__name__} has no torch.nn.Linear; {advice}"
        raise ValueError(msg)
    return names[-1]


def choose_head(model: Module, targets: Array, run: Callable[[], object]) -> tuple[str, tuple[str, ...]]:
    """The layer whose output is the model's, and what a reader should know of the choice.

    Parameters
    ----------
    model : torch.nn.Module
    targets : tensor or array
        Those of a batch: the head has an output for each of their columns.
    run : callable
        Runs the model on that batch and returns its output; called only where several layers may be the head.

    Returns
    -------
    name : str
    notes : tuple of str
        Empty where there is no doubt.

    Raises
    ------
    ValueError
        The model has no linear layer.
    """
    candidates = _candidates(model)
    fitting = [(name, layer) for name, layer in candidates if _outputs_of(layer) == _width(targets)]
    if len(fitting) == 1 or not fitting:
        return (fitting[0][0] if fitting else last_linear(model)), ()
    calls: list[tuple[str, Tensor]] = []
    handles = [layer.register_forward_hook(_remembering(calls, name)) for name, layer in fitting]
    try:
        output = run()
    finally:
        for handle in handles:
            handle.remove()
    matches = _matching(output, calls)
    if not matches:
        called = [name for name, _ in calls] or [name for name, _ in fitting]
        listed = ", ".join(dict.fromkeys(called))
        note = (
            f"The model's output is that of none of its layers with {_width(targets)} outputs ({listed}): the last of "
            f"them, {called[-1]}, was measured. Name the layer (layer=)."
        )
        return called[-1], (note,)
    if len(matches) == 1:
        return matches[0], ()
    note = (
        f"Outputs of the model come from several layers ({', '.join(matches)}): {matches[0]}, whose output is the "
        "first, was measured. Name the layer (layer=)."
    )
    return matches[0], (note,)


def _remembering(calls: list[tuple[str, Tensor]], name: str) -> Callable[[Module, object, object], None]:
    def remember(module: Module, args: object, output: Any) -> None:
        del module, args
        calls.append((name, output.detach().clone()))  # what follows may work in its memory

    return remember


def _width(targets: Array) -> int:
    shape = np.shape(targets)
    return int(shape[-1]) if len(shape) > 1 else 1


def _outputs_of(layer: Any) -> int:
    while not hasattr(layer, "out_features"):
        layer = layer.base_layer
    return int(layer.out_features)


def _matching(output: object, calls: Sequence[tuple[str, Tensor]]) -> list[str]:
    """Names of the layers that the tensors of an output come from, in the order of these."""
    names = [name for tensor in _tensors(output) for name, made in reversed(calls) if _is_from(tensor, made)]
    return list(dict.fromkeys(names))


def _tensors(output: object) -> Iterator[Tensor]:
    """The tensors of what a model returns, in their order."""
    torch = require_library("torch", "torch")
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)
    elif hasattr(output, "__dataclass_fields__"):
        yield from _tensors(vars(output))


def _is_from(output: Tensor, made: Tensor) -> bool:
    """Whether an output holds the numbers of a layer's output, or those of one position of each sample."""
    import torch

    if not (output.is_floating_point() and made.is_floating_point()) or output.device != made.device:
        return False
    first, second = torch.nan_to_num(output.double()), torch.nan_to_num(made.double())
    if first.numel() == second.numel():
        return torch.equal(first.reshape(-1), second.reshape(-1))
    is_picked = made.ndim == 3 and output.ndim == 2 and output.shape == (made.shape[0], made.shape[2])
    return is_picked and bool((second == first[:, None, :]).all(dim=-1).any(dim=1).all())


class UsedHead:
    """The weights that a layer is called with, from what it returns; for the time of a ``with`` block.

    A hook may write the weights before each call (``weight_norm``, ``spectral_norm``, ``prune``), so that they are
    looked at when the layer has just been called. Of adapters the weights are what the layer makes of the unit vectors.

    Parameters
    ----------
    name : str
    layer : torch.nn.Linear, or an adapter around one

    Attributes
    ----------
    weights : (n, d) tensor or None
        Those of the last call; None before the first.
    bias : (n,) tensor or None
    """

    def __init__(self, name: str, layer: Module) -> None:
        self.weights: Tensor | None = None
        self.bias: Tensor | None = None
        self._name, self._layer = name, layer

    def __enter__(self) -> Self:
        # First of all hooks: libraries that share weights out take them away after a call.
        self._handle = self._layer.register_forward_hook(self._look, prepend=True, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def finite(self) -> tuple[Tensor | None, Tensor | None]:
        """Weights and bias, None for what is not finite; no bias where the weights are not."""
        if self.weights is None or not bool(self.weights.isfinite().all()):
            return None, None
        return self.weights, self.bias if self.bias is not None and bool(self.bias.isfinite().all()) else None

    def _look(self, layer: Module, args: Sequence[object], kwargs: Mapping[str, object], output: object) -> None:
        import torch

        given = next((part for part in (*args, *kwargs.values()) if isinstance(part, torch.Tensor)), None)
        if given is None or not isinstance(output, torch.Tensor):
            return
        is_sharded = any(hasattr(part, "full_tensor") for part in (given, output, getattr(layer, "weight", None)))
        # Gathering is for all processes at once, which may not have as many batches.
        if not is_sharded or self.weights is None:
            self.weights, self.bias = self._read(layer, given)
        if not is_sharded:
            self._compare(given, output)

    def _read(self, layer: Module, given: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        weight, bias = head_of(layer)
        if weight is not None and weight.is_floating_point():  # others are packed
            return weight.clone(), bias.clone() if isinstance(bias, torch.Tensor) else weight.new_zeros(len(weight))
        if self.weights is not None and self.bias is not None:
            return self.weights, self.bias
        units = torch.eye(given.shape[-1], dtype=given.dtype, device=given.device)
        offset = layer.forward(torch.zeros_like(units[:1]))[0].detach()
        return (layer.forward(units).detach() - offset).T.contiguous(), offset

    def _compare(self, given: Tensor, output: Tensor) -> None:
        """Check that the layer has returned W h + b."""
        import torch

        assert self.weights is not None
        assert self.bias is not None
        W, b = self.weights.double(), self.bias.double()
        rows = max(1, min(MOST_ROWS, MOST_PRODUCTS // W.numel()))
        H = given.detach().reshape(-1, given.shape[-1])[:rows].double()
        returned = output.detach().reshape(-1, output.shape[-1])[:rows].double()
        if returned.shape != (len(H), len(W)):
            error = torch.inf
        else:
            sizes = H.abs() @ W.abs().T + b.abs()
            excess = (returned - (H @ W.T + b)).abs() - _rounding(self.weights, given, output) * sizes
            error = float(torch.nan_to_num(excess, nan=0.0, posinf=0.0, neginf=0.0).max().clamp(min=0.0)) if rows else 0
        if error > 0.0:
            msg = (
                f"layer {self._name} returned something else than W h + b of its weights, by up to {error:.2g} beyond "
                "rounding: a forward pass of its own, a hook or an adapter changes what it computes, so that its "
                "weights say nothing of the predictions. Name a layer whose output is W h + b (layer=)"
            )
            raise ValueError(msg)


def _rounding(*tensors: Tensor) -> float:
    """Bound of what W h + b may be off by, relative to the sizes of the products, in the coarsest dtype in use."""
    import torch

    coarsest = max(float(torch.finfo(tensor.dtype).eps) for tensor in tensors)
    if any(tensor.dtype == torch.float32 for tensor in tensors) and torch.get_float32_matmul_precision() != "highest":
        coarsest = max(coarsest, float(torch.finfo(torch.bfloat16).eps))
    d = tensors[0].shape[-1]
    # Inputs and results are rounded, and so are the sums, which are float32 at least.
    return 4.0 * coarsest + d * (2.0**-52 if coarsest < 1e-12 else 2.0**-23)
