"""What a layer is given, as rows of features: pixels and positions pooled, taken one by one, or masked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from nrc_fast.base.arrays import Array
from nrc_fast.kernels.devices import is_on_device, placed_beside

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["POSITIONS", "layer_rows"]

POSITIONS = (None, "mean", "each")


def layer_rows(
    layer: Module,
    values: Tensor,
    targets: Array | None = None,
    *,
    positions: str | None = None,
    mask: Array | None = None,
    name: str = "layer",
) -> tuple[Tensor, Tensor | None]:
    """Rows of features, and of targets where they are given, from the tensor that a layer is called with.

    Parameters
    ----------
    layer : torch.nn.Module
        Convolutions, poolings and norms over channels are given maps (B, C, ...), all other layers (B, ..., d); a
        module that holds layers, what suits the first of them that fits.
    values : tensor
        Detached. (d,) is one sample.
    targets : tensor or array, optional
        (B,) or (B, n), a row for each sample; (B, ..., n) where each position is a row. Targets and masks of the host
        are copied to the device of the values.
    positions : {None, "mean", "each"}
        None: the mean for maps, each for sequences.
    mask : (B, ...) tensor, optional
        Nonzero at the positions that count. For values (N, d) it selects rows where it has N numbers.
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
    if values.ndim == 1:
        values = values[None]
    is_map = _is_map(layer, values, name)
    if is_map and values.ndim == layer_rank(layer):
        values = values[None]  # a map without a batch axis
    if is_map:
        values = values.movedim(1, -1)
    each = positions == "each" or (positions is None and not is_map)
    kept = None if mask is None else _checked_mask(torch, mask, values, name)
    if values.ndim == 2 or each:
        Y = None if targets is None else _target_rows(torch, targets, values, values.shape[:-1], name)
        H = values if values.ndim == 2 else values.reshape(-1, values.shape[-1])
        return (H, Y) if kept is None else (H[kept.reshape(-1)], None if Y is None else Y[kept.reshape(-1)])
    H = _mean(torch, values, kept)
    return H, None if targets is None else _target_rows(torch, targets, values, values.shape[:1], name)


@functools.cache
def _layers_of_maps() -> tuple[type, ...]:
    import torch

    modules = torch.nn.modules
    return (
        modules.conv._ConvNd,
        modules.batchnorm._NormBase,
        torch.nn.GroupNorm,
        modules.pooling._MaxPoolNd,
        modules.pooling._AvgPoolNd,
        modules.pooling._AdaptiveAvgPoolNd,
        modules.pooling._AdaptiveMaxPoolNd,
        torch.nn.Dropout2d,
        torch.nn.Dropout3d,
        torch.nn.LocalResponseNorm,
        torch.nn.PixelShuffle,
        torch.nn.PixelUnshuffle,
        torch.nn.Upsample,
    )


# How layers call the number of channels of their maps, and the width of their rows.
CHANNELS = ("in_channels", "num_features", "num_channels")
WIDTHS = ("in_features", "normalized_shape", "embed_dim", "input_size")


def _is_map(layer: Module, values: Tensor, name: str) -> bool:
    """Whether a layer is given maps; a module that holds layers is asked for the first of them that fits."""
    kinds = _layers_of_maps()
    if isinstance(layer, kinds) or values.ndim < 3:
        return isinstance(layer, kinds)
    for part in layer.modules():
        sizes = CHANNELS if isinstance(part, kinds) else WIDTHS
        size = next((getattr(part, size) for size in sizes if hasattr(part, size)), None)
        if isinstance(size, (tuple, list)):
            size = size[-1]
        if size == values.shape[1 if isinstance(part, kinds) else -1]:
            return isinstance(part, kinds)
    if values.ndim > 3:
        msg = (
            f"layer {name}, a {type(layer).__name__}, is given {tuple(values.shape)}, of which the second axis or the "
            "last may hold the features; watch a convolution, norm or linear layer beside it"
        )
        raise ValueError(msg)
    return False


def layer_rank(layer: Module) -> int:
    """Axes of a map without a batch axis that a convolution is given; 0 for other layers."""
    is_convolution = hasattr(layer, "transposed")
    return len(layer.kernel_size) + 1 if is_convolution else 0  # type: ignore[arg-type] # a tuple


def _checked_mask(torch: ModuleType, mask: Array, values: Tensor, name: str) -> Tensor | None:
    """Which positions count; None where a layer is given one row for each sample, which has no positions."""
    kept: Tensor = placed_beside(torch.as_tensor(mask), values)
    if values.ndim == 2 and kept.numel() == len(values):
        return kept.reshape(-1) != 0
    if values.ndim == 2 and kept.ndim > 1 and len(kept) == len(values):
        return None
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


def _target_rows(torch: ModuleType, targets: Array, values: Tensor, leading: Sequence[int], name: str) -> Tensor:
    """Targets with one row for each row of features."""
    Y: Tensor = targets if isinstance(targets, torch.Tensor) else torch.as_tensor(targets)
    Y = placed_beside(Y.detach() if Y.requires_grad else Y, values)
    leading = tuple(leading)
    if Y.ndim not in (len(leading), len(leading) + 1) or tuple(Y.shape[: len(leading)]) != leading:
        msg = (
            f"the targets have shape {tuple(Y.shape)} and layer {name} has rows of shape {leading}; a target for each "
            "of these is expected"
        )
        raise ValueError(msg)
    if len(leading) == 1:
        return Y
    return Y.reshape(-1) if Y.ndim == len(leading) else Y.reshape(-1, Y.shape[-1])
