"""Tensors that torch saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tables import COLUMNS, assert_rows, assert_table, normal

import nrc_fast as nrc
from nrc_fast.sources.opening import open_pair, open_table


def test_nested_keys_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    array = normal((9, COLUMNS), "float32")
    torch.save(
        {"epoch": 3, "model": {"head": {"input": torch.from_numpy(array)}, "x": torch.zeros(3, 3)}}, tmp_path / "f.pt"
    )
    assert_table(open_table(tmp_path / "f.pt", key="model.head.input"), array, [4])


def test_old_torch_files_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(3, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.pt is of the kind that torch wrote before 1\.6.*save it again"):
        open_table(tmp_path / "old.pt")


@pytest.mark.parametrize("count", [3, 12])
def test_pairs_and_batches_in_lists_and_tuples(count: int, tmp_path: Path) -> None:
    """More than ten batches, whose places must be ordered as numbers."""
    torch = pytest.importorskip("torch")
    H, Y = normal((7 * count, COLUMNS), "float32"), normal((7 * count, 2), "float64", 1)
    features, targets = (list(torch.from_numpy(array).split(7)) for array in (H, Y))
    contents: dict[tuple[str, str], Any] = {
        ("0", "1"): (torch.from_numpy(H), torch.from_numpy(Y)),
        ("*.0", "*.1"): list(zip(features, targets, strict=True)),
        ("*.h", "*.y"): [{"h": h, "y": y} for h, y in zip(features, targets, strict=True)],
        ("h.*", "y.*"): {"h": features, "y": tuple(targets), "note": ["no tensor", None, 3.0]},
        ("model.0.h", "model.1"): {"model": [{"h": torch.from_numpy(H)}, torch.from_numpy(Y)]},
    }
    for (key, target_key), content in contents.items():
        torch.save(content, tmp_path / "f.pt")
        pair = open_pair(tmp_path / "f.pt", key=key, target_key=target_key)
        assert pair[1] is not None
        assert_table(pair[0], H, [5])
        assert_table(pair[1], Y, [5])
    torch.save(features, tmp_path / "f.pt")
    assert_table(open_table(tmp_path / "f.pt", key="*"), H, [5])
    with pytest.raises(ValueError, match=r"f\.pt .* several by a pattern. It holds 0 \(7, 5\) float32, 1 \(7, 5\)"):
        open_table(tmp_path / "f.pt")
    torch.save({1: features[0], "1": features[1]}, tmp_path / "f.pt")
    with pytest.raises(ValueError, match="two arrays that are called '1'"):
        open_table(tmp_path / "f.pt", key="1")


def negated(torch: Any, array: Any) -> Any:
    """The tensor of an array, whose memory holds the values with the other sign."""
    values = torch.from_numpy(-array)
    return torch.complex(values, values).conj().imag


def negated_bfloat16(torch: Any, array: Any) -> Any:
    return torch._neg_view(-torch.from_numpy(array).bfloat16())


VIEWS: dict[str, Callable[[Any, Any], Any]] = {
    "negated": negated,
    "negated_transposed": lambda torch, array: negated(torch, np.ascontiguousarray(array.T)).T,
    "negated_steps": lambda torch, array: negated(torch, np.repeat(np.repeat(array, 2, 0), 3, 1))[::2, 1::3],
    "negated_bfloat16": negated_bfloat16,
    "gradient": lambda torch, array: torch.nn.Parameter(torch.from_numpy(array)),
    "expanded_rows": lambda torch, array: torch.from_numpy(array[:1].copy()).expand(len(array), -1),
    "expanded_columns": lambda torch, array: torch.from_numpy(array[:, :1].copy()).expand(-1, COLUMNS),
    "windows": lambda torch, array: torch.from_numpy(array.reshape(-1)).unfold(0, COLUMNS, 1),
    "middle": lambda torch, array: torch.from_numpy(np.pad(array, ((2, 3), (1, 1))))[2:-3, 1:-1],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_read_again_and_again(name: str, tmp_path: Path) -> None:
    """Pages are given back after each read, and only those of the file come back."""
    torch = pytest.importorskip("torch")
    tensor = VIEWS[name](torch, normal((4096, COLUMNS), "float32"))
    torch.save({"h": tensor}, tmp_path / "f.pt")
    dense = tensor.detach().resolve_neg().contiguous()
    if dense.dtype == torch.bfloat16:
        wanted = dense.view(torch.int16).numpy().view(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        wanted = dense.numpy()
    table = open_table(tmp_path / "f.pt")
    for step in (len(wanted), 1000):
        for first in range(0, len(wanted), step):
            assert_rows(table, wanted, first, min(first + step, len(wanted)))
    report = nrc.measure(tmp_path / "f.pt", n=2, chunk_rows=1000)
    assert report.nrc1 == nrc.measure(dense, n=2, chunk_rows=1000).nrc1


def test_copies_of_negated_rows_are_counted_as_memory(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    array = normal((64, COLUMNS), "float64")
    for tensor, copied in ((torch.from_numpy(array), 0), (negated(torch, array), 8 * COLUMNS)):
        torch.save(tensor, tmp_path / "f.pt")
        table = open_table(tmp_path / "f.pt")
        assert (table.chunk_bytes_per_row, table.held_bytes > 0) == (copied, copied > 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda torch: torch.eye(5).to_sparse(), r"layout torch.sparse_coo; save a dense one \(tensor.to_dense"),
        (lambda torch: torch.eye(5).to_sparse_csr(), r"layout torch.sparse_csr; save a dense one"),
        (lambda torch: torch.quantize_per_tensor(torch.eye(5), 0.1, 0, torch.qint8), r"quantised; .*dequantize"),
        (lambda torch: torch.empty(5, 5, device="meta"), r"meta tensor, without values"),
        (lambda torch: torch.nested.nested_tensor([torch.eye(5)] * 2), r"nested tensor; save its rows as one matrix"),
        (lambda torch: torch.ones(5, 5, dtype=torch.complex64).conj(), r"dtype complex64; float64, float32"),
    ],
    ids=["sparse", "csr", "quantised", "meta", "nested", "complex"],
)
@pytest.mark.filterwarnings("ignore")  # torch warns of its own layouts while it makes and loads them
def test_tensors_without_plain_values_are_refused(make: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"plain": torch.ones(5, 5), "odd": make(torch)}, tmp_path / "f.pt")
    with pytest.raises(TypeError, match=rf"f\.pt\[odd\] .*{words}"):
        open_table(tmp_path / "f.pt", key="odd")
    np.testing.assert_array_equal(open_table(tmp_path / "f.pt", key="plain").read(0, 5).to_float64(), np.ones((5, 5)))
    if "sparse" not in words and "meta" not in words:  # which could be what is meant
        assert open_table(tmp_path / "f.pt").name.endswith("[plain]")


def test_what_torch_does_not_load_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for content, name in (({"h": np.ones((5, 2))}, "multiarray"), (torch.nn.Linear(2, 3), "Linear")):
        torch.save(content, tmp_path / "f.pt")
        with pytest.raises(OSError, match=rf"f\.pt cannot be read: it holds more .* a \S*{name}.*torch\.from_numpy"):
            open_table(tmp_path / "f.pt")
    cycle: list[Any] = [torch.ones(5, 2)]
    cycle.append(cycle)
    torch.save(cycle, tmp_path / "f.pt")
    with pytest.raises(OSError, match=r"f\.pt cannot be read"):
        open_table(tmp_path / "f.pt")


@pytest.mark.parametrize("name", ["last.ckpt", "model.pth.tar", "pytorch_model.bin", "EPOCH.CKPT"])
def test_checkpoints_of_a_training(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    array = normal((3, COLUMNS), "float32")
    content = {"epoch": 3, "state_dict": {"fc.weight": torch.from_numpy(array), "fc.bias": torch.zeros(3)}}
    torch.save(content, tmp_path / name)
    assert_table(open_table(tmp_path / name), array, [2])
    assert_table(open_table(tmp_path / name, key="state_dict.fc.weight"), array, [2])
    with pytest.raises(ValueError, match=r"has no 'fc\.weight' \(is 'state_dict\.fc\.weight' meant\?\)"):
        open_table(tmp_path / name, key="fc.weight")
