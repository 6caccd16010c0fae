"""What counts as features in the tensor that a layer is given: maps, sequences, and modules that hold layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.training.layer_axes import Surroundings
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


# ---- maps of one dimension, by the layers beside ----


def convolutional(rank: int) -> Any:
    conv, norm, pad = (getattr(nn, f"{name}{rank}d") for name in ("Conv", "BatchNorm", "ReflectionPad"))
    drop, pool = getattr(nn, f"Dropout{rank}d"), getattr(nn, f"LPPool{rank}d", nn.Identity)
    parts = [conv(3, 16, 3, padding=1), norm(16), nn.ReLU(), drop(), nn.GELU(), pad(1), nn.Hardtanh(), nn.Identity()]
    last = pool(2, 2) if pool is not nn.Identity else pool()
    return nn.Sequential(*parts, nn.Sequential(nn.LeakyReLU(), nn.Dropout(0.0)), last, conv(16, 8, 1)).eval()


@pytest.mark.parametrize("size", [50, 16])  # as many steps as channels too
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_between_maps_are_given_channels(rank: int, size: int) -> None:
    model = convolutional(rank)
    seen: dict[str, Any] = {}
    for name, part in model.named_children():
        part.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].clone()}))
    shape = {1: (size,), 2: (size, 5), 3: (size, 4, 3)}[rank]
    names = [name for name, _ in model.named_children()]
    with torch.no_grad(), nrc.watch(model, layers=names) as watched:
        model(draw(4, 3, *shape))
    for name, layer in watched.items():
        expected = seen[name].double().flatten(2).mean(dim=2)
        assert (layer.count, layer.statistics.d) == expected.shape, name
        np.testing.assert_allclose(layer.statistics.mean, expected.mean(dim=0), atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (nn.Linear(6, 8), nn.Linear(8, 2)),
        (nn.LayerNorm(8), nn.Conv1d(3, 4, 1)),  # the steps of the sequence are its channels
        (nn.Embedding(9, 8), nn.Linear(8, 2)),
        (nn.Conv1d(6, 8, 1), nn.Linear(8, 2)),  # turned around in between
        (nn.LSTM(6, 4, bidirectional=True), nn.Linear(8, 2)),
    ],
    ids=lambda part: type(part).__name__,
)
def test_layers_between_sequences_are_given_rows(before: Any, after: Any) -> None:
    model = nn.Sequential(before, nn.ReLU(), after)
    values = draw(5, 3, 8)
    H, _ = layer_rows(model[1], values, surroundings=Surroundings(model[1], model))
    np.testing.assert_array_equal(H.numpy(), values.numpy().reshape(-1, 8))


def test_what_no_neighbour_fits_is_not_guessed() -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 1))
    with pytest.raises(ValueError, match=r"layer act, a ReLU, is given .*second axis or the last may hold"):
        layer_rows(model[1], draw(5, 7, 8), surroundings=Surroundings(model[1], model), name="act")


# ---- sequences whose samples lie along the second axis ----


def sequence_layers() -> dict[str, Any]:
    layers: dict[str, Any] = {}
    for batch_first in (False, True):
        kind = "batch first" if batch_first else "time first"
        inner = nn.TransformerEncoderLayer(6, 2, 8, batch_first=batch_first)
        layers |= {
            f"LSTM {kind}": nn.LSTM(6, 8, batch_first=batch_first),
            f"GRU {kind}": nn.GRU(6, 8, batch_first=batch_first),
            f"attention {kind}": nn.MultiheadAttention(6, 2, batch_first=batch_first),
            f"encoder {kind}": nn.TransformerEncoder(inner, 1, enable_nested_tensor=False),
            f"encoder layer {kind}": inner,
            f"decoder layer {kind}": nn.TransformerDecoderLayer(6, 2, 8, batch_first=batch_first),
            f"sequential {kind}": nn.Sequential(nn.LSTM(6, 8, batch_first=batch_first)),
        }
    return layers


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", ["mean", "last"])
@pytest.mark.parametrize("name", sequence_layers())
def test_samples_lie_where_the_layer_says(name: str, positions: str, masked: bool) -> None:
    values, Y = draw(20, 7, 6), draw(20, 2)
    kept = torch.arange(7) < 1 + torch.arange(20)[:, None] % 7
    mask = kept if masked else torch.ones_like(kept)
    given = values if "batch first" in name else values.transpose(0, 1)
    options = {"positions": positions, "mask": mask} if masked else {"positions": positions}
    H, targets = layer_rows(sequence_layers()[name], given, Y, **options)
    rows = [row[flags] for row, flags in zip(values, mask, strict=True)]
    expected = torch.stack([row.mean(dim=0) if positions == "mean" else row[-1] for row in rows])
    np.testing.assert_allclose(H.numpy(), expected.numpy(), atol=1e-6)
    assert torch.equal(targets, Y)
    if masked and "time first" in name:  # the mask may lie as the values do
        np.testing.assert_array_equal(
            layer_rows(sequence_layers()[name], given, positions=positions, mask=mask.T)[0], H
        )


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_inside_of_transformers_are_given_what_these_are(batch_first: bool) -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=batch_first), nn.Linear(6, 2))
    values = draw(20, 7, 6)
    for inner in (model[0].linear1, model[0].norm2):
        H, _ = layer_rows(inner, values, positions="mean", surroundings=Surroundings(inner, model))
        assert H.shape[0] == (20 if batch_first else 7)


def test_the_number_of_targets_says_where_samples_lie() -> None:
    values, head = draw(7, 20, 6), nn.Linear(6, 2)
    H, Y = layer_rows(head, values, draw(20, 2), positions="mean")
    np.testing.assert_allclose(H.numpy(), values.double().numpy().mean(axis=0), atol=1e-6)
    assert len(Y) == 20
    H, _ = layer_rows(head, values, draw(7, 2), positions="mean")
    np.testing.assert_allclose(H.numpy(), values.double().numpy().mean(axis=1), atol=1e-6)


def test_positions_of_time_first_sequences_keep_their_targets() -> None:
    layer, values = nn.LSTM(6, 8), draw(7, 20, 6)
    targets = values[..., :2] * 3.0
    for given in (targets, targets.transpose(0, 1)):
        H, Y = layer_rows(layer, values, given, positions="each")
        np.testing.assert_array_equal(Y.numpy(), 3.0 * H.numpy()[:, :2])


def test_a_sequence_without_batch_axis_is_one_sample() -> None:
    values = draw(7, 6)
    for layer in (nn.LSTM(6, 8), nn.LSTM(6, 8, batch_first=True), nn.TransformerEncoderLayer(6, 2, 8)):
        H, _ = layer_rows(layer, values, positions="mean")
        np.testing.assert_allclose(H.numpy(), values.double().numpy().mean(axis=0)[None], atol=1e-6)
        assert torch.equal(layer_rows(layer, values, positions="last")[0], values[-1:])


# ---- the last position ----


def test_the_last_position_that_counts() -> None:
    values, layer = draw(4, 5, 6), nn.Linear(6, 2)
    right = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    H, _ = layer_rows(layer, values, positions="last", mask=right)
    assert torch.equal(H, values[range(4), [2, 0, 4, 0]])
    H, _ = layer_rows(layer, values, positions="last", mask=right.flip(1))  # padded at the left
    assert torch.equal(H, values[range(4), [4, 4, 4, 0]])
    assert torch.equal(layer_rows(layer, values, positions="last")[0], values[:, -1])
    assert torch.equal(layer_rows(layer, values[:, 0], positions="last")[0], values[:, 0])
    with pytest.raises(ValueError, match="which have no last position"):
        layer_rows(nn.Conv1d(5, 2, 1), values, positions="last")
