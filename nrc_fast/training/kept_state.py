"""What a model holds, kept before it runs and put back afterwards: modes, weights, buffers, attributes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence, MutableSet
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nrc_fast.base.libraries import require_library

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Generators", "KeptState", "restore_modes"]

Modes: TypeAlias = list[tuple["Module", bool]]

# Objects of these libraries are not looked into: a trainer that a module knows holds all of a training.
FOREIGN = (
    "_thread",
    "accelerate",
    "asyncio",
    "concurrent",
    "lightning",
    "logging",
    "multiprocessing",
    "nrc_fast",
    "pytorch_lightning",
    "threading",
    "torch",
    "transformers",
    "weakref",
)
# What loaders and their parts call what they hold; accelerate has loaders around loaders.
HOLDERS = (
    "base_dataloader",
    "sampler",
    "batch_sampler",
    "dataset",
    "datasets",
    "data_source",
    "transform",
    "collate_fn",
)
SHARDED = ("FSDPModule", "FullyShardedDataParallel")


def restore_modes(model: Module, modes: Modes) -> None:
    """Put modules back into their modes as torch does it: `train` of the model, then of the parts that differ.

    Parts may act on a change of mode, such as adapters that merge their weights for evaluation: each is told by its
    own `train`, after the module that holds it.

    Parameters
    ----------
    model : torch.nn.Module
    modes : list of pairs of module and bool
        In the order of ``model.modules()``.
    """
    wanted = dict(modes)
    if model.training != wanted[model]:
        model.train(wanted[model])
    for module, training in modes:
        if module.training != training:
            module.train(training)
    for module, training in modes:  # what is shared may have been told by a later holder
        if module.training != training:
            module.training = training


class KeptState:
    """All that a model's modules hold, so that a pass through the model leaves nothing behind.

    Weights and buffers by value, attributes of modules by identity, and inside of lists, dictionaries and the user's
    own objects; random generators by their state. Weights that are sharded over processes are left to their library.
    Meanwhile the weights are held twice.

    Parameters
    ----------
    model : torch.nn.Module

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.BatchNorm1d(2)
    >>> state = KeptState(model)
    >>> output = model(torch.ones(4, 2))
    >>> int(model.num_batches_tracked), state.restore(), int(model.num_batches_tracked)
    (1, None, 0)
    """

    def __init__(self, model: Module) -> None:
        torch = require_library("torch", "torch")
        self._torch = torch
        self._own_attributes = frozenset(vars(torch.nn.Module()))
        self._seen: dict[int, object] = {}
        self._restorers: list[Callable[[], None]] = []
        modules = list(model.modules())
        self._seen.update((id(module), module) for module in modules)
        # A sharded model gives its modules other parameters while it runs, and keeps account of them.
        names = {base.__name__ for module in modules for base in type(module).__mro__}
        keeps_weights = names.isdisjoint(SHARDED)
        for module in modules:
            self._keep_module(module, keeps_weights=keeps_weights)

    def restore(self) -> None:
        """Put everything back; what is as it was is not written to."""
        with self._torch.no_grad():
            for restore in self._restorers:
                restore()

    # ---- modules ----

    def _keep_module(self, module: Module, *, keeps_weights: bool) -> None:
        if isinstance(module, self._torch.jit.ScriptModule):
            self._keep_scripted(module)
            return
        if keeps_weights:
            self._keep_mapping(module._parameters)
        self._keep_mapping(module._buffers)
        self._keep_mapping(module._modules)
        self._keep_attributes(module, self._own_attributes)

    def _keep_scripted(self, module: Module) -> None:
        """A compiled module: its tensors lie behind names that can only be set."""
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            self._keep(tensor)
            self._restorers.append(lambda name=name, tensor=tensor: _reset(module, name, tensor))  # type: ignore[misc]

    def _keep_attributes(self, owner: object, without: Iterable[str] = ()) -> None:
        attributes, left_out = vars(owner), frozenset(without)
        kept = {name: value for name, value in attributes.items() if name not in left_out}

        def restore() -> None:
            for name in [name for name in attributes if name not in kept and name not in left_out]:
                del attributes[name]
            for name, value in kept.items():
                if name not in attributes or attributes[name] is not value:
                    attributes[name] = value

        self._restorers.append(restore)
        for value in kept.values():
            self._keep(value)

    # ---- values ----

    def _keep(self, value: Any) -> None:
        """Keep a value that may be changed where it is; what cannot be, is kept by who holds it."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type)) or id(value) in self._seen:
            return
        self._seen[id(value)] = value  # held, or its number might be another's
        if isinstance(value, self._torch.Tensor):
            self._keep_tensor(value)
        elif isinstance(value, np.ndarray):
            self._keep_array(value)
        elif isinstance(value, (tuple, frozenset)):
            for part in value:
                self._keep(part)
        elif isinstance(value, MutableMapping) and _has_own_items(value):
            self._keep_mapping(value)
        elif isinstance(value, (MutableSequence, MutableSet, deque)) and _has_own_items(value):
            self._keep_items(value)
        else:
            self._keep_object(value)

    def _keep_mapping(self, mapping: MutableMapping[Any, Any]) -> None:
        kept = dict(mapping)

        def restore() -> None:
            if list(mapping) == list(kept) and all(mapping[key] is value for key, value in kept.items()):
                return
            for key in list(mapping):
                del mapping[key]
            for key, value in kept.items():
                mapping[key] = value

        self._restorers.append(restore)
        for value in kept.values():
            self._keep(value)

    def _keep_items(self, items: Any) -> None:
        kept = list(items)

        def restore() -> None:
            now = list(items)
            if len(now) == len(kept) and all(one is other for one, other in zip(now, kept, strict=True)):
                return
            items.clear()
            for value in kept:
                (items.add if isinstance(items, MutableSet) else items.append)(value)

        self._restorers.append(restore)
        for value in kept:
            self._keep(value)

    def _keep_object(self, value: Any) -> None:
        restore = generator_restorer(self._torch, value)
        if restore is not None:
            self._restorers.append(restore)
        elif isinstance(value, self._torch.nn.Module):  # one that is hidden from the model, in a list, say
            self._keep_module(value, keeps_weights=True)
        elif _is_users_own(value) and not isinstance(value, self._torch.utils.data.Dataset):
            self._keep_attributes(value)

    def _keep_array(self, array: np.ndarray[Any, Any]) -> None:
        if array.dtype == object or not array.flags.writeable:
            return
        kept = array.copy()

        def restore() -> None:
            if array.tobytes() != kept.tobytes():
                array[...] = kept

        self._restorers.append(restore)

    def _keep_tensor(self, tensor: Tensor) -> None:
        if not _has_plain_memory(tensor):
            return
        # A name of its own for the memory, as `tensor.data = ...` gives a tensor other memory.
        memory, requires_grad = tensor.detach(), tensor.requires_grad
        kept, gradient = memory.clone(), tensor.grad if tensor.is_leaf else None

        def restore() -> None:
            if not _is_same_memory(tensor, memory):
                tensor.data = memory
            if not _has_same_bits(memory, kept):
                # Not an operation on the tensor itself: a graph that saved it has not been used yet.
                memory.data.copy_(kept)
            if tensor.is_leaf and tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.is_leaf and tensor.grad is not gradient:
                tensor.grad = gradient

        self._restorers.append(restore)


class Generators:
    """The states of the random generators that a loader draws from: its own, and those of its sampler and data."""

    def __init__(self, loader: object) -> None:
        torch = require_library("torch", "torch")
        found: dict[int, Any] = {}
        for owner in _owners(loader):
            values = vars(owner).values() if hasattr(owner, "__dict__") else ()
            found.update((id(value), value) for value in values)
        restorers = (generator_restorer(torch, value) for value in found.values())
        self._restorers = [restore for restore in restorers if restore is not None]

    def restore(self) -> None:
        """Put the states back."""
        for restore in self._restorers:
            restore()


def _owners(loader: object) -> Iterator[object]:
    """A loader, and what it draws with, down to the data that wrappers such as ``Subset`` hold."""
    waiting, seen = [loader], set()
    while waiting:
        owner = waiting.pop()
        if owner is None or id(owner) in seen or isinstance(owner, (list, tuple)):
            continue
        seen.add(id(owner))
        yield owner
        attributes = getattr(owner, "__dict__", {})
        for name in HOLDERS:
            value = attributes.get(name)
            waiting += list(value) if isinstance(value, (list, tuple)) and len(value) < 100 else [value]  # of datasets


def generator_restorer(torch: ModuleType, value: Any) -> Callable[[], None] | None:
    """What puts a random generator back into its state of now; None for anything else."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, np.random.Generator):
        bits, inner = value.bit_generator, value.bit_generator.state
        return lambda: setattr(bits, "state", inner)
    if isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        return lambda: value.set_state(legacy)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        drawn = value.getstate()
        return lambda: value.setstate(drawn)
    return None


def _has_own_items(value: object) -> bool:
    """Whether a container is a plain one, not a window on something else (of a compiled module, say)."""
    return type(value).__module__ in ("builtins", "collections") or _is_users_own(value)


def _is_users_own(value: object) -> bool:
    """Whether an object may hold the state of a model: not of a library that only knows the model."""
    if isinstance(value, (FunctionType, MethodType, ModuleType)) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.split(".")[0] not in FOREIGN


def _has_plain_memory(tensor: Tensor) -> bool:
    """Whether a tensor's numbers can be copied away and back as they are."""
    is_special = tensor.is_nested or tensor.is_quantized or tensor.is_sparse or tensor.is_sparse_csr or tensor.is_meta
    return not is_special and not hasattr(tensor, "full_tensor") and not hasattr(tensor, "materialize")


def _is_same_memory(first: Tensor, second: Tensor) -> bool:
    places = [(part.data_ptr(), part.shape, part.stride(), part.dtype, part.device) for part in (first, second)]
    return places[0] == places[1]


def _has_same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same bits, those of NaN included."""
    import torch

    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.is_complex():
        first, second = torch.view_as_real(first.resolve_conj()), torch.view_as_real(second.resolve_conj())
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[first.element_size()]
    return torch.equal(first.view(integers), second.view(integers))


def _reset(module: Module, name: str, tensor: Tensor) -> None:
    if getattr(module, name) is not tensor:
        setattr(module, name, tensor)
