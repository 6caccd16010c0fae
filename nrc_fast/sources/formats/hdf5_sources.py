"""Files that hold the values of HDF5 datasets of another file: virtual datasets, and raw values beside the file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nrc_fast.sources.formats.hdf5_chunks import require_chunks
from nrc_fast.sources.stored import import_library, reading
from nrc_fast.sources.table import FileStamp, require_regular

if TYPE_CHECKING:
    from h5py import Dataset, File
    from h5py._hl.vds import VDSmap
    from h5py.h5s import SpaceID

__all__ = ["SourceRows", "decoding_bytes", "lies_elsewhere", "source_rows"]

# Times a chunk that is decoded by filters: as it is stored, and as it goes from one of them to the next.
FILTERED = 3
# Numbers of files that are looked for behind a missing one.
MOST_AHEAD = 1000
# HDF5 reads the environment once, too.
VIRTUAL_FOLDERS = os.environ.get("HDF5_VDS_PREFIX", "")
RAW_FOLDERS = os.environ.get("HDF5_EXTFILE_PREFIX", "")


@dataclass(frozen=True)
class SourceRows:
    """Rows of a dataset whose values are in another file.

    Attributes
    ----------
    first, last : int
        From the first of them to the one after the last; rows of other files may lie between.
    stamp : FileStamp
        Of the other file, when the dataset was opened.
    held_bytes : int
        What HDF5 holds to decode a chunk of it.
    """

    first: int
    last: int
    stamp: FileStamp
    held_bytes: int = 0


def decoding_bytes(dataset: Dataset) -> int:
    """Memory of HDF5 while it decodes a chunk, which may be larger than the dataset: what goes in and comes out."""
    if not dataset.chunks:
        return 0
    chunk: int = math.prod(dataset.chunks) * int(dataset.id.get_type().get_size())
    return (FILTERED if dataset.id.get_create_plist().get_nfilters() else 1) * chunk


def lies_elsewhere(dataset: Dataset) -> bool:
    """Whether values of a dataset are in other files, or in other datasets of the same file."""
    return bool(dataset.is_virtual or dataset.id.get_create_plist().get_external_count())


def source_rows(dataset: Dataset, name: str) -> list[SourceRows]:
    """The files that hold the values of a dataset, each of which is there and as large as the dataset needs.

    HDF5 itself gives fill values where such a file is missing, cannot be opened, or is too small.

    Parameters
    ----------
    dataset : h5py.Dataset
        For which `lies_elsewhere` holds.
    name : str
        How messages call it.

    Raises
    ------
    OSError
        A file is missing, damaged, or holds fewer values than the dataset needs.
    ValueError
        Rows of a virtual dataset are mapped to nothing, and nobody has said what their values are.
    """
    found: dict[int, SourceRows] = {}
    for rows in _virtual_rows(dataset, name, ()) if dataset.is_virtual else _raw_rows(dataset, name):
        known = found.get(id(rows.stamp), rows)  # a file may hold rows of many mappings
        held = max(known.held_bytes, rows.held_bytes)
        found[id(rows.stamp)] = SourceRows(min(known.first, rows.first), max(known.last, rows.last), rows.stamp, held)
    return list(found.values())


def _raw_rows(dataset: Dataset, name: str) -> Iterator[SourceRows]:
    """Files of plain values, which HDF5 looks for where the process runs, or where the environment says."""
    create = dataset.id.get_create_plist()
    folder = Path(*_prefixes(RAW_FOLDERS, _home(dataset))[:1])
    left = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    for number in range(create.get_external_count()):
        file, offset, size = create.get_external(number)
        path = folder / os.fsdecode(file)
        if not path.is_file():
            msg = f"{name} has its values in {path}, which is missing"
            raise FileNotFoundError(msg)
        stamp = FileStamp(path)
        taken = min(left, size)
        if path.stat().st_size < offset + taken:
            msg = f"{path} is truncated: {name} has {taken} bytes of its values there, from byte {offset} on"
            raise OSError(msg)
        left -= taken
        yield SourceRows(0, dataset.shape[0], stamp)


def _virtual_rows(dataset: Dataset, name: str, above: tuple[tuple[Path, str], ...]) -> Iterator[SourceRows]:
    place = (_home(dataset), dataset.name)
    if place in above:
        msg = f"{name} is made of itself: {' of '.join(key for _, key in above)}"
        raise OSError(msg)
    mappings = dataset.virtual_sources()
    _require_covered(dataset, name, mappings)
    parts: dict[tuple[str, str], _Part] = {}
    for mapping in mappings:
        first, last = _rows(mapping.vspace, dataset.shape)
        for file_name, key in _places(place[0], name, mapping, dataset.shape):
            part = parts.get((file_name, key)) or _part(dataset, name, file_name, key, (*above, place))
            parts[file_name, key] = part
            if not _holds(part.shape, mapping):
                msg = f"{name} is made of {part.name}, which does not hold what is taken: its shape is {part.shape}"
                raise OSError(msg)
            yield from (SourceRows(first, last, stamp, part.held_bytes) for stamp in part.stamps)


@dataclass(frozen=True)
class _Part:
    """A dataset that values of a virtual one are taken from, and the files that hold it."""

    name: str
    shape: tuple[int, ...]
    stamps: list[FileStamp]
    held_bytes: int


def _part(dataset: Dataset, name: str, file_name: str, key: str, above: tuple[tuple[Path, str], ...]) -> _Part:
    h5py = import_library("h5py", "hdf5")
    with _file_of(dataset, name, file_name) as file:
        stamps = [FileStamp(Path(file.filename))]
        inner = file.get(key)
        called = f"{file.filename}[{key}]"
        if not isinstance(inner, h5py.Dataset):
            msg = f"{name} is made of {called}, which is missing"
            raise OSError(msg)
        require_chunks(inner, called)
        if _home(inner) != Path(file.filename).resolve():
            stamps.append(FileStamp(_home(inner)))  # behind a link
        held = decoding_bytes(inner)
        if lies_elsewhere(inner):
            rows = [*(_virtual_rows(inner, called, above) if inner.is_virtual else _raw_rows(inner, called))]
            stamps += [part.stamp for part in rows]
            held = max([held, *(part.held_bytes for part in rows)])
        return _Part(called, inner.shape, stamps, held)


@contextmanager
def _file_of(dataset: Dataset, name: str, file_name: str) -> Iterator[File]:
    """A file that a mapping leads to."""
    if file_name == ".":
        yield dataset.file
        return
    path = _found(_home(dataset), file_name, name)
    h5py = import_library("h5py", "hdf5")
    with reading(f"{path}, of which {name} is made,"):
        file = h5py.File(path, "r")
    with file:
        yield file


def _holds(shape: tuple[int, ...], source: VDSmap) -> bool:
    """Whether a dataset of a shape has all values that a mapping takes from it."""
    h5s = import_library("h5py.h5s", "hdf5")
    space = source.src_space
    if _is_unlimited(space) or _is_unlimited(source.vspace):
        return True  # as much as there is
    if space.get_select_type() == h5s.SEL_ALL:
        return bool(math.prod(shape) == source.vspace.get_select_npoints())
    _, ends = space.get_select_bounds()
    return len(ends) == len(shape) and all(end < size for end, size in zip(ends, shape, strict=True))


def _require_covered(dataset: Dataset, name: str, sources: list[VDSmap]) -> None:
    """Refuse rows that are mapped to nothing, unless whoever wrote the dataset has chosen their value."""
    h5py = import_library("h5py", "hdf5")
    if dataset.id.get_create_plist().fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        return
    if any(_is_unlimited(source.vspace) for source in sources):
        return  # the shape follows from what is there
    covered = h5py.h5s.create_simple(dataset.shape)
    covered.select_none()
    for source in sources:
        space = source.vspace
        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return
        if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
            continue
        if space.is_regular_hyperslab():
            covered.select_hyperslab(*_corners(space), op=h5py.h5s.SELECT_OR)
        else:
            for start, end in space.get_select_hyper_blocklist():
                size = tuple(int(b) - int(a) + 1 for a, b in zip(start, end, strict=True))
                covered.select_hyperslab(tuple(map(int, start)), size, op=h5py.h5s.SELECT_OR)
    missing = math.prod(dataset.shape) - covered.get_select_npoints()
    if missing:
        msg = (
            f"{missing} of the {math.prod(dataset.shape)} values of the virtual dataset {name} come from no file, and "
            "it has no fill value of its own; map all rows, or say with fillvalue= what the others hold (NaN)"
        )
        raise ValueError(msg)


def _corners(space: SpaceID) -> tuple[tuple[int, ...], ...]:
    """Start, count, stride and block of a selection, in the order in which they are selected."""
    start, stride, count, block = space.get_regular_hyperslab()
    return start, count, stride, block


def _is_unlimited(space: SpaceID) -> bool:
    h5s = import_library("h5py.h5s", "hdf5")
    if space.get_select_type() != h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, count, block = space.get_regular_hyperslab()
    return _unlimited() in (*count, *block)


def _unlimited() -> int:
    return int(import_library("h5py.h5s", "hdf5").UNLIMITED)


def _rows(space: SpaceID, shape: tuple[int, ...]) -> tuple[int, int]:
    """The rows that a mapping fills, and those between them."""
    h5s = import_library("h5py.h5s", "hdf5")
    if space.get_select_type() == h5s.SEL_ALL or _is_unlimited(space):
        return 0, shape[0]
    if space.get_select_npoints() == 0:
        return 0, 0
    starts, ends = space.get_select_bounds()
    return int(starts[0]), int(ends[0]) + 1


def _places(home: Path, name: str, source: VDSmap, shape: tuple[int, ...]) -> list[tuple[str, str]]:
    """File and dataset of a mapping, or those of its blocks: %b in their names stands for the numbers of blocks.

    Raises
    ------
    OSError
        Blocks end before the last file: HDF5 takes the first that is missing for the end.
    """
    texts: tuple[str, str] = (source.file_name, source.dset_name)
    if not _is_unlimited(source.vspace) or not any("%b" in text.replace("%%", "") for text in texts):
        return [_numbered(texts, None)]
    start, stride, count, _ = source.vspace.get_regular_hyperslab()
    axis = count.index(_unlimited())
    blocks = -(-(shape[axis] - start[axis]) // stride[axis])
    places = [_numbered(texts, number) for number in range(blocks + MOST_AHEAD)]
    missing = places[blocks][0]
    beyond = [file for file, _ in places[blocks + 1 :] if file != missing and Path(home.parent, file).is_file()]
    if beyond:
        msg = f"{name} is made of files that are numbered, of which {missing} is missing and {beyond[0]} is there"
        raise FileNotFoundError(msg)
    return places[:blocks]


def _numbered(texts: tuple[str, str], number: int | None) -> tuple[str, str]:
    """File and dataset with the number of a block; %% stands for a single %."""
    parts = (text.split("%%") for text in texts)
    if number is None:
        file, key = ("%".join(pieces) for pieces in parts)
    else:
        file, key = ("%".join(piece.replace("%b", str(number)) for piece in pieces) for pieces in parts)
    return file, key


def _found(home: Path, file_name: str, name: str) -> Path:
    """The file that HDF5 would open: it looks in several folders, for an absolute path that is gone too."""
    candidates = [Path(file_name)] if Path(file_name).is_absolute() else []
    rest = Path(file_name).name if candidates else file_name
    candidates += [Path(folder, rest) for folder in (*_prefixes(VIRTUAL_FOLDERS, home), str(home.parent), "")]
    path = next((path for path in candidates if path.exists()), None)
    if path is not None:
        require_regular(path)
    if path is None:
        looked = ", ".join(dict.fromkeys(str(path.absolute()) for path in candidates))
        msg = f"{name} is made of {file_name}, which is missing (looked for as {looked}); its rows would be fill values"
        raise FileNotFoundError(msg)
    return path


def _prefixes(folders: str, home: Path) -> list[str]:
    """Folders that the environment names."""
    return [folder.replace("${ORIGIN}", str(home.parent)) for folder in folders.split(":") if folder]


def _home(dataset: Dataset) -> Path:
    """The file that a dataset lies in."""
    return Path(dataset.file.filename).resolve()
