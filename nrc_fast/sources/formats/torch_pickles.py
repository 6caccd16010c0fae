"""What a pickle of torch says of its tensors: no code of it runs, no torch is needed, and no value is read.

Whatever is called by a name in the file becomes one of a few functions here, which describe tensors. All else that a
file may hold beside them, such as sizes and devices, becomes a placeholder.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Storage", "StoredTensor", "tensors_of"]

# Opcodes that name a place among the objects seen so far. A place far beyond them would take memory for all before it.
PLACES = ("PUT", "BINPUT", "LONG_BINPUT")
# Times that each object may be met, under different names, in lists that hold one another.
MOST_VISITS = 10

STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexDoubleStorage": ("complex128", 16),
    "ComplexFloatStorage": ("complex64", 8),
    "QInt8Storage": ("qint8", 1),
    "QUInt8Storage": ("quint8", 1),
    "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1),
    "QUInt2x4Storage": ("quint2x4", 1),
    "UntypedStorage": ("uint8", 1),
}
ITEM_SIZES = dict(STORAGES.values())


@dataclass(frozen=True, eq=False)
class Storage:
    """Values that lie one after the other in a record of the file.

    Attributes
    ----------
    key : str
        The record "data/KEY".
    dtype : str
    bytes : int
        That the pickle says it has.
    """

    key: str
    dtype: str
    bytes: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file.

    Attributes
    ----------
    storage : Storage or None
        None where `fault` says why there are no values to read.
    dtype : str
    shape, strides : tuple of int
        In items.
    offset : int
        Of the first value in its storage, in items.
    is_negated : bool
        Whether the values are those of the storage with the other sign.
    fault : str
        What keeps it from being rows, and what to do about it; empty for others.
    """

    storage: Storage | None
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    offset: int = 0
    is_negated: bool = False
    fault: str = ""


def tensors_of(content: bytes) -> list[tuple[str | None, StoredTensor]]:
    """The tensors of a pickle by their keys: None for one alone, else those of dicts, lists and tuples with dots.

    Raises
    ------
    pickle.UnpicklingError
        The pickle holds more than tensors and plain values: "GLOBAL" and its name.
    Exception
        It is damaged.
    """
    instructions = _checked(content)
    found = _Unpickler(io.BytesIO(content)).load()
    visits = _Visits(MOST_VISITS * instructions)
    return list(visits.tensors(found, None))


def _checked(content: bytes) -> int:
    """How many instructions a pickle has; none announces more than there is."""
    count = 0
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in PLACES and int(str(argument)) > count:
            msg = f"it names place {argument} after {count} instructions"
            raise pickle.UnpicklingError(msg)
        count += 1
    return count


class _Visits:
    """A walk through what was unpickled, which lists that hold one another many times cannot make endless."""

    def __init__(self, most: int) -> None:
        self._left = most

    def tensors(self, content: object, key: str | None) -> Iterator[tuple[str | None, StoredTensor]]:
        self._left -= 1
        if self._left < 0:
            msg = "its lists and dicts hold one another too many times"
            raise pickle.UnpicklingError(msg)
        members: Iterator[tuple[object, object]] = iter(())
        if isinstance(content, StoredTensor):
            yield key, content
        elif isinstance(content, dict):
            members = iter(content.items())
        elif isinstance(content, (list, tuple)):
            members = iter(enumerate(content))
        for name, value in members:
            if isinstance(value, (StoredTensor, dict, list, tuple)):
                yield from self.tensors(value, str(name) if key is None else f"{key}.{name}")


class _Mapping(dict[Any, Any]):
    """An ordered dictionary; attributes that were saved with it are left out."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        del state


class _Plain:
    """Something that is no tensor."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        del state

    def __setitem__(self, key: object, value: object) -> None:
        del key, value

    def append(self, value: object) -> None:
        """Take no notice of a member."""
        del value

    def extend(self, values: object) -> None:
        """Take no notice of members."""
        del values


class _Maker:
    """A function that a name in the file stands for; nothing of it can be changed from there."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        del state


def _sizes(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(type(value) is int and value >= 0 for value in values):
        msg = f"a size or stride is {values!r}; whole numbers are expected"
        raise ValueError(msg)
    return tuple(values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> StoredTensor:
    shape, strides, (offset,) = _sizes(shape), _sizes(strides), _sizes((offset,))
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        msg = f"a tensor has shape {shape}, strides {strides} and a {type(storage).__name__} as its storage"
        raise ValueError(msg)
    metadata = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}
    return StoredTensor(storage, storage.dtype, shape, strides, offset, is_negated=bool(metadata.get("neg")))


def _tensor_of_dtype(*arguments: Any) -> StoredTensor:
    """A tensor of a dtype that storages have no name for, and which stands before the metadata."""
    dtype = arguments[6]
    return replace(_tensor(*arguments[:6], *arguments[7:]), dtype=str(dtype))


def _quantised(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    found = _tensor(storage, offset, shape, strides)
    return replace(found, storage=None, fault="is quantised; save its values (tensor.dequantize())")


def _sparse(layout: Any, data: Any) -> StoredTensor:
    values = next((part for part in reversed(data) if isinstance(part, StoredTensor)), None)
    shapes = [part for part in data if isinstance(part, tuple)]
    fault = f"is a tensor of layout {layout}; save a dense one (tensor.to_dense())"
    return StoredTensor(None, "unknown" if values is None else values.dtype, shapes[-1] if shapes else (), fault=fault)


def _nested(buffer: Any, *_: Any) -> StoredTensor:
    fault = "is a nested tensor; save its rows as one matrix (torch.cat(tensor.unbind()))"
    return StoredTensor(None, buffer.dtype, (), fault=fault)


def _meta(dtype: Any, shape: Any, *_: Any) -> StoredTensor:
    fault = "is a meta tensor, without values; save a materialised one"
    return StoredTensor(None, str(dtype), _sizes(shape), fault=fault)


def _of_type(make: Any, kind: Any, arguments: Sequence[Any], *_: Any) -> object:
    """A tensor of a subclass, which is one of torch itself as all names here are."""
    del kind
    return make(*arguments)


def _first(value: Any, *_: Any) -> object:
    return value


def _size(values: Sequence[Any] = ()) -> tuple[Any, ...]:
    return tuple(values)


def _plain(*_: Any) -> _Plain:
    return _Plain()


# Tensors, and what torch says with a name of its own.
FUNCTIONS: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._utils", "_rebuild_qtensor"): _quantised,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _sparse,
    ("torch._utils", "_rebuild_nested_tensor"): _nested,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _meta,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("torch.serialization", "_get_layout"): _first,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _Mapping,
    ("collections", "Counter"): _plain,
    ("collections", "defaultdict"): _plain,
    ("torch", "device"): _plain,
    ("torch", "Tensor"): _plain,
    ("torch.nn.parameter", "Parameter"): _plain,
    ("torch.nn.parameter", "Buffer"): _plain,
    ("_codecs", "encode"): _plain,
    **{(module, kind): _plain for module in ("builtins", "__builtin__") for kind in ("set", "complex", "bytearray")},
}
# Names of dtypes and of ways to quantise are nothing but these names.
WORDS = ("float", "int", "uint", "complex", "bfloat16", "bool", "qint", "quint", "bits", "per_tensor", "per_channel")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for here."""
        if (module, name) in FUNCTIONS:
            return _Maker(FUNCTIONS[module, name])
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name.startswith(WORDS):
            return name
        msg = f"GLOBAL {module}.{name}"
        raise pickle.UnpicklingError(msg)

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor refers to."""
        kind, (dtype, item_bytes), key, _, count = pid
        if kind != "storage" or not isinstance(key, str) or type(count) is not int or count < 0:
            msg = f"a storage is {pid!r}"
            raise ValueError(msg)
        return Storage(key, dtype, count * item_bytes)
