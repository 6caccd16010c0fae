"""Running a model over a loader without leaving a trace: modes, gradients and random states are as before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nrc_fast.base.libraries import require_library
from nrc_fast.training.kept_state import Generators, KeptState, restore_modes

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = [
    "WRAPPERS",
    "Split",
    "beside_model",
    "current_evaluation",
    "evaluating",
    "require_module",
    "run_model",
    "runnable",
    "split_batch",
    "unwrapped",
]

# From a batch, which may be anything, to what the model is called with, and the targets.
Split: TypeAlias = Callable[[Any], tuple[Any, Any]]

# How batches that are mappings call their targets, in the order in which they are looked for.
TARGET_KEYS = ("labels", "label", "targets", "target", "y")
# How torch.compile and FullyShardedDataParallel call what they wrap, in names of modules.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module")


def require_module(model: object) -> None:
    """Check that a model is one of torch.

    Raises
    ------
    TypeError
        It is something else.
    """
    if not isinstance(model, require_library("torch", "torch").nn.Module):
        msg = f"model is a {type(model).__name__}; a torch.nn.Module is expected"
        raise TypeError(msg)


def unwrapped(model: Module) -> Module:
    """The model itself, without what DistributedDataParallel, FullyShardedDataParallel or torch.compile put around it.

    A model of one's own that has a submodule called ``module`` is not taken for a wrapper.
    """
    torch = require_library("torch", "torch")
    wrappers: tuple[type, ...] = (torch.nn.DataParallel,)
    if torch.distributed.is_available():
        wrappers += (torch.nn.parallel.DistributedDataParallel,)
    found: Any = model  # attributes of modules may be anything, for mypy
    while True:
        if hasattr(found, "_orig_mod"):
            found = found._orig_mod
        elif hasattr(found, "_fsdp_wrapped_module"):
            found = found._fsdp_wrapped_module
        elif isinstance(found, wrappers):
            found = getattr(found, "module")  # noqa: B009 - mypy knows no common base of the wrappers
        else:
            inner: Module = found
            return inner


def runnable(model: Module) -> Module:
    """What an evaluation calls: inside DistributedDataParallel, whose forward pass waits for the other processes."""
    torch = require_library("torch", "torch")
    parallel = torch.nn.parallel.DistributedDataParallel if torch.distributed.is_available() else ()
    while isinstance(model, parallel):
        model = model.module
    return model


def split_batch(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch of a loader.

    Parameters
    ----------
    batch : pair of inputs and targets, or mapping
        A mapping holds its targets under "labels", "label", "targets", "target" or "y".

    Returns
    -------
    inputs, targets
        Of a mapping the inputs are what is left of it.

    Raises
    ------
    TypeError
        The batch is neither.

    Examples
    --------
    >>> split_batch({"pixels": 1, "labels": 2})
    ({'pixels': 1}, 2)
    """
    if isinstance(batch, Mapping):
        key = next((name for name in TARGET_KEYS if name in batch), None)
        if key is not None:
            return {name: value for name, value in batch.items() if name != key}, batch[key]
        found = f"a mapping with {', '.join(map(str, batch))}"
    elif isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    else:
        found = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
    msg = (
        f"a batch is {found}; pairs of inputs and targets, or mappings with one of {', '.join(TARGET_KEYS)}, are "
        "expected. Give split=, which takes a batch and returns what the model is called with, and the targets"
    )
    raise TypeError(msg)


def run_model(model: Callable[..., Any], inputs: Any) -> Any:
    """Call a model: with the parts of a mapping as keywords, those of a tuple or list as arguments.

    Examples
    --------
    >>> run_model(lambda a, b: a - b, {"b": 1, "a": 3}), run_model(abs, -2)
    (2, 2)
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def beside_model(model: Module, values: Any) -> Any:
    """Inputs with their tensors of the host copied to the device of the model, inside of containers too.

    A model on several devices, or without parameters, takes care of them itself.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1, device="meta")
    >>> beside_model(model, {"x": torch.ones(3, 2), "n": 3})["x"].device
    device(type='meta')
    """
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) != 1 or next(iter(devices)).type == "cpu":
        return values
    return _moved(values, next(iter(devices)))


def _moved(values: Any, device: Any) -> Any:
    if hasattr(values, "is_cpu"):  # a tensor
        return values.to(device) if values.device.type == "cpu" else values
    if isinstance(values, Mapping):
        return {key: _moved(value, device) for key, value in values.items()}
    if isinstance(values, (tuple, list)):
        parts = [_moved(value, device) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    return values


_EVALUATION: ContextVar[object] = ContextVar("evaluation", default=None)


def current_evaluation() -> object:
    """The evaluation in whose `evaluating` block this is called; None outside of one."""
    return _EVALUATION.get()


@contextmanager
def evaluating(model: Module, loader: Iterable[object] | None = None) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the model and every random state are as they were.

    Modes are changed and put back by the modules' own `train`, as parts may act on it. Weights, buffers and attributes
    that the passes change are put back too, to the bit: the weights are held twice for so long. Watches that were
    begun outside do not see the forward passes inside.

    Parameters
    ----------
    model : torch.nn.Module
    loader : iterable, optional
        Iterating a DataLoader draws from torch's random state or from the loader's own ``generator``, even where
        nothing is shuffled: both are put back, and so are those of numpy and of Python's random, and the generators
        that sampler and data hold. The workers of one with ``persistent_workers`` are left to the loop that they work
        for.

    Raises
    ------
    ValueError
        The model has parameters that only its first pass makes: an evaluation would draw them.
    """
    torch = require_library("torch", "torch")
    _require_parameters(model)
    modes = [(module, module.training) for module in model.modules()]
    restore_random = _random_states(torch, loader)
    state = KeptState(model)
    # A compiled model does not see hooks that were added after its first call.
    set_stance = getattr(torch.compiler, "set_stance", None)
    token = _EVALUATION.set(object())
    try:
        with _own_workers(loader), torch.no_grad(), nullcontext() if set_stance is None else set_stance("force_eager"):
            if any(training for _, training in modes):
                model.eval()
            yield
    finally:
        _EVALUATION.reset(token)
        try:
            restore_modes(model, modes)
        finally:
            state.restore()
            restore_random()


def _require_parameters(model: Module) -> None:
    lazy = next((name for name, part in model.named_parameters() if hasattr(part, "materialize")), None)
    if lazy is not None:
        msg = f"parameter {lazy} of the model is made by its first pass; run the model on a batch before it is measured"
        raise ValueError(msg)


@contextmanager
def _own_workers(loader: Any) -> Iterator[None]:
    """Keep the iterator of a DataLoader with persistent workers from being started again.

    There is only one of it: a training loop in the middle of its epoch would go on from the loader's end.
    """
    while hasattr(loader, "base_dataloader"):  # of accelerate, which hands on what it is asked for, but not what is set
        loader = loader.base_dataloader
    if not getattr(loader, "persistent_workers", False) or not hasattr(loader, "_iterator"):
        yield
        return
    iterator, loader._iterator = loader._iterator, None
    try:
        yield
    finally:
        loader._iterator = iterator


def _random_states(torch: ModuleType, loader: object) -> Callable[[], None]:
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - that of the user
    # Asking for the states of the cards would start a CUDA context where there is none yet.
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    generators = Generators(loader)

    def restore() -> None:
        torch.set_rng_state(states[0])
        if cards is not None:
            torch.cuda.set_rng_state_all(cards)
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        generators.restore()

    return restore
