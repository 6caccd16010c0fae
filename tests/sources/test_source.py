"""Features and targets that belong together, and shares of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.streams import draw, shards

import nrc_fast as nrc


def test_features_and_targets_of_other_lengths_are_named(tmp_path: Path) -> None:
    H, Y, _ = draw(11, 60, 6, 2)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y[:50])
    with pytest.raises(ValueError, match=r"H\.npy has 60 rows and .*Y\.npy has 50"):
        nrc.measure(tmp_path / "H.npy", tmp_path / "Y.npy")


def test_targets_that_are_not_finite_are_named_by_their_own_file(tmp_path: Path) -> None:
    H, Y, _ = draw(21, 3000, 6, 2)
    Y[2500, 1] = np.nan
    np.save(tmp_path / "H.npy", H)
    pattern = shards(tmp_path, "Y", Y, [1000, 2000])
    with pytest.raises(ValueError, match=r"the first is row 500 of .*Y_2\.npy"):
        nrc.measure(tmp_path / "H.npy", pattern)
    with pytest.raises(ValueError, match=r"Y: 1 of 3000 rows .* the first is row 2500;"):
        nrc.measure(H, Y)


def test_shares_stay_shares_when_targets_are_given_beside_them(tmp_path: Path) -> None:
    H, Y, _ = draw(25, 101, 5, 2)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    wanted = nrc.measure(H[50:], Y[50:]).linear_mse
    features, targets = (nrc.open(tmp_path / name) for name in ("H.npy", "Y.npy"))
    for given in (Y, tmp_path / "Y.npy", targets, targets.share(1, 2)):
        report = nrc.measure(features.share(1, 2), given)
        assert report.samples == 51
        assert report.linear_mse == pytest.approx(wanted, rel=1e-9)
    for rows, given in ((H, targets.share(1, 2)), (features.share(0, 2), targets.share(1, 2))):
        with pytest.raises(ValueError, match=r"Y is rows 50 to 100 of .*; give features and targets together"):
            nrc.measure(rows, given)
    with pytest.raises(ValueError, match="Y is rows 50 to 100"):
        nrc.nrc3(np.eye(2, 5), targets.share(1, 2))


def test_sources_say_what_they_are() -> None:
    H, Y = np.ones((5, 3)), np.ones((5, 2))
    assert repr(nrc.open(H, Y)) == "<Source H: 5 rows, 3 features of float64, 2 targets>"
    assert repr(nrc.open([H, H])) == "<Source list of batches: rows that reading counts, 3 features of float64>"
    once = "<Source generator of batches: rows that reading counts, 3 features of float64, 2 targets, read once>"
    assert repr(nrc.open((H, Y) for _ in range(2))) == once
