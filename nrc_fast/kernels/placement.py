"""Users' arrays and tensors as rows where they lie."""

from __future__ import annotations

from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.devices import is_on_device, tensor_backend
from nrc_fast.kernels.inputs import as_rows, checked_tensor
from nrc_fast.kernels.interface import Rows

__all__ = ["rows_in_place"]


def rows_in_place(values: object, name: str, *, vector_is_column: bool = False) -> Rows:
    """The rows of an array, or of a tensor on the host or on a CUDA device, checked and not copied.

    Parameters
    ----------
    values : (N, d) array or tensor
        `Rows` are given back as they are.
    name : str
        How error messages call it.
    vector_is_column : bool
        Accept shape (N,) as (N, 1).

    Raises
    ------
    TypeError
        The dtype or the kind of array is not supported.
    ValueError
        The number of dimensions is wrong, or there are no columns.
    RuntimeError
        This build or this machine cannot use the device.
    """
    if not is_on_device(values):
        return as_rows(values, name, vector_is_column=vector_is_column)
    backend = tensor_backend(values)
    tensor, dtype = checked_tensor(values, name, vector_is_column=vector_is_column)
    return DeviceRows(name, tensor, dtype, backend)
