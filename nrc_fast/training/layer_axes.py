"""Which axis of what a layer is given holds the features, and which the samples: what it and its neighbours say."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.libraries import require_library
from nrc_fast.training.given_features import UnreadableError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Surroundings", "is_map_layer", "layer_rank"]

# How layers call the number of channels of their maps, and the width of their rows; and those of what they return.
CHANNELS = ("in_channels", "num_features", "num_channels")
WIDTHS = ("in_features", "normalized_shape", "embed_dim", "input_size", "d_model")
MADE_CHANNELS = ("out_channels", "num_features", "num_channels")
MADE_WIDTHS = ("out_features", "normalized_shape", "embed_dim", "embedding_dim", "hidden_size", "d_model")


@functools.cache
def _layers_of_maps() -> tuple[type, ...]:
    modules = require_library("torch", "torch").nn.modules
    return (
        modules.conv._ConvNd,
        modules.batchnorm._NormBase,
        modules.normalization.GroupNorm,
        modules.normalization.LocalResponseNorm,
        modules.pooling._MaxPoolNd,
        modules.pooling._MaxUnpoolNd,
        modules.pooling._AvgPoolNd,
        modules.pooling._LPPoolNd,
        modules.pooling._AdaptiveAvgPoolNd,
        modules.pooling._AdaptiveMaxPoolNd,
        modules.pooling.FractionalMaxPool2d,
        modules.pooling.FractionalMaxPool3d,
        modules.dropout.Dropout1d,
        modules.dropout.Dropout2d,
        modules.dropout.Dropout3d,
        modules.dropout.FeatureAlphaDropout,
        modules.padding._CircularPadNd,
        modules.padding._ConstantPadNd,
        modules.padding._ReflectionPadNd,
        modules.padding._ReplicationPadNd,
        modules.pixelshuffle.PixelShuffle,
        modules.pixelshuffle.PixelUnshuffle,
        modules.channelshuffle.ChannelShuffle,
        modules.upsampling.Upsample,
        modules.activation.Softmax2d,
    )


@functools.cache
def _transformers() -> tuple[type, ...]:
    nn = require_library("torch", "torch").nn
    return (
        nn.Transformer,
        nn.TransformerEncoder,
        nn.TransformerDecoder,
        nn.TransformerEncoderLayer,
        nn.TransformerDecoderLayer,
    )


def is_map_layer(layer: Module) -> bool:
    """Whether a layer is one that torch gives maps (B, C, ...)."""
    return isinstance(layer, _layers_of_maps())


def layer_rank(layer: Module) -> int:
    """Axes of a map without a batch axis that a convolution is given; 0 for other layers."""
    is_convolution = hasattr(layer, "transposed")
    return len(layer.kernel_size) + 1 if is_convolution else 0  # type: ignore[arg-type] # a tuple


def _size(layer: Module, names: tuple[str, ...]) -> int | None:
    size = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
    if isinstance(size, (tuple, list)):
        size = size[-1] if size else None
    if size is not None and names is MADE_WIDTHS and getattr(layer, "bidirectional", False):
        size = 2 * size
    return size if isinstance(size, int) else None


class Surroundings:
    """A layer and its place in the model.

    Parameters
    ----------
    layer : torch.nn.Module
    model : torch.nn.Module, optional
        What holds the layer; without it the layer has no neighbours.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv1d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv1d(16, 8, 3))
    >>> values = torch.ones(2, 16, 50)
    >>> Surroundings(model[1], model).is_map(values, "1"), Surroundings(model[1]).is_map(values, "1")
    (True, False)
    """

    def __init__(self, layer: Module, model: Module | None = None) -> None:
        self.layer, self._model = layer, model

    # ---- features ----

    def is_map(self, values: Tensor, name: str) -> bool:
        """Whether the layer is given maps; where it does not say, its parts are asked, and then its neighbours.

        Raises
        ------
        UnreadableError
            It cannot be told.
        """
        if is_map_layer(self.layer) or values.ndim < 3:
            return is_map_layer(self.layer)
        channels, width = values.shape[1], values.shape[-1]
        for part in self.layer.modules():
            is_map = is_map_layer(part)
            size = _size(part, CHANNELS if is_map else WIDTHS)
            if size == (channels if is_map else width):
                return is_map
        found = [self._axis(size, kind, channels, width) for size, kind in self._neighbours]
        told = [is_map for is_map in found if is_map is not None]
        if told:
            return told[0]
        kinds = [kind for _, kind in self._neighbours]
        if values.ndim > 3 or (kinds and all(kinds)):
            msg = (
                f"layer {name}, a {type(self.layer).__name__}, is given {tuple(values.shape)}, of which the second "
                "axis or the last may hold the features; watch a convolution, norm or linear layer beside it"
            )
            raise UnreadableError(msg)
        return False

    @staticmethod
    def _axis(size: int, kind: bool, channels: int, width: int) -> bool | None:
        """What a neighbour's size says: its own axis if that has it, else the other one."""
        if size == (channels if kind else width):
            return kind
        return not kind if size == (width if kind else channels) else None

    @cached_property
    def _neighbours(self) -> list[tuple[int, bool]]:
        """Sizes of the nearest layers before and after that have one, and whether these are layers of maps."""
        if self._model is None:
            return []
        modules = list(self._model.modules())
        place = next((number for number, module in enumerate(modules) if module is self.layer), None)
        if place is None:
            return []
        inside = set(map(id, self.layer.modules()))
        before = self._sized(modules[:place][::-1], MADE_CHANNELS, MADE_WIDTHS)
        after = self._sized([part for part in modules[place:] if id(part) not in inside], CHANNELS, WIDTHS)
        return [found for found in (next(before, None), next(after, None)) if found is not None]

    @staticmethod
    def _sized(modules: list[Module], channels: tuple[str, ...], widths: tuple[str, ...]) -> Iterator[tuple[int, bool]]:
        for module in modules:
            kind = is_map_layer(module)
            size = _size(module, channels if kind else widths)
            if size is not None and not (module._modules and not kind):  # what holds layers is told by these
                yield size, kind

    # ---- samples ----

    @cached_property
    def is_time_first(self) -> bool | None:
        """Whether sequences are (T, B, d), as the layer or the transformer that holds it says; None if none does."""
        own = getattr(self.layer, "batch_first", None)
        if own is not None:
            return not own
        for module in (self.layer, *self._holders()):
            if isinstance(module, _transformers()):
                parts = (getattr(part, "batch_first", None) for part in module.modules())
                told = next((part for part in parts if part is not None), None)
                return None if told is None else not told
        if isinstance(self.layer, require_library("torch", "torch").nn.Sequential) and len(self.layer):
            return Surroundings(self.layer[0]).is_time_first
        return None

    @property
    def is_sequence_layer(self) -> bool:
        """Whether the layer itself takes sequences, so that (T, d) is one of them."""
        return hasattr(self.layer, "batch_first") or isinstance(self.layer, _transformers())

    def _holders(self) -> list[Module]:
        """The modules that hold the layer, from the inside out."""
        if self._model is None:
            return []
        modules = dict(self._model.named_modules())
        name = next((name for name, module in modules.items() if module is self.layer), "")
        parts = name.split(".")
        return [modules[".".join(parts[:size])] for size in range(len(parts) - 1, 0, -1)] + [self._model]
