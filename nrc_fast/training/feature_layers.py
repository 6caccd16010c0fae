"""Which linear layer makes the features of a head, where nothing stands between: seen in a pass of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import require_library
from nrc_fast.training.evaluation import unwrapped
from nrc_fast.training.linear_chains import drops_units

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module

__all__ = ["FeatureLayer"]

# Outputs that are kept at a time: those of all layers may not fit beside one another.
MOST_KEPT = 4


@dataclass
class _Made:
    """What a layer returned, how often its memory had been written to by then, and whether others have read it."""

    layer: Linear
    output: Tensor
    version: int
    is_read: bool = False


class FeatureLayer:
    """Finds the linear layer whose output the head, and nothing else, is given as it is.

    The output is recognised by its memory, which nothing may have written to since: an activation in place has. Looked
    at are the last four linear layers that were called before the head. A module that makes something else of the
    output is a second way from the features to the loss, and dropout is none in evaluation, but is in training: with
    either there is no such layer. Functions that are called are not seen.

    Parameters
    ----------
    model, head : torch.nn.Module

    Attributes
    ----------
    is_seen : bool
        Whether the head was called in the block.
    layer : torch.nn.Linear or None
        None before a pass was seen, where what the head was given is made by something else, and where others read it.
    """

    def __init__(self, model: Module, head: Module) -> None:
        self._model, self._head = model, head
        self._made: deque[_Made] = deque(maxlen=MOST_KEPT)
        self._is_over = False
        self.is_seen = False
        self.layer: Linear | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the first pass of the block."""
        torch = require_library("torch", "torch")
        with ExitStack() as stack:
            for module in _beside(torch, unwrapped(self._model), self._head):
                stack.callback(module.register_forward_hook(self._mark, with_kwargs=True).remove)
                # A subclass may compute something else from the same weights.
                if type(module) is torch.nn.Linear:
                    stack.callback(module.register_forward_hook(self._remember).remove)
            # The last of all hooks of the head: what others make of its input, it is given.
            stack.callback(self._head.register_forward_pre_hook(self._look, with_kwargs=True).remove)
            try:
                yield
            finally:
                self._made.clear()

    def _remember(self, layer: Any, args: object, output: object) -> None:
        del args
        torch = require_library("torch", "torch")
        if not self.is_seen and isinstance(output, torch.Tensor):
            self._made.append(_Made(layer, output, _version(output)))

    def _mark(self, module: Module, args: Sequence[object], kwargs: Mapping[str, object], output: object) -> None:
        """Mark outputs that a module makes something else of, until the head is called again."""
        if self._is_over or not self._made:
            return
        torch = require_library("torch", "torch")
        is_dropout = drops_units(torch, module)
        given, returned = list(_tensors((*args, *kwargs.values()))), list(_tensors((output,)))
        for made in self._made:
            if any(_is_same(part, made) for part in given):
                made.is_read |= is_dropout or not any(_is_same(part, made) for part in returned)
                if made.is_read and made.layer is self.layer:
                    self.layer = None

    def _look(self, head: Module, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        del head
        if self.is_seen:
            self._is_over = True
            self._made.clear()
            return
        self.is_seen = True
        given = next(_tensors((*args, *kwargs.values())), None)
        same = [made for made in self._made if given is not None and _is_same(given, made)][-1:]
        self.layer = same[0].layer if same and not same[0].is_read else None
        self._made = deque(same, MOST_KEPT)


def _beside(torch: Any, model: Module, head: Module) -> Iterator[Module]:
    """The modules of a model but the head, its parts, and those that it is a part of."""
    parts = {id(module) for module in head.modules()}
    named = dict(model.named_modules(remove_duplicate=False))
    above = {""}
    for name in (name for name, module in named.items() if module is head):
        above |= {name[:place] for place, letter in enumerate(name) if letter == "."}
    skipped = parts | {id(named[name]) for name in above}
    for module in model.modules():
        if id(module) not in skipped and not isinstance(module, torch.jit.ScriptModule):  # these take no hooks
            yield module


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    torch = require_library("torch", "torch")
    return (part for part in values if isinstance(part, torch.Tensor))


def _version(tensor: Any) -> int:
    try:
        return int(tensor._version)
    except RuntimeError:  # a tensor of inference mode does not count
        return -1


def _is_same(given: Tensor, made: _Made) -> bool:
    output = made.output
    try:
        is_same = given is output or (
            given.data_ptr() == output.data_ptr()
            and given.shape[-1:] == output.shape[-1:]
            and given.numel() == output.numel()
            and given.is_contiguous()
            and output.is_contiguous()
        )
    except (RuntimeError, NotImplementedError):  # of tensors without memory of their own
        return False
    return bool(is_same) and made.version >= 0 and _version(output) == made.version == _version(given)
