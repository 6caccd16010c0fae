"""What is no array is refused by its name, with the line that reads it; what lies in memory by DLPack is read."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nrc_fast as nrc
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.no_arrays import require_array

H = np.random.default_rng(0).standard_normal((20, 3))


class OnDevice:
    """What an array of another library is on a card, for as long as nobody reads it."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (20, 3), "typestr": "<f8", "data": (0, False), "version": 3}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        pytest.fail("it would be copied to the host behind the user's back")


class ByDLPack:
    """Memory that is offered by DLPack alone."""

    def __init__(self, array: Any, place: int | None = None) -> None:
        self.array, self.place = array, place

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.array.__dlpack_device__()
        return device if self.place is None else (self.place, 0)


class Sparse:
    """As the matrices of scipy are."""

    nnz, shape = 1, (20, 3)

    def toarray(self) -> Any:
        return H


class PerSample(torch.utils.data.Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return H[index]

    def __len__(self) -> int:
        return len(H)


PAIRS = torch.utils.data.TensorDataset(torch.from_numpy(H), torch.ones(20))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, "H is None; give an array or tensor"),
        ({"h": H, "y": 1}, "H is a dict of 'h', 'y'; give one of its values, as H['h']"),
        (
            OrderedDict.fromkeys("abcdef"),
            "a OrderedDict of 'a', 'b', 'c', 'd', ...; give one of its values, as H['a']",
        ),
        ({}, "H is a dict of nothing; give one of its values, as H[key]"),
        (torch.nn.Linear(3, 2), "H is a Linear, a layer; give its weights (H.weight)"),
        (
            torch.nn.ReLU(),
            "H is a ReLU, a model; nrc_fast.Monitor and nrc_fast.watch measure what its layers are given",
        ),
        (PAIRS, "H is a TensorDataset; give its tensors (H, Y = H.tensors)"),
        (torch.utils.data.Subset(PAIRS, [0]), "H is a Subset, which gives one sample at a time; give batches of it"),
        (PerSample(), "(torch.utils.data.DataLoader(H, batch_size=1024))"),
        (Sparse(), "H is a Sparse, which is sparse; give a dense one (H.toarray())"),
        (OnDevice(), "H is a OnDevice on a CUDA device; give it as a tensor: torch.as_tensor(H, device='cuda')"),
        (ByDLPack(H, place=2), "H is a ByDLPack on a device; give it as a tensor: torch.from_dlpack(H)"),
    ],
)
def test_the_line_that_reads_it(values: Any, said: str) -> None:
    for read in (lambda: as_rows(values, "H"), lambda: nrc.measure(values, n=1)):
        with pytest.raises(TypeError, match=re.escape(said)):
            read()


def test_the_lines_do_read_it(tmp_path: Path) -> None:
    expected = nrc.nrc1(H, 1)
    features, targets = PAIRS.tensors
    assert nrc.measure(features, targets).nrc1 == pytest.approx(expected, rel=1e-12)
    loader = torch.utils.data.DataLoader(PerSample(), batch_size=1024)
    assert nrc.nrc1(loader, 1) == pytest.approx(expected, rel=1e-12)
    np.save(tmp_path / "w.npy", H[:2])
    with pytest.raises(TypeError, match="W is the path") as caught:
        nrc.nrc2(H, str(tmp_path / "w.npy"))
    (line,) = re.findall(r"W = numpy\.load\('(.*)'\)$", str(caught.value))
    assert nrc.nrc2(H, np.load(line)) == nrc.nrc2(H, H[:2])


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "coo_array"])
def test_sparse_matrices_of_scipy(kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=rf"W is a {kind}, which is sparse; give a dense one \(W.toarray\(\)\)"):
        nrc.nrc2(H, getattr(sparse, kind)(H))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("w.npy", "numpy.load('w.npy')"),
        (Path("w.NPZ"), "numpy.load('w.NPZ')[key]"),
        ("runs/model.pt", "torch.load('runs/model.pt')[key]"),
        ("last.ckpt", "torch.load('last.ckpt')['state_dict'][key]"),
        ("w.safetensors", "safetensors.torch.load_file('w.safetensors')[key]"),
    ],
)
def test_paths_in_the_place_of_weights(path: Any, line: str) -> None:
    wanted = f"is the path {str(path)!r}; give what the file holds"
    for call in (lambda: nrc.nrc2(H, path), lambda: nrc.measure(H, W=path), lambda: nrc.nrc3(path, H[:, :2])):
        with pytest.raises(TypeError, match=re.escape(f"W {wanted}: W = {line}")):
            call()
    with pytest.raises(TypeError, match=re.escape(f"H {wanted}: H = {line}")):
        nrc.FeatureStatistics(3).update(path)
    with pytest.raises(TypeError, match=re.escape("W is the path 'w.dat'; give what the file holds, as an array")):
        nrc.nrc2(H, "w.dat")


def test_other_things_are_left_to_numpy() -> None:
    for values in (3, [[1.0]], (1, 2), H, object()):
        require_array(values, "H")


@pytest.mark.parametrize("array", [H, H.astype(np.float32), torch.from_numpy(H)], ids=["numpy", "single", "torch"])
def test_memory_by_dlpack_is_read_in_place(array: Any) -> None:
    rows = as_rows(ByDLPack(array), "H")
    np.testing.assert_array_equal(rows.to_float64(), np.asarray(array))
    assert np.shares_memory(rows.array, np.asarray(array))
    assert nrc.nrc1(ByDLPack(array), 1) == nrc.nrc1(array, 1)


def test_memory_by_dlpack_of_other_dtypes() -> None:
    with pytest.raises(TypeError, match=r"H is a ByDLPack that numpy cannot read .*; torch.from_dlpack may"):
        as_rows(ByDLPack(torch.ones(2, 2, dtype=torch.bfloat16)), "H")


def test_labels_are_told_where_they_go() -> None:
    for labels in (np.arange(20) % 3, torch.arange(20), np.ones(20, bool)):
        with pytest.raises(TypeError, match=r"Y has dtype .*; labels of classes go to nrc_fast.measure_classes"):
            nrc.measure(H, labels)
