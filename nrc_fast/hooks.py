"""What a watched layer calls before it runs: compiled graphs hold it as an operator, copies of the layer not at all."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["ArgumentHook", "Hook"]

_NUMBERS = itertools.count()
_HOOKS: WeakValueDictionary[int, Hook] = WeakValueDictionary()


class Hook:
    """A forward pre-hook with keywords; in copies of a layer, in memory or in a file, it does nothing.

    Parameters
    ----------
    called : callable, optional
        Is given the module, its arguments and its keywords, as they are; compiled graphs break where it is called.
    given : callable, optional
        In compiled graphs, called instead with the first tensor that the layer is given, detached. It stands in the
        graph as one operator: what the compiler fuses, and the random numbers that it draws, are those of the model.
    """

    def __init__(self, called: Callable[..., None] | None = None, given: Callable[[Any], None] | None = None) -> None:
        self._called = called
        self._given = given
        self._number = next(_NUMBERS)
        if given is not None:
            import torch

            _register_operator()
            self._witness = torch.zeros(1, dtype=torch.int64, device="cpu")
            _HOOKS[self._number] = self

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Called by the layer."""
        if self._called is None:
            return
        if self._given is not None:
            import torch

            if torch.compiler.is_compiling():
                if getattr(torch.compiler, "is_exporting", bool)():
                    return  # what is exported is a copy
                for value in (*args, *kwargs.values()):
                    if isinstance(value, torch.Tensor):
                        torch.ops.nrc_fast.watched(value.detach(), self._witness, self._number)
                        return
        self._called(module, args, kwargs)

    def follow(self, other: Hook) -> None:
        """Stay behind another hook in compiled graphs, which may move operators that do not change the same tensor."""
        self._witness = other._witness

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook()

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        return Hook, ()


class ArgumentHook(Hook):
    """A hook for one argument of a module.

    Parameters
    ----------
    name : str
    parameters : sequence of str
        Names of the module's arguments, in their order.
    called : callable
        As in `Hook`; in compiled graphs where the module is called without that argument, or it is no tensor.
    given : callable
        As in `Hook`, with the argument.
    """

    def __init__(
        self, name: str, parameters: Sequence[str], called: Callable[..., None], given: Callable[[Any], None]
    ) -> None:
        super().__init__(called, given)
        self._name, self._parameters = name, tuple(parameters)

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Called by the module."""
        import torch

        if torch.compiler.is_compiling():
            if getattr(torch.compiler, "is_exporting", bool)():
                return
            value = (dict(zip(self._parameters, args, strict=False)) | dict(kwargs)).get(self._name)
            if isinstance(value, torch.Tensor):
                torch.ops.nrc_fast.watched(value.detach(), self._witness, self._number)
                return
        if self._called is not None:
            self._called(module, args, kwargs)


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
        if hook is not None and hook._given is not None:
            hook._given(values)

    watched.register_fake(lambda *_: None)
