"""What a layer is given, as rows of features: pixels and positions pooled, taken one by one, or masked."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.kernels.devices import is_on_device, placed_beside
from nrc_fast.training.given_features import UnreadableError
from nrc_fast.training.layer_axes import Surroundings, layer_rank

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.nn.utils.rnn import PackedSequence

__all__ = ["POSITIONS", "Positions", "layer_rows", "padded"]

# What becomes of the positions of a sample, see `nrc_fast.watch`.
Positions: TypeAlias = Literal["mean", "each", "last"]
POSITIONS = (None, *get_args(Positions))


def layer_rows(
    layer: Module,
    values: Tensor,
    targets: Array | None = None,
    *,
    positions: str | None = None,
    mask: Array | None = None,
    surroundings: Surroundings | None = None,
    name: str = "layer",
) -> tuple[Tensor, Tensor | None]:
    """Rows of features, and of targets where they are given, from the tensor that a layer is called with.

    Parameters
    ----------
    layer : torch.nn.Module
        Convolutions, poolings and norms over channels are given maps (B, C, ...), all other layers (B, ..., d); a
        module that holds layers, what suits the first of them that fits, and one that does not say, what its
        neighbours say. Sequences are (T, B, d) for layers with ``batch_first=False``.
    values : tensor
        Detached. (d,) is one sample.
    targets : tensor or array, optional
        (B,) or (B, n), a row for each sample; (B, ..., n) where each position is a row. Targets and masks of the host
        are copied to the device of the values.
    positions : {None, "mean", "each", "last"}
        None: the mean for maps, each for sequences. "last": of sequences, the last position that counts.
    mask : (B, ...) tensor, optional
        Nonzero at the positions that count. For values (N, d) it selects rows where it has N numbers.
    surroundings : Surroundings, optional
        The layer's place in its model.
    name : str
        How errors call the layer.

    Returns
    -------
    H : (N, d) tensor
        A view of `values` where that can be. Means of 16-bit values are float32.
    Y : (N,) or (N, n) tensor or None

    Raises
    ------
    RuntimeError
        The tensor lies on a device that there are no kernels for.
    ValueError
        The mask or the targets do not fit, or it cannot be told which axis holds the features.

    Examples
    --------
    >>> import torch
    >>> layer_rows(torch.nn.Conv2d(3, 4, 1), torch.ones(5, 3, 2, 2))[0].shape
    torch.Size([5, 3])
    >>> mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    >>> layer_rows(torch.nn.Linear(4, 2), torch.ones(2, 3, 4), mask=mask)[0].shape
    torch.Size([3, 4])
    """
    import torch

    if not (values.is_cpu or is_on_device(values)):
        msg = (
            f"layer {name} is given a tensor on {values.device}, for which nrc_fast has no kernels; run the model on "
            "the CPU or on a CUDA device, or add up H.cpu() with nrc_fast.FeatureStatistics: tensors are not moved "
            "behind your back"
        )
        raise RuntimeError(msg)
    if values.ndim == 0:
        msg = f"layer {name} is given a single number; (B, d), (B, C, ...) or (B, ..., d) is expected"
        raise ValueError(msg)
    place = Surroundings(layer) if surroundings is None else surroundings
    if values.ndim == 1:
        values = values[None]
    is_map = place.is_map(values, name)
    if is_map:
        if positions == "last":
            msg = (
                f"layer {name} is given maps {tuple(values.shape)}, which have no last position; give positions='mean'"
            )
            raise UnreadableError(msg)
        values = values[None] if values.ndim == layer_rank(layer) else values  # a map without a batch axis
        values = values.movedim(1, -1)
    else:
        if values.ndim == 2 and positions in ("mean", "last") and place.is_sequence_layer:
            values = values[:, None] if place.is_time_first else values[None]  # a sequence without a batch axis
        # Alone, each position is a row in whatever order.
        is_ordered = positions in ("mean", "last") or mask is not None or targets is not None
        if is_ordered and values.ndim == 3 and _is_time_first(place, values, targets, positions):
            values = values.transpose(0, 1)
    each = positions == "each" or (positions is None and not is_map)
    kept = None if mask is None else _checked_mask(torch, mask, values, name)
    if values.ndim == 2 or each:
        Y = None if targets is None else _target_rows(torch, targets, values, values.shape[:-1], name)
        H = values if values.ndim == 2 else values.reshape(-1, values.shape[-1])
        return (H, Y) if kept is None else (H[kept.reshape(-1)], None if Y is None else Y[kept.reshape(-1)])
    H = _last(torch, values, kept) if positions == "last" else _mean(torch, values, kept)
    return H, None if targets is None else _target_rows(torch, targets, values, values.shape[:1], name)


def padded(given: PackedSequence, *, time_first: bool = False) -> tuple[Tensor, Tensor]:
    """A packed sequence as (B, T, d) or (T, B, d) in the order of its samples, and which steps are there, (B, T)."""
    import torch

    values, lengths = torch.nn.utils.rnn.pad_packed_sequence(given, batch_first=not time_first)
    steps = torch.arange(int(lengths.max()))
    return values, (steps[None] < lengths[:, None]).to(values.device)


def _is_time_first(place: Surroundings, values: Tensor, targets: Array | None, positions: str | None) -> bool:
    """Whether sequences are (T, B, d): the layer says so or, where none says, as many targets as B do."""
    if place.is_time_first is not None:
        return place.is_time_first
    samples = np.shape(targets)[:1] if targets is not None and positions in ("mean", "last") else ()
    return samples == (values.shape[1],) != (values.shape[0],)


def _checked_mask(torch: ModuleType, mask: Array, values: Tensor, name: str) -> Tensor | None:
    """Which positions count; None where a layer is given one row for each sample, which has no positions."""
    kept: Tensor = placed_beside(torch.as_tensor(mask), values)
    if values.ndim == 2 and kept.numel() == len(values):
        return kept.reshape(-1) != 0
    if values.ndim == 2 and kept.ndim > 1 and len(kept) == len(values):
        return None
    if kept.ndim == 2 and tuple(kept.shape) == tuple(values.shape[1::-1]) != tuple(values.shape[:-1]):
        kept = kept.T  # (T, B), as the layer's own values
    if tuple(kept.shape) != tuple(values.shape[:-1]):
        msg = (
            f"the mask of layer {name} has shape {tuple(kept.shape)}; {tuple(values.shape[:-1])}, one for each "
            "position that the layer is given, is expected"
        )
        raise ValueError(msg)
    return kept != 0


def _mean(torch: ModuleType, values: Tensor, kept: Tensor | None) -> Tensor:
    """The mean over positions; samples without any that counts are left with zeros."""
    axes = tuple(range(1, values.ndim - 1))
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    if kept is None:
        return values.mean(dim=axes, dtype=dtype)
    counts = kept.sum(dim=tuple(range(1, kept.ndim))).clamp(min=1)
    # What is padded may be NaN, which a factor of 0 would keep.
    return values.masked_fill(~kept.unsqueeze(-1), 0.0).sum(dim=axes, dtype=dtype) / counts.to(dtype).unsqueeze(-1)


def _last(torch: ModuleType, values: Tensor, kept: Tensor | None) -> Tensor:
    """The last position that counts; the first of samples without any, as decoders take it."""
    values = values.reshape(len(values), -1, values.shape[-1])
    if kept is None:
        return values[:, -1]
    kept = kept.reshape(len(values), -1)
    steps = torch.arange(kept.shape[1], device=kept.device)
    last = (kept * steps).argmax(dim=1)
    return values[torch.arange(len(values), device=values.device), last]


def _target_rows(torch: ModuleType, targets: Array, values: Tensor, leading: Sequence[int], name: str) -> Tensor:
    """Targets with one row for each row of features."""
    Y: Tensor = targets if isinstance(targets, torch.Tensor) else torch.as_tensor(targets)
    Y = placed_beside(Y.detach() if Y.requires_grad else Y, values)
    leading = tuple(leading)
    if len(leading) == 2 and tuple(Y.shape[:2]) == leading[::-1] != leading:
        Y = Y.transpose(0, 1)
    if Y.ndim not in (len(leading), len(leading) + 1) or tuple(Y.shape[: len(leading)]) != leading:
        msg = (
            f"the targets have shape {tuple(Y.shape)} and layer {name} has rows of shape {leading}; a target for each "
            "of these is expected"
        )
        raise ValueError(msg)
    if len(leading) == 1:
        return Y
    return Y.reshape(-1) if Y.ndim == len(leading) else Y.reshape(-1, Y.shape[-1])
