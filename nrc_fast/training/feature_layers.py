"""Which linear layer makes the features of a head, where nothing stands between: seen in a pass of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from nrc_fast.base.libraries import require_library
from nrc_fast.training.evaluation import unwrapped

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module

__all__ = ["FeatureLayer"]

# Outputs that are kept at a time: those of all layers may not fit beside one another.
MOST_KEPT = 4


class _Made(NamedTuple):
    """What a layer returned, and how often its memory had been written to by then."""

    layer: Linear
    output: Tensor
    version: int


class FeatureLayer:
    """Finds the linear layer whose output the head is given as it is.

    The output is recognised by its memory, which nothing may have written to since: an activation in place has. Looked
    at are the last four linear layers that were called before the head.

    Parameters
    ----------
    model, head : torch.nn.Module

    Attributes
    ----------
    is_seen : bool
        Whether the head was called in the block.
    layer : torch.nn.Linear or None
        None before a pass was seen, and where what the head was given is made by something else.
    """

    def __init__(self, model: Module, head: Module) -> None:
        self._model, self._head = model, head
        self._made: deque[_Made] = deque(maxlen=MOST_KEPT)
        self.is_seen = False
        self.layer: Linear | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the first pass of the block."""
        torch = require_library("torch", "torch")
        with ExitStack() as stack:
            for module in unwrapped(self._model).modules():
                # A subclass may compute something else from the same weights.
                if module is not self._head and type(module) is torch.nn.Linear:
                    stack.callback(module.register_forward_hook(self._remember).remove)
            stack.callback(self._head.register_forward_pre_hook(self._look, with_kwargs=True, prepend=True).remove)
            try:
                yield
            finally:
                self._made.clear()

    def _remember(self, layer: Any, args: object, output: object) -> None:
        del args
        torch = require_library("torch", "torch")
        if not self.is_seen and isinstance(output, torch.Tensor):
            self._made.append(_Made(layer, output, _version(output)))

    def _look(self, head: Module, args: Sequence[object], kwargs: dict[str, object]) -> None:
        del head
        if self.is_seen:
            return
        self.is_seen = True
        torch = require_library("torch", "torch")
        given = next((part for part in (*args, *kwargs.values()) if isinstance(part, torch.Tensor)), None)
        same = [made.layer for made in self._made if given is not None and _is_same(given, made)]
        self.layer = same[-1] if same else None
        self._made.clear()


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
