"""Where HDF5 files have their chunks: HDF5 itself may end the process over damaged sizes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nrc_fast.sources.stored import import_library

if TYPE_CHECKING:
    from h5py import Dataset
    from h5py.h5d import StoreInfo

__all__ = ["require_chunks"]

# What a chunk with a checksum ends with: HDF5 takes it off the size without looking.
CHECKSUM_BYTES = 4


def require_chunks(dataset: Dataset, name: str) -> None:
    """Check that every chunk that was written has bytes, which are in the file.

    Parameters
    ----------
    dataset : h5py.Dataset
        Chunked or not.
    name : str
        How messages call it.

    Raises
    ------
    OSError
        A chunk has fewer bytes than its checksum, or ends behind the file.
    ImportError
        HDF5 is too old to be asked.
    """
    if not dataset.chunks:
        return
    if not hasattr(dataset.id, "chunk_iter"):
        h5py = import_library("h5py", "hdf5")
        msg = f"HDF5 {h5py.version.hdf5_version} is too old; 1.10.10, 1.12.3 or 1.14 is needed: pip install -U h5py"
        raise ImportError(msg)
    size = Path(dataset.file.filename).stat().st_size
    least = CHECKSUM_BYTES if dataset.fletcher32 else 1

    def is_wrong(chunk: StoreInfo) -> StoreInfo | None:
        is_inside = chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= size
        return None if chunk.size >= least and is_inside else chunk

    wrong = dataset.id.chunk_iter(is_wrong)
    if wrong is not None:
        msg = (
            f"the chunk of {name} at {tuple(wrong.chunk_offset)} is said to have {wrong.size} bytes at byte "
            f"{wrong.byte_offset} of a file of {size}; is it damaged or truncated?"
        )
        raise OSError(msg)
