"""The same numbers from files, arrays, tensors and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.streams import draw, same_report, shards

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1, reference_nrc2

CONVENTIONS = list(nrc.CONVENTIONS)


@pytest.mark.usefixtures("small_chunks", "many_rows")  # as batches are, whose number is not known
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_files_arrays_and_batches_give_the_same_bits(tmp_path: Path, convention: str, dtype: type) -> None:
    H, Y, W = draw(1, 3000, 12, 2)
    H = H.astype(dtype)
    wanted = nrc.measure(H, Y, W, np.zeros(2), convention=convention)
    assert abs(wanted.nrc1 - reference_nrc1(H, 2, convention)) <= wanted.bounds["nrc1"]
    assert abs(wanted.nrc2 - reference_nrc2(H, W, convention)) <= wanted.bounds["nrc2"]
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    np.savez(tmp_path / "both.npz", h=H, y=Y)
    pattern = shards(tmp_path, "H", H, [3, 3, 800, 2999])
    targets = shards(tmp_path, "Y", Y, [1500])
    batches = [(H[i : i + 77], Y[i : i + 77]) for i in range(0, 3000, 77)]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(H), torch.from_numpy(Y)), batch_size=100
    )
    for features, given in (
        (str(tmp_path / "H.npy"), tmp_path / "Y.npy"),
        (tmp_path / "H.npy", Y),
        (H, str(tmp_path / "Y.npy")),
        (pattern, targets),
        (nrc.open(pattern, targets), None),
        (nrc.open(tmp_path / "both.npz", key="h", target_key="y"), None),
        (np.load(tmp_path / "H.npy", mmap_mode="r"), Y),
        (torch.from_numpy(H), torch.from_numpy(Y)),
        (batches, None),
        (loader, None),
        (nrc.open([{"h": h, "y": y, "other": 0} for h, y in batches], key="h", target_key="y"), None),
    ):
        assert same_report(nrc.measure(features, given, W, np.zeros(2), convention=convention), wanted)


@pytest.mark.usefixtures("small_chunks")
def test_single_metrics_take_files_and_batches(tmp_path: Path) -> None:
    H, Y, W = draw(3, 1000, 10, 2)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    path = tmp_path / "H.npy"
    assert nrc.nrc1(path, 2) == nrc.nrc1(H, 2) == nrc.nrc1([H[:300], H[300:]], 2)
    assert nrc.nrc1(str(path), None).tobytes() == nrc.nrc1(H, None).tobytes()
    assert nrc.nrc2(path, W, convention="id25") == nrc.nrc2(H, W, convention="id25")
    assert nrc.nrc3(W, tmp_path / "Y.npy") == nrc.nrc3(W, Y)
