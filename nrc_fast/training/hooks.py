"""What a watched layer calls before it runs: compiled graphs hold it as an operator, copies of the layer not at all."""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

from nrc_fast.base.libraries import require_library
from nrc_fast.training.given_features import GivenFeatures

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["ArgumentHook", "Hook", "LayerHook", "PassHook"]

# Positional arguments and keywords of a forward pass.
Arguments: TypeAlias = tuple[object, ...]
Keywords: TypeAlias = Mapping[str, object]

_NUMBERS = itertools.count()
_HOOKS: WeakValueDictionary[int, Hook] = WeakValueDictionary()


class NoHook:
    """What copies of a module have, in memory or in a file: it does nothing."""

    def __call__(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        """Called by the module."""


class PassHook(NoHook):
    """A hook that only tells that a module begins or ends a pass; compiled graphs do without.

    Parameters
    ----------
    tell : callable
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._is_compiling = require_library("torch", "torch").compiler.is_compiling

    def __call__(self, module: Module, args: object, rest: object = None) -> None:
        """Called by the module."""
        del module, args, rest
        if not self._is_compiling():
            self._tell()

    def __deepcopy__(self, memo: dict[int, object]) -> NoHook:
        return NoHook()

    def __reduce__(self) -> tuple[type[NoHook], tuple[()]]:
        return NoHook, ()


class Hook(NoHook, ABC):
    """A forward pre-hook with keywords, which hands on a tensor that a module is called with.

    A compiled graph holds it as one operator: what the compiler fuses, and the random numbers that it draws, are those
    of the model.

    Parameters
    ----------
    take : callable
        Is given the tensor in every pass of a compiled graph, detached.
    """

    def __init__(self, take: Callable[[Tensor], None]) -> None:
        torch = require_library("torch", "torch")
        self._is_compiling = torch.compiler.is_compiling
        # Dynamo must neither trace into the kernels nor guard on the counters.
        self._take = torch.compiler.disable(take)
        self._number = next(_NUMBERS)
        _register_operator()
        self._witness = torch.zeros(1, dtype=torch.int64, device="cpu")
        _HOOKS[self._number] = self

    def __call__(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        """Called by the module."""
        # In every pass, read or not, and by then out of the cache: each call and each import counts.
        if not self._is_compiling():
            self._run(module, args, kwargs)
            return
        import torch

        # What is exported is a copy, which nobody watches; torch before 2.7 cannot tell it from what is compiled.
        is_exporting = getattr(torch.compiler, "is_exporting", None)
        if is_exporting is None or not is_exporting():
            tensor = self._tensor(torch, args, kwargs)
            if tensor is None:
                self._go_without(module, args, kwargs)
            else:
                torch.ops.nrc_fast.watched(tensor.detach(), self._witness, self._number)

    def follow(self, other: Hook) -> None:
        """Stay behind another hook in compiled graphs, which may move operators that do not change the same tensor."""
        self._witness = other._witness

    @abstractmethod
    def _run(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        """Called in passes that run eagerly."""

    @abstractmethod
    def _tensor(self, torch: ModuleType, args: Arguments, kwargs: Keywords) -> Tensor | None:
        """What is handed on, or None."""

    @abstractmethod
    def _go_without(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        """Called in compiled graphs, which break there, where there is no tensor."""

    def __deepcopy__(self, memo: dict[int, object]) -> NoHook:
        return NoHook()

    def __reduce__(self) -> tuple[type[NoHook], tuple[()]]:
        return NoHook, ()


class LayerHook(Hook):
    """A hook of a layer, which hands on the features that the layer is given, or None.

    Parameters
    ----------
    given : GivenFeatures
        Finds the features in what the layer is called with.
    is_due : callable
        Called in every pass that runs eagerly: whether `read` is to be. It stays out of compilers' way by being
        short, as to be called behind their back takes as long as all the rest.
    read : callable
        Is given the arguments and keywords of a pass that is due.
    take : callable
        Is given the tensor in every pass of a compiled graph, due or not, detached.
    """

    def __init__(
        self,
        given: GivenFeatures,
        is_due: Callable[[], bool],
        read: Callable[[Arguments, Keywords], None],
        take: Callable[[Tensor | None], None],
    ) -> None:
        super().__init__(take)
        torch = require_library("torch", "torch")
        self._given = given
        self._is_due = is_due
        self._read = read
        # Where no compiler looks at frames there is none to be kept out. A torch that does not tell may have one.
        self._active_compiler = getattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback", None)
        self._read_unseen = torch.compiler.disable(read)

    def _run(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        del module
        if self._is_due():
            is_alone = self._active_compiler is not None and self._active_compiler() is None
            read = self._read if is_alone else self._read_unseen
            read(args, kwargs)

    def _tensor(self, torch: ModuleType, args: Arguments, kwargs: Keywords) -> Tensor | None:
        found = self._given.find(args, kwargs)
        return found if isinstance(found, torch.Tensor) else None

    def _go_without(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        del module, args, kwargs
        self._take(None)


class ArgumentHook(Hook):
    """A hook of a module, which hands on one of its arguments.

    Parameters
    ----------
    name : str
        The name of the argument.
    parameters : sequence of str
        Names of the module's arguments, in their order.
    called : callable
        Is given the module, its arguments and its keywords in passes that run eagerly, and in compiled graphs where
        the module is called without that argument, or it is no tensor.
    take : callable
        Is given the argument in every pass of a compiled graph, detached.
    """

    def __init__(
        self, name: str, parameters: Sequence[str], called: Callable[..., None], take: Callable[[Tensor], None]
    ) -> None:
        super().__init__(take)
        self._called = require_library("torch", "torch").compiler.disable(called)
        self._name, self._parameters = name, tuple(parameters)

    def _run(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        self._called(module, args, kwargs)

    def _go_without(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        self._called(module, args, kwargs)

    def _tensor(self, torch: ModuleType, args: Arguments, kwargs: Keywords) -> Tensor | None:
        value = (dict(zip(self._parameters, args, strict=False)) | dict(kwargs)).get(self._name)
        if isinstance(value, torch.Tensor):
            tensor: Tensor = value
            return tensor
        return None


@functools.cache
def _register_operator() -> None:
    """``nrc_fast::watched``: hands a tensor to the hook of a number; no result, and so no gradient."""
    import torch

    # A compiler drops operators without results, unless something is said to change.
    schema = "(Tensor values, Tensor(a!) witness, int number) -> ()"

    @torch.library.custom_op("nrc_fast::watched", mutates_args=("witness",), schema=schema)
    def watched(values: Tensor, witness: Tensor, number: int) -> None:
        del witness
        hook = _HOOKS.get(number)
        if hook is not None:
            hook._take(values)

    watched.register_fake(lambda *_: None)
