"""Checkpoints of a training as files: their order, new ones as they arrive, models and weights from them."""

from __future__ import annotations

import glob
import importlib.util
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nrc_fast.base.libraries import require_library

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["arriving", "load_model", "load_weights", "matching", "numbered", "step_of"]

# Where training scripts put the weights inside a checkpoint.
NESTED = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")
# Of the files in a folder, those that are checkpoints.
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
# What the weights are called where every checkpoint has a folder.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# How names call the number of a checkpoint, the first of these that is there.
COUNTED = ("step", "iteration", "iter", "epoch", "checkpoint", "ckpt")


def step_of(path: str | Path) -> int | None:
    """The step in a checkpoint's name or, where only that names one, in the name of its folder.

    Examples
    --------
    >>> step_of("run_3/epoch=12-step=400.ckpt"), step_of("epoch=12-val_loss=0.25.ckpt"), step_of("net_400.pt")
    (400, 12, 400)
    >>> step_of("out/checkpoint-500/model.safetensors"), step_of("run_3/last.pt")
    (500, None)
    """
    names = Path(path).stem, Path(path).absolute().parent.name
    for text in names:
        for word in COUNTED:
            found = re.search(rf"{word}s?[-_=]?(\d+)", text, re.IGNORECASE)
            if found:
                return int(found[1])
    numbers = re.findall(r"(?<![\d.])\d+(?![\d.])", names[0])  # no parts of fractions
    return int(numbers[-1]) if numbers else None


def load_weights(path: str | Path) -> dict[str, Tensor]:
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
    library = require_library("safetensors.torch", "safetensors") if Path(path).suffix == ".safetensors" else None
    try:
        state: Any
        if library is None:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            # Not `load_file`, whose tensors are a mapping: a file that shrinks would kill the process.
            state = library.load(Path(path).read_bytes())
    except Exception as error:  # torch raises what its unpickler raises, safetensors an error of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
        msg = f"{path} cannot be read as weights: {reason}; a state dict, without objects of its own, is expected"
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


def load_model(address: str) -> Module:
    """Call the function that builds a model.

    Parameters
    ----------
    address : str
        "package.module:function" or "path/to/file.py:function".

    Raises
    ------
    ValueError, TypeError
        It has another form, there is no such function, or what it returns is no ``torch.nn.Module``.
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
        if not Path(place).is_file():
            msg = f"{place} is no file; a Python file with the function {name} is expected"
            raise FileNotFoundError(msg)
        spec.loader.exec_module(module)
    else:
        # As `python -m` does; an installed command has its own folder there instead.
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(place)
        finally:
            sys.path.remove(str(Path.cwd()))
    if not callable(getattr(module, name, None)):
        msg = f"{place} has no function {name}"
        raise ValueError(msg)
    built = getattr(module, name)()
    if not isinstance(built, require_library("torch", "torch").nn.Module):
        msg = f"{address} returned a {type(built).__name__}; a torch.nn.Module is expected"
        raise TypeError(msg)
    model: Module = built
    return model


def numbered(paths: Sequence[str | Path]) -> list[tuple[int, str | Path]]:
    """Checkpoints with their steps, in their order; where names give none, or one twice, they are counted instead.

    Examples
    --------
    >>> numbered(["step_30.pt", "step_4.pt"]), numbered(["first.pt", "last.pt"])
    ([(4, 'step_4.pt'), (30, 'step_30.pt')], [(0, 'first.pt'), (1, 'last.pt')])
    """
    steps = [step for step in map(step_of, paths) if step is not None]
    numbers = steps if len(set(steps)) == len(paths) else list(range(len(paths)))
    return sorted(zip(numbers, paths, strict=True), key=lambda pair: pair[0])


def matching(patterns: Sequence[str]) -> list[str]:
    """Files of glob patterns, and checkpoints in folders; a name that matches nothing stays as it is.

    A folder holds checkpoints as files or, as the Trainer of transformers leaves it, in folders of their own.

    Raises
    ------
    FileNotFoundError
        A folder holds no checkpoints.

    Examples
    --------
    >>> matching(["absent.pt"])
    ['absent.pt']
    """
    found = []
    for pattern in patterns:
        files = _files(pattern)
        if not files and Path(pattern).is_dir():
            msg = f"folder {pattern} holds no checkpoints; files with {', '.join(SUFFIXES)} are expected"
            raise FileNotFoundError(msg)
        found += files or [pattern]
    return found


def _files(pattern: str) -> list[str]:
    folder = Path(pattern)
    if folder.is_dir():
        nested = [path for name in WEIGHTS for path in folder.glob(f"checkpoint*/{name}")]
        return sorted(
            str(path) for path in nested or folder.iterdir() if path.name in WEIGHTS or path.suffix in SUFFIXES
        )
    return sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute patterns


def arriving(
    patterns: Sequence[str], seconds: float, unread: Collection[str] = frozenset()
) -> Iterator[tuple[int, str]]:
    """Checkpoints with their steps as they come, without end; a file is taken when it has stopped growing.

    Parameters
    ----------
    patterns : sequence of str
        Files, folders and glob patterns, see `matching`.
    seconds : float
        How long to wait between two looks.
    unread : collection of str
        Files that could not be measured when they were taken, to which the caller adds: they are taken again when
        their size or time has changed.

    Yields
    ------
    step, path
        The step is the number in the name; where there is none, one more than the last.

    Raises
    ------
    ValueError
        The time is negative.
    """
    if not seconds >= 0.0:
        msg = f"checkpoints are to be looked for every {seconds} seconds; a time from 0 on is expected"
        raise ValueError(msg)
    taken: dict[str, tuple[int, int] | None] = {}
    seen: dict[str, tuple[int, int] | None] = {}
    last = -1
    while True:
        files = [path for pattern in patterns for path in _files(pattern) if path not in taken or path in unread]
        there = {path: _state(path) for path in files}
        whole = [path for path, state in there.items() if state is not None and seen.get(path) == state]
        changed = [path for path in whole if taken.get(path) != there[path]]
        for path in sorted(changed, key=lambda name: (step_of(name) or 0, name)):
            taken[path] = there[path]
            step = step_of(path)
            last = last + 1 if step is None else step
            yield last, path
        seen = there
        time.sleep(seconds)


def _state(path: str) -> tuple[int, int] | None:
    """Size and time of a file; None where a training has removed it, or where it cannot be looked at now."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
