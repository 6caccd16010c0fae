"""What is no array though users may take it for one, and the line that makes an array of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import islice
from os import PathLike, fspath
from typing import Any

__all__ = ["is_of_datasets", "require_array"]

# What loads a small file, by the end of its name.
LOADED_BY = {
    ".npy": "numpy.load({path!r})",
    ".npz": "numpy.load({path!r})[key]",
    ".pt": "torch.load({path!r})[key]",
    ".pth": "torch.load({path!r})[key]",
    ".ckpt": "torch.load({path!r})['state_dict'][key]",
    ".bin": "torch.load({path!r})[key]",
    ".safetensors": "safetensors.torch.load_file({path!r})[key]",
}
SHOWN_KEYS = 4
# Of DLPack: memory that the host reads as its own, which is that of the CPU and that which is pinned for a card.
HOST_MEMORY = (1, 3, 11)


def require_array(values: Any, name: str) -> None:
    """Check that something is not one of the kinds of things that are known to be no array.

    Raises
    ------
    TypeError
        It is None, a path, a mapping, a module or a data set of torch, a data set of Hugging Face, a sparse matrix, or
        an array on a device without torch to hold it. The message says what reads it.

    Examples
    --------
    >>> require_array("w.npy", "W")
    Traceback (most recent call last):
    TypeError: W is the path 'w.npy'; give what the file holds: W = numpy.load('w.npy')
    """
    advice = None if values is not None else "None; give an array or tensor"
    for kind in (_path, _mapping, _of_torch, _of_datasets, _sparse, _on_device):
        advice = advice or kind(values, name)
    if advice:
        msg = f"{name} is {advice}"
        raise TypeError(msg)


def _called(values: object) -> str:
    return f"a {type(values).__name__}"


def _path(values: object, name: str) -> str | None:
    if not isinstance(values, (str, bytes, PathLike)):
        return None
    path = fspath(values)
    text = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
    line = next((line for suffix, line in LOADED_BY.items() if text.lower().endswith(suffix)), None)
    reads = f": {name} = {line.format(path=text)}" if line else ", as an array or tensor"
    return f"the path {text!r}; give what the file holds{reads}"


def _mapping(values: object, name: str) -> str | None:
    if not isinstance(values, Mapping):
        return None
    keys = [repr(key) for key in islice(values, SHOWN_KEYS + 1)]
    shown = ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
    return f"{_called(values)} of {shown or 'nothing'}; give one of its values, as {name}[{keys[0] if keys else 'key'}]"


def _of_torch(values: Any, name: str) -> str | None:
    """Modules, and data sets that give one sample at a time."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(values, torch.nn.Module):
        if isinstance(getattr(values, "weight", None), torch.Tensor):
            return f"{_called(values)}, a layer; give its weights ({name}.weight)"
        return f"{_called(values)}, a model; nrc_fast.Monitor and nrc_fast.watch measure what its layers are given"
    if isinstance(values, torch.utils.data.TensorDataset):
        return f"a TensorDataset; give its tensors (H, Y = {name}.tensors)"
    if isinstance(values, torch.utils.data.Dataset) and not is_of_datasets(values):
        return (
            f"{_called(values)}, which gives one sample at a time; give batches of it "
            f"(torch.utils.data.DataLoader({name}, batch_size=1024))"
        )
    return None


def is_of_datasets(values: object) -> bool:
    """Whether something is of the library datasets of Hugging Face."""
    return type(values).__module__.partition(".")[0] == "datasets"


def _of_datasets(values: object, name: str) -> str | None:
    if not is_of_datasets(values):
        return None
    column = getattr(values, "column_name", None)
    if isinstance(column, str):
        return f"a column of a data set; give that, and name the column: nrc_fast.open(dataset, key={column!r})"
    return f"{_called(values)} of data; name its columns: nrc_fast.open({name}, key=..., target_key=...)"


def _sparse(values: object, name: str) -> str | None:
    is_sparse = hasattr(values, "toarray") and hasattr(values, "nnz")
    return f"{_called(values)}, which is sparse; give a dense one ({name}.toarray())" if is_sparse else None


def _on_device(values: Any, name: str) -> str | None:
    """Arrays of other libraries on a device, which torch takes without a copy."""
    try:
        interface = getattr(values, "__cuda_array_interface__", None)
        has_place = interface is None and hasattr(values, "__dlpack_device__")
        place = int(values.__dlpack_device__()[0]) if has_place else HOST_MEMORY[0]
    except Exception:  # properties of other libraries, where there is no device
        return None
    if interface is not None:
        return f"{_called(values)} on a CUDA device; give it as a tensor: torch.as_tensor({name}, device='cuda')"
    if place not in HOST_MEMORY:
        return f"{_called(values)} on a device; give it as a tensor: torch.from_dlpack({name})"
    return None
