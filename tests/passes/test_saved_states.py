"""States that earlier versions have saved, tests/states, are read by this one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.passes.reading import Reading

STATES = Path(__file__).parents[1] / "states"


@pytest.fixture(scope="module")
def rows() -> Any:
    """What the states were made of."""
    from support import write_states

    return write_states


def stored(kind: str) -> list[Path]:
    found = sorted(STATES.glob(f"{kind}-*.npz"))
    assert found
    return found


@pytest.mark.parametrize("path", stored("statistics"), ids=lambda path: path.stem)
def test_statistics_of_every_version_are_read(path: Path, rows: Any) -> None:
    statistics = nrc.FeatureStatistics.load(path)
    keep = np.arange(rows.ROWS) != 7  # it held a NaN
    H, Y = rows.features()[keep].astype(np.float64), rows.targets()[keep].astype(np.float64)
    assert (statistics.count, statistics.skipped, statistics.nonfinite) == (rows.ROWS - 1, 1, "skip")
    assert statistics.dtype == "float32"
    scale = np.trace(np.cov(H.T, bias=True))
    for found, expected in (
        (statistics.mean, H.mean(axis=0)),
        (statistics.covariance, np.cov(H.T, bias=True)),
        (statistics.second_moment, H.T @ H / len(H)),
        (statistics.target_mean, Y.mean(axis=0)),
        (statistics.target_covariance, np.cov(Y.T, bias=True)),
        (statistics.cross_covariance, (H - H.mean(axis=0)).T @ (Y - Y.mean(axis=0)) / len(H)),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=statistics.covariance_error + 1e-13 * scale)
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    np.testing.assert_allclose(statistics.unit_second_moment, unit.T @ unit / len(H), rtol=0, atol=1e-6)
    # They go on, and merge with new ones.
    both = nrc.FeatureStatistics(rows.D, n_targets=rows.N).update(rows.features(), rows.targets()).merge(statistics)
    assert both.count == 2 * rows.ROWS - 1
    np.testing.assert_allclose(both.mean, np.vstack([rows.features(), H]).mean(axis=0), rtol=0, atol=both.mean_error)


@pytest.mark.parametrize("path", stored("checkpoint"), ids=lambda path: path.stem)
def test_checkpoints_of_every_version_go_on(
    path: Path, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    H, Y = rows.features(), rows.targets()
    wanted = nrc.measure(H, Y, chunk_rows=rows.CHUNK_ROWS)
    copy = tmp_path / path.name
    shutil.copy(path, copy)
    read = []
    add = Reading._add

    def counting(self: Reading, *arguments: Any) -> None:
        read.append(1)
        add(self, *arguments)

    monkeypatch.setattr(Reading, "_add", counting)
    found = nrc.measure(H, Y, chunk_rows=rows.CHUNK_ROWS, checkpoint=copy)
    assert len(read) == 5  # of the second pass, for more components than that version had; all of the first were done
    assert not copy.exists()
    # Another instruction set may have added up what was saved.
    assert found.nrc1 == pytest.approx(wanted.nrc1, rel=1e-6)
    assert found.linear_mse == pytest.approx(wanted.linear_mse, rel=1e-5)
    assert found.samples == rows.ROWS
