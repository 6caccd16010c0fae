"""Checkpoints of a training, measured one after the other."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast.history import History
from nrc_fast.libraries import require_library
from nrc_fast.linalg import FloatArray
from nrc_fast.monitor import Monitor
from nrc_fast.statistics import FeatureStatistics

__all__ = ["load_model", "load_weights", "step_of", "sweep_checkpoints"]

# Where training scripts put the weights inside a checkpoint.
NESTED = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")


def step_of(path: str | Path) -> int | None:
    """The step that a checkpoint's name ends with.

    Examples
    --------
    >>> step_of("run_3/epoch=12-step=400.ckpt"), step_of("last.pt")
    (400, None)
    """
    numbers = re.findall(r"\d+", Path(path).stem)
    return int(numbers[-1]) if numbers else None


def load_weights(path: str | Path) -> dict[str, Any]:
    """The tensors of a checkpoint by name, on the CPU, without running code from the file.

    Parameters
    ----------
    path : path
        .safetensors, or what ``torch.save`` wrote: a state dict, or a mapping with one under "state_dict",
        "model_state_dict" or "model".

    Raises
    ------
    OSError
        The file is missing.
    ValueError
        It holds no tensors, or something that only running its code would load.
    """
    torch = require_library("torch", "torch")
    if not Path(path).is_file():
        msg = f"{path} is no file; a checkpoint is expected"
        raise FileNotFoundError(msg)
    if Path(path).suffix == ".safetensors":
        state: Any = require_library("safetensors.torch", "safetensors").load_file(str(path))
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what its unpickler raises
            msg = f"{path} cannot be read as weights: {str(error).splitlines()[0]}"
            raise ValueError(msg) from error
    for name in NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        msg = f"{path} holds a {type(state).__name__} without tensors; a state dict is expected"
        raise ValueError(msg)
    return {_plain_name(str(name)): value for name, value in state.items()}


def _plain_name(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def load_model(address: str) -> Any:
    """Call the function that builds a model.

    Parameters
    ----------
    address : str
        "package.module:function" or "path/to/file.py:function".

    Raises
    ------
    ValueError
        It has another form, or there is no such function.
    ImportError, OSError
        The module cannot be imported.
    """
    place, colon, name = address.rpartition(":")
    if not colon or not place or not name:
        msg = f"the model is {address!r}; module:function or file.py:function, which builds it, is expected"
        raise ValueError(msg)
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    if not callable(getattr(module, name, None)):
        msg = f"{place} has no function {name}"
        raise ValueError(msg)
    return getattr(module, name)()


def sweep_checkpoints(
    paths: Sequence[str | Path],
    *,
    head: str,
    data: str | Path,
    model: Any = None,
    inputs_key: str = "inputs",
    targets_key: str = "targets",
    batch_rows: int = 1024,
    features: str = "held",
    convention: str = "nrc24",
) -> Iterator[History]:
    """Measure checkpoints in the order of their steps; gives the same history, longer by one record, after each.

    Parameters
    ----------
    paths : sequence of paths
        The number at the end of a name is its step; without any they are numbered in the order given.
    head : str
        Name of the last linear layer.
    data : path
        An .npz file with inputs and targets.
    model : torch.nn.Module, optional
        Given the weights of each checkpoint. Without it only NRC3 and gamma are known, from the head's weights.
    inputs_key, targets_key : str
        Names in the data.
    batch_rows : int
        Rows that the model is called with.
    features, convention
        As in `nrc_fast.Monitor`.

    Yields
    ------
    History

    Raises
    ------
    ImportError
        torch is not installed.
    OSError, TypeError, ValueError, RuntimeError
        A file is missing or holds something else, or the weights do not fit the model.
    """
    steps = [step_of(path) for path in paths]
    known = [step for step in steps if step is not None]
    numbers = known if len(set(known)) == len(paths) else list(range(len(paths)))
    inputs, targets = _load_data(Path(data), inputs_key if model is not None else None, targets_key)
    if model is None:
        yield from _sweep_weights(sorted(zip(numbers, paths, strict=True)), head, targets, convention)
        return
    torch = require_library("torch", "torch")
    X, Y = torch.from_numpy(inputs), torch.from_numpy(targets)
    batches = list(zip(X.split(batch_rows), Y.split(batch_rows), strict=True))
    monitor = Monitor(model, batches, layer=head, features=features, convention=convention)
    for number, path in sorted(zip(numbers, paths, strict=True)):
        try:
            model.load_state_dict(load_weights(path))
        except RuntimeError as error:
            msg = f"{path} does not fit the model: {error}"
            raise ValueError(msg) from error
        monitor.evaluate(number)
        yield monitor.history


def _sweep_weights(
    numbered: Sequence[tuple[int, str | Path]], head: str, targets: FloatArray, convention: str
) -> Iterator[History]:
    column = targets[:, np.newaxis] if targets.ndim == 1 else targets
    sigma = FeatureStatistics(column.shape[1], unit_rows=False, precision="highest").update(column).covariance
    history = History(convention=convention)
    for number, path in numbered:
        weights = load_weights(path)
        name = f"{head}.weight"
        if name not in weights:
            listed = ", ".join(key.removesuffix(".weight") for key in weights if key.endswith(".weight"))
            msg = f"{path} has no layer {head!r} with weights; it has {listed}"
            raise ValueError(msg)
        if len(weights[name]) != len(sigma):
            msg = f"{head} of {path} has {len(weights[name])} outputs and the targets have {len(sigma)}"
            raise ValueError(msg)
        history.add_weights(number, weights[name], sigma)
        yield history


def _load_data(path: Path, inputs_key: str | None, targets_key: str) -> tuple[Any, Any]:
    with np.load(path, allow_pickle=False) as file:
        wanted = [key for key in (inputs_key, targets_key) if key is not None]
        missing = [key for key in wanted if key not in file.files]
        if missing:
            msg = f"{path} has no {' and no '.join(missing)}; it has {', '.join(file.files)}. Name them with a key"
            raise ValueError(msg)
        return None if inputs_key is None else file[inputs_key], file[targets_key]
