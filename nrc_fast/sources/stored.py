"""What files hold: the matrices in one file, which of them is meant, and errors that name the file."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import numpy as np

from nrc_fast.base.libraries import require_library
from nrc_fast.kernels.inputs import as_rows, dtype_advice
from nrc_fast.sources.shards import ShardedTable
from nrc_fast.sources.table import ITEM_SIZES, Table

__all__ = [
    "StoredMatrix",
    "Wanted",
    "has_wildcards",
    "import_library",
    "matching",
    "matrix_shape",
    "natural_order",
    "pick",
    "reading",
    "stored_name",
]

MOST_LISTED = 20
MOST_SIMILAR = 3


@dataclass(frozen=True)
class Wanted:
    """Which matrix of a file is meant.

    Attributes
    ----------
    key : str or None
        The name of the matrix, a pattern, or None for the only one.
    role : str
        "H" for features, which are matrices, or "Y" for targets, which may be vectors.
    excluded : str or None
        Name or pattern of what is not meant, where there is no key.
    columns : tuple of str or None
        Names of the columns, and their order, that the files before this one have; None for the first file.
    verify : bool
        Whether checksums that the file has of what is read from its place are compared before.
    noun, argument : str or None
        What messages call it, and the argument that is its key; None for those of the role.
    """

    key: str | None = None
    role: str = "H"
    excluded: str | None = None
    columns: tuple[str, ...] | None = None
    verify: bool = True
    noun: str | None = None
    argument: str | None = None


@dataclass(frozen=True)
class StoredMatrix:
    """One array of a file.

    Attributes
    ----------
    path : Path
    key : str or None
        The name of the array inside the file; None if the file holds nothing else.
    shape : tuple of int
    dtype : str
    open : callable
        Makes the table of it, given its name, count and columns.
    hint : str
        What to do about a dtype that is not supported.
    identity : object
        What other names of the same array share with it; None where an array has one name only.
    fault : OSError or TypeError, optional
        Why it cannot be opened, such as a link to a file that is missing. It is raised by those who ask for it.
    """

    path: Path
    key: str | None
    shape: tuple[int, ...]
    dtype: str
    open: Callable[[str, int, int], Table]
    hint: str = ""
    identity: object = None
    fault: OSError | TypeError | None = None

    def fits(self, role: str) -> bool:
        """Whether it could be the features or the targets."""
        if isinstance(self.fault, OSError):
            return True  # nobody knows what is missing
        ranks = (1, 2) if role == "Y" else (2,)
        return self.dtype in ITEM_SIZES and len(self.shape) in ranks

    def table(self, role: str) -> Table:
        """The array as a table.

        Raises
        ------
        TypeError, ValueError
            The dtype or the shape is not that of a float matrix, or of a vector of targets.
        OSError
            The file is damaged, or a part of it is missing.
        """
        if self.fault is not None:
            raise self.fault
        name = stored_name(self.path, self.key)
        return self.open(name, *matrix_shape(name, self.shape, self.dtype, role, self.hint))


def pick(path: Path, stored: Sequence[StoredMatrix], wanted: Wanted) -> Table:
    """The table of what is meant among the arrays of a file; one after the other if the key is a pattern.

    An array that has several names counts once.

    Raises
    ------
    ValueError
        There is no such key, two arrays have it, or there is no key and more than one matrix.
    TypeError, OSError
        What is meant is no float matrix, or the file is damaged, see `StoredMatrix.table`.
    """
    if wanted.key is None:
        return _only(path, stored, wanted).table(wanted.role)
    by_key = {matrix.key: matrix for matrix in stored if matrix.key is not None}
    if not by_key and stored:
        msg = f"{path} holds one array without a name; leave out the key {wanted.key!r}"
        raise ValueError(msg)
    found = matching(by_key, wanted.key)
    if not found:
        msg = f"{path} has no {wanted.key!r}{_similar(by_key, wanted.key)}; it holds {_listing(stored)}"
        raise ValueError(msg)
    for key in found:
        if sum(matrix.key == key for matrix in stored) > 1:
            msg = f"{path} holds two arrays that are called {key!r}; save it with names that differ"
            raise ValueError(msg)
    tables = [matrix.table(wanted.role) for matrix in _distinct([by_key[key] for key in found])]
    return tables[0] if len(tables) == 1 else ShardedTable(stored_name(path, wanted.key), tables)


def _similar(keys: Iterable[str], wanted: str) -> str:
    """Names that end with what was asked for, as those inside of dicts and groups do."""
    ends = [key for key in keys if key.endswith((f".{wanted}", f"/{wanted}"))]
    return f" (is {' or '.join(repr(key) for key in ends[:MOST_SIMILAR])} meant?)" if ends else ""


def _distinct(stored: Sequence[StoredMatrix]) -> list[StoredMatrix]:
    """Each array under the first of its names."""
    seen: set[object] = set()
    kept = []
    for matrix in stored:
        if matrix.identity is None or matrix.identity not in seen:
            kept.append(matrix)
        seen.add(matrix.identity)
    return kept


def _only(path: Path, stored: Sequence[StoredMatrix], wanted: Wanted) -> StoredMatrix:
    keys = [matrix.key for matrix in stored if matrix.key is not None]
    excluded = set() if wanted.excluded is None else set(matching(keys, wanted.excluded))
    left_out = {matrix.identity for matrix in stored if matrix.key in excluded} - {None}
    rest = _distinct([matrix for matrix in stored if matrix.key not in excluded and matrix.identity not in left_out])
    fitting = [matrix for matrix in rest if matrix.fits(wanted.role)]
    for candidates in (fitting, rest):
        # What is alone and does not fit has an error of its own, which says why.
        if len(candidates) == 1:
            return candidates[0]
    noun, argument = ("features", "key") if wanted.role == "H" else ("targets", "target_key")
    kind = f"float {'matrices' if wanted.role == 'H' else 'arrays'} that may be the {wanted.noun or noun}"
    several = ", or several by a pattern" if wanted.role == "H" and wanted.noun is None else ""
    advice = f"name one with {wanted.argument or argument}={several}" if fitting else "one is expected"
    msg = f"{path} holds {len(fitting)} {kind}; {advice}. It holds {_listing(stored)}"
    raise ValueError(msg)


def _listing(stored: Sequence[StoredMatrix]) -> str:
    texts = [f"{matrix.key or 'an array'} {_kind(matrix)}" for matrix in stored[:MOST_LISTED]]
    if len(stored) > MOST_LISTED:
        texts.append(f"and {len(stored) - MOST_LISTED} more")
    return ", ".join(texts) or "no arrays"


def _kind(matrix: StoredMatrix) -> str:
    return matrix.dtype if isinstance(matrix.fault, OSError) else f"{matrix.shape} {matrix.dtype}"


def matrix_shape(name: str, shape: Sequence[int], dtype: str, role: str, hint: str = "") -> tuple[int, int]:
    """Rows and columns of what is stored; a vector of targets is a column.

    Raises
    ------
    TypeError
        The dtype is not supported.
    ValueError
        It is no matrix, or has no columns.
    """
    if dtype not in ITEM_SIZES:
        advice = hint or dtype_advice(dtype)
        msg = f"{name} has dtype {dtype}; {', '.join(ITEM_SIZES)} are supported. {advice}"
        raise TypeError(msg)
    if any(type(size) is not int or size < 0 for size in shape):
        msg = f"{name} has shape {tuple(shape)}; is it damaged?"
        raise ValueError(msg)
    if math.prod(shape) * ITEM_SIZES[dtype] > sys.maxsize:
        msg = f"{name} has shape {tuple(shape)}, which no file can hold; is it damaged?"
        raise ValueError(msg)
    # An array of that shape without memory: the same checks and messages as for arrays.
    rows = as_rows(np.broadcast_to(np.zeros((), np.float16), shape), name, vector_is_column=role == "Y")
    return rows.count, rows.columns


def stored_name(path: Path, key: str | None) -> str:
    """How messages call an array of a file."""
    return str(path) if key is None else f"{path}[{key}]"


def matching(keys: Iterable[str], pattern: str) -> list[str]:
    """The key that is equal to the pattern, else those that match it, in natural order."""
    keys = list(keys)
    if pattern in keys:
        return [pattern]
    return sorted((key for key in keys if fnmatchcase(key, pattern)), key=natural_order)


def natural_order(text: str) -> tuple[list[str | int], str]:
    """A key for sorting: numbers inside names count as numbers, so that h_2 comes before h_10."""
    parts = re.split(r"([0-9]+)", text)
    # Digits are at the odd places, so that text is compared to text and numbers to numbers.
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], text


def has_wildcards(text: str) -> bool:
    """Whether a text is a pattern."""
    return any(character in text for character in "*?[")


def import_library(module: str, extra: str) -> ModuleType:
    """A library that only some formats need.

    Raises
    ------
    ImportError
        It is not installed; the message says how to do that.
    """
    library = module.partition(".")[0]
    return require_library(module, extra, f"this file is read with {library}, which cannot be imported")


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into an OSError that names the file.

    Raises
    ------
    OSError
        Something was raised inside, except ImportError and MemoryError, which pass.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # missing, or not ours to read: it names the file
        reason = " ".join(str(error).split())  # libraries tell long stories; this is one line
        msg = f"{what} cannot be read; is it damaged or truncated? {type(error).__name__}: {reason}"
        raise OSError(msg) from error
