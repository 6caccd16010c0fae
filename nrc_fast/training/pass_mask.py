"""The mask of the forward pass that is running: which positions of sequences count."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nrc_fast.base.arrays import Array
from nrc_fast.training.evaluation import current_evaluation, unwrapped
from nrc_fast.training.given_features import parameter_names
from nrc_fast.training.hooks import ArgumentHook, Arguments, Keywords

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["PassMask"]


class PassMask:
    """The mask of the current forward pass.

    Parameters
    ----------
    model : torch.nn.Module
    mask : str, callable or None
        The name of an argument of the model, or a function that returns the mask.
    """

    def __init__(self, model: Module, mask: str | Callable[[], Array] | None) -> None:
        self._name = mask if isinstance(mask, str) else None
        self._current: Any = None
        self._function = mask if callable(mask) else None
        self._handle = None
        self._is_open = True
        self._evaluation = current_evaluation()
        self.hook: ArgumentHook | None = None
        if self._name is not None:
            self._parameters = parameter_names(unwrapped(model))
            self.hook = ArgumentHook(self._name, self._parameters, self._remember, self._keep)
            self._handle = unwrapped(model).register_forward_pre_hook(self.hook, with_kwargs=True)

    def _remember(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        del module
        if not self._is_open or current_evaluation() is not self._evaluation:
            return
        named = dict(zip(self._parameters, args, strict=False)) | dict(kwargs)
        if self._name not in named:
            msg = f"the model was called without {self._name!r}, which is to mask positions; it got {', '.join(named)}"
            raise ValueError(msg)
        self._current = named[self._name]

    def _keep(self, value: Tensor) -> None:
        """What a compiled graph calls, which may use the memory of the mask for something else later on."""
        if self._is_open and current_evaluation() is self._evaluation:
            self._current = value.clone()

    @property
    def is_empty(self) -> bool:
        """Whether all positions count."""
        return self._name is None and self._function is None

    def get(self) -> Array | None:
        """The mask of this pass, or None."""
        return self._current if self._function is None else self._function()

    def close(self) -> None:
        """Stop looking."""
        self._current, self._is_open = None, False
        if self._handle is not None:
            self._handle.remove()
