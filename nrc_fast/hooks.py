"""What a watched layer calls before it runs: compiled graphs hold it as an operator, copies of the layer not at all."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from nrc_fast.libraries import require_library

__all__ = ["Hook", "LayerHook"]

_NUMBERS = itertools.count()
_HOOKS: WeakValueDictionary[int, LayerHook] = WeakValueDictionary()


class Hook:
    """A forward pre-hook with keywords; in copies of a module, in memory or in a file, it does nothing.

    Parameters
    ----------
    called : callable, optional
        Is given the module, its arguments and its keywords; compiled graphs break where it is called.
    """

    def __init__(self, called: Callable[..., None] | None = None) -> None:
        self._called = called

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Called by the module."""
        if self._called is not None:
            self._called(module, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook()

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        return Hook, ()


class LayerHook(Hook):
    """Hands on the first tensor that a layer is given, or None; compiled graphs hold it as one operator.

    What the compiler fuses, and the random numbers that it draws, are then those of the model.

    Parameters
    ----------
    is_due : callable
        Called in every pass that runs eagerly: whether `read` is to be. It stays out of compilers' way by being
        short, as to be called behind their back takes as long as all the rest.
    read : callable
        Is given the tensor of a pass that is due.
    take : callable
        Is given the tensor of every pass of a compiled graph, detached.
    """

    def __init__(self, is_due: Callable[[], bool], read: Callable[[Any], None], take: Callable[[Any], None]) -> None:
        torch = require_library("torch", "torch")
        super().__init__()
        self._is_due = is_due
        self._read = torch.compiler.disable(read)
        self._take = torch.compiler.disable(take)
        self._number = next(_NUMBERS)
        _register_operator()
        self._witness = torch.zeros(1, dtype=torch.int64, device="cpu")
        _HOOKS[self._number] = self

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Called by the layer."""
        del module
        import torch

        if not torch.compiler.is_compiling():
            if self._is_due():
                self._read(_first_tensor(torch, args, kwargs))
            return
        if getattr(torch.compiler, "is_exporting", bool)():
            return  # what is exported is a copy
        values = _first_tensor(torch, args, kwargs)
        if values is None:
            self._take(None)
        else:
            torch.ops.nrc_fast.watched(values.detach(), self._witness, self._number)


def _first_tensor(torch: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value
    return None


@functools.cache
def _register_operator() -> None:
    """``nrc_fast::watched``: hands a tensor to the hook of a number; no result, and so no gradient."""
    import torch

    # A compiler drops operators without results, unless something is said to change.
    schema = "(Tensor values, Tensor(a!) witness, int number) -> ()"

    @torch.library.custom_op("nrc_fast::watched", mutates_args=("witness",), schema=schema)
    def watched(values: Any, witness: Any, number: int) -> None:
        del witness
        hook = _HOOKS.get(number)
        if hook is not None:
            hook._take(values)

    watched.register_fake(lambda *_: None)
