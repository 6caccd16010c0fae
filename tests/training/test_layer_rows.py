"""What counts as features in the tensor that a layer is given: maps, sequences, and modules that hold layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.training.layer_rows import layer_rows

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """A module whose layers are not registered in the order in which they run."""

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)),
        Block(nn.Linear(6, 2), nn.Conv2d(6, 6, 1), nn.Conv2d(3, 6, 1)),
        Block(nn.Conv2d(3, 8, 7), nn.LayerNorm(8), nn.Linear(8, 32)),
        nn.Dropout2d(),
        nn.Upsample(scale_factor=2),
        nn.GroupNorm(1, 3),
    ],
    ids=lambda module: type(module).__name__,
)
def test_modules_of_maps_are_given_channels(module: Any) -> None:
    maps = draw(7, 3, 4, 5)
    H, _ = layer_rows(module, maps)
    np.testing.assert_allclose(H.numpy(), maps.double().numpy().mean(axis=(2, 3)), atol=1e-6)
    H, _ = layer_rows(module, maps, positions="each")
    np.testing.assert_array_equal(H.numpy(), np.moveaxis(maps.numpy(), 1, -1).reshape(-1, 3))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4)), (5, 3, 8)),
        (nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4)), (5, 2, 3, 8)),  # windows, channels last
        (Block(nn.Conv1d(9, 4, 1), nn.Linear(8, 2)), (5, 3, 8)),
        (nn.MultiheadAttention(8, 2), (5, 3, 8)),
        (nn.LSTM(8, 4), (5, 3, 8)),
        (nn.ReLU(), (5, 3, 8)),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, nn.Module) else str(part),
)
def test_modules_of_sequences_are_given_rows(module: Any, shape: tuple[int, ...]) -> None:
    values = draw(*shape)
    H, _ = layer_rows(module, values)
    np.testing.assert_array_equal(H.numpy(), values.numpy().reshape(-1, 8))


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Identity(), nn.Flatten(), nn.Sequential(nn.Linear(7, 2))], ids=str)
def test_an_axis_is_not_guessed(module: Any) -> None:
    with pytest.raises(ValueError, match=r"given \(2, 3, 4, 5\), of which the second axis or the last"):
        layer_rows(module, draw(2, 3, 4, 5))


def test_a_mask_selects_positions_that_are_given_as_rows() -> None:
    layer, tokens = nn.Linear(4, 2), draw(6, 5, 4)
    mask = torch.arange(5) < torch.tensor([1, 5, 2, 3, 4, 1])[:, None]
    flat, Y = layer_rows(layer, tokens.reshape(-1, 4), torch.arange(30.0), mask=mask.long())
    np.testing.assert_array_equal(flat.numpy(), tokens.numpy()[mask.numpy()])
    np.testing.assert_array_equal(Y.numpy(), np.flatnonzero(mask.numpy()))
    pooled, _ = layer_rows(layer, tokens[:, 0], mask=mask)  # one row for each sample
    np.testing.assert_array_equal(pooled.numpy(), tokens[:, 0].numpy())
    with pytest.raises(ValueError, match=r"the mask of layer head has shape \(6, 5\); \(29,\)"):
        layer_rows(layer, tokens.reshape(-1, 4)[1:], mask=mask, name="head")
